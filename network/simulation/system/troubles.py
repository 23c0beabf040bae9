"""What goes wrong around an epoch's end: short, and drawn with an eye on who has a seat, gains one or loses it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.effects import Effect
from network.simulation.network import Cut, LinkQuality, Network
from network.simulation.node import SimulatedNode
from network.simulation.system.execution import SharedExecution

MILLISECOND_US = 1_000


class Place(Protocol):
    """What a trouble may touch."""

    @property
    def network(self) -> Network:
        """The links."""

    @property
    def nodes(self) -> Sequence[SimulatedNode]:
        """By index."""

    @property
    def shared(self) -> SharedExecution:
        """Who has a seat."""

    def struck(self) -> None:
        """Something broke, now."""


@dataclass(eq=False)
class Trouble:
    """Something that begins, lasts and ends."""

    name: str
    about: str
    lasts_us: int
    begin: Callable[[], bool]
    """Make it happen; False if there was nothing to break, or not yet."""
    end: Callable[[], None]


CUT_KINDS = (
    ("Commit",),
    ("Commit",),
    ("Prepare",),
    ("Proposal",),
    ("ViewChange",),
    ("NewView",),
    ("Commit", "Prepare"),
)
CRASH_EFFECTS = ("Persist", "Send", "Decide", "SetTimer", "CheckProposal", "Forget")


def draw_trouble(rng: random.Random, place: Place, frail: int | None) -> Trouble:
    """One trouble; only the frail node may lose its journal or its sense of time."""
    kinds = [_crash, _crash, _crash_at_effect, _crash_at_effect, _pause, _isolate, _partition]
    kinds += [_lose_kind, _lose_kind, _unheard, _bad_links]
    if frail is not None and rng.random() < 0.15:
        return _frailty(rng, place, frail)
    return rng.choice(kinds)(rng, place)


def _lasting(rng: random.Random) -> int:
    return rng.choice((50, 300, 900, 2_500, 6_000)) * MILLISECOND_US


def _somebody(rng: random.Random, place: Place) -> SimulatedNode:
    """Mostly a delegate of the next heights, often one whose seat comes or goes."""
    now = place.shared.term(place.shared.height + 1).delegates
    then = place.shared.term(place.shared.height + 2).delegates
    keys = {node.member.public_key: node for node in place.nodes}
    seats_now = [keys[d.public_key] for d in now]
    seats_then = [keys[d.public_key] for d in then]
    moving = [node for node in (*seats_now, *seats_then) if (node in seats_now) is not (node in seats_then)]
    pools = [seats_now, seats_then, seats_then[:1], list(place.nodes)]
    if moving:
        pools += [moving, moving]
    return rng.choice(rng.choice(pools))


def _crash(rng: random.Random, place: Place) -> Trouble:
    node = _somebody(rng, place)
    return crash_of(node, _lasting(rng))


def crash_of(node: SimulatedNode, lasts_us: int) -> Trouble:
    """A node dies and starts again."""

    def begin() -> bool:
        was_up = node.up
        node.crash()
        return was_up

    return Trouble("Crash", str(node.index), lasts_us, begin, node.start)


def _crash_at_effect(rng: random.Random, place: Place) -> Trouble:
    node, kind, late = _somebody(rng, place), rng.choice(CRASH_EFFECTS), rng.random() < 0.5

    def due(effect: Effect, after: bool) -> bool:
        if after == late and type(effect).__name__ == kind:
            place.struck()
            return True
        return False

    def begin() -> bool:
        node.crash_when = due
        return False

    def end() -> None:
        node.crash_when = None
        node.start()

    return Trouble("CrashAtEffect", f"{node.index} {kind}", _lasting(rng), begin, end)


def _pause(rng: random.Random, place: Place) -> Trouble:
    node = _somebody(rng, place)

    def begin() -> bool:
        runs = node.up and not node.paused
        node.pause()
        return runs

    return Trouble("Pause", str(node.index), _lasting(rng), begin, node.resume)


def _cutting(name: str, about: str, lasts_us: int, network: Network, cuts: Sequence[Cut]) -> Trouble:
    def begin() -> bool:
        for cut in cuts:
            network.cut(cut)
        return True

    def end() -> None:
        for cut in cuts:
            network.heal(cut)

    return Trouble(name, about, lasts_us, begin, end)


def _isolate(rng: random.Random, place: Place) -> Trouble:
    one = _somebody(rng, place).index
    others = tuple(node.index for node in place.nodes if node.index != one)
    cuts = [Cut((one,), others), Cut(others, (one,))]
    return _cutting("Isolation", str(one), _lasting(rng), place.network, cuts[: rng.choice((1, 2, 2))])


def _partition(rng: random.Random, place: Place) -> Trouble:
    indices = [node.index for node in place.nodes]
    rng.shuffle(indices)
    split = rng.randint(1, len(indices) - 1)
    one, other = tuple(indices[:split]), tuple(indices[split:])
    return _cutting("Partition", str(one), _lasting(rng), place.network, (Cut(one, other), Cut(other, one)))


def _lose_kind(rng: random.Random, place: Place) -> Trouble:
    indices = tuple(node.index for node in place.nodes)
    targets = tuple(rng.sample(indices, rng.randint(1, len(indices))))
    kinds = rng.choice(CUT_KINDS)
    return _cutting(
        "LostKind", " ".join(kinds), _lasting(rng), place.network, (Cut(indices, targets, kinds),)
    )


def _unheard(rng: random.Random, place: Place) -> Trouble:
    """A delegate that works and whose commits nobody gets: its heartbeats alone show that it lives (PROTOCOL 3.2c)."""
    one = _somebody(rng, place).index
    others = tuple(node.index for node in place.nodes if node.index != one)
    cut = Cut((one,), others, ("Commit",))
    return _cutting("Unheard", str(one), rng.randint(4, 9) * 1_000 * MILLISECOND_US, place.network, (cut,))


def _bad_links(rng: random.Random, place: Place) -> Trouble:
    network, before = place.network, place.network.quality
    worse = LinkQuality(
        least_delay_us=500,
        greatest_delay_us=rng.choice((20_000, 200_000)),
        loss_bp=rng.choice((500, 3_000)),
        duplicate_bp=rng.choice((0, 3_000)),
    )

    def begin() -> bool:
        network.quality = worse
        return True

    def end() -> None:
        network.quality = LinkQuality()

    return Trouble("BadLinks", str(before != worse), _lasting(rng), begin, end)


def _frailty(rng: random.Random, place: Place, frail: int) -> Trouble:
    node = place.nodes[frail]
    if rng.random() < 0.5:
        offset_ms = rng.choice((-3_600_000, -1_000, 1_000, 3_600_000))

        def jump() -> bool:
            node.clock.offset_ms += offset_ms
            return True

        def jump_back() -> None:
            node.clock.offset_ms -= offset_ms

        return Trouble("WrongClock", f"{frail} {offset_ms}", _lasting(rng), jump, jump_back)
    wipes = rng.random() < 0.5

    def lose() -> bool:
        node.crash()
        if wipes:
            node.disk.wipe()
        else:
            node.disk.lose_journal()
        return True

    return Trouble("LostDisk" if wipes else "LostJournal", str(frail), _lasting(rng), lose, node.start)
