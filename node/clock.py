"""The clock door of the node: both readings of an instant, real or set by a test."""

import time
from typing import Protocol

from consensus.inputs import Instant


class Clock(Protocol):
    """Reads both clocks."""

    def now(self) -> Instant:
        """UTC and monotonic milliseconds."""


class SystemClock:
    """`Clock` of this machine."""

    def now(self) -> Instant:
        """As the operating system says."""
        return Instant(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
