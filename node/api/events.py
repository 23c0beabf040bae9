"""Server-sent events: resumable without gap or duplicate, at the reader's own pace (LESSONS 18).

An event's id is ``height.sequence``. Sequence 0 is the block itself (event ``block``), sequence s + 1 the record s of
`node.service.EventRecord`; so an id names how far a reader came even in a block without any event.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from aiohttp import web

from node.api import views
from node.api.problems import Problem
from node.api.query import Query, number
from node.service import BlockEvents, NodeService, TooManySubscribers

HEARTBEAT_S: Final = 10.0
"""A comment this often shows both ends that the other is there; proxies drop silence after 30 s or more."""
GONE_AFTER_S: Final = 1.0
"""How often a silent stream looks whether its reader is still there, so that one that left frees its place."""
WRITE_TIMEOUT_S: Final = 20.0
"""A reader that takes nothing for this long holds a stream that others may want."""
FAREWELL_S: Final = 5.0
"""How long a told slow reader has to read what is on its way."""


class EventStreams:
    """All open streams of one API."""

    def __init__(
        self,
        service: NodeService,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        """Seconds are floats: they bound sockets, nothing that is agreed on."""
        self._service = service
        self._heartbeat_s = heartbeat_s
        self._look_s = min(heartbeat_s, GONE_AFTER_S)
        self._write_timeout_s = write_timeout_s
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every stream: each is told, and resumes elsewhere."""
        self._closing.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One stream, until its reader goes, is too slow, or the node stops."""
        height, sequence = self._start(request)
        after = None if sequence is None or sequence == 0 else sequence - 1
        blocks = self._service.events(height, after)
        stream = _Stream(request, self._write_timeout_s)
        pending = asyncio.ensure_future(_next(blocks))
        closing = asyncio.ensure_future(self._closing.wait())
        both: list[asyncio.Future[Any]] = [pending, closing]
        try:
            await asyncio.wait(both, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
            if pending.done():
                pending.result()  # refuses before the answer begins
            await stream.open()
            while not stream.gone:
                both = [pending, closing]
                await asyncio.wait(both, timeout=self._look_s, return_when=asyncio.FIRST_COMPLETED)
                if closing.done():
                    await stream.refuse(Problem("shutting_down", "the node stops"))
                    break
                if not pending.done():
                    await stream.beat(self._heartbeat_s)
                    continue
                block = pending.result()
                resumed = sequence is not None and block.height == height
                await stream.write(_render(block, with_block=not resumed))
                pending = asyncio.ensure_future(_next(blocks))
        except TooManySubscribers as error:
            await stream.refuse(Problem("too_many_streams", str(error) or "all event streams are taken"))
        except StopAsyncIteration:
            await stream.refuse(Problem("shutting_down", "the node stops"))
        except TimeoutError:
            stream.dismiss()
        except ConnectionError:
            pass  # the reader went between the look at its connection and the write
        finally:
            pending.cancel()
            closing.cancel()
            await asyncio.gather(pending, closing, return_exceptions=True)
            await _close(blocks)
        return stream.response

    def _start(self, request: web.Request) -> tuple[int, int | None]:
        """Height, and the last sequence of it that the reader has."""
        query = Query(request)
        from_height = query.number("from", self._service.position().height + 1, 1)
        query.done()
        last = request.headers.get("Last-Event-ID")
        if last is None:
            return from_height, None
        match = re.fullmatch(r"([0-9]{1,19})\.([0-9]{1,19})", last.strip())
        if match is None:
            raise Problem("invalid_parameter", f"Last-Event-ID: expected height.sequence, got {last[:80]!r}")
        height = number(match[1], "Last-Event-ID", 1, 2**63 - 1)
        return height, int(match[2])


async def _next(blocks: AsyncIterator[BlockEvents]) -> BlockEvents:
    return await anext(blocks)


async def _close(blocks: AsyncIterator[BlockEvents]) -> None:
    close = getattr(blocks, "aclose", None)
    if close is not None:
        await close()


def _render(block: BlockEvents, *, with_block: bool) -> bytes:
    parts: list[bytes] = []
    if with_block:
        parts.append(_message(block.height, 0, "block", views.block_event(block)))
    for record in block.records:
        value = views.record_event(record, block.block_hash)
        parts.append(_message(record.height, record.sequence + 1, value["type"], value))
    return b"".join(parts)


def _message(height: int, sequence: int, event: str, value: object) -> bytes:
    head = f"id: {height}.{sequence}\nevent: {event}\ndata: ".encode()
    return head + msgspec.json.encode(value) + b"\n\n"


class _Stream:
    """The answer's body."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self._request = request
        self._write_timeout_s = write_timeout_s
        self._written_at = asyncio.get_running_loop().time()
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )

    async def open(self) -> None:
        """Send the header; the length is unknown, so the connection ends with the stream."""
        self.response.force_close()
        await self.response.prepare(self._request)
        await self.write(b"retry: 1000\n\n")

    @property
    def gone(self) -> bool:
        """Whether the reader closed the connection."""
        return self._request.transport is None or self._request.transport.is_closing()

    async def beat(self, heartbeat_s: float) -> None:
        """A comment, if nothing was sent for ``heartbeat_s``."""
        if asyncio.get_running_loop().time() - self._written_at >= 0.99 * heartbeat_s:
            await self.write(b": heartbeat\n\n")

    async def write(self, data: bytes) -> None:
        """Send and wait until the reader has room; `TimeoutError` if it takes nothing for too long."""
        if not data:
            return
        self._written_at = asyncio.get_running_loop().time()
        async with asyncio.timeout(self._write_timeout_s):
            await self.response.write(data)

    async def refuse(self, problem: Problem) -> None:
        """An ``error`` event before the stream ends; a problem document if it has not begun."""
        if not self.response.prepared:
            raise problem
        try:
            await self.write(_error(problem))
        except (TimeoutError, ConnectionError):
            self.dismiss()

    def dismiss(self) -> None:
        """Tell a slow reader behind what it still has to read, then close, by force if it goes on not reading."""
        transport = self._request.transport
        if transport is None:
            return
        data = _error(Problem("slow_reader", f"nothing was read for {self._write_timeout_s:g} s"))
        transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        transport.close()
        asyncio.get_running_loop().call_later(FAREWELL_S, transport.abort)


def _error(problem: Problem) -> bytes:
    return b"event: error\ndata: " + msgspec.json.encode(problem.view()) + b"\n\n"
