"""Faults of the ways between nodes: `scripts.faulting.links` holds, delays, loses, throttles and cuts."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from node.cli.localnet import Network, Place
from scripts.faulting import wires
from scripts.faulting.commands import Outcome, deed_of, now_ms
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, number_of, read, resolve

Pairs = list[tuple[int, int]]
DEFAULT_DELAY_MS: Final = 200
DEFAULT_LOSS_PERCENT: Final = 20.0
DEFAULT_BYTES_PER_S: Final = 20_000
HEALS: Final = "scripts/faults/heal lets everything pass again"


def _ways(
    network: Network, overview: Overview, targets: Sequence[str], *, one_way: bool
) -> tuple[list[Place], Pairs]:
    """The nodes meant, and the ways between them and all others: what they send, unless ``one_way`` what they hear."""
    places = [place for place in resolve(network, overview, targets) if place.peer_port]
    inside = [number_of(network, place) for place in places]
    outside = [number for number in range(1, len(network.nodes) + 1) if number not in inside]
    if not inside or not outside:
        raise FaultError("a fault of the ways between nodes needs nodes on both sides")
    pairs = [(a, b) for a in inside for b in outside]
    return places, pairs if one_way else pairs + [(b, a) for a, b in pairs]


def partition(home: Path, overview: Overview, targets: Sequence[str], *, one_way: bool = False) -> Outcome:
    """Hold every byte between the targets and the other nodes; connections stay open, as behind a lost route.

    One way: what the targets send is held, and they still hear the others.
    """
    network = read(home)
    places, pairs = _ways(network, overview, targets, one_way=one_way)
    at_ms = now_ms()
    wires.rule(network, pairs, held=True)
    watch = [f"not ready while it is cut off: {place.url}/readyz" for place in places if not one_way]
    details = {"one_way": one_way, "directions_held": len(pairs)}
    return Outcome(
        "partition", [deed_of(place, overview, at_ms) for place in places], [*watch, HEALS], details
    )


def heal(home: Path, overview: Overview, targets: Sequence[str]) -> Outcome:
    """Let every byte pass again, at once: to and from the targets, or all."""
    network = read(home)
    numbers = {number_of(network, place) for place in resolve(network, overview, targets) if place.peer_port}
    pairs = [(a, b) for a, b in wires.ruled(network) if a in numbers or b in numbers]
    at_ms = now_ms()
    wires.rule(network, pairs)
    places = [network.nodes[number - 1] for number in cut_off(pairs)]
    watch = [f"it catches up: {place.url}/readyz" for place in places]
    deeds = [deed_of(place, overview, at_ms) for place in places]
    return Outcome("heal", deeds, watch, {"directions_freed": len(pairs)})


def cut_off(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Of the two ends of every held link the one that has most of them held: the smaller side of the partition."""
    counts = Counter(number for pair in pairs for number in pair)
    most = max(counts.values(), default=0)
    return sorted(number for number, count in counts.items() if count == most)


def _ruled(fault: str, what: Callable[..., dict[str, int | bool]], watch: str) -> Callable[..., Outcome]:
    """A command that gives all ways of the targets one rule; ``what`` makes it from the command's options."""

    def give(
        home: Path, overview: Overview, targets: Sequence[str], *, one_way: bool = False, **options: Any
    ) -> Outcome:
        network = read(home)
        places, pairs = _ways(network, overview, targets, one_way=one_way)
        at_ms = now_ms()
        wires.rule(network, pairs, **what(**options))
        deeds = [deed_of(place, overview, at_ms) for place in places]
        return Outcome(fault, deeds, [watch, HEALS], {"one_way": one_way, **options})

    return give


def _delay(ms: int) -> dict[str, int | bool]:
    if not 0 < ms <= 60_000:
        raise FaultError(f"a delay of {ms} ms: use 1 to 60 000")
    return {"delay_ms": ms}


def _loss(percent: float) -> dict[str, int | bool]:
    if not 0 < percent <= 90:
        raise FaultError(f"a loss of {percent:g} percent: use more than 0, at most 90")
    return {"lost_per_mille": max(1, round(10 * percent))}


def _rate(bytes_per_s: int) -> dict[str, int | bool]:
    if bytes_per_s < 100:
        raise FaultError(f"{bytes_per_s} bytes a second: use at least 100, or scripts/faults/partition")
    return {"bytes_per_s": bytes_per_s}


delay = _ruled("delay", _delay, "blocks come later, and from a primary behind it view changes: cgpbft watch")
lose = _ruled(
    "lose", _loss, "what is lost waits for its retransmission: commits come in bursts, none goes missing"
)
throttle = _ruled("throttle", _rate, "votes pass, full blocks come late: the node falls behind and fetches")
cut = _ruled("cut", lambda: {"cut": True}, "its peers connect again within seconds: cgpbft status shows them")
