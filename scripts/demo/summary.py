"""What a run comes to, as one JSON object and as tables, read from the nodes themselves."""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

from node.api import schema
from node.client import NodeClient, pages
from node.households.day import DayTally


async def all_members(node: NodeClient) -> list[schema.MemberInfo]:
    """Every member, over all pages."""
    return [item async for item in pages(lambda cursor: node.members(cursor, 100))]


async def money_total(node: NodeClient) -> int:
    """Balances and escrow of all open trades, in nano-units (PROTOCOL 1.6)."""
    total = sum(int(member.balance) for member in await all_members(node))
    for state in ("active", "metering"):
        async for trade in pages(functools.partial(_page_of_trades, node, state)):
            total += int((await node.trade(trade.id)).escrow)
    return total


async def _page_of_trades(
    node: NodeClient, state: str, cursor: str | None
) -> schema.Listing[schema.TradeInfo]:
    return await node.trades(state=state, cursor=cursor, limit=100)


async def same_state_root(nodes: Sequence[NodeClient]) -> bool:
    """Whether every node's ledger has the same state root at the highest height that all of them hold."""
    height = min([status.height for status in await asyncio.gather(*(node.status() for node in nodes))])
    blocks = await asyncio.gather(*(node.block(height) for node in nodes))
    return len({(block.block_hash, block.header["state_root"]) for block in blocks}) == 1


async def summarise(
    nodes: Sequence[NodeClient], tally: DayTally, money_before: int, seconds: float
) -> dict[str, Any]:
    """The last line of `scripts/run --json`."""
    groups, delegates, epoch = await asyncio.gather(nodes[0].groups(), nodes[0].delegates(), nodes[0].epoch())
    return {
        "members": len(await all_members(nodes[0])),
        "groups": len(groups.groups),
        "delegates": [delegate.address for delegate in delegates.ranking],
        "primary": delegates.primary,
        "height": delegates.height,
        "epoch": epoch.epoch,
        "elections": tally.elections,
        "ballots": tally.ballots,
        "trades_offered": tally.offered,
        "trades_settled": tally.settled,
        "shortfalls": {"seller": tally.seller_shortfalls, "buyer": tally.buyer_shortfalls},
        "energy_wh": tally.energy_wh,
        "paid_nano": str(tally.paid),
        "money_total_before": str(money_before),
        "money_total_after": str(await money_total(nodes[0])),
        "state_root_equal": await same_state_root(nodes),
        "refusals": tally.problems,
        "seconds": round(seconds, 1),
    }
