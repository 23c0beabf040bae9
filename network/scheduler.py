"""The clock door of network/: a monotonic reading and delayed calls, by asyncio or by the simulator."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Scheduled(Protocol):
    """A delayed call that has not happened yet."""

    def cancel(self) -> None:
        """Do not make the call; no effect once it was made."""


class Scheduler(Protocol):
    """Time and delayed calls, all in one thread."""

    def now_ms(self) -> int:
        """Monotonic milliseconds; the origin means nothing."""

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> Scheduled:
        """Call ``callback`` once after ``delay_ms``; 0 means: after what runs now."""


class LoopScheduler:
    """`Scheduler` of the running event loop, asyncio's or uvloop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now_ms(self) -> int:
        """Milliseconds of the loop's clock."""
        return int(self._loop.time() * 1_000)

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> Scheduled:
        """As `asyncio.loop.call_later`, or `call_soon` for no delay."""
        if delay_ms <= 0:
            return self._loop.call_soon(callback)
        return self._loop.call_later(delay_ms / 1_000, callback)
