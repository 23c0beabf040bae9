# mypy: disable-error-code="explicit-override"
"""The listening socket: bounded connections, bounded headers, bounded patience (LESSONS 16, 19)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from consensus.signing import Signer
from node.api.access import Guard
from node.api.application import create_application, problem_response
from node.api.events import EventStreams
from node.api.problems import Problem
from node.config import ApiConfig
from node.errors import NodeError
from node.metrics import Metrics
from node.service import NodeService

MAX_CONNECTIONS: Final = 400
"""Well within the usual 1 024 descriptors, most of which the ledger and the peers need."""
IDLE_TIMEOUT_S: Final = 15.0
"""From opening, or the last answer, to the end of the next request's header: what a slow or silent client is given."""
LINGER_S: Final = 2.0
"""How long the rest of a refused body is read and dropped, so that the client sees the refusal."""
SHUTDOWN_S: Final = 3.0
"""What running requests get when the node stops."""
BACKLOG: Final = 256


class ApiError(NodeError):
    """The API cannot be served, for example because the port is taken."""


class _Handler(RequestHandler):
    """aiohttp's connection handler, whose own failures are problem documents too."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be parsed as HTTP never reaches the application; anything else is our bug."""
        code = "malformed_http" if 400 <= status < 500 else "internal"
        if code == "internal":
            self.log_exception("Error handling request", exc_info=exc)
        first = (message or "").strip().partition("\n")[0]
        response = problem_response(Problem(code, first[:200] or "the request is not well-formed"))
        response.force_close()
        return response


class _Refusal(asyncio.Protocol):
    """Tells a connection beyond the bound why, and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer without reading."""
        document = problem_response(Problem("too_many_connections", f"{MAX_CONNECTIONS} are open"))
        body = document.body if isinstance(document.body, bytes) else b""
        if isinstance(transport, asyncio.Transport):
            transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        transport.close()


class _Gate:
    """Makes a handler for each connection, within `MAX_CONNECTIONS`; at the bound the longest idle one has to go."""

    def __init__(self, server: web.Server, options: dict[str, Any], limit: int) -> None:
        self._server = server
        self._options = options
        self._limit = limit

    def __call__(self) -> asyncio.BaseProtocol:
        connections = self._server.connections
        if len(connections) >= self._limit:
            idle = next((one for one in connections if _is_idle(one)), None)
            if idle is None:
                return _Refusal()
            idle.force_close()
        return _Handler(self._server, loop=asyncio.get_running_loop(), **self._options)


def _is_idle(connection: RequestHandler) -> bool:
    """Whether it waits for a request; connections stand in the order they came."""
    return connection._current_request is None and connection.transport is not None  # noqa: SLF001


class ApiServer:
    """A bound API."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        """Made by `serve`."""
        self._runner = runner
        self._listener = listener

    @property
    def port(self) -> int:
        """The bound port, also where the system chose it."""
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening, tell event streams, let running requests end."""
        self._listener.close()
        await self._runner.cleanup()


async def serve(
    service: NodeService,
    config: ApiConfig,
    *,
    streams: Callable[[NodeService], EventStreams] = EventStreams,
    metrics: Metrics | None = None,
    meter: Signer | None = None,
    max_connections: int = MAX_CONNECTIONS,
    idle_timeout_s: float = IDLE_TIMEOUT_S,
) -> ApiServer:
    """Bind ``config.host:config.port`` and answer for ``service``; `ApiError` if the port cannot be had.

    ``meter`` is the key of the node's own meter, if the node signs its readings (POST /v1/readings without signature).
    Beyond loopback ``config.token`` must be set (`node.cli` makes one at the first start).
    """
    guard = Guard(config.host, config.token)
    application = create_application(service, guard, streams=streams(service), metrics=metrics, meter=meter)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    if runner.server is None:
        raise ApiError("the API has no server after its set-up")
    options = {
        "access_log": None,
        "keepalive_timeout": idle_timeout_s,
        "lingering_time": LINGER_S,
        "auto_decompress": False,
    }
    gate = _Gate(runner.server, options, max_connections)
    try:
        listener = await asyncio.get_running_loop().create_server(
            gate, config.host, config.port, backlog=BACKLOG, reuse_address=True
        )
    except OSError as error:
        await runner.cleanup()
        reason = error.strerror or str(error)
        raise ApiError(f"cannot serve the API at {config.host}:{config.port}: {reason}; see --api") from error
    return ApiServer(runner, listener)
