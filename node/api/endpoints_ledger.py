"""Reading the ledger: members, groups, epochs, delegates, rules and blocks."""

from aiohttp import web

from node.api import views
from node.api.context import answer, service_of
from node.api.endpoints_transactions import MSGPACK
from node.api.query import Query, path_bytes, path_number


async def members(request: web.Request) -> web.Response:
    """GET /v1/members."""
    query = Query(request)
    cursor, limit = query.page()
    query.done()
    return answer(views.listing(service_of(request).members(cursor, limit), views.member))


async def member(request: web.Request) -> web.Response:
    """GET /v1/members/{address}; ?proof=1 waits for the next block and proves the account's entry."""
    address = path_bytes(request, "address", 20)
    query = Query(request)
    wanted, timeout_ms = query.flag("proof"), query.timeout_ms()
    query.done()
    service = service_of(request)
    service.member(address)  # 404 before waiting for a block
    proof = await service.account_proof(address, timeout_ms) if wanted else None
    return answer(views.member_answer(service.member(address), proof))


async def credit(request: web.Request) -> web.Response:
    """GET /v1/members/{address}/credit: every change with its cause, newest first."""
    address = path_bytes(request, "address", 20)
    query = Query(request)
    cursor, limit = query.page()
    query.done()
    return answer(
        views.listing(service_of(request).credit_history(address, cursor, limit), views.credit_entry)
    )


async def groups(request: web.Request) -> web.Response:
    """GET /v1/groups."""
    Query(request).done()
    return answer(views.groups(service_of(request).groups()))


async def epoch(request: web.Request) -> web.Response:
    """GET /v1/epochs/{e}; ``current`` is the epoch of the next block."""
    Query(request).done()
    service = service_of(request)
    current = request.match_info["epoch"] == "current"
    number = service.current_epoch() if current else path_number(request, "epoch")
    return answer(views.epoch(service.epoch(number)))


async def delegates(request: web.Request) -> web.Response:
    """GET /v1/delegates?height=."""
    query = Query(request)
    height = query.number("height", 0, 1) or None
    query.done()
    return answer(views.delegates(service_of(request).delegates(height)))


async def delegate_changes(request: web.Request) -> web.Response:
    """GET /v1/delegates/changes?from=: certified links from set to set, oldest first."""
    query = Query(request)
    from_height = query.number("from", 1, 1)
    cursor, limit = query.page()
    query.done()
    page = service_of(request).delegate_changes(from_height, cursor, limit)
    return answer(views.listing(page, views.delegate_change))


async def parameters(request: web.Request) -> web.Response:
    """GET /v1/parameters."""
    Query(request).done()
    return answer(views.parameters(service_of(request).parameters()))


async def blocks(request: web.Request) -> web.Response:
    """GET /v1/blocks, newest first."""
    query = Query(request)
    cursor, limit = query.page()
    query.done()
    return answer(views.listing(service_of(request).blocks(cursor, limit), views.block_summary))


def _height(request: web.Request) -> int:
    Query(request).done()
    if request.match_info["height"] == "latest":
        return service_of(request).position().height
    return path_number(request, "height")


async def block(request: web.Request) -> web.Response:
    """GET /v1/blocks/{height}; ``latest`` is the last decided one."""
    return answer(views.block(service_of(request).block(_height(request))))


async def certificate(request: web.Request) -> web.Response:
    """GET /v1/blocks/{height}/certificate."""
    return answer(views.certificate(service_of(request).certificate(_height(request))))


async def raw_block(request: web.Request) -> web.Response:
    """GET /v1/blocks/{height}/raw: canonical bytes of block and certificate, for auditors."""
    body = service_of(request).certified_block(_height(request))
    return web.Response(body=body, content_type=MSGPACK)
