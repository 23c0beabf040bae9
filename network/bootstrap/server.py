"""HTTP of the bootstrap service: connections, rates, bodies and errors bounded; the routes are in `routes`.

Built on aiohttp's plain server: a dozen routes need no framework, and every limit stands in one place.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from consensus.errors import ProtocolError
from network.admission import PendingConnections, RateMeter
from network.bootstrap.errors import Refused
from network.bootstrap.limits import ServiceLimits

log = structlog.get_logger("network.bootstrap.server")

MSGPACK: Final = "application/msgpack"
PROBLEM: Final = "application/problem+json"

SHUTDOWN_TIMEOUT_S: Final = 1.0
"""Long polls are cut when the service stops; their askers ask again."""

Handler = Callable[["Request"], Awaitable[web.Response]]


class Request:
    """One request as a route sees it."""

    def __init__(self, raw: web.BaseRequest, segments: tuple[str, ...], limits: ServiceLimits) -> None:
        self._raw = raw
        self._limits = limits
        self.segments = segments
        """What stood in the path's ``*``."""
        self.host = raw.remote or ""
        """IP address of who asks."""

    def text(self, name: str, default: str = "") -> str:
        """A query parameter."""
        return self._raw.query.get(name, default)

    def number(self, name: str, low: int, high: int, default: int) -> int:
        """A decimal query parameter within bounds; `Refused` (400) otherwise."""
        text = self.text(name, str(default))
        value = int(text) if text.isascii() and text.isdecimal() and len(text) <= 19 else low - 1
        if not low <= value <= high:
            raise Refused(400, "parameter", f"{name} must be a number in {low}..{high}")
        return value

    @property
    def accepts_text(self) -> bool:
        """Whether a table for people is wanted."""
        return self.text("format") == "table" or self._raw.headers.get("Accept", "").startswith("text/plain")

    async def body(self, limit: int) -> bytes:
        """The whole body, of type application/msgpack; `Refused` (413, 415, 408) otherwise."""
        if self._raw.content_type != MSGPACK:
            raise Refused(415, "media_type", f"send {MSGPACK}: one canonical value")
        if (self._raw.content_length or 0) > limit:
            raise Refused(
                413, "too_large", f"the body has {self._raw.content_length} bytes, the limit is {limit}"
            )
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout_ms / 1_000):
                async for chunk in self._raw.content.iter_any():
                    data += chunk
                    if len(data) > limit:
                        raise Refused(413, "too_large", f"the body exceeds the limit of {limit} bytes")
        except TimeoutError:
            raise Refused(408, "body_timeout", "the body did not arrive in time") from None
        return bytes(data)


class _Server(web.Server):
    """aiohttp's server with a bound on connections, in all and per IP address; the oldest goes first."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: ServiceLimits
    ) -> None:
        super().__init__(handler, access_log=None, keepalive_timeout=30.0)
        self._open: PendingConnections[web.RequestHandler] = PendingConnections(
            limits.max_connections, limits.max_connections_per_host
        )

    def connection_made(  # type: ignore[explicit-override]
        self, handler: web.RequestHandler, transport: asyncio.Transport
    ) -> None:
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        evicted = self._open.add(handler, str(peer[0]) if peer else "")
        if evicted is not None:
            evicted.force_close()

    def connection_lost(  # type: ignore[explicit-override]
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        self._open.remove(handler)
        super().connection_lost(handler, exc)


class BootstrapServer:
    """Listens, limits, dispatches."""

    def __init__(
        self,
        routes: dict[tuple[str, str], Handler],
        registry: CollectorRegistry,
        limits: ServiceLimits | None = None,
    ) -> None:
        """``routes``: by method and path, where ``*`` stands for one segment."""
        self._routes = {
            (method, tuple(path.split("/"))): handler for (method, path), handler in routes.items()
        }
        self._limits = limits or ServiceLimits()
        self._registry = registry
        self._rates: OrderedDict[str, RateMeter] = OrderedDict()
        self._requests = Counter(
            "cgpbft_bootstrap_requests", "Requests by status class", ["status"], registry=registry
        )
        self._runner: web.ServerRunner | None = None
        self.port = 0
        """Where it listens, once started."""

    async def start(self, host: str, port: int) -> None:
        """Listen; `OSError` if the address cannot be had."""
        runner = web.ServerRunner(_Server(self._handle, self._limits), shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, raw: web.BaseRequest) -> web.Response:
        response = await self._answer(raw)
        self._requests.labels(status=f"{response.status // 100}xx").inc()
        return response

    async def _answer(self, raw: web.BaseRequest) -> web.Response:
        try:
            self._spend(raw.remote or "")
            if raw.path == "/metrics" and raw.method == "GET":
                content_type = CONTENT_TYPE_LATEST
                return web.Response(
                    body=generate_latest(self._registry), headers={"Content-Type": content_type}
                )
            handler, segments = self._route(raw.method, raw.path)
            return await handler(Request(raw, segments, self._limits))
        except Refused as refused:
            return problem(refused)
        except (ProtocolError, OSError):
            log.exception("a request failed", method=raw.method, path=raw.path)
            return problem(Refused(500, "internal", "the service failed; its log says why"))

    def _route(self, method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
        parts = tuple(path.split("/"))
        allowed = []
        for (served, pattern), handler in self._routes.items():
            if len(pattern) != len(parts):
                continue
            if all(want in ("*", have) for want, have in zip(pattern, parts, strict=True)):
                if served == method:
                    segments = (have for want, have in zip(pattern, parts, strict=True) if want == "*")
                    return handler, tuple(segments)
                allowed.append(served)
        if allowed:
            raise Refused(405, "method", f"{path} takes {', '.join(allowed)}")
        raise Refused(404, "not_found", f"there is nothing at {path[:100]}")

    def _spend(self, host: str) -> None:
        """Count the request; `Refused` (429) while the host is in debt."""
        now_ms = time.monotonic_ns() // 1_000_000
        meter = self._rates.pop(host, None) or RateMeter(self._limits.rate, now_ms)
        self._rates[host] = meter
        if len(self._rates) > self._limits.max_rated_hosts:
            self._rates.popitem(last=False)
        wait_ms = meter.spend(0, 0, now_ms)
        if wait_ms > 0:
            raise Refused(
                429, "rate", "too many requests from this address", retry_after_s=-(-wait_ms // 1_000)
            )
        meter.spend(0, 1, now_ms)


def answer(value: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def answer_bytes(data: bytes) -> web.Response:
    """A canonical value."""
    return web.Response(body=data, content_type=MSGPACK)


def answer_nothing() -> web.Response:
    """What was waited for has not come: ask again."""
    return web.Response(status=204)


def problem(refused: Refused) -> web.Response:
    """An RFC 9457 problem document."""
    document = {
        "type": "about:blank",
        "title": refused.code.replace("_", " "),
        "status": refused.status,
        "code": refused.code,
        "detail": refused.detail,
    }
    headers = {} if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=refused.status, content_type=PROBLEM, headers=headers)
