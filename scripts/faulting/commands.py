"""The faults themselves: each does one thing to the processes or links of a local network and says what to watch."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from node.cli.localnet import Network, Place
from scripts.faulting import processes, wires
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, address_of_place, changing, number_of, read, resolve

DEFAULT_PAUSE_S: Final = 10.0


class Deed(msgspec.Struct, frozen=True):
    """What was done to one process."""

    name: str
    pid: int
    """After it; 0: nothing runs there."""
    at_ms: int
    """When, wall clock."""
    address: str | None
    """None for the bootstrap."""
    role: str | None
    """Before it; None for one that did not answer."""
    group: int | None
    log: str
    ready_after_s: float | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What a command did, and what there is to see."""

    fault: str
    deeds: list[Deed]
    watch: list[str]
    details: dict[str, Any] = {}


def _deed(place: Place, overview: Overview, at_ms: int, ready_after_s: float | None = None) -> Deed:
    standing = overview.standings.get(place.name)
    return Deed(
        name=place.name,
        pid=place.pid,
        at_ms=at_ms,
        address=address_of_place(place) if place.peer_port else None,
        role=standing.role if standing is not None else None,
        group=standing.group if standing is not None else None,
        log=place.log,
        ready_after_s=ready_after_s,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _observer(network: Network, touched: Sequence[Place]) -> Place | None:
    """A node to ask what happens, that the fault leaves alone."""
    names = {place.name for place in touched}
    return next((place for place in network.nodes if place.pid and place.name not in names), None)


def kill(home: Path, overview: Overview, targets: Sequence[str]) -> Outcome:
    """End processes at once with SIGKILL, as a power cut would."""
    deeds: list[Deed] = []
    with changing(home) as network:
        places = resolve(network, overview, targets)
        idle = [place.name for place in places if not place.pid]
        if idle:
            raise FaultError(f"{', '.join(idle)} does not run: scripts/faults/restart starts it")
        instants = [processes.kill(place) for place in places]
        deeds = [_deed(place, overview, at_ms) for place, at_ms in zip(places, instants, strict=True)]
        watch = _watch_kill(network, overview, places)
    return Outcome("kill", deeds, watch)


def _watch_kill(network: Network, overview: Overview, places: Sequence[Place]) -> list[str]:
    observer = _observer(network, places)
    lines: list[str] = []
    for place in places:
        if not place.peer_port:
            lines.append(
                "elections go on without the bootstrap: members send their ballots themselves (PROTOCOL 8.2)"
            )
            continue
        standing, address = overview.standings.get(place.name), address_of_place(place)
        if standing is not None and standing.role == "primary" and observer is not None:
            backup = _next(overview.ranking, address)
            within_ms = overview.view_timeout_ms * 3 // 2
            lines.append(
                f"the next block comes from {backup[:8]} in view 1, within about {within_ms} ms of the next transaction"
            )
            lines.append(
                f"it charges {address[:8]} with no_block: cgpbft members {address} --node {observer.url}"
            )
        if standing is not None and standing.role in ("primary", "delegate") and observer is not None:
            lines.append(
                f"while it stays down {address[:8]} loses its seat: cgpbft delegates --node {observer.url}"
            )
    if observer is None:
        lines.append("the chain halts, loses nothing, and resumes when enough are back (PROTOCOL 7.3)")
    lines.append(
        f"scripts/faults/restart {' '.join(place.name for place in places)} brings back what was ended"
    )
    return lines


def _next(ranking: Sequence[str], address: str) -> str:
    return ranking[(ranking.index(address) + 1) % len(ranking)] if address in ranking else "a backup"


def restart(home: Path, overview: Overview, targets: Sequence[str], *, wait: bool = True) -> Outcome:
    """Start what was ended, with the same command line, home and keys; what still runs there is ended first."""
    with changing(home) as network:
        places = resolve(network, overview, targets)
        _end(places)
        for place in places:
            processes.start(place)
        instants = [_now_ms()] * len(places)
    return _started(
        "restart",
        places,
        instants,
        overview,
        wait=wait,
        watch=[f"it catches up and answers ready: {place.url}/readyz" for place in places if place.peer_port],
    )


def _end(places: Sequence[Place]) -> None:
    """End all before any is started, so that none sees half of the others gone and half back."""
    for place in places:
        if processes.is_running(place):
            processes.kill(place)


def _started(
    fault: str,
    places: Sequence[Place],
    instants: Sequence[int],
    overview: Overview,
    *,
    wait: bool,
    watch: list[str],
) -> Outcome:
    took = [processes.wait_until_up(place) if wait else None for place in places]
    deeds = [
        _deed(place, overview, at_ms, ready)
        for place, at_ms, ready in zip(places, instants, took, strict=True)
    ]
    return Outcome(fault, deeds, watch)


def pause(
    home: Path, overview: Overview, targets: Sequence[str], *, seconds: float = DEFAULT_PAUSE_S
) -> Outcome:
    """Stop processes with SIGSTOP, as a machine that hangs, and let them go on after a while."""
    network = read(home)
    places = resolve(network, overview, targets)
    instants: list[int] = []
    try:
        instants.extend(processes.send_signal(place, signal.SIGSTOP) for place in places)
        time.sleep(seconds)
    finally:
        for place in places:
            with contextlib.suppress(FaultError):
                processes.send_signal(place, signal.SIGCONT)
    deeds = [_deed(place, overview, at_ms) for place, at_ms in zip(places, instants, strict=True)]
    watch = [f"it catches up: cgpbft status --node {place.url}" for place in places if place.peer_port]
    return Outcome("pause", deeds, watch, {"seconds": seconds})


def partition(home: Path, overview: Overview, targets: Sequence[str], *, one_way: bool = False) -> Outcome:
    """Hold every byte between the targets and the other nodes; connections stay open, as behind a lost route.

    One way: what the targets send is held, and they still hear the others.
    """
    network = read(home)
    places = [place for place in resolve(network, overview, targets) if place.peer_port]
    inside = [number_of(network, place) for place in places]
    outside = [number for number in range(1, len(network.nodes) + 1) if number not in inside]
    if not inside or not outside:
        raise FaultError("a partition needs nodes on both sides")
    pairs = [(a, b) for a in inside for b in outside]
    if not one_way:
        pairs += [(b, a) for a, b in pairs]
    at_ms = _now_ms()
    wires.hold(network, pairs, True)
    watch = [f"not ready while it is cut off: {place.url}/readyz" for place in places if not one_way]
    watch.append("scripts/faults/heal lets everything pass again")
    return Outcome(
        "partition",
        [_deed(place, overview, at_ms) for place in places],
        watch,
        {"one_way": one_way, "directions_held": len(pairs)},
    )


def heal(home: Path, overview: Overview, targets: Sequence[str]) -> Outcome:
    """Let every byte pass again that `partition` held: to and from the targets, or all."""
    network = read(home)
    numbers = {number_of(network, place) for place in resolve(network, overview, targets) if place.peer_port}
    pairs = [(a, b) for a, b in wires.held(network) if a in numbers or b in numbers]
    at_ms = _now_ms()
    wires.hold(network, pairs, False)
    places = [network.nodes[number - 1] for number in _cut_off(pairs)]
    watch = [f"it catches up: {place.url}/readyz" for place in places]
    return Outcome(
        "heal", [_deed(place, overview, at_ms) for place in places], watch, {"directions_freed": len(pairs)}
    )


def _cut_off(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Of the two ends of every held link the one that has most of them held: the smaller side of the partition."""
    counts = Counter(number for pair in pairs for number in pair)
    most = max(counts.values(), default=0)
    return sorted(number for number, count in counts.items() if count == most)


def corrupt(behaviour: str) -> Callable[..., Outcome]:
    """A command that ends the honest process and starts a dishonest one with its home, keys and ports in its place."""

    def put(home: Path, overview: Overview, targets: Sequence[str], *, wait: bool = True) -> Outcome:
        with changing(home) as network:
            places = resolve(network, overview, targets)
            if any(not place.peer_port for place in places):
                raise FaultError(
                    "the bootstrap is trusted with nothing: only nodes can be made dishonest here"
                )
            substitutes = [processes.Substitute(place, behaviour) for place in places]
            for substitute in substitutes:
                substitute.wait_until_loaded()
            _end(places)
            for substitute in substitutes:
                substitute.take_over()
            instants = [_now_ms()] * len(places)
            observer = _observer(network, places)
        asked = "" if observer is None else f" --node {observer.url}"
        watch = [
            _SEEN[behaviour].format(address[:8], address, asked) for address in map(address_of_place, places)
        ]
        watch.append(
            f"scripts/faults/restart {' '.join(place.name for place in places)} makes it honest again"
        )
        return _started(behaviour, places, instants, overview, wait=wait, watch=watch)

    return put


_SEEN: Final = {
    "silent": "{0} is missing from certificates: no_block as primary, then down, and its seat: cgpbft members {1}{2}",
    "equivocating": "evidence against {0} is committed (wrong_block), and its seat goes: cgpbft members {1}{2}",
}
