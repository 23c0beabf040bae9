"""A served API over a fake node, and a plain HTTP session."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from node.api.events import EventStreams
from node.api.server import ApiServer, serve
from node.config import ApiConfig
from tests.unit.node.fake_node import FakeNode


@dataclass
class Served:
    """A fake node behind a real socket."""

    node: FakeNode
    server: ApiServer
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, decoded JSON (None for another type) and headers."""
        async with self.session.request(method, self.url + path, **options) as response:
            body = await response.read()
            kind = response.content_type
            data = await response.json(content_type=None) if kind.endswith("json") and body else None
            return response.status, data, dict(response.headers)

    async def get(self, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        return await self.ask("POST", path, **options)

    async def problem(self, method: str, path: str, **options: Any) -> tuple[int, str, str]:
        """Status, code and detail of a refusal, which must be a whole problem document."""
        status, data, headers = await self.ask(method, path, **options)
        assert headers["Content-Type"] == "application/problem+json", data
        assert data["status"] == status
        assert data["title"]
        assert data["detail"]
        assert data["action"]
        assert data["type"] == f"urn:cgpbft:problem:{data['code']}"
        return status, data["code"], data["detail"]


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serving() -> AsyncIterator[Serve]:
    """Make a served fake; keyword arguments are those of `serve`, ``host`` and ``token`` of its configuration."""
    made: list[Served] = []

    async def make(
        *,
        token: str = "",
        beyond: bool = False,
        heartbeat_s: float = 10.0,
        write_timeout_s: float = 20.0,
        **options: Any,
    ) -> Served:
        node = FakeNode()
        config = ApiConfig(host="0.0.0.0" if beyond else "127.0.0.1", port=0, token=token)

        def streams(service: Any) -> EventStreams:
            return EventStreams(service, heartbeat_s=heartbeat_s, write_timeout_s=write_timeout_s)

        server = await serve(node, config, streams=streams, **{"meter": node.own, **options})
        made.append(Served(node, server, aiohttp.ClientSession()))
        return made[-1]

    yield make
    for served in made:
        await served.session.close()
        await served.server.close()


@pytest.fixture
async def served(serving: Serve) -> Served:
    """The usual one: bound to loopback, no token."""
    return await serving()
