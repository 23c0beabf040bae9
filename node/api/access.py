"""Who may make the node act with its own key: token, origin and host rules."""

import hmac
import ipaddress
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from node.api.problems import Problem

_LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Whether ``host`` reaches this machine only; a name other than localhost counts as beyond."""
    if host.lower().rstrip(".") in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks requests to endpoints that sign with the node's key.

    Bound to loopback, no token is needed; then a browser is what could be misused, so the Host header must name this
    machine (a rebound DNS name does not) and an Origin must be the API's own. Beyond loopback the token decides.
    """

    def __init__(self, host: str, token: str) -> None:
        """``host`` is what the API is bound to; beyond loopback ``token`` must not be empty."""
        self.beyond_loopback: Final = not is_loopback(host)
        if self.beyond_loopback and not token:
            raise ValueError(f"an API bound to {host} needs a token")
        self._token: Final = token.encode()

    def check(self, request: web.Request) -> None:
        """Raise the `Problem` that refuses ``request``."""
        self._check_origin(request)
        if self.beyond_loopback:
            self._check_token(request)

    def _check_token(self, request: web.Request) -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Problem("token_required", "the node signs this with its own key, and no bearer token came")
        if not hmac.compare_digest(given.strip().encode(), self._token):
            raise Problem("token_wrong", "the bearer token is not this node's")

    def _check_origin(self, request: web.Request) -> None:
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Problem("cross_origin", f"a page of {origin[:80]} asked the node to sign")
        name = urlsplit(f"//{host}").hostname or ""
        if not self.beyond_loopback and not is_loopback(name):
            raise Problem(
                "cross_origin", f"the Host header names {name[:80]!r}, this API is bound to loopback"
            )
