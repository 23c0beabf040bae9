"""Links between nodes: delay, loss, duplication, reordering, clogs, and cuts that are symmetric, one-way or by type."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from network.simulation.agenda import Agenda
from network.simulation.letters import Letter

WHOLE_BP = 10_000
MAX_WAITING_LETTERS = 4_096
"""Behind a clogged link; the oldest are lost, as by a sender whose queue is full."""
BURST_US = 2_000
"""What waited behind a clog arrives within so short a time."""


@dataclass(frozen=True)
class LinkQuality:
    """How a link behaves; chances in basis points."""

    least_delay_us: int = 500
    greatest_delay_us: int = 5_000
    loss_bp: int = 0
    duplicate_bp: int = 0
    straggler_bp: int = 0
    """Chance of a delay of up to ``straggler_us``, which lets later messages overtake."""
    straggler_us: int = 0


CALM = LinkQuality()
"""A local network without faults."""


@dataclass(frozen=True)
class Cut:
    """No message of ``kinds`` (empty: of any type) gets from ``sources`` to ``targets``."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    kinds: tuple[str, ...] = ()

    def covers(self, source: int, target: int) -> bool:
        """Whether it concerns this link."""
        return source in self.sources and target in self.targets


@dataclass(frozen=True)
class Clog:
    """What is sent from ``sources`` to ``targets`` waits at the sender until the clog goes, and comes in a burst."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]

    def covers(self, source: int, target: int) -> bool:
        """Whether it concerns this link."""
        return source in self.sources and target in self.targets


@dataclass(frozen=True)
class Impairment:
    """Links from ``sources`` to ``targets`` behave as ``quality`` says, on top of their usual delay."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    quality: LinkQuality

    def covers(self, source: int, target: int) -> bool:
        """Whether it concerns this link."""
        return source in self.sources and target in self.targets


class _Link:
    """One direction between two nodes, as all that is in force makes it."""

    __slots__ = ("clogged", "cut", "kinds", "least_us", "plain", "quality", "span_us")

    def __init__(self, quality: LinkQuality, cuts: list[Cut], clogged: bool) -> None:
        self.quality = quality
        self.least_us = quality.least_delay_us
        self.span_us = quality.greatest_delay_us - quality.least_delay_us + 1
        self.cut = any(not cut.kinds for cut in cuts)
        self.kinds = tuple(kind for cut in cuts for kind in cut.kinds)
        self.clogged = clogged
        chances = quality.loss_bp or quality.duplicate_bp or quality.straggler_bp
        self.plain = not (chances or cuts or clogged)

    def stops(self, letter: Letter) -> bool:
        """Whether a cut stops ``letter``."""
        return self.cut or (bool(self.kinds) and type(letter).__name__ in self.kinds)


class Network:
    """Carries letters between nodes, known by their index."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        deliver: Callable[[int, int, Letter], None],
        usual: LinkQuality = CALM,
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._random = rng.random
        self._deliver = deliver
        self._usual = usual
        self._quality = usual
        self._cuts: list[Cut] = []
        self._clogs: list[Clog] = []
        self._impairments: list[Impairment] = []
        self._links: dict[tuple[int, int], _Link] = {}
        self._waiting: dict[tuple[int, int], list[Letter]] = {}
        self.sent = 0
        self.lost = 0
        self.duplicated = 0
        self.clogged = 0

    # ------------------------------------------------------------------ letters

    def send(self, source: int, target: int, letter: Letter) -> None:
        """Put ``letter`` on the way; it may arrive once, twice, late or never."""
        self.sent += 1
        link = self._links.get((source, target)) or self._link(source, target)
        if link.plain:
            delay_us = link.least_us + int(self._random() * link.span_us)
            self._agenda.call(delay_us, self._arrive, source, target, letter)
        else:
            self._send_with_trouble(link, source, target, letter)

    def _send_with_trouble(self, link: _Link, source: int, target: int, letter: Letter) -> None:
        quality, rng = link.quality, self._rng
        if link.stops(letter) or self._happens(quality.loss_bp):
            self.lost += 1
            return
        if link.clogged:
            self._wait(source, target, letter)
            return
        copies = 1
        if self._happens(quality.duplicate_bp):
            self.duplicated += 1
            copies = 2
        for _ in range(copies):
            delay_us = link.least_us + int(self._random() * link.span_us)
            if self._happens(quality.straggler_bp):
                delay_us += rng.randint(0, quality.straggler_us)
            self._agenda.call(delay_us, self._arrive, source, target, letter)

    def _happens(self, chance_bp: int) -> bool:
        return chance_bp > 0 and self._random() * WHOLE_BP < chance_bp

    def _wait(self, source: int, target: int, letter: Letter) -> None:
        waiting = self._waiting.setdefault((source, target), [])
        waiting.append(letter)
        self.clogged += 1
        if len(waiting) > MAX_WAITING_LETTERS:
            del waiting[0]
            self.lost += 1

    def _arrive(self, source: int, target: int, letter: Letter) -> None:
        link = self._links.get((source, target)) or self._link(source, target)
        if not link.plain and link.stops(letter):
            self.lost += 1
        else:
            self._deliver(source, target, letter)

    # ------------------------------------------------------------------ links

    def _link(self, source: int, target: int) -> _Link:
        quality = self._quality
        for item in self._impairments:
            if item.covers(source, target):
                quality = _worse(quality, item.quality)
        cuts = [cut for cut in self._cuts if cut.covers(source, target)]
        clogged = any(clog.covers(source, target) for clog in self._clogs)
        link = self._links[(source, target)] = _Link(quality, cuts, clogged)
        return link

    def connected(self, one: int, other: int) -> bool:
        """Whether a connection between two nodes would live: neither direction is cut off for everything."""
        ways = ((one, other), (other, one))
        return not any((self._links.get(way) or self._link(*way)).cut for way in ways)

    @property
    def quality(self) -> LinkQuality:
        """How links behave that nothing is the matter with."""
        return self._quality

    @quality.setter
    def quality(self, quality: LinkQuality) -> None:
        self._quality = quality
        self._links.clear()

    def cut(self, cut: Cut) -> None:
        """Cut links from now on; what is under way is lost too. Cuts add up."""
        self._cuts.append(cut)
        self._links.clear()

    def heal(self, cut: Cut) -> None:
        """End one cut; no effect if it is not in force."""
        if cut in self._cuts:
            self._cuts.remove(cut)
            self._links.clear()

    def impair(self, impairment: Impairment) -> None:
        """Worsen links from now on."""
        self._impairments.append(impairment)
        self._links.clear()

    def repair(self, impairment: Impairment) -> None:
        """End that; no effect if it is not in force."""
        if impairment in self._impairments:
            self._impairments.remove(impairment)
            self._links.clear()

    def clog(self, clog: Clog) -> None:
        """Let letters wait from now on; those under way arrive."""
        self._clogs.append(clog)
        self._links.clear()

    def unclog(self, clog: Clog) -> None:
        """End one clog; what waited behind it, and behind no other, comes in a burst."""
        if clog in self._clogs:
            self._clogs.remove(clog)
            self._links.clear()
            self._flush()

    def _flush(self) -> None:
        for source, target in tuple(self._waiting):
            if not self._link(source, target).clogged:
                for letter in self._waiting.pop((source, target)):
                    self._agenda.call(self._rng.randrange(BURST_US), self._arrive, source, target, letter)

    def heal_all(self) -> None:
        """End all cuts and clogs and make the links what they usually are."""
        self._cuts.clear()
        self._clogs.clear()
        self._impairments.clear()
        self.quality = self._usual
        self._flush()


def _worse(quality: LinkQuality, more: LinkQuality) -> LinkQuality:
    """Both troubles at once: the longer delays and the greater chances."""
    return replace(
        quality,
        least_delay_us=max(quality.least_delay_us, more.least_delay_us),
        greatest_delay_us=max(quality.greatest_delay_us, more.greatest_delay_us),
        loss_bp=max(quality.loss_bp, more.loss_bp),
        duplicate_bp=max(quality.duplicate_bp, more.duplicate_bp),
        straggler_bp=max(quality.straggler_bp, more.straggler_bp),
        straggler_us=max(quality.straggler_us, more.straggler_us),
    )
