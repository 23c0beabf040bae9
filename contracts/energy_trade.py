"""The trade contract's entry points: open, offer, accept, withdraw, decline, cancel, excuse (PROTOCOL 2.2, 2.3).

A contract's life after activation is driven by readings (`contracts.metering`) and deadlines (`contracts.deadlines`),
and ends in `contracts.settlement`.
"""

from typing import Final

from consensus.errors import fail, invariant
from consensus.types import Address, Digest
from contracts.accounts import change_totals
from contracts.context import OK, BlockContext, Result, has_operator_approval, payload_of
from contracts.receipts import (
    BalanceChanged,
    CancelSigned,
    ReasonCode,
    TradeChanged,
    TradeExcused,
    TradeState,
)
from contracts.state import Account, State
from contracts.trade_records import Contract, Offer
from contracts.trade_terms import deposit_of, escrow_of, refusal_of_terms, value_of
from contracts.transaction import (
    Excuse,
    Terms,
    TradeAccept,
    TradeCancel,
    TradeDecline,
    TradeOffer,
    TradeOpen,
    TradeWithdraw,
    Transaction,
)

MAX_OPEN_CONTRACTS: Final = 65_536
"""Of one member. A heavy load of 1 500 trades a second among 8 members opens 11 250 each in half a minute; more than
this would let one member's books fill the memory of all."""
MAX_OPEN_OFFERS: Final = 4_096
"""Of one offerer. An offer binds no money, so it is the cheaper way to fill the state."""


def trade_open(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """A trade that both parties signed goes into force at once (PROTOCOL 2.2)."""
    terms = payload_of(transaction, TradeOpen).terms
    refusal = refusal_of_terms(state, context, terms) or _refusal_of_activation(state, terms)
    if refusal is not None:
        return Result(refusal)
    _activate(state, context, transaction.id, terms)
    return OK


def trade_offer(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """One party offers a trade to the other; no money is bound yet (PROTOCOL 2.2)."""
    terms, sender = payload_of(transaction, TradeOffer).terms, transaction.sender
    if sender not in (terms.seller, terms.buyer):
        return Result(ReasonCode.NOT_A_PARTY)
    refusal = refusal_of_terms(state, context, terms)
    if refusal is not None:
        return Result(refusal)
    account = state.accounts.require(sender)
    if account.open_offers >= MAX_OPEN_OFFERS:
        return Result(ReasonCode.TOO_MANY_OPEN_OFFERS)
    offer = Offer(terms, sender, context.height, context.index)
    state.offers.put(transaction.id, offer)
    state.trades.add_offer(transaction.id, offer)
    _count_offer(state, offer, 1)
    context.emit(TradeChanged(transaction.id, TradeState.OFFERED, terms.seller, terms.buyer))
    return OK


def trade_accept(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """The named party accepts; where money or a member is missing the offer stays open (PROTOCOL 2.2)."""
    offer_id = payload_of(transaction, TradeAccept).offer_id
    offer = state.offers.get(offer_id)
    if offer is None:
        return Result(_refusal_of_missing_offer(state, offer_id))
    terms = offer.terms
    if transaction.sender not in (terms.seller, terms.buyer) or transaction.sender == offer.offerer:
        return Result(ReasonCode.NOT_A_PARTY)
    refusal = refusal_of_terms(state, context, terms) or _refusal_of_activation(state, terms)
    if refusal is not None:
        return Result(refusal)
    _remove_offer(state, offer_id, offer)
    _activate(state, context, offer_id, terms)
    return OK


def trade_withdraw(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """The offerer takes its offer back (PROTOCOL 2.2)."""
    offer_id = payload_of(transaction, TradeWithdraw).offer_id
    return _answer_offer(state, context, transaction, offer_id, TradeState.WITHDRAWN)


def trade_decline(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """The named party refuses the offer (PROTOCOL 2.2)."""
    offer_id = payload_of(transaction, TradeDecline).offer_id
    return _answer_offer(state, context, transaction, offer_id, TradeState.DECLINED)


def trade_cancel(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """One party's half of a cancellation; the second ends the contract and returns all escrow (PROTOCOL 2.3)."""
    contract_id, sender = payload_of(transaction, TradeCancel).contract_id, transaction.sender
    contract = state.contracts.get(contract_id)
    if contract is None:
        return Result(_refusal_of_missing_contract(state, contract_id))
    terms = contract.terms
    if sender not in (terms.seller, terms.buyer):
        return Result(ReasonCode.NOT_A_PARTY)
    if contract.state is not TradeState.ACTIVE or context.time_ms >= terms.start_ms:
        return Result(ReasonCode.CONTRACT_STATE)
    if contract.cancelled_by == sender:
        return Result(ReasonCode.ALREADY_CANCELLED_BY_SENDER)
    context.emit(CancelSigned(contract_id, sender))
    if contract.cancelled_by is None:
        state.contracts.put(contract_id, _marked(contract, sender, contract.excused))
        return OK
    deposit = deposit_of(terms)
    close_contract(state, context, contract_id, contract, deposit, value_of(terms) + deposit, 0)
    context.emit(TradeChanged(contract_id, TradeState.CANCELLED, terms.seller, terms.buyer))
    return OK


def excuse(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Operators mark a contract before settlement: no penalties, no credit change (PROTOCOL 2.3)."""
    contract_id = payload_of(transaction, Excuse).contract_id
    if not has_operator_approval(context.genesis, transaction):
        return Result(ReasonCode.OPERATOR_APPROVAL_MISSING)
    contract = state.contracts.get(contract_id)
    if contract is None:
        return Result(_refusal_of_missing_contract(state, contract_id))
    if contract.excused:
        return Result(ReasonCode.ALREADY_EXCUSED)
    state.contracts.put(contract_id, _marked(contract, contract.cancelled_by, True))
    context.emit(TradeExcused(contract_id))
    return OK


def expire_offer(state: State, context: BlockContext, offer_id: Digest) -> bool:
    """End an offer whose time has come; False if it has been answered before (PROTOCOL 2.3)."""
    offer = state.offers.get(offer_id)
    if offer is None:
        return False
    _remove_offer(state, offer_id, offer)
    context.emit(TradeChanged(offer_id, TradeState.EXPIRED, offer.terms.seller, offer.terms.buyer))
    return True


def begin_metering(state: State, context: BlockContext, contract_id: Digest) -> bool:
    """Turn an active contract into a metering one; False if it is gone or has begun (PROTOCOL 2.3)."""
    c = state.contracts.get(contract_id)
    if c is None or c.state is not TradeState.ACTIVE:
        return False
    state.contracts.put(
        contract_id,
        Contract(
            c.terms,
            c.height,
            c.index,
            TradeState.METERING,
            c.cancelled_by,
            c.excused,
            c.seller_wh,
            c.buyer_wh,
            c.seller_slots,
            c.buyer_slots,
        ),
    )
    context.emit(TradeChanged(contract_id, TradeState.METERING, c.terms.seller, c.terms.buyer))
    return True


def close_contract(
    state: State,
    context: BlockContext,
    contract_id: Digest,
    contract: Contract,
    to_seller: int,
    to_buyer: int,
    traded_wh: int,
) -> None:
    """Remove a contract, pay its escrow out, whole, and let both N grow by ``traded_wh``."""
    terms = contract.terms
    invariant(min(to_seller, to_buyer) >= 0, "nobody pays beyond payment and deposit when a trade ends (2.5)")
    invariant(to_seller + to_buyer == escrow_of(terms), "a trade that ends pays out its whole escrow (S7)")
    invariant(0 <= traded_wh <= terms.quantity_wh, "no more than the agreed quantity counts as traded (2.5)")
    state.contracts.delete(contract_id)
    state.trades.remove_contract(contract_id, contract)
    change_totals(state, balances=to_buyer + to_seller, escrow=-escrow_of(terms), energy_wh=2 * traded_wh)
    _move(state, context, terms.seller, to_seller, -1, traded_wh)
    _move(state, context, terms.buyer, to_buyer, -1, traded_wh)


def _refusal_of_activation(state: State, terms: Terms) -> ReasonCode | None:
    """Too little money or too many contracts on one side; both parties are members (PROTOCOL 2.2)."""
    deposit = deposit_of(terms)
    for address, amount in ((terms.seller, deposit), (terms.buyer, value_of(terms) + deposit)):
        account = state.accounts.require(address)
        if account.balance < amount:
            return ReasonCode.BALANCE_TOO_LOW
        if account.open_contracts >= MAX_OPEN_CONTRACTS:
            return ReasonCode.TOO_MANY_OPEN_CONTRACTS
    return None


def _activate(state: State, context: BlockContext, contract_id: Digest, terms: Terms) -> None:
    """Move payment and deposits to escrow and put the contract in force."""
    deposit, empty = deposit_of(terms), (0,) * terms.slots
    contract = Contract(
        terms, context.height, context.index, TradeState.ACTIVE, None, False, 0, 0, empty, empty
    )
    state.contracts.put(contract_id, contract)
    state.trades.add_contract(contract_id, contract)
    for address, amount in ((terms.seller, deposit), (terms.buyer, value_of(terms) + deposit)):
        _move(state, context, address, -amount, 1, 0)
    escrow = escrow_of(terms)
    change_totals(state, balances=-escrow, escrow=escrow)
    context.emit(TradeChanged(contract_id, TradeState.ACTIVE, terms.seller, terms.buyer))


def _answer_offer(
    state: State, context: BlockContext, transaction: Transaction, offer_id: Digest, end: TradeState
) -> Result:
    """Withdraw or decline: the same but for who may do it."""
    offer = state.offers.get(offer_id)
    if offer is None:
        return Result(_refusal_of_missing_offer(state, offer_id))
    terms, sender = offer.terms, transaction.sender
    by_offerer = sender == offer.offerer
    if sender not in (terms.seller, terms.buyer) or by_offerer is not (end is TradeState.WITHDRAWN):
        return Result(ReasonCode.NOT_A_PARTY)
    if context.time_ms >= terms.expiry_ms:
        return Result(ReasonCode.OFFER_EXPIRED)
    _remove_offer(state, offer_id, offer)
    context.emit(TradeChanged(offer_id, end, terms.seller, terms.buyer))
    return OK


def _refusal_of_missing_offer(state: State, offer_id: Digest) -> ReasonCode:
    return ReasonCode.CONTRACT_STATE if offer_id in state.contracts else ReasonCode.CONTRACT_UNKNOWN


def _refusal_of_missing_contract(state: State, contract_id: Digest) -> ReasonCode:
    return ReasonCode.CONTRACT_STATE if contract_id in state.offers else ReasonCode.CONTRACT_UNKNOWN


def _remove_offer(state: State, offer_id: Digest, offer: Offer) -> None:
    state.offers.delete(offer_id)
    state.trades.remove_offer(offer_id, offer)
    _count_offer(state, offer, -1)


def _count_offer(state: State, offer: Offer, change: int) -> None:
    a = state.accounts.require(offer.offerer)
    state.accounts.put(
        offer.offerer,
        Account(
            a.public_key,
            a.balance,
            a.credit,
            a.energy_wh,
            a.open_contracts,
            a.open_offers + change,
            a.active_epoch,
            a.left_height,
        ),
    )


def _move(
    state: State, context: BlockContext, address: Address, amount: int, contracts: int, traded_wh: int
) -> None:
    """Change a party's balance, its count of open contracts and its traded energy in one write."""
    a = state.accounts.require(address)
    balance = a.balance + amount
    if balance < 0:
        fail(f"the balance of {address.hex()} would fall below 0")
    state.accounts.put(
        address,
        Account(
            a.public_key,
            balance,
            a.credit,
            a.energy_wh + traded_wh,
            a.open_contracts + contracts,
            a.open_offers,
            a.active_epoch,
            a.left_height,
        ),
    )
    if amount:
        context.emit(BalanceChanged(address, amount, balance))


def _marked(c: Contract, cancelled_by: Address | None, excused: bool) -> Contract:
    return Contract(
        c.terms,
        c.height,
        c.index,
        c.state,
        cancelled_by,
        excused,
        c.seller_wh,
        c.buyer_wh,
        c.seller_slots,
        c.buyer_slots,
    )
