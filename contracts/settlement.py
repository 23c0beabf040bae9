"""Settlement: payment, penalties, traded energy and credit at the end of a contract (PROTOCOL 2.5, 2.6)."""

from consensus.credit import trade_penalty
from consensus.errors import invariant
from consensus.types import Address, Digest, Value
from contracts.context import BlockContext
from contracts.credit_ledger import book_credit
from contracts.energy_trade import close_contract
from contracts.receipts import CreditReason, TradeChanged, TradeSettled, TradeState
from contracts.state import State, reading_key
from contracts.trade_records import Contract
from contracts.trade_terms import FULL_BP, deposit_of, value_of
from contracts.transaction import BuyerRule, Terms


class Settlement(Value, frozen=True):
    """The figures of PROTOCOL 2.5 in Wh and nano-units."""

    delivered_wh: int
    """min(seller's, buyer's allocation): what both N grow by."""
    paid_wh: int
    paid: int
    seller_penalty: int
    buyer_penalty: int


def settle(state: State, context: BlockContext, contract_id: Digest, contract: Contract) -> None:
    """End a contract whose window is allocated on both meters: all its escrow is paid out in this block."""
    terms, end = contract.terms, TradeState.EXCUSED if contract.excused else TradeState.SETTLED
    figures = settlement_of(contract, substituted_wh(state, contract))
    deposit = deposit_of(terms)
    to_seller = figures.paid + deposit - figures.seller_penalty + figures.buyer_penalty
    to_buyer = value_of(terms) - figures.paid + deposit - figures.buyer_penalty + figures.seller_penalty
    close_contract(state, context, contract_id, contract, to_seller, to_buyer, figures.delivered_wh)
    context.emit(
        TradeSettled(
            contract_id,
            contract.seller_wh,
            contract.buyer_wh,
            figures.delivered_wh,
            figures.paid_wh,
            figures.paid,
            figures.seller_penalty,
            figures.buyer_penalty,
        )
    )
    if not contract.excused:
        _charge(state, context, terms, terms.seller, contract.seller_wh, CreditReason.SELLER_SHORTFALL)
        _charge(state, context, terms, terms.buyer, contract.buyer_wh, CreditReason.BUYER_SHORTFALL)
    context.emit(TradeChanged(contract_id, end, terms.seller, terms.buyer))


def substituted_wh(state: State, contract: Contract) -> int:
    """What the seller delivered in slots that the buyer's meter never read: for payment it counts as bought (2.5)."""
    buyer, start = contract.terms.buyer, state.trades.start_slot(contract)
    return sum(
        seller_wh
        for place, seller_wh in enumerate(contract.seller_slots)
        if seller_wh and reading_key(start + place, buyer) not in state.readings
    )


def settlement_of(contract: Contract, missing_wh: int) -> Settlement:
    """The figures of a contract of which ``missing_wh`` fell into slots without a reading of the buyer."""
    terms = contract.terms
    if terms.buyer_rule is BuyerRule.TAKE_OR_PAY:
        paid_wh = contract.seller_wh
    else:
        paid_wh = min(contract.seller_wh, contract.buyer_wh + missing_wh)
    seller_penalty = buyer_penalty = 0
    if not contract.excused:
        seller_penalty = penalty_of(terms, terms.quantity_wh - contract.seller_wh)
        if terms.buyer_rule is BuyerRule.PAY_ACTUAL:
            buyer_penalty = penalty_of(terms, terms.quantity_wh - contract.buyer_wh)
    delivered_wh = min(contract.seller_wh, contract.buyer_wh)
    invariant(missing_wh <= contract.seller_wh, "only what the seller delivered is taken for bought (2.5)")
    invariant(0 <= paid_wh <= terms.quantity_wh, "nobody pays for more than was agreed (2.5)")
    return Settlement(delivered_wh, paid_wh, paid_wh * terms.price, seller_penalty, buyer_penalty)


def penalty_of(terms: Terms, shortfall_wh: int) -> int:
    """min(shortfall * price * penalty_bp // 10 000, deposit), PROTOCOL 2.5."""
    invariant(shortfall_wh >= 0, "no more than the agreed quantity was allocated (2.4)")
    return min(shortfall_wh * terms.price * terms.penalty_bp // FULL_BP, deposit_of(terms))


def _charge(
    state: State, context: BlockContext, terms: Terms, party: Address, allocated_wh: int, reason: CreditReason
) -> None:
    """Each party by its own meter, whatever the other did (PROTOCOL 2.6)."""
    shortfall_wh = terms.quantity_wh - allocated_wh
    if shortfall_wh:
        p = context.parameters
        loss = trade_penalty(p.trade_penalty, shortfall_wh, terms.quantity_wh, p.trade_reference_wh)
        book_credit(state, context, party, reason, -loss)
