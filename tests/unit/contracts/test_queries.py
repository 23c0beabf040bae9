"""What the API tells about trades (PROTOCOL 2.5)."""

import pytest

from contracts.queries import quote, slot_table, slot_table_of_ended, trade_view
from contracts.receipts import TradeState
from contracts.transaction import BuyerRule, TradeAccept, TradeCancel, TradeOffer, TradeOpen
from tests.support.chain import Chain


def test_an_offer_shows_its_terms_and_holds_nothing() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, slots=2, quantity_wh=9)
    offer = chain.transaction(b, TradeOffer(terms))
    chain.block(offer)
    view = trade_view(chain.state, chain.parameters, offer.id)
    assert view is not None
    assert (view.state, view.terms, view.offerer, view.escrow) == (TradeState.OFFERED, terms, b.address, 0)
    assert [(row.contracted_wh, row.seller_allocated_wh, row.paid_wh) for row in view.slots] == [
        (4, None, None),
        (5, None, None),
    ]


def test_a_contract_shows_escrow_registers_and_allocations() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, slots=3, quantity_wh=90, price=100, penalty_bp=1_000)
    opened = chain.transaction(a, TradeOpen(terms), b)
    chain.block(opened)
    first = terms.start_ms // 1_000
    chain.receipt(a, TradeCancel(opened.id))
    chain.run_to((first + 3) * 1_000)
    chain.block(
        chain.readings(
            chain.reading(a, first, 70, counter=1),
            chain.reading(a, first + 1, 70, counter=2),
            chain.reading(b, first, 0, 50, counter=1),
            chain.reading(b, first + 2, 0, 33, counter=3),
        )
    )
    view = trade_view(chain.state, chain.parameters, opened.id)
    assert view is not None
    assert (view.state, view.escrow, view.cancelled_by) == (TradeState.METERING, 9_000 + 2 * 900, a.address)
    assert (view.seller_wh, view.buyer_wh) == (90, 50)
    rows = [
        (r.exported_wh, r.seller_allocated_wh, r.imported_wh, r.buyer_allocated_wh, r.paid_wh)
        for r in view.slots
    ]
    assert rows == [(70, 70, 50, 50, 50), (70, 20, None, None, None), (None, None, 33, None, None)]


def test_an_ended_trade_is_unknown_to_the_state_and_told_by_its_events() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, slots=2, quantity_wh=100)
    offer = chain.transaction(a, TradeOffer(terms))
    chain.block(offer)
    chain.block(chain.transaction(b, TradeAccept(offer.id)))
    first = terms.start_ms // 1_000
    chain.run_to((first + 2) * 1_000)
    chain.block(
        chain.readings(chain.reading(a, first, 80, counter=1), chain.reading(b, first + 1, 0, 90, counter=1))
    )
    chain.run_until(lambda: offer.id not in chain.state.contracts)
    assert trade_view(chain.state, chain.parameters, offer.id) is None
    events = [event for outcome in chain.outcomes for r in outcome.receipts for event in r.events]
    rows = slot_table_of_ended(offer.id, terms, 1_000, events)
    assert [
        (r.exported_wh, r.seller_allocated_wh, r.imported_wh, r.buyer_allocated_wh, r.paid_wh) for r in rows
    ] == [(80, 80, None, 0, 80), (None, 0, 90, 90, 0)]


@pytest.mark.parametrize(("quantity_wh", "slots"), [(1, 96), (7, 3), (10**9, 96), (96, 96), (100, 1)])
def test_contracted_slots_add_up_to_the_quantity(quantity_wh: int, slots: int) -> None:
    """2.5: q * (j+1) // m - q * j // m: as even as whole Wh allow."""
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, quantity_wh=quantity_wh, slots=slots)
    nothing = [None] * slots
    parts = [row.contracted_wh for row in slot_table(terms, 1_000, (nothing, nothing), (nothing, nothing))]
    assert sum(parts) == quantity_wh
    assert max(parts) - min(parts) <= 1


def test_take_or_pay_pays_the_sellers_allocation_slot_by_slot() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, quantity_wh=100, slots=2, buyer_rule=BuyerRule.TAKE_OR_PAY)
    rows = slot_table(terms, 1_000, ([60, 40], [0, 10]), ([60, 40], [0, 10]))
    assert [row.paid_wh for row in rows] == [60, 40]


def test_a_quote_names_escrow_and_worst_credit_loss() -> None:
    chain = Chain(trade_reference_wh=5_000, trade_penalty=10_000)
    a, b = chain.members[:2]
    terms = chain.terms(a, b, quantity_wh=1_000, price=300, penalty_bp=500)
    told = quote(terms, chain.parameters)
    assert (told.value, told.buyer_escrow, told.seller_escrow) == (300_000, 315_000, 15_000)
    assert (told.seller_worst_credit, told.buyer_worst_credit) == (2_000, 2_000)
    chain.block(chain.transaction(a, TradeOpen(terms), b))
    assert chain.account(b).balance == 10**15 - told.buyer_escrow
    assert chain.account(a).balance == 10**15 - told.seller_escrow
