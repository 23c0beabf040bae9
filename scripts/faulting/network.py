"""The local network that a fault is aimed at: found, read, changed and written back, one command at a time."""

import asyncio
import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from node.api import schema
from node.cli.common import write_atomically
from node.cli.localnet import FILE, Network, Place
from node.client import NodeClient
from node.client_errors import ClientError
from node.keystore import NODE_KEY_FILE, read_key
from scripts.faulting.errors import FaultError

LOCK_FILE: Final = "localnet.lock"
ASK_TIMEOUT_S: Final = 2.0
"""A node that is paused or cut off must not hold up a command aimed at another."""
ADDRESS_DIGITS: Final = 6
"""Fewest hex digits that stand for an address."""


class Standing(msgspec.Struct, frozen=True):
    """What one node says of itself and of the network."""

    address: str
    role: str
    group: int | None
    height: int
    epoch: int
    phase: str
    primary: str | None
    ready: bool


class Overview(msgspec.Struct, frozen=True):
    """The network as those of its nodes that answer see it; the highest of them speaks for all."""

    standings: dict[str, Standing]
    """By the node's name; who does not answer is missing."""
    ranking: list[str]
    """C of the undecided height."""
    view_timeout_ms: int

    @property
    def best(self) -> Standing | None:
        """The standing at the greatest height."""
        return max(self.standings.values(), key=lambda standing: standing.height, default=None)


def find_home(given: Path | None) -> Path:
    """``given``, or the one network that runs in a usual place."""
    if given is not None:
        home = given.expanduser().resolve()
        if not (home / FILE).exists():
            raise FaultError(f"no network runs in {home}: it has no {FILE}")
        return home
    places = [*Path(tempfile.gettempdir()).glob(f"cgpbft-*/{FILE}"), Path("localnet", FILE)]
    running = [place.parent.resolve() for place in places if _is_running(place)]
    match running:
        case [home]:
            return home
        case []:
            raise FaultError("no running network found: name its folder with --home")
        case _:
            names = ", ".join(str(home) for home in running)
            raise FaultError(f"{len(running)} networks run, name one with --home: {names}")


def _is_running(path: Path) -> bool:
    try:
        os.kill(_read(path).supervisor_pid, 0)
    except (OSError, FaultError):
        return False
    return True


def _read(path: Path) -> Network:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Network)
    except FileNotFoundError:
        raise FaultError(f"no network runs in {path.parent}: it has no {path.name}") from None
    except msgspec.MsgspecError as error:
        raise FaultError(f"{path} cannot be read: {error}") from error


def read(home: Path) -> Network:
    """localnet.json as it is now."""
    return _read(home / FILE)


@contextlib.contextmanager
def changing(home: Path) -> Iterator[Network]:
    """localnet.json to be changed: commands wait for one another, and what the body changed is written atomically."""
    with (home / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        network = _read(home / FILE)
        before = msgspec.json.encode(network)
        try:
            yield network
        finally:
            if msgspec.json.encode(network) != before:
                write_atomically(
                    home / FILE, msgspec.json.format(msgspec.json.encode(network), indent=2) + b"\n"
                )


async def look(network: Network) -> Overview:
    """Ask every node that runs, all at once."""
    asked = [place for place in network.nodes if place.pid]
    answers = await asyncio.gather(*(_ask(place) for place in asked))
    told = [(place, *answer) for place, answer in zip(asked, answers, strict=True) if answer is not None]
    standings = {place.name: _standing(status) for place, status, _ in told}
    if not told:
        return Overview(standings, [], 0)
    _, best, parameters = max(told, key=lambda one: one[1].height)
    ranking = [item.address for item in best.consensus.delegates]
    return Overview(standings, ranking, int(parameters.parameters["view_timeout_ms"]))


async def _ask(place: Place) -> tuple[schema.StatusView, schema.ParametersView] | None:
    async with NodeClient(place.url, timeout_s=ASK_TIMEOUT_S) as node:
        try:
            return await node.status(), await node.parameters()
        except ClientError:
            return None


def _standing(status: schema.StatusView) -> Standing:
    return Standing(
        address=status.address,
        role=status.role,
        group=status.group,
        height=status.height,
        epoch=status.epoch,
        phase=status.epoch_phase,
        primary=status.primary,
        ready=status.ready,
    )


def resolve(network: Network, overview: Overview, targets: Sequence[str]) -> list[Place]:
    """The processes meant by ``targets``, each once, in localnet.json's order.

    A target is primary, backup (next in ranking after it), node3 or 3, an address or at least its first six digits,
    all (every node), or bootstrap.
    """
    chosen: dict[str, Place] = {}
    for target in targets:
        for place in _meant(network, overview, target.lower()):
            chosen[place.name] = place
    return [place for place in (network.bootstrap, *network.nodes) if place.name in chosen]


def _meant(network: Network, overview: Overview, target: str) -> list[Place]:
    if target == "all":
        return list(network.nodes)
    if target == "bootstrap":
        return [network.bootstrap]
    if target in ("primary", "backup"):
        return [_by_address(network, _in_office(overview, target))]
    name = f"node{target}" if target.isdecimal() and len(target) < ADDRESS_DIGITS else target
    for place in network.nodes:
        if place.name == name:
            return [place]
    if re.fullmatch(rf"[0-9a-f]{{{ADDRESS_DIGITS},40}}", target):
        return [_by_address(network, target)]
    raise FaultError(
        f"{target!r} is no target: use primary, backup, all, bootstrap, an address or node1..node{len(network.nodes)}"
    )


def _in_office(overview: Overview, target: str) -> str:
    best = overview.best
    if best is None or best.primary is None:
        raise FaultError(f"no node answers who the {target} is: name a node instead")
    if target == "primary":
        return best.primary
    ranking = overview.ranking
    return ranking[(ranking.index(best.primary) + 1) % len(ranking)]


def _by_address(network: Network, digits: str) -> Place:
    found = [place for place in network.nodes if address_of_place(place).startswith(digits)]
    if len(found) != 1:
        problem = "no node has" if not found else f"{len(found)} nodes have"
        raise FaultError(
            f"{problem} an address that begins with {digits}: name the node instead (node1, node2, ...)"
        )
    return found[0]


def address_of_place(place: Place) -> str:
    """The node's address in hex, from its key, so that a node which is down has one too."""
    return read_key(Path(place.home) / NODE_KEY_FILE).address.hex()


def number_of(network: Network, place: Place) -> int:
    """The node's number, from 1."""
    return network.nodes.index(place) + 1
