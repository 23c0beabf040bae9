"""Trades up to delivery: offers, activation, cancelling, excusing (annex on transactions, 5; PROTOCOL 2.1-2.3)."""

from node.auditor.ledger import Code, Event, Ledger, Refused, Trade, demand
from node.auditor.metering import Metering
from node.auditor.shapes import Terms, Transaction
from node.auditor.state import Contract, Offer

FARTHEST_START_MS = 35 * 86_400_000
MAX_OPEN_CONTRACTS, MAX_OPEN_OFFERS = 65_536, 4_096


def check_terms(ledger: Ledger, terms: Terms) -> None:
    """What may be agreed on now."""
    t, slot_ms = ledger.time_ms, ledger.parameters.slot_ms
    demand(terms.seller != terms.buyer, Code.PARTIES_EQUAL)
    demand(terms.start_ms % slot_ms == 0, Code.WINDOW_MISALIGNED)
    demand(t < terms.start_ms, Code.WINDOW_STARTED)
    demand(terms.start_ms - t <= FARTHEST_START_MS, Code.WINDOW_TOO_FAR)
    demand(terms.expiry_ms <= terms.start_ms, Code.EXPIRY_AFTER_START)
    demand(t < terms.expiry_ms, Code.OFFER_EXPIRED)
    ledger.member(terms.seller)
    ledger.member(terms.buyer)


def stakes(terms: Terms) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    """What seller and buyer pay into escrow."""
    return (terms.seller, terms.deposit), (terms.buyer, terms.value + terms.deposit)


def check_activation(ledger: Ledger, terms: Terms) -> None:
    """Money and room of both parties."""
    for party, amount in stakes(terms):
        account = ledger.state.accounts[party]
        demand(account.balance >= amount, Code.BALANCE_TOO_LOW)
        demand(account.open_contracts < MAX_OPEN_CONTRACTS, Code.TOO_MANY_OPEN_CONTRACTS)


def _changed(ledger: Ledger, identity: bytes, state: Trade, terms: Terms) -> None:
    ledger.emit(Event.TRADE_CHANGED, identity, state, terms.seller, terms.buyer)


def _count_contract(ledger: Ledger, party: bytes, delta: int) -> None:
    ledger.update(party, open_contracts=ledger.state.accounts[party].open_contracts + delta)


def _activate(metering: Metering, identity: bytes, terms: Terms, index: int) -> None:
    ledger = metering.ledger
    nothing = (0,) * terms.slots
    contract = Contract(terms, ledger.height, index, Trade.ACTIVE, None, False, 0, 0, nothing, nothing)
    metering.add_contract(identity, contract)
    for party, amount in stakes(terms):
        _count_contract(ledger, party, 1)
        ledger.add_totals(balances=-amount, escrow=amount)
        ledger.change_balance(party, -amount)
    _changed(ledger, identity, Trade.ACTIVE, terms)


def trade_open(metering: Metering, transaction: Transaction, identity: bytes, index: int) -> None:
    """Both parties signed."""
    (terms,) = transaction.body.payload
    check_terms(metering.ledger, terms)
    check_activation(metering.ledger, terms)
    _activate(metering, identity, terms, index)


def trade_offer(metering: Metering, transaction: Transaction, identity: bytes, index: int) -> None:
    """One party offers."""
    ledger, sender, (terms,) = metering.ledger, transaction.body.sender, transaction.body.payload
    demand(sender in (terms.seller, terms.buyer), Code.NOT_A_PARTY)
    check_terms(ledger, terms)
    demand(ledger.state.accounts[sender].open_offers < MAX_OPEN_OFFERS, Code.TOO_MANY_OPEN_OFFERS)
    metering.add_offer(identity, Offer(terms, sender, ledger.height, index))
    ledger.update(sender, open_offers=ledger.state.accounts[sender].open_offers + 1)
    _changed(ledger, identity, Trade.OFFERED, terms)


def _offer(ledger: Ledger, identity: bytes) -> Offer:
    offer = ledger.state.offers.get(identity)
    if offer is None:
        known = identity in ledger.state.contracts
        raise Refused(Code.CONTRACT_STATE if known else Code.CONTRACT_UNKNOWN)
    return offer


def trade_accept(metering: Metering, transaction: Transaction, index: int) -> None:
    """The other party accepts."""
    ledger, sender, (identity,) = metering.ledger, transaction.body.sender, transaction.body.payload
    offer = _offer(ledger, identity)
    parties = (offer.terms.seller, offer.terms.buyer)
    demand(sender in parties and sender != offer.offerer, Code.NOT_A_PARTY)
    check_terms(ledger, offer.terms)
    check_activation(ledger, offer.terms)
    metering.end_offer(identity, offer, None)
    _activate(metering, identity, offer.terms, index)


def trade_end_offer(metering: Metering, transaction: Transaction, withdraw: bool) -> None:
    """The offerer withdraws, or the other party declines."""
    ledger, sender, (identity,) = metering.ledger, transaction.body.sender, transaction.body.payload
    offer = _offer(ledger, identity)
    parties = (offer.terms.seller, offer.terms.buyer)
    demand(sender in parties and (sender == offer.offerer) == withdraw, Code.NOT_A_PARTY)
    demand(ledger.time_ms < offer.terms.expiry_ms, Code.OFFER_EXPIRED)
    metering.end_offer(identity, offer, Trade.WITHDRAWN if withdraw else Trade.DECLINED)


def _contract(ledger: Ledger, identity: bytes) -> Contract:
    contract = ledger.state.contracts.get(identity)
    if contract is None:
        known = identity in ledger.state.offers
        raise Refused(Code.CONTRACT_STATE if known else Code.CONTRACT_UNKNOWN)
    return contract


def trade_cancel(metering: Metering, transaction: Transaction) -> None:
    """One half of a cancellation; the second makes it."""
    ledger, sender, (identity,) = metering.ledger, transaction.body.sender, transaction.body.payload
    contract = _contract(ledger, identity)
    terms = contract.terms
    demand(sender in (terms.seller, terms.buyer), Code.NOT_A_PARTY)
    before = contract.state == Trade.ACTIVE and ledger.time_ms < terms.start_ms
    demand(before, Code.CONTRACT_STATE)
    demand(contract.cancelled_by != sender, Code.ALREADY_CANCELLED_BY_SENDER)
    ledger.emit(Event.CANCEL_SIGNED, identity, sender)
    if contract.cancelled_by is None:
        ledger.state.contracts.put(identity, contract._replace(cancelled_by=sender))
        return
    metering.remove_contract(identity, contract)
    for party, amount in stakes(terms):
        _count_contract(ledger, party, -1)
        ledger.add_totals(balances=amount, escrow=-amount)
        ledger.change_balance(party, amount)
    _changed(ledger, identity, Trade.CANCELLED, terms)


def excuse(ledger: Ledger, transaction: Transaction) -> None:
    """Operators mark a contract."""
    (identity,) = transaction.body.payload
    ledger.demand_operators([key for key, _ in transaction.signatures])
    contract = _contract(ledger, identity)
    demand(not contract.excused, Code.ALREADY_EXCUSED)
    ledger.state.contracts.put(identity, contract._replace(excused=True))
    ledger.emit(Event.TRADE_EXCUSED, identity)
