"""Server-sent events: order, resumption without gap or duplicate, heartbeats, slow readers (LESSONS 18)."""

import asyncio
import contextlib
import json
import socket
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from contracts.receipts import HeartbeatSeen
from node.client import NodeClient
from node.client_errors import NodeUnreachable
from tests.unit.node.api.conftest import Serve, Served
from tests.unit.node.waiting import eventually


async def read_events(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    """The first ``count`` messages that have a type, as their fields with data decoded."""
    buffer = b""
    while True:
        messages = [message for message in buffer.split(b"\n\n")[:-1] if b"event: " in message]
        if len(messages) >= count:
            break
        chunk = await asyncio.wait_for(response.content.readany(), 5)
        assert chunk, f"the stream ended: {buffer!r}"
        buffer += chunk
    fields = [dict(line.split(": ", 1) for line in message.decode().split("\n")) for message in messages]
    return [{**one, "data": json.loads(one["data"])} for one in fields[:count]]


async def test_blocks_and_their_events_come_in_order_from_a_height(served: Served) -> None:
    async with served.session.get(served.url + "/v1/events?from=1") as response:
        assert response.content_type == "text/event-stream"
        events = await read_events(response, 5)
    assert [event["id"] for event in events] == ["1.0", "1.1", "1.2", "2.0", "3.0"]
    assert [event["event"] for event in events][:2] == ["block", "credit_changed"]
    assert events[0]["data"]["transactions"] == 1
    assert events[1]["data"]["transaction_id"] == served.node.first_id.hex()
    assert events[1]["data"]["data"]["reason"] == "delegate_reward"


async def test_without_from_the_stream_begins_with_the_next_block(served: Served) -> None:
    async with served.session.get(served.url + "/v1/events") as response:
        await served.node.decide((HeartbeatSeen(served.node.other),))
        events = await read_events(response, 2)
    assert [event["id"] for event in events] == ["4.0", "4.1"]


async def test_every_id_resumes_exactly_behind_itself(served: Served) -> None:
    await served.node.decide()
    everything = ["1.0", "1.1", "1.2", "2.0", "3.0", "4.0"]
    for position, last in enumerate(everything[:-1]):
        headers = {"Last-Event-ID": last}
        async with served.session.get(served.url + "/v1/events?from=1", headers=headers) as response:
            rest = everything[position + 1 :]
            assert [event["id"] for event in await read_events(response, len(rest))] == rest


async def test_an_id_that_is_none_is_400(served: Served) -> None:
    for text in ("x", "1", "1.2.3", "0.1", "-1.0"):
        headers = {"Last-Event-ID": text}
        assert (await served.problem("GET", "/v1/events", headers=headers))[:2] == (400, "invalid_parameter")


async def test_silence_is_filled_with_comments(serving: Serve) -> None:
    served = await serving(heartbeat_s=0.02)
    async with served.session.get(served.url + "/v1/events") as response:
        messages = [await response.content.readuntil(b"\n\n") for _ in range(3)]
    assert messages[1:] == [b": heartbeat\n\n"] * 2


async def test_too_many_streams_are_429_before_the_stream_begins(served: Served) -> None:
    served.node.max_streams = 0
    assert (await served.problem("GET", "/v1/events"))[:2] == (429, "too_many_streams")


async def test_a_reader_that_goes_frees_its_stream(served: Served) -> None:
    async with served.session.get(served.url + "/v1/events?from=1") as response:
        await read_events(response, 1)
        assert served.node.streams == 1
    await eventually(lambda: served.node.streams == 0)


async def test_a_reader_that_goes_while_a_block_is_written_is_no_error(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = aiohttp.web.StreamResponse.write

    async def break_at_blocks(response: aiohttp.web.StreamResponse, data: bytes) -> None:
        if data.startswith(b"id:"):
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        await write(response, data)

    monkeypatch.setattr(aiohttp.web.StreamResponse, "write", break_at_blocks)
    async with served.session.get(served.url + "/v1/events?from=1") as response:
        assert b"id:" not in await response.content.read()
    await eventually(lambda: served.node.streams == 0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_stopping_node_tells_its_readers(serving: Serve) -> None:
    served = await serving()
    async with served.session.get(served.url + "/v1/events") as response:
        closing = asyncio.ensure_future(served.server.close())
        (event,) = await read_events(response, 1)
        assert (event["event"], event["data"]["code"]) == ("error", "shutting_down")
        assert await response.content.read() == b""
        await closing


async def test_a_slow_reader_is_told_and_closed(serving: Serve) -> None:
    served = await serving(write_timeout_s=0.2)
    many = tuple(HeartbeatSeen(served.node.other) for _ in range(20_000))
    for _ in range(4):
        await served.node.decide(many)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(reader, ("127.0.0.1", served.server.port))
    await loop.sock_sendall(reader, b"GET /v1/events?from=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await eventually(lambda: served.node.streams == 1)
    await eventually(lambda: served.node.streams == 0)
    received = bytearray()
    async with asyncio.timeout(20):
        while chunk := await loop.sock_recv(reader, 1_048_576):
            received += chunk
    reader.close()
    assert b'"code":"slow_reader"' in received[-2_000:]
    assert received.count(b"event: heartbeat_seen") < 4 * 20_000 + 1


async def test_a_client_that_does_not_reconnect_ends_with_its_connection(served: Served) -> None:
    async with NodeClient(served.url) as client:
        ids: list[str] = []
        with contextlib.suppress(NodeUnreachable):
            async for event in client.events(1, "1.2", reconnect=False):
                ids.append(event.id)
                if len(ids) == 2:
                    await served.server.close()
        assert ids == ["2.0", "3.0"]
        with pytest.raises(NodeUnreachable):
            await anext(client.events(1, ids[-1], reconnect=False))
