"""What the recording's clients send: signed transactions of unique amounts, so that a read names its writer."""

import random
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from contracts.transaction import (
    BuyerRule,
    Terms,
    TradeOpen,
    Transfer,
    decode_transaction,
    encode_body,
    sign_body,
)
from node.keystore import KeyPair

BACKDATED_MS: Final = 500
TRADE_LEAD_MS: Final = 4_000
PRICE: Final = 200_000
TRADE_SHARE: Final = 0.1
POWERS: Final = 40
"""Now and then an amount is a power of two: a balance then tells, bit by bit, which of them it holds."""


class Asked(NamedTuple):
    """A signed transaction."""

    id: str
    raw: bytes
    terms: Terms | None
    """Of a trade."""


class Market:
    """Makes transactions for the members whose keys it has."""

    def __init__(
        self, keys: Sequence[KeyPair], chain_id: bytes, slot_ms: int, window_ms: int, seed: int
    ) -> None:
        self._keys = list(keys)
        self._chain_id = chain_id
        self.slot_ms, self._window_ms = slot_ms, window_ms
        self._draw = random.Random(f"market {seed}")
        self._nonce = time.time_ns()
        self._count = 0
        self.addresses = [key.address.hex() for key in keys]

    def transaction(self) -> Asked:
        """A payment or, one in ten, a trade that both parties signed."""
        self._count += 1
        payer, payee = self._draw.sample(self._keys, 2)
        now_ms = time.time_ns() // 1_000_000
        window = (now_ms - BACKDATED_MS, now_ms - BACKDATED_MS + self._window_ms)
        if self._draw.random() < TRADE_SHARE:
            terms = self._terms(payer, payee, now_ms)
            body = encode_body(
                self._chain_id, payer.address, *window, self._nonce + self._count, TradeOpen(terms)
            )
            return self._asked(sign_body(body, (payer, payee)), terms)
        amount = 2 ** (self._count // 10 % POWERS) if self._count % 10 == 0 else 1_000_003 + 2 * self._count
        transfer = Transfer(payee.address, amount)
        body = encode_body(self._chain_id, payer.address, *window, self._nonce + self._count, transfer)
        return self._asked(sign_body(body, (payer,)), None)

    def _terms(self, seller: KeyPair, buyer: KeyPair, now_ms: int) -> Terms:
        start_ms = (now_ms + TRADE_LEAD_MS) // self.slot_ms * self.slot_ms
        quantity = self._draw.randint(10, 60)
        return Terms(
            seller=seller.address,
            buyer=buyer.address,
            quantity_wh=quantity,
            price=PRICE,
            start_ms=start_ms,
            slots=1,
            penalty_bp=1_000,
            buyer_rule=BuyerRule.PAY_ACTUAL,
            expiry_ms=start_ms,
        )

    @staticmethod
    def _asked(raw: bytes, terms: Terms | None) -> Asked:
        return Asked(decode_transaction(raw).id.hex(), raw, terms)
