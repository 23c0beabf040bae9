"""Asking the proxies of `scripts.faulting.links` to hold and to let go."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any, Final

from node.cli.localnet import Network
from scripts.faulting.errors import FaultError

TIMEOUT_S: Final = 5.0


def _ask(network: Network, body: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    if not network.via_base_port:
        raise FaultError(
            "this network has no proxies on its links: start it by scripts/faults/localnet or scripts/run --links"
        )
    url = f"http://127.0.0.1:{network.via_base_port}/"
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data), timeout=TIMEOUT_S) as answer:
            rules: list[dict[str, Any]] = json.load(answer)
            return rules
    except urllib.error.URLError as error:
        raise FaultError(f"the proxies at {url} do not answer: {error}") from error


def ruled(network: Network) -> list[tuple[int, int]]:
    """(from, to) of the links on which not everything passes at once."""
    return [(rule["from"], rule["to"]) for rule in _ask(network)]


def rule(network: Network, pairs: Iterable[tuple[int, int]], **what: int | bool) -> int:
    """Give ways from one node to another a rule (`scripts.faulting.links.Rule`); without any everything passes."""
    rules = [{"from": sender, "to": receiver, **what} for sender, receiver in pairs]
    _ask(network, rules)
    return len(rules)
