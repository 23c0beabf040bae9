"""What the node signs with its own key: trades, readings it carries, its ballot, its transfers, its leaving."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from contracts.receipts import TradeState
from contracts.signatures import reading_bytes
from contracts.transaction import (
    BuyerRule,
    Leave,
    Payload,
    Reading,
    Readings,
    Terms,
    TradeAccept,
    TradeCancel,
    TradeDecline,
    TradeOffer,
    TradeWithdraw,
    Transfer,
)
from node.api import schema, views
from node.api.body import read_json, read_nothing
from node.api.context import API, answer, service_of
from node.api.endpoints_transactions import respond
from node.api.problems import Problem
from node.api.query import Query, path_bytes
from node.service import NodeService

MAX_AMOUNT = 2**63 - 1


def _terms(body: schema.TermsRequest, own: bytes) -> Terms:
    """The terms meant; a party left out is the node itself."""
    if body.seller is None and body.buyer is None:
        raise Problem("invalid_body", "name seller or buyer: the node is only one of them - at `$`")
    return Terms(
        seller=own if body.seller is None else bytes.fromhex(body.seller),
        buyer=own if body.buyer is None else bytes.fromhex(body.buyer),
        quantity_wh=body.quantity_wh,
        price=body.price,
        start_ms=body.start_ms,
        slots=body.slots,
        penalty_bp=body.penalty_bp,
        buyer_rule=BuyerRule[body.buyer_rule.upper()],
        expiry_ms=body.start_ms if body.expiry_ms is None else body.expiry_ms,
    )


async def offer(request: web.Request) -> web.Response:
    """POST /v1/trades: the node offers."""
    service = service_of(request)
    own = service.status().address
    terms = _terms(await read_json(request, schema.TermsRequest), own)
    if own not in (terms.seller, terms.buyer):
        raise Problem("not_a_party", f"this node is {own.hex()}, neither seller nor buyer")
    return await respond(request, await service.sign_and_submit(TradeOffer(terms)), opens_trade=True)


def _action(
    make: Callable[[bytes], Payload], fitting: tuple[TradeState, ...]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that signs ``make(contract id)`` for a trade in one of the ``fitting`` states."""

    async def handle(request: web.Request) -> web.Response:
        contract_id = path_bytes(request, "id", 32)
        await read_nothing(request)
        service = service_of(request)
        _check_trade(service, contract_id, fitting)
        return await respond(request, await service.sign_and_submit(make(contract_id)))

    return handle


def _check_trade(service: NodeService, contract_id: bytes, fitting: tuple[TradeState, ...]) -> None:
    """404 and 409 at once, where the ledger already tells; execution judges what changes meanwhile."""
    trade = service.trade(contract_id)
    own = service.status().address
    if own not in (trade.terms.seller, trade.terms.buyer):
        raise Problem("not_a_party", f"this node is {own.hex()}, neither seller nor buyer")
    if trade.state not in fitting:
        allowed = " or ".join(views.name_of(state) for state in fitting)
        raise Problem("trade_state", f"the trade is {views.name_of(trade.state)}; this needs {allowed}")


accept = _action(TradeAccept, (TradeState.OFFERED,))
decline = _action(TradeDecline, (TradeState.OFFERED,))
withdraw = _action(TradeWithdraw, (TradeState.OFFERED,))
cancel = _action(TradeCancel, (TradeState.ACTIVE,))


async def trades(request: web.Request) -> web.Response:
    """GET /v1/trades?party=&state=."""
    query = Query(request)
    party = query.address("party")
    state = query.choice("state", tuple(views.name_of(item) for item in TradeState))
    cursor, limit = query.page()
    query.done()
    wanted = None if state is None else TradeState[state.upper()]
    return answer(
        views.listing(service_of(request).trades(party, wanted, cursor, limit), views.trade_summary)
    )


async def trade(request: web.Request) -> web.Response:
    """GET /v1/trades/{id}; ?proof=1 waits for the next block and proves the contract's entry."""
    contract_id = path_bytes(request, "id", 32)
    query = Query(request)
    wanted, timeout_ms = query.flag("proof"), query.timeout_ms()
    query.done()
    service = service_of(request)
    proof = await service.contract_proof(contract_id, timeout_ms) if wanted else None
    return answer(views.trade(service.trade(contract_id), proof))


async def quote(request: web.Request) -> web.Response:
    """POST /v1/quotes: escrow and worst-case credit loss; nothing is sent."""
    service = service_of(request)
    Query(request).done()
    terms = _terms(await read_json(request, schema.TermsRequest), service.status().address)
    return answer(views.quote(service.quote(terms), terms))


async def readings(request: web.Request) -> web.Response:
    """POST /v1/readings: readings signed by a meter, or by this node as its own meter, in a transaction of the node."""
    body = await read_json(request, schema.ReadingsRequest)
    payload = Readings(tuple(_reading(request, index, item) for index, item in enumerate(body.readings)))
    return await respond(request, await service_of(request).sign_and_submit(payload))


def _reading(request: web.Request, index: int, item: schema.ReadingRequest) -> Reading:
    place = f"at `$.readings[{index}]`"
    if (item.public_key is None) != (item.signature is None):
        raise Problem("invalid_body", f"public_key and signature belong together - {place}")
    if item.public_key is None or item.signature is None:
        return _own_reading(request, place, item)
    if item.member is None or item.counter is None:
        raise Problem("invalid_body", f"a signed reading names its member and counter - {place}")
    return Reading(
        bytes.fromhex(item.member),
        item.slot,
        item.counter,
        item.exported_wh,
        item.imported_wh,
        bytes.fromhex(item.public_key),
        bytes.fromhex(item.signature),
    )


def _own_reading(request: web.Request, place: str, item: schema.ReadingRequest) -> Reading:
    meter = request.app[API].meter
    if meter is None:
        raise Problem("no_meter_key", f"an unsigned reading, and the node has no meter key - {place}")
    service = service_of(request)
    own = service.status().address
    if item.member not in (None, own.hex()):
        raise Problem("invalid_body", f"the node signs readings of its own member only - {place}")
    counter = item.slot if item.counter is None else item.counter
    unsigned = Reading(
        own, item.slot, counter, item.exported_wh, item.imported_wh, meter.public_key, bytes(64)
    )
    signature = meter.sign(reading_bytes(unsigned, service.parameters().chain_id))
    return msgspec.structs.replace(unsigned, signature=signature)


async def vote(request: web.Request) -> web.Response:
    """POST /v1/ballots: the node votes."""
    body = await read_json(request, schema.BallotRequest)
    choices = tuple(bytes.fromhex(choice) for choice in body.choices)
    if len(frozenset(choices)) != len(choices):
        raise Problem("invalid_body", "a choice stands twice - at `$.choices`")
    return await respond(request, await service_of(request).vote(choices))


async def transfer(request: web.Request) -> web.Response:
    """POST /v1/transfers: the node pays."""
    body = await read_json(request, schema.TransferRequest)
    amount = int(body.amount)
    if amount > MAX_AMOUNT:
        raise Problem("invalid_body", f"at most {MAX_AMOUNT} - at `$.amount`")
    payload = Transfer(bytes.fromhex(body.recipient), amount)
    return await respond(request, await service_of(request).sign_and_submit(payload))


async def leave(request: web.Request) -> web.Response:
    """POST /v1/leave: the node's member leaves (PROTOCOL 1.7)."""
    await read_nothing(request)
    return await respond(request, await service_of(request).sign_and_submit(Leave()))
