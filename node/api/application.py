"""The aiohttp application: routes, the guard, and one place where every failure becomes a problem document."""

import time
from typing import Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from consensus.signing import Signer
from node.api.access import Guard
from node.api.context import API, Api
from node.api.events import EventStreams
from node.api.problems import PROBLEM_TYPE, Problem
from node.api.routes import ROUTES, Route
from node.metrics import Metrics
from node.service import InvalidCursor, NodeService, TooManySubscribers, UnknownResource

_log = structlog.get_logger("node.api")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def problem_response(problem: Problem) -> web.Response:
    """``problem`` as RFC 9457 has it."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-problem.retry_after_ms // 1_000))
    if problem.kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=msgspec.json.encode(problem.view()),
        status=problem.kind.status,
        content_type=PROBLEM_TYPE,
        headers=headers,
    )


def problem_of(error: Exception) -> Problem | None:
    """The problem that a handler's exception means; None for our own bug."""
    match error:
        case Problem():
            return error
        case UnknownResource():
            return Problem("unknown_resource", _text(error))
        case InvalidCursor():
            return Problem("invalid_cursor", _text(error))
        case TooManySubscribers():
            return Problem("too_many_streams", _text(error))
        case TimeoutError():
            return Problem("proof_not_ready", "no block was decided in time to prove this")
        case _:
            return None


def _text(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


async def _run(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem_response(
            Problem("method_not_allowed", f"{request.method} is not one of {allowed}")
        )
        response.headers["Allow"] = allowed
        return response
    except web.HTTPNotFound:
        return problem_response(Problem("not_found", f"nothing is served at {request.path[:200]}"))
    except web.HTTPException:
        raise
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - the caller gets an answer whatever broke, the log the cause
        problem = problem_of(error)
        if problem is None:
            _log.error("request failed", method=request.method, path=request.path, exc_info=error)
            problem = Problem("internal", "an unexpected fault; the node's log has it")
        return problem_response(problem)


@web.middleware
async def _answer_everything(request: web.Request, handler: Handler) -> web.StreamResponse:
    began = time.perf_counter()
    response = await _run(request, handler)
    resource = request.match_info.route.resource
    method = request.method if request.method in _METHODS else "other"
    request.app[API].metrics.answered(
        method,
        "none" if resource is None else resource.canonical,
        response.status,
        time.perf_counter() - began,
    )
    return response


def _guarded(guard: Guard, route: Route) -> Handler:
    if not route.signs:
        return route.handler

    async def checked(request: web.Request) -> web.StreamResponse:
        guard.check(request)
        return await route.handler(request)

    return checked


def create_application(
    service: NodeService,
    guard: Guard,
    *,
    streams: EventStreams | None = None,
    metrics: Metrics | None = None,
    meter: Signer | None = None,
) -> web.Application:
    """The application in front of ``service``; `node.api.server` binds it to a port."""
    streams = streams or EventStreams(service)
    application = web.Application(middlewares=[_answer_everything])
    application[API] = Api(
        service=service, streams=streams, metrics=metrics or Metrics(service.figures), meter=meter
    )
    for route in ROUTES:
        application.router.add_route(route.method, route.path, _guarded(guard, route))

    async def close_streams(_: web.Application) -> None:
        application[API].streams.close()

    application.on_shutdown.append(close_streams)
    return application
