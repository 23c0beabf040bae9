"""A node's clocks: a wall clock that may be wrong, and a monotonic one with an origin and a speed of its own."""

from typing import Final

from consensus.inputs import Instant
from network.simulation.agenda import Agenda

GENESIS_MS = 1_750_000_000_000
"""Wall time at which every simulation begins: far from 0, so that a forgotten base shows."""
MILLION: Final = 1_000_000


class NodeClock:
    """`Instant`s of one node; what faults do to it survives restarts, as a machine's clock does."""

    def __init__(self, agenda: Agenda, monotonic_base_ms: int, usual_offset_ms: int = 0) -> None:
        self._agenda = agenda
        self._base_ms = monotonic_base_ms
        self._usual_offset_ms = usual_offset_ms
        self.offset_ms = usual_offset_ms
        """How far the wall clock is from where its own speed would have brought it."""
        self._rate_ppm = 0
        self._since_us = 0
        self._elapsed_us = 0
        """What this clock had counted at ``_since_us``, when its speed last changed."""
        self._frozen_wall_ms: int | None = None

    def _elapsed_ms(self) -> int:
        passed_us = self._agenda.now_us - self._since_us
        if self._rate_ppm:
            passed_us += passed_us * self._rate_ppm // MILLION
        return (self._elapsed_us + passed_us) // 1_000

    def drift(self, rate_ppm: int) -> None:
        """Both clocks run faster (slower, if negative) by so many millionths from now on."""
        passed_us = self._agenda.now_us - self._since_us
        self._elapsed_us += passed_us + passed_us * self._rate_ppm // MILLION
        self._since_us = self._agenda.now_us
        self._rate_ppm = rate_ppm

    def freeze(self) -> None:
        """The wall clock stands still; the monotonic one goes on."""
        self._frozen_wall_ms = self.instant().wall_ms

    def thaw(self) -> None:
        """The wall clock shows the time again."""
        self._frozen_wall_ms = None

    def show(self, offset_ms: int) -> None:
        """The wall clock jumps: it is wrong by exactly so much now."""
        self.offset_ms = offset_ms - (self._elapsed_ms() - self._agenda.now_us // 1_000)

    def correct(self) -> None:
        """Back to how wrong the clock usually is, at the right speed."""
        self.thaw()
        self.drift(0)
        self.show(self._usual_offset_ms)

    def step_back(self) -> None:
        """A jump is undone."""
        self.show(self._usual_offset_ms)

    def instant(self) -> Instant:
        """Both clocks now."""
        elapsed_ms = self._elapsed_ms()
        wall_ms = self._frozen_wall_ms
        if wall_ms is None:
            wall_ms = GENESIS_MS + elapsed_ms + self.offset_ms
        return Instant(wall_ms, self._base_ms + elapsed_ms)

    def delay_us(self, delay_ms: int) -> int:
        """True microseconds until this clock has counted ``delay_ms``."""
        if self._rate_ppm:
            return delay_ms * 1_000 * MILLION // (MILLION + self._rate_ppm)
        return delay_ms * 1_000
