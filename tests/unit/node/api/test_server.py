"""The listening socket: slow, idle, silent, rude and too many clients."""

import asyncio
import socket

import pytest

from node.api import body
from node.api.server import ApiError, serve
from node.config import ApiConfig
from tests.unit.node.api.conftest import Serve, Served

SUBMIT = b"POST /v1/transactions HTTP/1.1\r\nHost: h\r\nContent-Type: application/msgpack\r\n"


async def open_raw(served: Served, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def test_a_client_that_dribbles_its_header_is_closed(serving: Serve) -> None:
    served = await serving(idle_timeout_s=0.2)
    reader, writer = await open_raw(served, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")

    async def dribble() -> None:
        for letter in b"X-Slow: " + b"y" * 1_000:
            writer.write(bytes((letter,)))
            await asyncio.sleep(0.01)

    dribbling = asyncio.ensure_future(dribble())
    assert await asyncio.wait_for(reader.read(), 3) == b""
    dribbling.cancel()
    writer.close()


async def test_a_silent_connection_is_closed(serving: Serve) -> None:
    served = await serving(idle_timeout_s=0.1)
    reader, writer = await open_raw(served)
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_a_body_that_dribbles_in_is_408(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_TIMEOUT_S", 0.1)
    head = SUBMIT + b"Content-Length: 9\r\n\r\n"
    reader, writer = await open_raw(served, head + b"x")
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"POST /v1/leave HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/leave HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(served: Served, request_bytes: bytes) -> None:
    reader, writer = await open_raw(served, request_bytes)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b'"code":"malformed_http"' in answer
    writer.close()


async def test_a_broken_chunk_is_refused(served: Served) -> None:
    head = SUBMIT + b"Transfer-Encoding: chunked\r\n\r\n"
    reader, writer = await open_raw(served, head + b"5\r\nabcdeXX")
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    assert b" 400 Bad Request" in answer
    assert b'"code":"malformed_http"' in answer
    writer.close()


async def test_at_the_bound_the_longest_idle_connection_goes(serving: Serve) -> None:
    served = await serving(max_connections=3)
    idle = [await open_raw(served) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert (await served.get("/livez"))[0] == 200
    assert await asyncio.wait_for(idle[0][0].read(), 3) == b""
    for _, writer in idle:
        writer.close()


async def test_a_thousand_idle_sockets_hinder_nobody(serving: Serve) -> None:
    served = await serving(max_connections=100)
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(1_000):
        sockets.append(socket.socket())
        sockets[-1].setblocking(False)
        await loop.sock_connect(sockets[-1], ("127.0.0.1", served.server.port))
    assert (await served.get("/v1/status"))[0] == 200
    for one in sockets:
        one.close()


async def test_when_all_are_busy_a_new_connection_is_told(serving: Serve) -> None:
    served = await serving(max_connections=2)
    request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    busy = [await open_raw(served, request) for _ in range(2)]
    for reader, _ in busy:
        await reader.readuntil(b"retry: 1000\n\n")
    reader, writer = await open_raw(served)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"too_many_connections"' in answer
    for _, one in (*busy, (reader, writer)):
        one.close()


async def test_a_taken_port_is_told(served: Served) -> None:
    with pytest.raises(ApiError, match="--api"):
        await serve(served.node, ApiConfig(port=served.server.port))
