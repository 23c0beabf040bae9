"""PROTOCOL 0: block time and chain time."""

import pytest

from contracts.epoch_state import chain_of
from contracts.receipts import EpochPhase, ReasonCode, TradeChanged, TradeState
from contracts.transaction import Readings, TradeOffer, Transfer
from contracts.validation import InvalidReason, InvalidTransaction
from tests.support.chain import Chain


def test_0_1_transactions_check_header_time_never_a_clock() -> None:
    """0.1: the same transaction fits a block or not by the header's time alone."""
    chain = Chain()
    a, b = chain.members[:2]
    transaction = chain.transaction(
        a, Transfer(b.address, 1), valid_from_ms=chain.time_ms + 50, valid_until_ms=chain.time_ms + 60
    )
    for at, reason in ((49, InvalidReason.NOT_YET_VALID), (61, InvalidReason.EXPIRED)):
        with pytest.raises(InvalidTransaction) as caught:
            chain.validate((transaction,), (), chain.time_ms + at)
        assert caught.value.reason is reason
    outcome = chain.block(transaction, at=chain.time_ms + 50)
    assert outcome.receipts[0].code is ReasonCode.OK


def test_0_2_chain_time_follows_block_time_up_to_two_empty_block_intervals() -> None:
    """0.2: chain_ms(h) = chain_ms(h-1) + min(time(h) - time(h-1), 2 * empty_block_interval_ms)."""
    chain = Chain(empty_block_interval_ms=500)
    steps = ((1, 1), (999, 1_000), (1_000, 2_000), (1_001, 3_000), (86_400_000, 4_000))
    for after_ms, chain_ms in steps:
        chain.block(after_ms=after_ms)
        assert chain_of(chain.state).chain_ms == chain_ms


def test_0_2_a_halt_robs_nobody_of_a_reading() -> None:
    """0.2: meter deadlines run on chain time: after a halt longer than the deadline the slot is still open."""
    chain = Chain()
    seller, buyer = chain.members[:2]
    slot = chain.time_ms // 1_000 + 1
    chain.block(at=(slot + 1) * 1_000)
    chain.block(after_ms=100 * chain.parameters.meter_deadline_ms)
    late = Readings((chain.reading(seller, slot, 5, counter=1),))
    assert chain.receipt(buyer, late).code is ReasonCode.OK


def test_0_2_epoch_phases_run_on_chain_time() -> None:
    """0.2: a day's halt does not end the running phase; chain time does."""
    chain = Chain()
    chain.block(after_ms=86_400_000)
    assert chain_of(chain.state).phase is EpochPhase.RUNNING
    assert chain_of(chain.state).chain_ms < chain.parameters.run_ms
    chain.run_until(lambda: chain_of(chain.state).chain_ms >= chain.parameters.run_ms)
    assert chain_of(chain.state).phase is EpochPhase.PLANNING


def test_0_2_delivery_windows_and_offer_expiry_run_on_block_time() -> None:
    """0.2: after a halt the window begins and the offer expires at once, though chain time moved by a second."""
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, start_slot=chain.time_ms // 1_000 + 600)
    offer = chain.transaction(a, TradeOffer(terms))
    chain.block(offer)
    outcome = chain.block(at=terms.start_ms)
    expired = TradeChanged(offer.id, TradeState.EXPIRED, a.address, b.address)
    assert outcome.receipts[-1].events == (expired,)
