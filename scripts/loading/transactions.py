"""Signed trades made before the clock starts, so that the generator only sends."""

from collections.abc import Sequence
from typing import Final

from consensus.types import Digest
from contracts.transaction import BuyerRule, Terms, TradeOpen, decode_transaction, encode_body, sign_body
from node.keystore import KeyPair

LEAD_MS: Final = 10 * 86_400_000
"""Windows lie days ahead: the load measures agreement on trades, not their settlement."""
QUANTITY_WH: Final = 100
PRICE: Final = 1_000
"""0.001 per kWh: the founding balances outlast the load."""


class PreparedTrade:
    """Bytes and id of one trade that both parties signed."""

    __slots__ = ("id", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.id = decode_transaction(raw).id


def prepare_trades(
    keys: Sequence[KeyPair],
    chain_id: Digest,
    slot_ms: int,
    count: int,
    now_ms: int,
    window_ms: int,
    nonce: int,
) -> list[PreparedTrade]:
    """``count`` distinct trades around the ring of ``keys``, valid from now for the chain's longest window."""
    start_ms = (now_ms + LEAD_MS) // slot_ms * slot_ms
    trades: list[PreparedTrade] = []
    for index in range(count):
        seller, buyer = keys[index % len(keys)], keys[(index + 1) % len(keys)]
        begin = start_ms + index % 96 * slot_ms
        terms = Terms(
            seller=seller.address,
            buyer=buyer.address,
            quantity_wh=QUANTITY_WH,
            price=PRICE,
            start_ms=begin,
            slots=1,
            penalty_bp=0,
            buyer_rule=BuyerRule.PAY_ACTUAL,
            expiry_ms=begin,
        )
        body = encode_body(
            chain_id,
            seller.address,
            now_ms - 1_000,
            now_ms - 1_000 + window_ms,
            nonce + index,
            TradeOpen(terms),
        )
        trades.append(PreparedTrade(sign_body(body, (seller, buyer))))
    return trades
