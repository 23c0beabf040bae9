"""Faults that come and go while a simulation runs; each says what it is, so that a finding can be read."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from consensus.effects import Effect
from network.simulation.disk import Image
from network.simulation.network import Clog, Cut, Impairment, LinkQuality, Network
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

    def happened(self, node: SimulatedNode, event: str) -> None:
        """Count something."""

    def struck(self, fault: "Fault") -> None:
        """A fault that waited for its moment has found it."""


class Fault(Protocol):
    """Begins, lasts and ends; frozen values, so that a plan can be printed and compared."""

    def begin(self, scene: Scene) -> bool:
        """Make it happen; False if there was nothing to break, or not yet."""

    def end(self, scene: Scene) -> None:
        """Undo it."""


# ---------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Crash:
    """A node dies and starts again at the end."""

    node: int

    def begin(self, scene: Scene) -> bool:
        """Kill it."""
        was_up = scene.nodes[self.node].up
        scene.nodes[self.node].crash()
        return was_up

    def end(self, scene: Scene) -> None:
        """Start it."""
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class CrashAtEffect:
    """A node dies just before or just after the next effect of a kind."""

    node: int
    effect: str
    after: bool

    def begin(self, scene: Scene) -> bool:
        """Set the trap; it counts when it springs."""

        def due(effect: Effect, after: bool) -> bool:
            springs = after == self.after and type(effect).__name__ == self.effect
            if springs:
                scene.struck(self)
                moment = "after" if after else "before"
                scene.happened(scene.nodes[self.node], f"crash {moment} {self.effect}")
            return springs

        scene.nodes[self.node].crash_when = due
        return False

    def end(self, scene: Scene) -> None:
        """Remove the trap; start the node if it fell into it."""
        scene.nodes[self.node].crash_when = None
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class Pause:
    """A node stops as by SIGSTOP and goes on with stale timers."""

    node: int

    def begin(self, scene: Scene) -> bool:
        """Stop it."""
        node = scene.nodes[self.node]
        stops = node.up and not node.paused
        node.pause()
        return stops

    def end(self, scene: Scene) -> None:
        """Let it go on."""
        scene.nodes[self.node].resume()


# ---------------------------------------------------------------------- links


@dataclass(frozen=True)
class CutLinks:
    """Links are cut: a partition, a one-way cut, or the loss of some types of messages."""

    cuts: tuple[Cut, ...]

    def begin(self, scene: Scene) -> bool:
        """Cut."""
        for cut in self.cuts:
            scene.network.cut(cut)
        return True

    def end(self, scene: Scene) -> None:
        """Heal."""
        for cut in self.cuts:
            scene.network.heal(cut)


@dataclass(frozen=True)
class BadLinks:
    """Some links lose, double, delay and reorder."""

    impairment: Impairment

    def begin(self, scene: Scene) -> bool:
        """From now on."""
        scene.network.impair(self.impairment)
        return True

    def end(self, scene: Scene) -> None:
        """As at the beginning of the run."""
        scene.network.repair(self.impairment)


@dataclass(frozen=True)
class ClogLinks:
    """What is sent over some links waits until the end, then comes in a burst."""

    clog: Clog

    def begin(self, scene: Scene) -> bool:
        """Clog."""
        scene.network.clog(self.clog)
        return True

    def end(self, scene: Scene) -> None:
        """Let it burst."""
        scene.network.unclog(self.clog)


# ---------------------------------------------------------------------- clocks


@dataclass(frozen=True)
class JumpingClock:
    """A node's wall clock jumps to another offset, and back at the end."""

    node: int
    offset_ms: int

    def begin(self, scene: Scene) -> bool:
        """Jump."""
        scene.nodes[self.node].clock.show(self.offset_ms)
        return True

    def end(self, scene: Scene) -> None:
        """Jump back."""
        scene.nodes[self.node].clock.step_back()


@dataclass(frozen=True)
class WrongClock(JumpingClock):
    """The same, so far that honest nodes may refuse what it says of time."""


@dataclass(frozen=True)
class DriftingClock:
    """A node's clocks run too fast or too slow, its timers with them."""

    node: int
    rate_ppm: int

    def begin(self, scene: Scene) -> bool:
        """From now on."""
        scene.nodes[self.node].clock.drift(self.rate_ppm)
        return True

    def end(self, scene: Scene) -> None:
        """The right speed again; the time gained or lost stays."""
        scene.nodes[self.node].clock.drift(0)


@dataclass(frozen=True)
class FrozenClock:
    """A node's wall clock stands still."""

    node: int

    def begin(self, scene: Scene) -> bool:
        """Freeze."""
        scene.nodes[self.node].clock.freeze()
        return True

    def end(self, scene: Scene) -> None:
        """Show the time again."""
        scene.nodes[self.node].clock.thaw()


# ---------------------------------------------------------------------- disks


@dataclass(frozen=True)
class SlowDisk:
    """Each sync of a node takes long."""

    node: int
    sync_us: int
    before: Speed

    def begin(self, scene: Scene) -> bool:
        """From now on."""
        scene.nodes[self.node].speed = replace(self.before, sync_us=self.sync_us)
        return True

    def end(self, scene: Scene) -> None:
        """As before."""
        scene.nodes[self.node].speed = self.before


@dataclass(frozen=True)
class DiskError:
    """Syncs fail with EIO or ENOSPC: the node stops before it signs, and is started again when the disk works."""

    node: int

    def begin(self, scene: Scene) -> bool:
        """Fail from now on."""
        scene.nodes[self.node].disk.fail(True)
        return True

    def end(self, scene: Scene) -> None:
        """Another disk, the same contents."""
        scene.nodes[self.node].disk.fail(False)
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class RotBlock:
    """A bit of a stored block flips: not served while the node runs, found and fetched again when it starts."""

    node: int
    share_bp: int
    """Which block, as a share of the height."""

    def begin(self, scene: Scene) -> bool:
        """Flip."""
        disk = scene.nodes[self.node].disk
        disk.rot_block(disk.height - disk.height * self.share_bp // 10_000)
        return disk.height > 0

    def end(self, scene: Scene) -> None:
        """Restart."""
        scene.nodes[self.node].crash()
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class LoseJournal:
    """A node dies, its journal (or its whole disk) is gone, and it starts again at the end."""

    node: int
    ledger_too: bool

    def begin(self, scene: Scene) -> bool:
        """Kill and wipe."""
        node = scene.nodes[self.node]
        node.crash()
        if self.ledger_too:
            node.disk.wipe()
        else:
            node.disk.lose_journal()
        return True

    def end(self, scene: Scene) -> None:
        """Start it."""
        scene.nodes[self.node].start()


@dataclass(frozen=True)
class RotJournal:
    """A node dies, a bit of its journal has flipped, and the start at the end finds it."""

    node: int

    def begin(self, scene: Scene) -> bool:
        """Kill and flip."""
        node = scene.nodes[self.node]
        node.crash()
        node.disk.rot_journal()
        return True

    def end(self, scene: Scene) -> None:
        """Start it."""
        scene.nodes[self.node].start()


@dataclass
class RestoreDisk:
    """At the end a node starts again from a copy of its disk made at the beginning: it has forgotten what it signed.

    ``journal_only``: the ledger is not copied, and knows how far the journal had come when it stored its last block.
    """

    node: int
    journal_only: bool
    _image: Image | None = field(default=None, init=False, repr=False)

    def begin(self, scene: Scene) -> bool:
        """Make a backup."""
        self._image = scene.nodes[self.node].disk.image()
        return True

    def end(self, scene: Scene) -> None:
        """Go back to it."""
        node, image = scene.nodes[self.node], self._image
        if image is None:
            return
        self._image = None
        node.crash()
        if not self.journal_only:
            node.disk.restore(image)
        elif len(image.blocks) < node.disk.height:
            node.disk.lose_journal()
        else:
            node.disk.restore(Image(image.journal, tuple(node.disk.blocks)))
        scene.happened(node, "disk restored")
        node.start()


# ---------------------------------------------------------------------- plans


@dataclass(frozen=True)
class Planned:
    """A fault with its times."""

    begins_us: int
    ends_us: int
    fault: Fault


CRASH_EFFECTS = (
    "Persist",
    "Persist",
    "Send",
    "Send",
    "Decide",
    "SetTimer",
    "CancelTimer",
    "BuildBatch",
    "CheckProposal",
    "FetchBlock",
    "FetchDecided",
    "SendDecided",
    "Forget",
    "Report",
    "Trace",
)
CUT_KINDS = (
    ("Commit",),
    ("Commit",),
    ("Commit", "Prepare"),
    ("Prepare",),
    ("Proposal",),
    ("ViewChange",),
    ("NewView",),
    ("Commit", "NewView"),
    ("Decided", "BlocksResponse"),
    ("Relay",),
)
"""Lost commits come most often: they leave blocks that some have decided and others must find again."""
MAX_DRIFT_PPM = 10_000
"""One in a hundred: far worse than any crystal, and over a phase of faults still within the drift that all accept."""

OFTEN = {"crash": 2, "crash at effect": 5}
"""Kinds that come more often than others: a trap often finds no prey, and there are two for each effect."""
TRAP_US = 4 * SECOND_US
"""A trap waits at least so long for the effect it is set for."""


class FaultPlanner:
    """Draws a plan of the kinds given: any number of nodes may crash or be cut off, but clocks and journals fail for
    at most f.

    ``frail`` are the nodes that may lose their journal or their sense of time; together with the Byzantine ones they
    are at most f, since beyond that PROTOCOL 6.5 and 6.8 promise nothing.
    """

    def __init__(
        self,
        rng: random.Random,
        nodes: Sequence[SimulatedNode],
        frail: Sequence[int],
        kinds: Sequence[str],
        max_drift_ms: int,
    ) -> None:
        self._rng = rng
        self._nodes = nodes
        self._frail = list(frail)
        self._everybody = list(range(len(nodes)))
        self._quarter_drift_ms = max_drift_ms // 4
        common: dict[str, Callable[[], Fault]] = {
            "crash": lambda: Crash(self._node()),
            "crash at effect": self._crash_at_effect,
            "pause": lambda: Pause(self._node()),
            "partition": self._partition,
            "isolate": self._isolate,
            "one way": self._one_way,
            "lose kind": self._lose_kind,
            "starve": self._starve,
            "bad links": lambda: BadLinks(Impairment(*self._all_links(), self._quality())),
            "bad directions": lambda: BadLinks(Impairment(self._some(), self._some(), self._quality())),
            "clog": lambda: ClogLinks(Clog(self._some(), self._some())),
            "slow disk": self._slow_disk,
            "disk error": lambda: DiskError(self._node()),
            "block rot": lambda: RotBlock(self._node(), self._rng.randrange(3_000)),
            "clock jump": self._clock_jump,
            "clock drift": self._clock_drift,
        }
        frail_ones: dict[str, Callable[[], Fault]] = {
            "wrong clock": self._wrong_clock,
            "frozen clock": lambda: FrozenClock(self._frail_node()),
            "lost journal": lambda: LoseJournal(self._frail_node(), False),
            "wiped disk": lambda: LoseJournal(self._frail_node(), True),
            "journal rot": lambda: RotJournal(self._frail_node()),
            "restored journal": lambda: RestoreDisk(self._frail_node(), True),
            "restored disk": lambda: RestoreDisk(self._frail_node(), False),
        }
        able = {**common, **(frail_ones if self._frail else {})}
        self._makers = [
            (kind, able.get(kind))
            for kind in kinds
            if kind in able or kind == "swizzle"
            for _ in range(OFTEN.get(kind, 1))
        ]

    def plan(self, count: int, from_us: int, within_us: int) -> list[Planned]:
        """``count`` faults, beginning within the time given; most are short, the longest last a quarter of it."""
        planned: list[Planned] = []
        while len(planned) < count:
            begins_us = from_us + self._rng.randrange(within_us)
            lasts_us = int(within_us // 4 * self._rng.random() ** 3) + 200_000
            kind, make = self._rng.choice(self._makers)
            if kind == "crash at effect":
                lasts_us += TRAP_US
            if make is None:
                planned += self._swizzle(begins_us, lasts_us)
            else:
                planned.append(Planned(begins_us, begins_us + lasts_us, make()))
        return planned

    def split(self, within_us: int, upright: Sequence[int]) -> list[Planned]:
        """Partitions made for a fork: honest nodes on both sides, and of each pair of twins one."""
        planned = []
        for begins_us in range(within_us // 8, within_us, within_us // 4):
            halves = list(upright)
            self._rng.shuffle(halves)
            half = halves[: len(halves) // 2]
            seen: dict[bytes, None] = {}
            for node in self._nodes:
                if node.index not in upright and node.member.public_key not in seen:
                    seen[node.member.public_key] = None
                    half.append(node.index)
            others = [index for index in self._everybody if index not in half]
            planned.append(Planned(begins_us, begins_us + within_us // 6, _apart(half, others)))
        return planned

    def _node(self) -> int:
        return self._rng.randrange(len(self._nodes))

    def _frail_node(self) -> int:
        return self._rng.choice(self._frail)

    def _some(self) -> tuple[int, ...]:
        return tuple(self._rng.sample(self._everybody, self._rng.randint(1, len(self._everybody))))

    def _all_links(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(self._everybody), tuple(self._everybody)

    def _swizzle(self, begins_us: int, lasts_us: int) -> list[Planned]:
        """Nodes are clogged one after the other and freed in another order."""
        planned = []
        for index in self._some():
            clog = Clog((index,), tuple(self._everybody))
            begin_us = begins_us + self._rng.randrange(lasts_us)
            end_us = begins_us + lasts_us + self._rng.randrange(lasts_us)
            planned.append(Planned(begin_us, end_us, ClogLinks(clog)))
        return planned

    def _crash_at_effect(self) -> Fault:
        return CrashAtEffect(self._node(), self._rng.choice(CRASH_EFFECTS), self._rng.random() < 0.5)

    def _partition(self) -> Fault:
        indices = list(self._everybody)
        self._rng.shuffle(indices)
        split = self._rng.randint(1, len(indices) - 1)
        return _apart(indices[:split], indices[split:])

    def _isolate(self) -> Fault:
        one = self._node()
        return _apart([one], [index for index in self._everybody if index != one])

    def _one_way(self) -> Fault:
        indices = list(self._everybody)
        self._rng.shuffle(indices)
        split = self._rng.randint(1, len(indices) - 1)
        return CutLinks((Cut(tuple(indices[:split]), tuple(indices[split:])),))

    def _starve(self) -> Fault:
        """No view prepares, or none decides, anywhere: several fail in a row, which is what removal needs (6.10)."""
        everybody = tuple(self._everybody)
        kinds = self._rng.choice((("Prepare",), ("Prepare", "Commit")))
        return CutLinks((Cut(everybody, everybody, kinds),))

    def _lose_kind(self) -> Fault:
        kinds = self._rng.choice(CUT_KINDS)
        return CutLinks((Cut(tuple(self._everybody), self._some(), kinds),))

    def _quality(self) -> LinkQuality:
        rng = self._rng
        return LinkQuality(
            least_delay_us=500,
            greatest_delay_us=rng.choice((20_000, 200_000, 1_000_000)),
            loss_bp=rng.choice((0, 500, rng.randint(0, 3_000))),
            duplicate_bp=rng.choice((0, 1_000, rng.randint(0, 5_000))),
            straggler_bp=rng.choice((0, 200, 1_000)),
            straggler_us=10 * SECOND_US,
        )

    def _slow_disk(self) -> Fault:
        index = self._node()
        return SlowDisk(
            index, self._rng.choice((20_000, 200_000, 1_000_000, 3_000_000)), self._nodes[index].speed
        )

    def _clock_jump(self) -> Fault:
        # From one usual offset to another: two honest clocks still differ by less than the drift that all accept.
        quarter_ms = self._quarter_drift_ms
        return JumpingClock(self._node(), self._rng.randint(-quarter_ms, quarter_ms))

    def _clock_drift(self) -> Fault:
        return DriftingClock(self._node(), self._rng.randint(-MAX_DRIFT_PPM, MAX_DRIFT_PPM))

    def _wrong_clock(self) -> Fault:
        offset = self._rng.choice((-3_600_000, -20_000, -6_000, 6_000, 20_000, 3_600_000))
        return WrongClock(self._frail_node(), offset)


def forgetful(plan: Sequence[Planned]) -> tuple[int, ...]:
    """The nodes whose past comes back in this plan: they may contradict what they signed."""
    restored = {item.fault.node: None for item in plan if isinstance(item.fault, RestoreDisk)}
    return tuple(restored)


def _apart(one: Sequence[int], other: Sequence[int]) -> Fault:
    """A symmetric partition."""
    return CutLinks((Cut(tuple(one), tuple(other)), Cut(tuple(other), tuple(one))))
