"""PROTOCOL 2: the trade contract, from the agreement to settlement and credit."""

from typing import Any

import msgspec
import pytest

from consensus.errors import MalformedInput
from contracts.epoch_state import chain_of
from contracts.queries import slot_table_of_ended, trade_view
from contracts.receipts import (
    BalanceChanged,
    CancelSigned,
    CreditChanged,
    CreditReason,
    ReasonCode,
    SlotAllocated,
    TradeChanged,
    TradeExcused,
    TradeSettled,
    TradeState,
)
from contracts.trade_records import Contract
from contracts.transaction import (
    BuyerRule,
    ChangeMeter,
    Excuse,
    Readings,
    Terms,
    TradeAccept,
    TradeCancel,
    TradeDecline,
    TradeOffer,
    TradeOpen,
    TradeWithdraw,
    Transaction,
    Transfer,
)
from contracts.validation import InvalidReason, InvalidTransaction
from tests.support.chain import Chain, Key

PRICE = 200_000
DAY_MS = 86_400_000


class Trade:
    """One open contract of a seller and a buyer, and how it goes on."""

    def __init__(self, chain: Chain | None = None, **terms: Any) -> None:
        self.chain = Chain() if chain is None else chain
        self.seller, self.buyer, self.other = self.chain.members[:3]
        self.terms: Terms = self.chain.terms(self.seller, self.buyer, price=PRICE, **terms)
        opened = self.chain.transaction(self.seller, TradeOpen(self.terms), self.buyer)
        self.opening = self.chain.block(opened).receipts[0]
        self.id = opened.id
        self.first = self.terms.start_ms // self.chain.parameters.slot_ms

    @property
    def contract(self) -> Contract:
        return self.chain.state.contracts.require(self.id)

    def ended(self) -> bool:
        return self.id not in self.chain.state.contracts

    def begin(self) -> None:
        """Let the window begin."""
        self.chain.block(at=self.terms.start_ms)

    def end(self) -> None:
        """Let the window end."""
        slot_ms = self.chain.parameters.slot_ms
        self.chain.run_to(self.terms.start_ms + self.terms.slots * slot_ms, slot_ms)

    def read(self, sold: list[int | None], bought: list[int | None]) -> TradeSettled | None:
        """Read both meters for the window (None: never), and the settlement if there is one by then."""
        readings = []
        for key, registers, sells in ((self.seller, sold, True), (self.buyer, bought, False)):
            for place, wh in enumerate(registers):
                if wh is not None:
                    pair = (wh, 0) if sells else (0, wh)
                    slot = self.first + place
                    readings.append(self.chain.reading(key, slot, *pair, counter=slot))
        if readings:
            self.chain.block(self.chain.readings(*readings))
        return self.settlement()

    def close(self) -> TradeSettled | None:
        """Let the meter deadlines of the window pass."""
        self.chain.run_until(self.ended)
        return self.settlement()

    def settlement(self) -> TradeSettled | None:
        settled = [e for e in self.chain.events(TradeSettled) if e.contract_id == self.id]
        return settled[0] if settled else None

    def states(self) -> list[TradeState]:
        """Every transition so far."""
        return [e.state for e in self.chain.events(TradeChanged) if e.contract_id == self.id]

    def credit(self) -> list[tuple[bytes, CreditReason, int]]:
        return [
            (e.address, e.reason, e.delta)
            for e in self.chain.events(CreditChanged)
            if e.reason in (CreditReason.SELLER_SHORTFALL, CreditReason.BUYER_SHORTFALL)
        ]

    def balances(self) -> tuple[int, int]:
        start = self.chain.genesis.founding_balance
        return (
            self.chain.account(self.seller).balance - start,
            self.chain.account(self.buyer).balance - start,
        )


def refusal(chain: Chain, terms: Terms, sender: Key, *cosigners: Key) -> ReasonCode:
    payload = TradeOpen(terms) if cosigners else TradeOffer(terms)
    return chain.receipt(sender, payload, *cosigners).code


# ---------------------------------------------------------------- 2.1


def test_2_1_both_parties_sign_the_details() -> None:
    """2.1: a trade_open with one signature, or another's, or three, is in no valid block."""
    chain = Chain()
    a, b, c = chain.members[:3]
    terms = chain.terms(a, b)
    for cosigners in ((), (c,), (b, c), (a,)):
        with pytest.raises(InvalidTransaction) as caught:
            chain.block(chain.transaction(a, TradeOpen(terms), *cosigners))
        assert caught.value.reason is InvalidReason.SIGNER_WRONG
    assert refusal(chain, terms, b, a) is ReasonCode.OK


def test_2_1_seller_and_buyer_are_different_members() -> None:
    """2.1: no self-trade, no trade with a stranger."""
    chain = Chain()
    a, stranger = chain.members[0], Key(50)
    assert refusal(chain, chain.terms(a, a), a) is ReasonCode.PARTIES_EQUAL
    assert refusal(chain, chain.terms(a, stranger), a) is ReasonCode.NOT_A_MEMBER
    assert refusal(chain, chain.terms(stranger, a), a) is ReasonCode.NOT_A_MEMBER
    assert refusal(chain, chain.terms(stranger, a), stranger, a) is ReasonCode.NOT_A_MEMBER


def test_2_1_only_a_party_may_offer() -> None:
    """2.2: the offerer is one of the parties."""
    chain = Chain()
    a, b, c = chain.members[:3]
    assert refusal(chain, chain.terms(a, b), c) is ReasonCode.NOT_A_PARTY


@pytest.mark.parametrize("slots", [0, 97])
def test_2_1_a_window_has_1_to_96_slots(slots: int) -> None:
    """2.1: other lengths are malformed."""
    chain = Chain()
    a, b = chain.members[:2]
    with pytest.raises(MalformedInput):
        chain.transaction(a, TradeOffer(chain.terms(a, b, slots=slots)))
    assert refusal(chain, chain.terms(a, b, slots=1), a) is ReasonCode.OK
    assert refusal(chain, chain.terms(a, b, slots=96), a) is ReasonCode.OK


def test_2_1_slots_are_whole_and_aligned_to_the_unix_epoch() -> None:
    """2.1: a start between slots is refused."""
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, start_ms=chain.time_ms + 2_001)
    assert refusal(chain, terms, a) is ReasonCode.WINDOW_MISALIGNED


def test_2_1_a_window_starts_at_most_35_days_ahead() -> None:
    """2.1: 35 days after header time, to the millisecond."""
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, start_ms=chain.time_ms + 36 * DAY_MS)
    block_at = terms.start_ms - 35 * DAY_MS
    offer = chain.transaction(a, TradeOffer(terms), valid_from_ms=block_at - 1)
    assert chain.block(offer, at=block_at - 1).receipts[0].code is ReasonCode.WINDOW_TOO_FAR
    assert chain.receipt(a, TradeOffer(terms), at=block_at).code is ReasonCode.OK


def test_2_1_expiry_is_at_or_before_the_start() -> None:
    """2.1: later is refused; an offer that is expired already, too, also of a trade_open."""
    chain = Chain()
    a, b = chain.members[:2]
    start_ms = chain.terms(a, b).start_ms
    assert refusal(chain, chain.terms(a, b, expiry_ms=start_ms + 1), a) is ReasonCode.EXPIRY_AFTER_START
    for cosigners in ((), (b,)):
        terms = chain.terms(a, b, expiry_ms=chain.time_ms + 100)
        assert refusal(chain, terms, a, *cosigners) is ReasonCode.OFFER_EXPIRED
    assert refusal(chain, chain.terms(a, b, expiry_ms=chain.time_ms + 101), a) is ReasonCode.OK


def test_2_1_the_contract_id_is_that_of_the_offer_or_opening() -> None:
    """2.1: an accept makes no id of its own."""
    chain = Chain()
    a, b = chain.members[:2]
    offer = chain.transaction(a, TradeOffer(chain.terms(a, b)))
    chain.block(offer)
    chain.block(chain.transaction(b, TradeAccept(offer.id)))
    assert list(chain.state.contracts) == [offer.id]
    assert list(Trade().chain.state.contracts) != [offer.id]


# ---------------------------------------------------------------- 2.2


@pytest.mark.parametrize("offered_by_seller", [True, False])
def test_2_2_either_party_offers_and_the_other_accepts(offered_by_seller: bool) -> None:
    """2.2: nobody but the named party can accept, and the offerer cannot accept its own."""
    chain = Chain()
    a, b, c = chain.members[:3]
    terms = chain.terms(a, b) if offered_by_seller else chain.terms(b, a)
    offer = chain.transaction(a, TradeOffer(terms))
    chain.block(offer)
    assert chain.account(a).open_offers == 1
    assert chain.receipt(c, TradeAccept(offer.id)).code is ReasonCode.NOT_A_PARTY
    assert chain.receipt(a, TradeAccept(offer.id)).code is ReasonCode.NOT_A_PARTY
    receipt = chain.receipt(b, TradeAccept(offer.id))
    assert receipt.events[-1] == TradeChanged(offer.id, TradeState.ACTIVE, terms.seller, terms.buyer)
    assert chain.account(a).open_offers == 0
    assert (chain.account(a).open_contracts, chain.account(b).open_contracts) == (1, 1)
    assert chain.receipt(b, TradeAccept(offer.id)).code is ReasonCode.CONTRACT_STATE
    assert chain.receipt(b, TradeAccept(bytes(32))).code is ReasonCode.CONTRACT_UNKNOWN


def test_2_2_the_offerer_may_withdraw() -> None:
    """2.2: only the offerer, only while it is open."""
    chain = Chain()
    a, b, c = chain.members[:3]
    offer = chain.transaction(a, TradeOffer(chain.terms(a, b)))
    chain.block(offer)
    for key in (b, c):
        assert chain.receipt(key, TradeWithdraw(offer.id)).code is ReasonCode.NOT_A_PARTY
    receipt = chain.receipt(a, TradeWithdraw(offer.id))
    assert receipt.events == (TradeChanged(offer.id, TradeState.WITHDRAWN, a.address, b.address),)
    assert chain.account(a).open_offers == 0
    assert chain.receipt(a, TradeWithdraw(offer.id)).code is ReasonCode.CONTRACT_UNKNOWN


def test_2_2_the_named_party_may_decline() -> None:
    """2.2: only the other party, only while it is open."""
    chain = Chain()
    a, b, c = chain.members[:3]
    offer = chain.transaction(a, TradeOffer(chain.terms(a, b)))
    chain.block(offer)
    for key in (a, c):
        assert chain.receipt(key, TradeDecline(offer.id)).code is ReasonCode.NOT_A_PARTY
    receipt = chain.receipt(b, TradeDecline(offer.id))
    assert receipt.events == (TradeChanged(offer.id, TradeState.DECLINED, a.address, b.address),)
    assert chain.receipt(b, TradeDecline(offer.id)).code is ReasonCode.CONTRACT_UNKNOWN


def test_2_2_an_offer_in_force_can_be_neither_withdrawn_nor_declined() -> None:
    """2.2, 2.3: both end offered contracts only."""
    trade = Trade()
    chain = trade.chain
    assert chain.receipt(trade.seller, TradeWithdraw(trade.id)).code is ReasonCode.CONTRACT_STATE
    assert chain.receipt(trade.buyer, TradeDecline(trade.id)).code is ReasonCode.CONTRACT_STATE


def test_2_2_every_way_in_needs_header_time_before_the_start() -> None:
    """2.2: at the start itself it is too late, so nobody trades a window whose readings are known."""
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b)
    offer = chain.transaction(a, TradeOffer(terms))
    chain.block(offer)
    chain.block(at=terms.start_ms - 1)
    at_start = [
        chain.transaction(a, TradeOpen(terms), b),
        chain.transaction(a, TradeOffer(terms)),
        chain.transaction(b, TradeAccept(offer.id)),
        chain.transaction(a, TradeWithdraw(offer.id)),
        chain.transaction(b, TradeDecline(offer.id)),
    ]
    codes = [receipt.code for receipt in chain.block(*at_start, at=terms.start_ms).receipts[:-1]]
    started, expired = ReasonCode.WINDOW_STARTED, ReasonCode.OFFER_EXPIRED
    assert codes == [started, started, started, expired, expired]


def test_2_2_activation_moves_the_payment_and_two_deposits_to_escrow() -> None:
    """2.2: buyer's payment and from both value * penalty_bp // 10 000, rounded down."""
    trade = Trade(quantity_wh=1_001, penalty_bp=123)
    value = 1_001 * PRICE
    deposit = value * 123 // 10_000
    assert trade.opening.events[:2] == (
        BalanceChanged(trade.seller.address, -deposit, 10**15 - deposit),
        BalanceChanged(trade.buyer.address, -value - deposit, 10**15 - value - deposit),
    )
    assert trade.chain.totals.escrow == value + 2 * deposit


@pytest.mark.parametrize("poor", ["seller", "buyer"])
def test_2_2_an_accept_without_balance_leaves_the_offer_open(poor: str) -> None:
    """2.2: the accept is rejected; once the money is there the same offer can be accepted."""
    value, deposit = 1_000 * PRICE, 1_000 * PRICE // 10
    chain = Chain(balance=value + deposit)
    a, b, c = chain.members[:3]
    terms = chain.terms(a, b, price=PRICE)
    lacking = a if poor == "seller" else b
    spent = value + 1 if poor == "seller" else 1
    chain.receipt(lacking, Transfer(c.address, spent))
    offer = chain.transaction(a, TradeOffer(terms))
    chain.block(offer)
    assert chain.receipt(b, TradeAccept(offer.id)).code is ReasonCode.BALANCE_TOO_LOW
    assert chain.receipt(a, TradeOpen(terms), b).code is ReasonCode.BALANCE_TOO_LOW
    assert offer.id in chain.state.offers
    chain.receipt(c, Transfer(lacking.address, 1))
    assert chain.receipt(b, TradeAccept(offer.id)).code is ReasonCode.OK


def test_2_2_open_contracts_and_offers_of_a_member_are_limited() -> None:
    """ARCHITECTURE, limits: 65 536 open contracts on either side, 4 096 open offers."""
    chain = Chain()
    a, b = chain.members[:2]
    for full in (a, b):
        account = chain.account(full)
        chain.state.accounts.put(full.address, msgspec.structs.replace(account, open_contracts=65_536))
        chain.state.commit()
        assert chain.receipt(a, TradeOpen(chain.terms(a, b)), b).code is ReasonCode.TOO_MANY_OPEN_CONTRACTS
        chain.state.accounts.put(full.address, msgspec.structs.replace(account, open_contracts=65_535))
        chain.state.commit()
    assert chain.receipt(a, TradeOpen(chain.terms(a, b)), b).code is ReasonCode.OK
    chain.state.accounts.put(a.address, msgspec.structs.replace(chain.account(a), open_offers=4_096))
    chain.state.commit()
    assert chain.receipt(a, TradeOffer(chain.terms(a, b))).code is ReasonCode.TOO_MANY_OPEN_OFFERS
    assert chain.receipt(b, TradeOffer(chain.terms(a, b))).code is ReasonCode.OK


# ---------------------------------------------------------------- 2.3


def test_2_3_offered_active_metering_settled() -> None:
    """2.3: metering begins with the first block with time >= start; every transition is an event."""
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b)
    offer = chain.transaction(a, TradeOffer(terms))
    chain.block(offer)
    chain.block(chain.transaction(b, TradeAccept(offer.id)))
    chain.block(at=terms.start_ms - 1)
    assert chain.state.contracts.require(offer.id).state is TradeState.ACTIVE
    outcome = chain.block(at=terms.start_ms + 7)
    metering = TradeChanged(offer.id, TradeState.METERING, a.address, b.address)
    assert outcome.receipts[-1].events == (metering,)
    assert chain.state.contracts.require(offer.id).state is TradeState.METERING
    chain.run_until(lambda: offer.id not in chain.state.contracts)
    states = [event.state for event in chain.events(TradeChanged)]
    assert states == [TradeState.OFFERED, TradeState.ACTIVE, TradeState.METERING, TradeState.SETTLED]


def test_2_3_an_open_offer_expires_at_its_time() -> None:
    """2.3: with the first block at or after the expiry; then it is unknown."""
    chain = Chain()
    a, b = chain.members[:2]
    offer = chain.transaction(a, TradeOffer(chain.terms(a, b, expiry_ms=chain.time_ms + 500)))
    chain.block(offer)
    chain.block(at=chain.time_ms + 399)
    assert offer.id in chain.state.offers
    outcome = chain.block(after_ms=1)
    expired = TradeChanged(offer.id, TradeState.EXPIRED, a.address, b.address)
    assert outcome.receipts[-1].events == (expired,)
    assert chain.account(a).open_offers == 0
    assert chain.receipt(b, TradeAccept(offer.id)).code is ReasonCode.CONTRACT_UNKNOWN


def test_2_3_the_second_cancel_ends_the_contract_and_returns_all_escrow_in_that_block() -> None:
    """2.3: one party's cancel changes nothing but its mark; the same party cannot make both halves."""
    trade = Trade()
    chain = trade.chain
    assert chain.receipt(trade.other, TradeCancel(trade.id)).code is ReasonCode.NOT_A_PARTY
    receipt = chain.receipt(trade.buyer, TradeCancel(trade.id))
    assert receipt.events == (CancelSigned(trade.id, trade.buyer.address),)
    assert not trade.ended()
    again = chain.receipt(trade.buyer, TradeCancel(trade.id))
    assert again.code is ReasonCode.ALREADY_CANCELLED_BY_SENDER
    receipt = chain.receipt(trade.seller, TradeCancel(trade.id))
    assert receipt.events[-1] == TradeChanged(
        trade.id, TradeState.CANCELLED, trade.seller.address, trade.buyer.address
    )
    assert trade.ended()
    assert trade.balances() == (0, 0)
    assert (chain.totals.escrow, chain.account(trade.seller).open_contracts) == (0, 0)
    assert chain.receipt(trade.seller, TradeCancel(trade.id)).code is ReasonCode.CONTRACT_UNKNOWN
    chain.run_to(trade.terms.start_ms + 10_000)
    assert trade.states() == [TradeState.ACTIVE, TradeState.CANCELLED]


def test_2_3_only_active_contracts_can_be_cancelled() -> None:
    """2.3: not an offer, and not from the window's start on, even in the very block that starts it."""
    trade = Trade()
    chain = trade.chain
    offer = chain.transaction(trade.seller, TradeOffer(trade.terms))
    chain.block(offer)
    assert chain.receipt(trade.seller, TradeCancel(offer.id)).code is ReasonCode.CONTRACT_STATE
    chain.receipt(trade.buyer, TradeCancel(trade.id))
    late = chain.receipt(trade.seller, TradeCancel(trade.id), at=trade.terms.start_ms)
    assert late.code is ReasonCode.CONTRACT_STATE
    assert chain.receipt(trade.seller, TradeCancel(trade.id)).code is ReasonCode.CONTRACT_STATE
    assert trade.contract.state is TradeState.METERING


def test_2_3_an_excused_contract_settles_without_penalties_or_credit_change() -> None:
    """2.3: the operators mark it before settlement; what was delivered is paid, and it ends excused."""
    chain = Chain(operators=2, threshold=2)
    trade = Trade(chain, quantity_wh=1_000, penalty_bp=5_000)
    one, two = chain.operators
    excuse = Excuse(trade.id)
    assert chain.receipt(one, excuse).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    assert chain.receipt(trade.seller, excuse).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    assert chain.receipt(one, Excuse(bytes(32)), two).code is ReasonCode.CONTRACT_UNKNOWN
    trade.end()
    assert chain.receipt(one, excuse, two).events == (TradeExcused(trade.id),)
    assert chain.receipt(one, excuse, two).code is ReasonCode.ALREADY_EXCUSED
    settled = trade.read([300], [700])
    assert settled == TradeSettled(trade.id, 300, 700, 300, 300, 300 * PRICE, 0, 0)
    assert trade.states()[-1] is TradeState.EXCUSED
    assert trade.credit() == []
    assert trade.balances() == (300 * PRICE, -300 * PRICE)
    assert chain.account(trade.seller).energy_wh == 300
    assert chain.receipt(one, excuse, two).code is ReasonCode.CONTRACT_UNKNOWN


def test_2_3_an_offer_cannot_be_excused() -> None:
    """2.3: there is nothing to settle yet."""
    chain = Chain(operators=1)
    a, b = chain.members[:2]
    offer = chain.transaction(a, TradeOffer(chain.terms(a, b)))
    chain.block(offer)
    assert chain.receipt(chain.operators[0], Excuse(offer.id)).code is ReasonCode.CONTRACT_STATE


# ---------------------------------------------------------------- 2.4


def codes_of(chain: Chain, transaction: Transaction) -> list[ReasonCode]:
    """What became of each reading of a transaction."""
    receipt = chain.block(transaction).receipts[0]
    refused = {rejection.index: rejection.code for rejection in receipt.rejections}
    assert isinstance(transaction.payload, Readings)
    return [refused.get(index, ReasonCode.OK) for index in range(len(transaction.payload.readings))]


def after_slots(count: int, **parameters: Any) -> tuple[Chain, Key, int]:
    """A chain on which ``count`` slots after genesis have ended, its first member and the first of those slots."""
    chain = Chain(**parameters)
    first = chain.time_ms // 1_000 + 1
    chain.block(at=(first + count) * 1_000)
    return chain, chain.members[0], first


def test_2_4_anyone_may_carry_readings_which_the_meter_signed() -> None:
    """2.4: even a stranger; but a signature that is not the key's makes the transaction invalid."""
    chain, member, slot = after_slots(1)
    reading = chain.reading(member, slot, 5, counter=1)
    forged = msgspec.structs.replace(reading, exported_wh=6)
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(chain.readings(forged))
    assert caught.value.reason is InvalidReason.SIGNATURE_WRONG
    assert chain.receipt(Key(50), Readings((reading,))).code is ReasonCode.OK


def test_2_4_one_transaction_carries_up_to_256_readings() -> None:
    """2.4: 256 fit, 257 and none are malformed."""
    chain, member, slot = after_slots(256)
    readings = [chain.reading(member, slot + i, 1, counter=i + 1) for i in range(256)]
    assert codes_of(chain, chain.readings(*readings)) == [ReasonCode.OK] * 256
    for wrong in ((*readings, readings[0]), ()):
        with pytest.raises(MalformedInput):
            chain.readings(*wrong)


def test_2_4_each_reading_of_a_transaction_stands_for_itself() -> None:
    """2.4, 9.3: good ones count; if none does, the transaction is rejected with the first one's reason."""
    chain, member, slot = after_slots(2)
    good = chain.reading(member, slot, 1, counter=1)
    wrong_key = chain.reading(member, slot + 1, 1, counter=2, meter=Key(60))
    stranger = chain.reading(chain.members[0], slot + 1, 1, counter=2)
    stranger = msgspec.structs.replace(stranger, member=Key(50).address)
    assert codes_of(chain, chain.readings(wrong_key, good)) == [ReasonCode.READING_KEY_WRONG, ReasonCode.OK]
    receipt = chain.block(chain.readings(wrong_key, good)).receipts[0]
    assert receipt.code is ReasonCode.READING_KEY_WRONG
    assert [r.code for r in receipt.rejections] == [
        ReasonCode.READING_KEY_WRONG,
        ReasonCode.READING_DUPLICATE,
    ]
    assert receipt.events == ()


def test_2_4_a_reading_of_a_stranger_is_refused() -> None:
    """2.4: the member must be one."""
    chain, _, slot = after_slots(1)
    stranger = Key(50)
    chain.meters[stranger.address] = stranger
    transaction = chain.readings(chain.reading(stranger, slot, counter=1))
    assert codes_of(chain, transaction) == [ReasonCode.NOT_A_MEMBER]


def test_2_4_the_slot_must_have_ended_by_header_time() -> None:
    """2.4: slots are half-open; at their end they have ended."""
    chain = Chain()
    member, slot = chain.members[0], chain.time_ms // 1_000 + 1
    reading = Readings((chain.reading(member, slot, counter=1),))
    early = chain.receipt(member, reading, at=(slot + 1) * 1_000 - 1)
    assert early.code is ReasonCode.READING_SLOT_NOT_ENDED
    assert chain.receipt(member, reading, at=(slot + 1) * 1_000).code is ReasonCode.OK


def test_2_4_a_slot_is_read_once() -> None:
    """2.4: no corrections."""
    chain, member, slot = after_slots(1)
    first = chain.reading(member, slot, 1, counter=1)
    second = chain.reading(member, slot, 2, counter=2)
    assert codes_of(chain, chain.readings(first, second)) == [ReasonCode.OK, ReasonCode.READING_DUPLICATE]


def test_2_4_counters_lie_between_those_of_the_neighbours() -> None:
    """2.4: strictly above the nearest earlier read slot's, strictly below the nearest later one's; gaps are allowed."""
    chain, member, slot = after_slots(7)
    wrong, ok = ReasonCode.READING_COUNTER_OUT_OF_ORDER, ReasonCode.OK
    steps = [(4, 40, ok), (6, 40, wrong), (6, 39, wrong), (6, 41, ok), (2, 40, wrong), (2, 10, ok)]
    steps += [(3, 10, wrong), (3, 40, wrong), (3, 11, ok), (1, 10, wrong), (1, 0, ok)]
    for place, counter, code in steps:
        reading = chain.reading(member, slot + place, counter=counter)
        assert codes_of(chain, chain.readings(reading)) == [code], (place, counter)


def test_2_4_the_last_closed_readings_counter_still_bounds() -> None:
    """2.4: a counter cannot go back behind readings that left the state long ago."""
    chain, member, slot = after_slots(1)
    chain.block(chain.readings(chain.reading(member, slot, counter=100)))
    chain.run_until(lambda: len(chain.state.readings) == 0, step_ms=1_000)
    later = chain.time_ms // 1_000 - 1
    low = chain.reading(member, later, counter=100)
    high = chain.reading(member, later, counter=101)
    assert codes_of(chain, chain.readings(low, high)) == [
        ReasonCode.READING_COUNTER_OUT_OF_ORDER,
        ReasonCode.OK,
    ]


def test_2_4_a_new_meter_counts_anew() -> None:
    """1.4, 2.4: counters are compared among the readings of one meter."""
    chain = Chain()
    member, slot = chain.members[0], chain.time_ms // 1_000 + 1
    chain.receipt(member, ChangeMeter(chain.meter(member, Key(60))), at=slot * 1_000)
    chain.block(at=(slot + 2) * 1_000)
    old = chain.reading(member, slot, counter=900)
    new = chain.reading(member, slot + 1, counter=1, meter=Key(60))
    assert codes_of(chain, chain.readings(old, new)) == [ReasonCode.OK] * 2


def test_2_4_a_slot_closes_with_the_first_block_past_its_deadline_on_chain_time() -> None:
    """2.4: meter_deadline_ms of chain time after the first block at or after its end, which itself still counts."""
    chain = Chain(meter_deadline_ms=3_000)
    member, slot = chain.members[0], chain.time_ms // 1_000 + 1
    chain.run_to((slot + 1) * 1_000 + 300, 100)  # the first block after the end stands at the end itself
    ended_chain_ms = slot * 1_000 + 1_000 - chain.genesis.time_ms
    chain.block(after_ms=50_000)  # a halt: chain time moves by a second only
    chain.run_to(chain.time_ms + 1_600, 100)
    assert chain_of(chain.state).chain_ms == ended_chain_ms + 2_900
    other = chain.members[1]
    closing = chain.readings(chain.reading(member, slot, counter=1))
    assert codes_of(chain, closing) == [ReasonCode.OK]
    too_late = chain.readings(chain.reading(other, slot, counter=1))
    assert codes_of(chain, too_late) == [ReasonCode.READING_SLOT_CLOSED]


def test_2_4_what_is_missing_counts_as_0() -> None:
    """2.4: nobody reads; with the deadline the contract settles with nothing delivered."""
    trade = Trade(quantity_wh=1_000)
    trade.end()
    assert trade.read([None], [None]) is None
    settled = trade.close()
    assert settled is not None
    assert (settled.seller_wh, settled.buyer_wh, settled.paid) == (0, 0, 0)


def test_2_4_exports_go_to_sales_and_imports_to_purchases() -> None:
    """2.4: in one slot a member sells to one and buys from another; each register serves its side."""
    chain = Chain()
    a, b, c = chain.members[:3]
    slot = chain.time_ms // 1_000 + 2
    sale = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot)), b)
    purchase = chain.transaction(c, TradeOpen(chain.terms(c, a, start_slot=slot)), a)
    chain.block(sale, purchase)
    chain.run_to((slot + 1) * 1_000)
    chain.block(chain.readings(chain.reading(a, slot, 30, 40, counter=1)))
    assert chain.state.contracts.require(sale.id).seller_wh == 30
    assert chain.state.contracts.require(purchase.id).buyer_wh == 40


def test_2_4_the_contract_whose_window_ends_first_is_served_first_then_activation_order() -> None:
    """2.4: (height, index) of activation decides among equal ends, not that of the offer."""
    chain = Chain()
    a, b = chain.members[:2]
    slot = chain.time_ms // 1_000 + 4
    early_offer = chain.transaction(
        b, TradeOffer(chain.terms(a, b, start_slot=slot, slots=2, quantity_wh=10))
    )
    long = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot, slots=3, quantity_wh=10)), b)
    first = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot, slots=2, quantity_wh=10)), b)
    second = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot, slots=2, quantity_wh=10)), b)
    chain.block(early_offer, long, first, second)
    chain.block(chain.transaction(a, TradeAccept(early_offer.id)))
    chain.run_to((slot + 1) * 1_000)
    outcome = chain.block(chain.readings(chain.reading(a, slot, 34, counter=1)))
    served = [(e.contract_id, e.allocated_wh) for e in chain.events(SlotAllocated, outcome)]
    assert served == [(first.id, 10), (second.id, 10), (early_offer.id, 10), (long.id, 4)]


def test_2_4_one_kwh_never_fulfils_two_contracts() -> None:
    """2.4: never beyond the open quantity, never more than the register; what nobody bought is left over."""
    chain = Chain()
    a, b, c = chain.members[:3]
    slot = chain.time_ms // 1_000 + 2
    ids = []
    for buyer in (b, c):
        opened = chain.transaction(
            a, TradeOpen(chain.terms(a, buyer, start_slot=slot, quantity_wh=60)), buyer
        )
        ids.append(opened.id)
        chain.block(opened)
    chain.run_to((slot + 1) * 1_000)
    chain.block(chain.readings(chain.reading(a, slot, 100, counter=1)))
    contracts = [chain.state.contracts.require(each) for each in ids]
    assert [contract.seller_wh for contract in contracts] == [60, 40]


def test_2_4_slots_are_allocated_in_ascending_order_each_when_read_or_closed() -> None:
    """2.4: a later slot's reading waits for an earlier one of the window; a closed gap counts as 0."""
    trade = Trade(slots=3, quantity_wh=90)
    chain = trade.chain
    trade.end()
    first = trade.first
    chain.block(chain.readings(chain.reading(trade.seller, first + 2, 30, counter=3)))
    assert trade.contract.seller_wh == 0
    chain.block(chain.readings(chain.reading(trade.seller, first, 20, counter=1)))
    partly = trade.contract.seller_slots
    chain.block(chain.readings(chain.reading(trade.seller, first + 1, 90, counter=2)))
    assert (partly, trade.contract.seller_slots) == ((20, 0, 0), (20, 70, 0))
    other = Trade(slots=3, quantity_wh=90)
    other.end()
    reading = other.chain.reading(other.seller, other.first + 2, 30, counter=3)
    other.chain.block(other.chain.readings(reading))
    settled = other.close()
    assert settled is not None
    assert settled.seller_wh == 30


def test_2_4_slots_without_a_contract_hold_nobody_up() -> None:
    """2.4, safe reading: unread slots before the window do not delay its allocation."""
    trade = Trade(quantity_wh=10)
    trade.chain.run_to(trade.terms.start_ms, 100)
    trade.end()
    assert trade.read([10], [10]) is not None


# ---------------------------------------------------------------- 2.5


def test_2_5_settlement_comes_when_every_slot_is_allocated_on_both_meters() -> None:
    """2.5: in the block of the last reading, not before."""
    trade = Trade(slots=2, quantity_wh=100)
    chain = trade.chain
    trade.end()
    for key, place, sold in ((trade.seller, 0, True), (trade.seller, 1, True), (trade.buyer, 0, False)):
        pair = (50, 0) if sold else (0, 50)
        chain.block(chain.readings(chain.reading(key, trade.first + place, *pair, counter=place + 1)))
        assert not trade.ended()
    last = chain.reading(trade.buyer, trade.first + 1, 0, 50, counter=2)
    chain.block(chain.readings(last))
    assert trade.ended()
    assert trade.states()[-1] is TradeState.SETTLED


SETTLEMENTS = [
    # rule, sold, bought -> delivered, paid for, seller's and buyer's shortfall that is fined
    (BuyerRule.PAY_ACTUAL, 1_000, 1_000, 1_000, 1_000, 0, 0),
    (BuyerRule.PAY_ACTUAL, 2_000, 2_400, 1_000, 1_000, 0, 0),
    (BuyerRule.PAY_ACTUAL, 600, 1_000, 600, 600, 400, 0),
    (BuyerRule.PAY_ACTUAL, 1_000, 700, 700, 700, 0, 300),
    (BuyerRule.PAY_ACTUAL, 600, 700, 600, 600, 400, 300),
    (BuyerRule.PAY_ACTUAL, 0, 0, 0, 0, 1_000, 1_000),
    (BuyerRule.TAKE_OR_PAY, 1_000, 700, 700, 1_000, 0, 0),
    (BuyerRule.TAKE_OR_PAY, 600, 100, 100, 600, 400, 0),
    (BuyerRule.TAKE_OR_PAY, 600, 1_000, 600, 600, 400, 0),
]


@pytest.mark.parametrize(
    ("rule", "sold", "bought", "delivered", "paid_for", "seller_short", "buyer_short"), SETTLEMENTS
)
def test_2_5_payment_penalties_and_energy(
    rule: BuyerRule,
    sold: int,
    bought: int,
    delivered: int,
    paid_for: int,
    seller_short: int,
    buyer_short: int,
) -> None:
    """2.5: both rules; who is short pays the other; the rest of the escrow returns; N of both grows by x."""
    trade = Trade(quantity_wh=1_000, penalty_bp=1_234, buyer_rule=rule)
    trade.end()
    settled = trade.read([sold], [bought])
    assert settled is not None
    seller_penalty = seller_short * PRICE * 1_234 // 10_000
    buyer_penalty = buyer_short * PRICE * 1_234 // 10_000
    assert (settled.delivered_wh, settled.paid_wh, settled.paid) == (delivered, paid_for, paid_for * PRICE)
    assert (settled.seller_penalty, settled.buyer_penalty) == (seller_penalty, buyer_penalty)
    moved = paid_for * PRICE - seller_penalty + buyer_penalty
    assert trade.balances() == (moved, -moved)
    assert trade.chain.totals.escrow == 0
    energies = [trade.chain.account(key).energy_wh for key in (trade.seller, trade.buyer)]
    assert energies == [delivered, delivered]


@pytest.mark.parametrize("rule", list(BuyerRule))
def test_2_5_withholding_readings_buys_nothing(rule: BuyerRule) -> None:
    """2.5: for payment the buyer's missing slots count as the seller's; its N does not grow by them."""
    trade = Trade(quantity_wh=900, slots=3, penalty_bp=0, buyer_rule=rule)
    trade.end()
    trade.read([300, 300, 200], [100, None, None])
    settled = trade.close()
    assert settled is not None
    assert (settled.seller_wh, settled.buyer_wh, settled.delivered_wh) == (800, 100, 100)
    paid_wh = 800 if rule is BuyerRule.TAKE_OR_PAY else 100 + 300 + 200
    assert (settled.paid_wh, settled.paid) == (paid_wh, paid_wh * PRICE)


def test_2_5_a_penalty_is_at_most_the_deposit_and_rounds_down() -> None:
    """2.5: min(shortfall * price * penalty_bp // 10 000, deposit): all of it for a whole shortfall."""
    trade = Trade(quantity_wh=7, penalty_bp=9_999)
    trade.end()
    settled = trade.read([0], [6])
    assert settled is not None
    assert settled.seller_penalty == 7 * PRICE * 9_999 // 10_000
    assert settled.buyer_penalty == 1 * PRICE * 9_999 // 10_000


def test_2_5_the_slot_table_adds_up_to_contract_and_payment() -> None:
    """2.5: contracted q * (j+1) // m - q * j // m; paid = growth of min(seller so far, buyer so far, q)."""
    trade = Trade(quantity_wh=100, slots=3)
    chain = trade.chain
    trade.end()
    chain.block(chain.readings(chain.reading(trade.seller, trade.first, 60, counter=1)))
    view = trade_view(chain.state, chain.parameters, trade.id)
    assert view is not None
    assert [(r.contracted_wh, r.seller_allocated_wh, r.exported_wh, r.paid_wh) for r in view.slots] == [
        (33, 60, 60, None),
        (33, None, None, None),
        (34, None, None, None),
    ]
    trade.read([None, 10, 50], [0, 50, 60])
    assert trade.ended()
    events = [event for outcome in chain.outcomes for r in outcome.receipts for event in r.events]
    rows = slot_table_of_ended(trade.id, trade.terms, 1_000, events)
    assert [row.paid_wh for row in rows] == [0, 50, 50]
    assert [(row.seller_allocated_wh, row.buyer_allocated_wh) for row in rows] == [
        (60, 0),
        (10, 50),
        (30, 50),
    ]
    settled = trade.settlement()
    assert settled is not None
    assert sum(row.paid_wh or 0 for row in rows) == settled.paid_wh == 100


# ---------------------------------------------------------------- 2.6


def test_2_6_at_or_above_the_contract_credit_stays() -> None:
    """2.6: exactly the contracted quantity, or more, on both sides."""
    for sold, bought in ((1_000, 1_000), (1_500, 1_200)):
        trade = Trade(quantity_wh=1_000)
        trade.end()
        assert trade.read([sold], [bought]) is not None
        assert trade.credit() == []


def test_2_6_below_it_each_loses_by_its_own_meter_whatever_the_other_did() -> None:
    """2.6: the seller for generation below, the buyer for consumption below, both for both."""
    for sold, bought in ((999, 1_000), (1_000, 400), (250, 300)):
        trade = Trade(quantity_wh=1_000)
        trade.end()
        trade.read([sold], [bought])
        expected = []
        if sold < 1_000:
            loss = -(-10_000 * (1_000 - sold) // 1_000)
            expected.append((trade.seller.address, CreditReason.SELLER_SHORTFALL, -loss))
        if bought < 1_000:
            loss = -(-10_000 * (1_000 - bought) // 1_000)
            expected.append((trade.buyer.address, CreditReason.BUYER_SHORTFALL, -loss))
        assert trade.credit() == expected


def test_2_6_under_take_or_pay_the_buyers_credit_still_goes_by_its_meter() -> None:
    """2.6: it owes no penalty, but consumed less than it said."""
    trade = Trade(quantity_wh=1_000, buyer_rule=BuyerRule.TAKE_OR_PAY)
    trade.end()
    trade.read([1_000], [400])
    assert trade.credit() == [(trade.buyer.address, CreditReason.BUYER_SHORTFALL, -6_000)]


def test_2_6_any_shortfall_costs_rounded_up_and_splitting_changes_nothing() -> None:
    """2.6: ceil(trade_penalty * shortfall / max(contracted, reference)): 1 Wh of 50 000 costs 1 milli-credit of 0.2."""
    chain = Chain(trade_reference_wh=50_000, trade_penalty=10_000)
    trade = Trade(chain, quantity_wh=1_000)
    trade.end()
    trade.read([999], [500])
    assert trade.credit() == [
        (trade.seller.address, CreditReason.SELLER_SHORTFALL, -1),
        (trade.buyer.address, CreditReason.BUYER_SHORTFALL, -100),
    ]
    whole = Chain(trade_reference_wh=50_000)
    one = Trade(whole, quantity_wh=10_000)
    one.end()
    one.read([0], [10_000])
    split = Chain(trade_reference_wh=50_000)
    seller, buyer = split.members[:2]
    slot = split.time_ms // 1_000 + 2
    terms = split.terms(seller, buyer, quantity_wh=2_500, start_slot=slot)
    split.block(*(split.transaction(seller, TradeOpen(terms), buyer) for _ in range(4)))
    split.run_to((slot + 1) * 1_000)
    split.block(
        split.readings(
            split.reading(seller, slot, 0, counter=1), split.reading(buyer, slot, 0, 10_000, counter=1)
        )
    )
    assert split.account(seller).credit == whole.account(one.seller).credit == 48_000


def test_2_6_credit_does_not_fall_below_0() -> None:
    """2.6, 3.5: the entry shows what was applied after the clamp; what takes nothing makes no entry."""
    chain = Chain(trade_penalty=30_000, candidate_floor=0)
    seller, buyer = chain.members[:2]
    deltas = []
    for _ in range(3):
        trade = Trade(chain, quantity_wh=1_000)
        trade.end()
        assert trade.read([0], [1_000]) is not None
        deltas = [delta for address, _, delta in trade.credit() if address == seller.address]
    assert deltas == [-30_000, -20_000]
    assert (chain.account(seller).credit, chain.account(buyer).credit) == (0, 50_000)
