"""Watching the event loop: how late does it come to what it should do now? (LESSONS 11)."""

import asyncio
import resource
import sys
from collections import deque
from pathlib import Path
from typing import Final

import structlog

_INTERVAL_S: Final = 0.1
_WINDOW: Final = 100
"""Samples remembered: ten seconds."""
STALLED_MS: Final = 1_000.0
"""A loop that late is worth a line in the log: votes and timers were late by as much."""

log = structlog.get_logger("node.watch")


class LoopWatch:
    """Samples the delay of the running loop's timers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._samples: deque[float] = deque(maxlen=_WINDOW)
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to sample."""
        self._arm()

    def stop(self) -> None:
        """Stop sampling."""
        if self._handle is not None:
            self._handle.cancel()

    @property
    def lag_ms(self) -> float:
        """Largest delay over the last ten seconds, or the present one if that is larger."""
        present = max(0.0, (self._loop.time() - self._due) * 1_000) if self._due else 0.0
        return max([present, *self._samples])

    def _arm(self) -> None:
        self._due = self._loop.time() + _INTERVAL_S
        self._handle = self._loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        lag_ms = max(0.0, (self._loop.time() - self._due) * 1_000)
        self._samples.append(lag_ms)
        if lag_ms >= STALLED_MS:
            log.warning("the event loop was held up", lag_ms=round(lag_ms))
        self._arm()


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the system does not tell the present one."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1_024
    return pages * resource.getpagesize()
