"""The node itself: status, health, figures."""

from aiohttp import web

from node.api import views
from node.api.context import API, answer, service_of
from node.api.query import Query


async def status(request: web.Request) -> web.Response:
    """GET /v1/status."""
    Query(request).done()
    return answer(views.status(service_of(request).status()))


async def live(request: web.Request) -> web.Response:
    """GET /livez: 200 while the consensus task runs and the loop turns, else 503."""
    health = service_of(request).health()
    return answer(views.health(health), 200 if health.live else 503)


async def ready(request: web.Request) -> web.Response:
    """GET /readyz: 200 when caught up and commits come, else 503 (PROTOCOL 10.2)."""
    health = service_of(request).health()
    return answer(views.health(health), 200 if health.ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics in Prometheus' text format."""
    body, content_type = request.app[API].metrics.render()
    return web.Response(body=body, headers={"Content-Type": content_type})


async def events(request: web.Request) -> web.StreamResponse:
    """GET /v1/events?from=HEIGHT: server-sent events."""
    return await request.app[API].streams.serve(request)
