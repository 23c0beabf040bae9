"""A node's clocks: a wall clock that may be wrong by an offset, and a monotonic one with an origin of its own."""

from consensus.inputs import Instant
from network.simulation.agenda import Agenda

GENESIS_MS = 1_750_000_000_000
"""Wall time at which every simulation begins: far from 0, so that a forgotten base shows."""


class NodeClock:
    """`Instant`s of one node; ``offset_ms`` is moved by faults and survives restarts, as a machine's clock does."""

    def __init__(self, agenda: Agenda, monotonic_base_ms: int, usual_offset_ms: int = 0) -> None:
        self._agenda = agenda
        self._base_ms = monotonic_base_ms
        self._usual_offset_ms = usual_offset_ms
        self.offset_ms = usual_offset_ms

    def correct(self) -> None:
        """Back to how wrong the clock usually is."""
        self.offset_ms = self._usual_offset_ms

    def instant(self) -> Instant:
        """Both clocks now."""
        now_ms = self._agenda.now_ms()
        return Instant(GENESIS_MS + now_ms + self.offset_ms, self._base_ms + now_ms)
