"""Waiting in tests for what happens on the other side of a socket, where no event can be awaited."""

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Return as soon as ``holds``; `TimeoutError` if that takes too long."""
    async with asyncio.timeout(timeout_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)
