"""A node's clocks: a wall clock that may be wrong by an offset, and a monotonic one with an origin of its own."""

from consensus.inputs import Instant
from network.simulation.agenda import Agenda

GENESIS_MS = 1_750_000_000_000
"""Wall time at which every simulation begins: far from 0, so that a forgotten base shows."""


class NodeClock:
    """`Instant`s of one node; ``offset_ms`` is set by faults and survives restarts, as a machine's clock does."""

    def __init__(self, agenda: Agenda, monotonic_base_ms: int) -> None:
        self._agenda = agenda
        self._base_ms = monotonic_base_ms
        self.offset_ms = 0

    def instant(self) -> Instant:
        """Both clocks now."""
        now_ms = self._agenda.now_ms()
        return Instant(GENESIS_MS + now_ms + self.offset_ms, self._base_ms + now_ms)
