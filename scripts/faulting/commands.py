"""The faults themselves: each does one thing to the processes or links of a local network and says what to watch."""

import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from node.cli.localnet import Network, Place
from scripts.faulting import processes
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, address_of_place, changing, read, resolve

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


def deed_of(place: Place, overview: Overview, at_ms: int, ready_after_s: float | None = None) -> Deed:
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


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def observer_of(network: Network, touched: Sequence[Place]) -> Place | None:
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
        deeds = [deed_of(place, overview, at_ms) for place, at_ms in zip(places, instants, strict=True)]
        watch = _watch_kill(network, overview, places)
    return Outcome("kill", deeds, watch)


def _watch_kill(network: Network, overview: Overview, places: Sequence[Place]) -> list[str]:
    observer = observer_of(network, places)
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
        end(places)
        for place in places:
            processes.start(place)
        instants = [now_ms()] * len(places)
    return started(
        "restart",
        places,
        instants,
        overview,
        wait=wait,
        watch=[f"it catches up and answers ready: {place.url}/readyz" for place in places if place.peer_port],
    )


def end(places: Sequence[Place]) -> None:
    """End all before any is started, so that none sees half of the others gone and half back."""
    for place in places:
        if processes.is_running(place):
            processes.kill(place)


def started(
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
        deed_of(place, overview, at_ms, ready)
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
    deeds = [deed_of(place, overview, at_ms) for place, at_ms in zip(places, instants, strict=True)]
    watch = [f"it catches up: cgpbft status --node {place.url}" for place in places if place.peer_port]
    return Outcome("pause", deeds, watch, {"seconds": seconds})
