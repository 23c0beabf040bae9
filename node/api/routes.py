"""Every path of the API in one table."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from node.api import endpoints_ledger as ledger
from node.api import endpoints_node as node
from node.api import endpoints_trades as trades
from node.api import endpoints_transactions as transactions

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(msgspec.Struct, frozen=True):
    """One row."""

    method: str
    path: str
    handler: Handler
    signs: bool = False
    """The node acts with its own key: `access.Guard` decides who may ask."""


ROUTES: Final = (
    Route("POST", "/v1/transactions", transactions.submit),
    Route("POST", "/v1/transactions/batch", transactions.submit_batch),
    Route("GET", "/v1/transactions/{id}", transactions.transaction),
    Route("POST", "/v1/trades", trades.offer, signs=True),
    Route("POST", "/v1/trades/{id}/accept", trades.accept, signs=True),
    Route("POST", "/v1/trades/{id}/decline", trades.decline, signs=True),
    Route("POST", "/v1/trades/{id}/withdraw", trades.withdraw, signs=True),
    Route("POST", "/v1/trades/{id}/cancel", trades.cancel, signs=True),
    Route("GET", "/v1/trades", trades.trades),
    Route("GET", "/v1/trades/{id}", trades.trade),
    Route("POST", "/v1/quotes", trades.quote),
    Route("POST", "/v1/readings", trades.readings, signs=True),
    Route("POST", "/v1/ballots", trades.vote, signs=True),
    Route("POST", "/v1/transfers", trades.transfer, signs=True),
    Route("POST", "/v1/leave", trades.leave, signs=True),
    Route("GET", "/v1/members", ledger.members),
    Route("GET", "/v1/members/{address}", ledger.member),
    Route("GET", "/v1/members/{address}/credit", ledger.credit),
    Route("GET", "/v1/groups", ledger.groups),
    Route("GET", "/v1/epochs/{epoch}", ledger.epoch),
    Route("GET", "/v1/delegates", ledger.delegates),
    Route("GET", "/v1/delegates/changes", ledger.delegate_changes),
    Route("GET", "/v1/parameters", ledger.parameters),
    Route("GET", "/v1/blocks", ledger.blocks),
    Route("GET", "/v1/blocks/{height}", ledger.block),
    Route("GET", "/v1/blocks/{height}/certificate", ledger.certificate),
    Route("GET", "/v1/blocks/{height}/raw", ledger.raw_block),
    Route("GET", "/v1/events", node.events),
    Route("GET", "/v1/status", node.status),
    Route("GET", "/livez", node.live),
    Route("GET", "/readyz", node.ready),
    Route("GET", "/metrics", node.metrics),
)
