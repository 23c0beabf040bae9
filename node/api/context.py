"""What every handler can reach, and how it answers."""

from typing import Any, Final

import msgspec
from aiohttp import web

from consensus.signing import Signer
from node.api.events import EventStreams
from node.metrics import Metrics
from node.service import NodeService

_encoder = msgspec.json.Encoder()


class Api(msgspec.Struct, frozen=True):
    """One running API."""

    service: NodeService
    streams: EventStreams
    metrics: Metrics
    meter: Signer | None = None
    """Key of the node's own meter, where the node holds it."""


API: Final[web.AppKey[Api]] = web.AppKey("api", Api)


def service_of(request: web.Request) -> NodeService:
    """The node behind the API."""
    return request.app[API].service


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """``value`` as JSON."""
    return web.Response(
        body=_encoder.encode(value), status=status, headers=headers, content_type="application/json"
    )
