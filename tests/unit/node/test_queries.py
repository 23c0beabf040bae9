"""Reads of the ledger: lists in pages, histories, trades after their end, epochs, proofs (LESSONS 14, 19)."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from consensus.ed25519 import Ed25519Verifier
from contracts.epoch_state import chain_of
from contracts.receipts import CreditReason, EpochPhase, TradeState
from contracts.transaction import TradeAccept, TradeOffer, TradeOpen, TradeWithdraw, Transfer
from node.keystore import KeyPair
from node.proofs import LedgerProver
from node.queries import LedgerQueries
from node.service import InvalidCursor, Page, TransactionState, UnknownResource
from tests.unit.node.ledger_chain import LedgerChain

T = TypeVar("T")


@pytest.fixture
def chain(tmp_path: Path) -> LedgerChain:
    return LedgerChain(tmp_path / "ledger")


@pytest.fixture
def queries(chain: LedgerChain) -> LedgerQueries:
    return LedgerQueries(chain.ledger)


def all_pages(page: Callable[[str | None], Page[T]]) -> list[T]:
    """Every item of a list, page by page; each page must bring something new."""
    found: list[T] = []
    cursor: str | None = None
    for _ in range(200):
        answer = page(cursor)
        found.extend(answer.items)
        cursor = answer.next_cursor
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


def open_trade(chain: LedgerChain, seller: KeyPair, buyer: KeyPair, **terms: int) -> bytes:
    raw = chain.transaction(TradeOpen(chain.terms(seller, buyer, **terms)), seller, buyer)
    chain.decide(raw)
    return chain.id_of(raw)


def settle(chain: LedgerChain, seller: KeyPair, buyer: KeyPair, sold: int, bought: int) -> bytes:
    """A trade of two slots and 1 000 Wh, metered and settled."""
    trade_id = open_trade(chain, seller, buyer)
    location = chain.ledger.locate(trade_id)
    assert location is not None
    assert location.terms is not None
    first = location.terms.start_ms // 1_000
    chain.pass_ms(4_500)
    chain.decide(
        chain.readings(seller, first, [(sold - sold // 2, 0), (sold // 2, 0)]),
        chain.readings(buyer, first, [(0, bought - bought // 2), (0, bought // 2)]),
    )
    chain.decide()
    return trade_id


def test_members_come_in_pages_in_address_order(chain: LedgerChain, queries: LedgerQueries) -> None:
    found = all_pages(lambda cursor: queries.members(cursor, 3))
    assert [member.address for member in found] == [member.address for member in chain.members]
    assert found[0].balance == chain.genesis.founding_balance
    assert sorted(member.seat for member in found if member.seat is not None) == [0, 1, 2, 3]
    assert queries.members(None, 3).at == queries.position()


def test_member_view_follows_the_state(chain: LedgerChain, queries: LedgerQueries) -> None:
    first, second = chain.members[:2]
    chain.decide(chain.transaction(Transfer(second.address, 77), first))
    member = queries.member(second.address).member
    assert member.balance == chain.genesis.founding_balance + 77
    assert member.max_power_w == 100_000
    assert member.group is not None
    with pytest.raises(UnknownResource):
        queries.member(bytes(20))


@pytest.mark.parametrize("limit", [0, 101, -1])
def test_page_size_has_limits(queries: LedgerQueries, limit: int) -> None:
    with pytest.raises(InvalidCursor, match="100"):
        queries.blocks(None, limit)


@pytest.mark.parametrize("cursor", ["zz", "00", "00" * 21, ""])
def test_cursor_that_nobody_gave_out_is_refused(
    chain: LedgerChain, queries: LedgerQueries, cursor: str
) -> None:
    address = chain.members[0].address
    lists: list[Callable[[], object]] = [
        lambda: queries.blocks(cursor),
        lambda: queries.members(cursor),
        lambda: queries.trades(cursor=cursor),
        lambda: queries.credit_history(address, cursor),
        lambda: queries.delegate_changes(cursor=cursor),
    ]
    for ask in lists:
        with pytest.raises(InvalidCursor):
            ask()


def test_blocks_are_listed_newest_first(chain: LedgerChain, queries: LedgerQueries) -> None:
    for _ in range(7):
        chain.decide()
    found = all_pages(lambda cursor: queries.blocks(cursor, 3))
    assert [block.height for block in found] == [7, 6, 5, 4, 3, 2, 1]
    assert found[0].hash == chain.ledger.block_hash
    assert queries.blocks(queries.blocks(None, 7).next_cursor, 7).items == queries.blocks(None, 7).items


def test_block_with_receipts(chain: LedgerChain, queries: LedgerQueries) -> None:
    raw = chain.transaction(Transfer(chain.members[1].address, 1), chain.members[0])
    applied = chain.decide(raw)
    answer = queries.block(1)
    assert answer.transaction_ids == (chain.id_of(raw),)
    assert answer.receipts == applied.receipts
    for height in (0, 2, -1, 2**70):
        with pytest.raises(UnknownResource):
            queries.block(height)
        with pytest.raises(UnknownResource):
            queries.certificate(height)
        with pytest.raises(UnknownResource):
            queries.certified_block(height)


def test_trade_before_metering(chain: LedgerChain, queries: LedgerQueries) -> None:
    seller, buyer = chain.members[:2]
    trade_id = open_trade(chain, seller, buyer)
    trade = queries.trade(trade_id)
    assert trade.state is TradeState.ACTIVE
    assert trade.escrow == 1_000 * 100 + 2 * 10_000
    assert [slot.contracted_wh for slot in trade.slots] == [500, 500]
    assert all(slot.seller_allocated_wh is None and slot.paid_wh is None for slot in trade.slots)
    assert [change.state for change in trade.history] == [TradeState.ACTIVE]


@pytest.mark.parametrize(
    ("sold", "bought", "seller_loses", "buyer_loses"),
    [
        (1_000, 1_000, False, False),
        (600, 1_000, True, False),
        (1_000, 700, False, True),
        (500, 400, True, True),
    ],
)
def test_settled_trade_is_served_from_the_ledger(
    chain: LedgerChain, queries: LedgerQueries, sold: int, bought: int, seller_loses: bool, buyer_loses: bool
) -> None:
    seller, buyer = chain.members[:2]
    trade_id = settle(chain, seller, buyer, sold, bought)
    assert trade_id not in chain.ledger.state.contracts
    chain.reopen()
    trade = LedgerQueries(chain.ledger).trade(trade_id)
    assert [change.state for change in trade.history] == [
        TradeState.ACTIVE,
        TradeState.METERING,
        TradeState.SETTLED,
    ]
    assert trade.escrow == 0
    assert trade.settlement is not None
    assert (trade.settlement.seller_wh, trade.settlement.buyer_wh) == (sold, bought)
    assert sum(slot.seller_allocated_wh or 0 for slot in trade.slots) == sold
    assert sum(slot.buyer_allocated_wh or 0 for slot in trade.slots) == bought
    assert sum(slot.paid_wh or 0 for slot in trade.slots) == min(sold, bought)
    assert all(slot.seller_read and slot.buyer_read for slot in trade.slots)
    assert sum(slot.seller_metered_wh or 0 for slot in trade.slots) == sold
    assert (trade.seller_credit_delta < 0, trade.buyer_credit_delta < 0) == (seller_loses, buyer_loses)


def test_credit_history_names_reasons_newest_first(chain: LedgerChain, queries: LedgerQueries) -> None:
    seller, buyer = chain.members[:2]
    settle(chain, seller, buyer, 600, 1_000)
    settle(chain, seller, buyer, 800, 1_000)
    found = all_pages(lambda cursor: queries.credit_history(seller.address, cursor, 1))
    shortfalls = [entry for entry in found if entry.reason is CreditReason.SELLER_SHORTFALL]
    assert [entry.delta for entry in shortfalls] == [-2_000, -4_000]
    assert [entry.height for entry in found] == sorted((entry.height for entry in found), reverse=True)
    assert found[0].credit == chain.ledger.state.accounts.require(seller.address).credit
    with pytest.raises(UnknownResource):
        queries.credit_history(bytes(20))


def test_trades_by_party_and_state(chain: LedgerChain, queries: LedgerQueries) -> None:
    a, b, c = chain.members[:3]
    first = open_trade(chain, a, b, start_in_ms=900_000)
    offer = chain.transaction(TradeOffer(chain.terms(b, c, start_in_ms=900_000)), b)
    other = chain.transaction(TradeOffer(chain.terms(b, a, start_in_ms=900_000)), b)
    chain.decide(offer, other)
    chain.decide(
        chain.transaction(TradeAccept(chain.id_of(offer)), c),
        chain.transaction(TradeWithdraw(chain.id_of(other)), b),
    )
    last = open_trade(chain, c, a, start_in_ms=900_000)
    everything = [last, chain.id_of(other), chain.id_of(offer), first]
    for limit in (1, 2, 4, 30):
        found = all_pages(lambda cursor, limit=limit: queries.trades(cursor=cursor, limit=limit))  # type: ignore[misc]
        assert [trade.id for trade in found] == everything
    of_c = all_pages(lambda cursor: queries.trades(party=c.address, cursor=cursor, limit=1))
    assert [trade.id for trade in of_c] == [last, chain.id_of(offer)]
    active = queries.trades(state=TradeState.ACTIVE).items
    assert [trade.id for trade in active] == [last, chain.id_of(offer), first]
    withdrawn = queries.trades(party=a.address, state=TradeState.WITHDRAWN).items
    assert [trade.id for trade in withdrawn] == [chain.id_of(other)]
    assert [c.state for c in queries.trade(chain.id_of(offer)).history] == [
        TradeState.OFFERED,
        TradeState.ACTIVE,
    ]


def test_filtered_page_looks_at_a_bounded_number_of_rows(
    chain: LedgerChain, queries: LedgerQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.trade_queries.MAX_LOOKED_AT", 2)
    ids = [open_trade(chain, *chain.members[:2], start_in_ms=900_000) for _ in range(5)]
    page = queries.trades(state=TradeState.SETTLED)
    assert page.items == ()
    assert page.next_cursor is not None
    assert all_pages(lambda cursor: queries.trades(state=TradeState.SETTLED, cursor=cursor)) == []
    found = all_pages(lambda cursor: queries.trades(state=TradeState.ACTIVE, cursor=cursor))
    assert [trade.id for trade in found] == ids[::-1]


def test_unknown_and_rejected_trades_do_not_exist(chain: LedgerChain, queries: LedgerQueries) -> None:
    a, b = chain.members[:2]
    past = chain.transaction(TradeOpen(chain.terms(a, b, start_in_ms=0)), a, b)
    chain.decide(past)
    for trade_id in (chain.id_of(past), bytes(32)):
        with pytest.raises(UnknownResource):
            queries.trade(trade_id)
    assert queries.trades().items == ()


def test_quote_is_what_a_trade_binds(chain: LedgerChain, queries: LedgerQueries) -> None:
    a, b = chain.members[:2]
    quote = queries.quote(chain.terms(a, b))
    trade = queries.trade(open_trade(chain, a, b))
    assert quote.buyer_escrow + quote.seller_escrow == trade.escrow


def test_rejected_transaction_says_why(chain: LedgerChain, queries: LedgerQueries) -> None:
    a, b = chain.members[:2]
    raw = chain.transaction(Transfer(b.address, 10**18), a)
    chain.decide(raw)
    status = queries.decided_status(chain.id_of(raw), proof=False)
    assert status is not None
    assert (status.state, status.reason, status.height, status.index) == (
        TransactionState.REJECTED,
        "balance_too_low",
        1,
        0,
    )
    assert status.raw == raw


def run_an_epoch(chain: LedgerChain) -> None:
    epoch = chain_of(chain.ledger.state).epoch
    for _ in range(400):
        if chain_of(chain.ledger.state).epoch > epoch:
            return
        chain.decide()
    raise AssertionError("the epoch does not end")


def test_epochs_tell_their_heights_groups_and_tallies(chain: LedgerChain, queries: LedgerQueries) -> None:
    run_an_epoch(chain)
    run_an_epoch(chain)
    zero, one, two = (queries.epoch(number) for number in range(3))
    assert (zero.first_height, zero.phase) == (1, None)
    assert zero.closing_height is not None
    assert one.first_height == zero.closing_height + 1
    assert zero.snapshot_height is not None
    assert zero.snapshot_height < zero.closing_height
    assert one.members == tuple(member.address for member in chain.members)
    assert len(one.assignment) == 4
    assert {tally.group for tally in one.tallies} == set(range(4))
    assert sorted(one.delegates) == sorted(one.members)
    assert two.phase is EpochPhase.RUNNING
    assert queries.current_epoch() == 2
    with pytest.raises(UnknownResource, match="the current one is 2"):
        queries.epoch(9)
    groups = queries.groups()
    assert groups.epoch == 2
    assert sorted(address for group in groups.groups for address in group.members) == list(two.members)


def test_client_follows_the_links_and_checks_a_receipt(chain: LedgerChain, queries: LedgerQueries) -> None:
    """PROTOCOL 9.5, 10.1: from the genesis alone."""
    run_an_epoch(chain)
    raw = chain.transaction(Transfer(chain.members[1].address, 3), chain.members[0])
    chain.decide(raw)
    unproven = queries.decided_status(chain.id_of(raw), proof=True)
    assert unproven is not None
    assert unproven.proof is None
    chain.decide()
    status = queries.decided_status(chain.id_of(raw), proof=True)
    assert status is not None
    assert status.proof is not None
    assert status.receipt is not None
    prover = LedgerProver(chain.genesis, Ed25519Verifier())
    for link in all_pages(lambda cursor: queries.delegate_changes(cursor=cursor, limit=1)):
        prover.add_link(link.certified.header, link.certified.certificate, link.next_delegates)
    proof = status.proof
    proven = prover.check_receipt(
        status.receipt, proof.receipt_path, proof.header, proof.next.header, proof.next.certificate
    )
    assert (proven.height, proven.index) == (status.height, 0)


def test_delegates_of_every_height(chain: LedgerChain, queries: LedgerQueries) -> None:
    run_an_epoch(chain)
    for height in range(1, chain.ledger.height + 1):
        answer = queries.delegates(height)
        assert answer.set_hash == queries.certificate(height).certified.header.delegates_hash
        assert answer.primary == queries.certificate(height).certified.header.proposer
    following = queries.delegates()
    assert following.height == chain.ledger.height + 1
    assert following.set_hash == chain.ledger.context.delegates.hash()
    assert queries.delegates(chain.ledger.height + 2).set_hash == chain.ledger.context.next_delegates.hash()
    for height in (0, chain.ledger.height + 3):
        with pytest.raises(UnknownResource):
            queries.delegates(height)


def test_events_resume_inside_a_block_without_gap_or_duplicate(
    chain: LedgerChain, queries: LedgerQueries
) -> None:
    a, b = chain.members[:2]
    chain.decide(*(chain.transaction(Transfer(b.address, n), a) for n in range(1, 4)))
    whole = queries.block_events(1)
    assert [record.sequence for record in whole.records] == list(range(len(whole.records)))
    assert len({record.transaction_id for record in whole.records}) == 3
    for cut in range(len(whole.records)):
        assert queries.block_events(1, cut).records == whole.records[cut + 1 :]
