"""Links between nodes: delay, loss, duplication, reordering, and cuts that are symmetric, one-way or by type."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from network.simulation.agenda import Agenda
from network.simulation.letters import Letter

WHOLE_BP = 10_000


@dataclass(frozen=True)
class LinkQuality:
    """How every link behaves at present; chances in basis points."""

    least_delay_us: int = 500
    greatest_delay_us: int = 5_000
    loss_bp: int = 0
    duplicate_bp: int = 0
    straggler_bp: int = 0
    """Chance of a delay of up to ``straggler_us``, which lets later messages overtake."""
    straggler_us: int = 0


CALM = LinkQuality()
"""What links are after all faults healed."""


@dataclass(frozen=True)
class Cut:
    """No message of ``kinds`` (empty: of any type) gets from ``sources`` to ``targets``."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    kinds: tuple[str, ...] = ()

    def blocks(self, source: int, target: int, letter: Letter) -> bool:
        """Whether this cut stops ``letter``."""
        if source not in self.sources or target not in self.targets:
            return False
        return not self.kinds or type(letter).__name__ in self.kinds


class Network:
    """Carries letters between nodes, known by their index."""

    def __init__(
        self, agenda: Agenda, rng: random.Random, deliver: Callable[[int, int, Letter], None]
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._deliver = deliver
        self._cuts: list[Cut] = []
        self.quality = CALM
        self.sent = 0
        self.lost = 0
        self.duplicated = 0

    def send(self, source: int, target: int, letter: Letter) -> None:
        """Put ``letter`` on the way; it may arrive once, twice, late or never."""
        quality, rng = self.quality, self._rng
        self.sent += 1
        if self._is_cut(source, target, letter) or self._happens(quality.loss_bp):
            self.lost += 1
            return
        copies = 1
        if self._happens(quality.duplicate_bp):
            self.duplicated += 1
            copies = 2
        for _ in range(copies):
            delay = rng.randrange(quality.least_delay_us, quality.greatest_delay_us + 1)
            if self._happens(quality.straggler_bp):
                delay += rng.randint(0, quality.straggler_us)
            self._agenda.after(delay, lambda: self._arrive(source, target, letter))

    def _happens(self, chance_bp: int) -> bool:
        return chance_bp > 0 and self._rng.randrange(WHOLE_BP) < chance_bp

    def _arrive(self, source: int, target: int, letter: Letter) -> None:
        if self._is_cut(source, target, letter):
            self.lost += 1
        else:
            self._deliver(source, target, letter)

    def _is_cut(self, source: int, target: int, letter: Letter) -> bool:
        return bool(self._cuts) and any(cut.blocks(source, target, letter) for cut in self._cuts)

    def cut(self, cut: Cut) -> None:
        """Cut links from now on; what is under way is lost too. Cuts add up."""
        self._cuts.append(cut)

    def heal(self, cut: Cut) -> None:
        """End one cut; no effect if it is not in force."""
        if cut in self._cuts:
            self._cuts.remove(cut)

    def heal_all(self) -> None:
        """End all cuts and make the links calm."""
        self._cuts.clear()
        self.quality = CALM
