"""Long polls: bounded waiting for a change, woken all at once."""

import asyncio
from collections import Counter
from collections.abc import Callable

from network.bootstrap.errors import Refused


class LongPolls:
    """Who waits for news."""

    def __init__(self, max_waiters: int, max_per_host: int) -> None:
        self._max_waiters = max_waiters
        self._max_per_host = max_per_host
        self._hosts: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests waiting now."""
        return self._hosts.total()

    def wake(self) -> None:
        """Something changed: let every waiter look."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """The service stops: let every waiter go, with what there is."""
        self._closed = True
        self.wake()

    async def wait_for_change(self) -> None:
        """The next `wake`; for the service itself, which is not counted."""
        await self._changed.wait()

    async def wait_for(self, holds: Callable[[], bool], timeout_ms: int, host: str) -> bool:
        """Whether ``holds`` within ``timeout_ms``; `Refused` (429) if too many wait already."""
        if timeout_ms <= 0 or holds():
            return holds()
        if self.waiting >= self._max_waiters or self._hosts[host] >= self._max_per_host:
            raise Refused(
                429, "too_many_waiters", "too many requests wait here: ask again soon", retry_after_s=2
            )
        self._hosts[host] += 1
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while not holds() and not self._closed:
                    await self._changed.wait()
        except TimeoutError:
            return holds()
        finally:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
        return holds()
