"""Terms of a trade: what makes them acceptable, and the money that they bind (PROTOCOL 2.1, 2.2)."""

from typing import Final

from contracts.accounts import refusal_of_member
from contracts.context import BlockContext
from contracts.receipts import ReasonCode
from contracts.state import State
from contracts.transaction import Terms

MAX_LEAD_MS: Final = 35 * 86_400_000
"""A window starts at most 35 days ahead (PROTOCOL 2.1)."""
FULL_BP: Final = 10_000
"""The whole, in basis points."""


def value_of(terms: Terms) -> int:
    """The price of the contracted quantity in nano-units: the buyer's payment, at most 10^18 by the fields' bounds."""
    return terms.quantity_wh * terms.price


def deposit_of(terms: Terms) -> int:
    """What each party puts down for its penalty: value * penalty_bp // 10 000 (PROTOCOL 2.2)."""
    return terms.quantity_wh * terms.price * terms.penalty_bp // FULL_BP


def escrow_of(terms: Terms) -> int:
    """All that a contract in force holds: the payment and two deposits."""
    return value_of(terms) + 2 * deposit_of(terms)


def refusal_of_terms(state: State, context: BlockContext, terms: Terms) -> ReasonCode | None:
    """The first rule of PROTOCOL 2.1 and 2.2 that ``terms`` break at this block, or None."""
    slot_ms = context.parameters.slot_ms
    if terms.seller == terms.buyer:
        return ReasonCode.PARTIES_EQUAL
    if terms.start_ms % slot_ms:
        return ReasonCode.WINDOW_MISALIGNED
    if context.time_ms >= terms.start_ms:
        return ReasonCode.WINDOW_STARTED
    if terms.start_ms - context.time_ms > MAX_LEAD_MS:
        return ReasonCode.WINDOW_TOO_FAR
    if terms.expiry_ms > terms.start_ms:
        return ReasonCode.EXPIRY_AFTER_START
    if context.time_ms >= terms.expiry_ms:
        return ReasonCode.OFFER_EXPIRED
    seller, buyer = state.accounts.get(terms.seller), state.accounts.get(terms.buyer)
    return refusal_of_member(seller) or refusal_of_member(buyer)
