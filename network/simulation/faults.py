"""Faults that come and go while a simulation runs; each says what it is, so that a finding can be read."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from consensus.effects import Effect
from network.simulation.network import Cut, LinkQuality, Network
from network.simulation.node import SimulatedNode, Speed

SECOND_US = 1_000_000


class Scene(Protocol):
    """What a fault may touch."""

    @property
    def network(self) -> Network:
        """The links."""

    @property
    def nodes(self) -> Sequence[SimulatedNode]:
        """The nodes by index, honest ones first come as they are drawn."""


class Fault(Protocol):
    """Begins, lasts and ends; frozen values, so that a plan can be printed and compared."""

    def begin(self, scene: Scene) -> None:
        """Make it happen."""

    def end(self, scene: Scene) -> None:
        """Undo it."""


@dataclass(frozen=True)
class Crash:
    """A node dies and starts again at the end."""

    node: int

    def begin(self, scene: Scene) -> None:
        """Kill it."""
        scene.nodes[self.node].crash()

    def end(self, scene: Scene) -> None:
        """Start it."""
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class CrashAtEffect:
    """A node dies just before or just after the next effect of a kind."""

    node: int
    effect: str
    after: bool

    def begin(self, scene: Scene) -> None:
        """Set the trap."""

        def due(effect: Effect, after: bool) -> bool:
            return after == self.after and type(effect).__name__ == self.effect

        scene.nodes[self.node].crash_when = due

    def end(self, scene: Scene) -> None:
        """Remove the trap; start the node if it fell into it."""
        scene.nodes[self.node].crash_when = None
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class Pause:
    """A node stops as by SIGSTOP and goes on with stale timers."""

    node: int

    def begin(self, scene: Scene) -> None:
        """Stop it."""
        scene.nodes[self.node].pause()

    def end(self, scene: Scene) -> None:
        """Let it go on."""
        scene.nodes[self.node].resume()


@dataclass(frozen=True)
class CutLinks:
    """Links are cut: a partition, a one-way cut, or the loss of some types of messages."""

    cuts: tuple[Cut, ...]

    def begin(self, scene: Scene) -> None:
        """Cut."""
        for cut in self.cuts:
            scene.network.cut(cut)

    def end(self, scene: Scene) -> None:
        """Heal."""
        for cut in self.cuts:
            scene.network.heal(cut)


@dataclass(frozen=True)
class BadLinks:
    """All links lose, double, delay and reorder."""

    quality: LinkQuality
    before: LinkQuality

    def begin(self, scene: Scene) -> None:
        """From now on."""
        scene.network.quality = self.quality

    def end(self, scene: Scene) -> None:
        """As at the beginning of the run."""
        scene.network.quality = self.before


@dataclass(frozen=True)
class WrongClock:
    """A node's wall clock jumps by an offset, and back at the end."""

    node: int
    offset_ms: int

    def begin(self, scene: Scene) -> None:
        """Jump."""
        scene.nodes[self.node].clock.offset_ms += self.offset_ms

    def end(self, scene: Scene) -> None:
        """Jump back."""
        scene.nodes[self.node].clock.offset_ms -= self.offset_ms


@dataclass(frozen=True)
class SlowDisk:
    """Each sync of a node takes long."""

    node: int
    sync_us: int
    before: Speed

    def begin(self, scene: Scene) -> None:
        """From now on."""
        scene.nodes[self.node].speed = replace(self.before, sync_us=self.sync_us)

    def end(self, scene: Scene) -> None:
        """As before."""
        scene.nodes[self.node].speed = self.before


@dataclass(frozen=True)
class LoseJournal:
    """A node dies, its journal (or its whole disk) is gone, and it starts again at the end."""

    node: int
    ledger_too: bool

    def begin(self, scene: Scene) -> None:
        """Kill and wipe."""
        node = scene.nodes[self.node]
        node.crash()
        if self.ledger_too:
            node.disk.wipe()
        else:
            node.disk.lose_journal()

    def end(self, scene: Scene) -> None:
        """Start it."""
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class Planned:
    """A fault with its times."""

    begins_us: int
    ends_us: int
    fault: Fault


CRASH_EFFECTS = ("Persist", "Send", "Decide", "SetTimer", "CheckProposal", "Forget")
CUT_KINDS = (
    ("Commit",),
    ("Commit",),
    ("Commit", "Prepare"),
    ("Prepare",),
    ("Proposal",),
    ("ViewChange",),
    ("NewView",),
    ("Commit", "NewView"),
)
"""Lost commits come most often: they leave blocks that some have decided and others must find again."""


class FaultPlanner:
    """Draws a plan: any number of nodes may crash or be cut off, but clocks and journals fail for at most f.

    ``frail`` are the nodes that may lose their journal or their sense of time; together with the Byzantine ones they
    are at most f, since beyond that PROTOCOL 6.5 and 6.8 promise nothing.
    """

    def __init__(self, rng: random.Random, nodes: Sequence[SimulatedNode], frail: Sequence[int]) -> None:
        self._rng = rng
        self._nodes = nodes
        self._frail = list(frail)

    def plan(self, count: int, within_us: int) -> list[Planned]:
        """``count`` faults, beginning within the time given and lasting up to a third of it."""
        makers: list[Callable[[], Fault]] = [
            self._crash,
            self._crash_at_effect,
            self._crash_at_effect,
            self._pause,
            self._partition,
            self._isolate,
            self._one_way,
            self._lose_kind,
            self._lose_kind,
            self._bad_links,
            self._slow_disk,
        ]
        if self._frail:
            makers += [self._wrong_clock, self._lose_journal]
        planned = []
        for _ in range(count):
            begins_us = self._rng.randrange(within_us)
            lasts_us = self._rng.randint(within_us // 100, within_us // 3)
            planned.append(Planned(begins_us, begins_us + lasts_us, self._rng.choice(makers)()))
        return planned

    def _node(self) -> int:
        return self._rng.randrange(len(self._nodes))

    def _crash(self) -> Fault:
        return Crash(self._node())

    def _crash_at_effect(self) -> Fault:
        return CrashAtEffect(self._node(), self._rng.choice(CRASH_EFFECTS), self._rng.random() < 0.5)

    def _pause(self) -> Fault:
        return Pause(self._node())

    def _partition(self) -> Fault:
        indices = self._everybody()
        self._rng.shuffle(indices)
        split = self._rng.randint(1, len(indices) - 1)
        return _apart(indices[:split], indices[split:])

    def _isolate(self) -> Fault:
        one = self._node()
        return _apart([one], [index for index in self._everybody() if index != one])

    def _one_way(self) -> Fault:
        indices = self._everybody()
        self._rng.shuffle(indices)
        split = self._rng.randint(1, len(indices) - 1)
        return CutLinks((Cut(tuple(indices[:split]), tuple(indices[split:])),))

    def _lose_kind(self) -> Fault:
        indices = self._everybody()
        kinds = self._rng.choice(CUT_KINDS)
        targets = tuple(self._rng.sample(indices, self._rng.randint(1, len(indices))))
        return CutLinks((Cut(tuple(indices), targets, kinds),))

    def _everybody(self) -> list[int]:
        return list(range(len(self._nodes)))

    def _bad_links(self) -> Fault:
        rng = self._rng
        quality = LinkQuality(
            least_delay_us=500,
            greatest_delay_us=rng.choice((5_000, 50_000, 200_000)),
            loss_bp=rng.choice((0, 500, 3_000)),
            duplicate_bp=rng.choice((0, 1_000, 5_000)),
            straggler_bp=rng.choice((0, 200, 1_000)),
            straggler_us=3 * SECOND_US,
        )
        return BadLinks(quality, LinkQuality())

    def _slow_disk(self) -> Fault:
        index = self._node()
        return SlowDisk(index, self._rng.choice((5_000, 50_000, 700_000)), self._nodes[index].speed)

    def _wrong_clock(self) -> Fault:
        offset = self._rng.choice((-3_600_000, -1_000, -200, 200, 1_000, 3_600_000))
        return WrongClock(self._rng.choice(self._frail), offset)

    def _lose_journal(self) -> Fault:
        return LoseJournal(self._rng.choice(self._frail), self._rng.random() < 0.5)


def _apart(one: Sequence[int], other: Sequence[int]) -> Fault:
    """A symmetric partition."""
    return CutLinks((Cut(tuple(one), tuple(other)), Cut(tuple(other), tuple(one))))
