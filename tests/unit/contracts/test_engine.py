"""The engine: order of a block's steps, the registry, invariants, genesis (PROTOCOL 6.11, 12)."""

import msgspec
import pytest

from consensus.errors import InvalidGenesis, InvariantViolation
from contracts import engine
from contracts.conservation import check_conservation
from contracts.context import OK, BlockContext, Result
from contracts.engine import HANDLERS, apply_block, genesis_state
from contracts.genesis import Admission, check_genesis, sign_registration
from contracts.receipts import MoneyIssued, ReadingAccepted, ReasonCode, TradeChanged, TradeState
from contracts.state import SINGLETON, State
from contracts.transaction import (
    PAYLOAD_TYPES,
    Readings,
    TradeDecline,
    TradeOffer,
    TradeOpen,
    Transaction,
    TransactionType,
    Transfer,
)
from tests.support.chain import VERIFIER, Chain, Key


def test_every_transaction_type_has_a_contract() -> None:
    assert set(HANDLERS) == set(TransactionType) == set(PAYLOAD_TYPES)


def test_transactions_run_in_order_on_what_the_ones_before_left() -> None:
    chain = Chain(balance=10)
    a, b, c = chain.members[:3]
    moves = [
        chain.transaction(b, Transfer(c.address, 15)),
        chain.transaction(a, Transfer(b.address, 10)),
        chain.transaction(b, Transfer(c.address, 20)),
    ]
    codes = [receipt.code for receipt in chain.block(*moves).receipts[:3]]
    assert codes == [ReasonCode.BALANCE_TOO_LOW, ReasonCode.OK, ReasonCode.OK]


def test_deadlines_run_after_transactions_by_due_then_activation() -> None:
    """6.11 (4): an offer's expiry, windows' starts and ends in one order, after a halt that brings all of them."""
    chain = Chain()
    a, b = chain.members[:2]
    slot = chain.time_ms // 1_000 + 2
    late_offer = chain.transaction(a, TradeOffer(chain.terms(a, b, start_slot=slot + 5)))
    later = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot + 1)), b)
    first = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot)), b)
    second = chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot)), b)
    chain.block(late_offer, later, first, second)
    readings = [chain.reading(key, s, 5_000, 5_000, counter=s) for s in (slot, slot + 1) for key in (a, b)]
    outcome = chain.block(chain.readings(*readings), at=(slot + 60) * 1_000)
    assert len(outcome.receipts[0].rejections) == 0
    changes = [(e.contract_id, e.state) for e in outcome.receipts[-1].events if isinstance(e, TradeChanged)]
    assert changes == [
        (first.id, TradeState.METERING),
        (second.id, TradeState.METERING),
        (later.id, TradeState.METERING),
        (first.id, TradeState.SETTLED),
        (second.id, TradeState.SETTLED),
        (later.id, TradeState.SETTLED),
        (late_offer.id, TradeState.EXPIRED),
    ]


def test_the_blocks_own_receipt_begins_with_what_came_before_the_transactions() -> None:
    """Steps 1 and 2, then 4 to 6, in one receipt, the last."""
    chain = Chain()
    a, b = chain.members[:2]
    outcome = chain.block(chain.transaction(a, Transfer(b.address, 1)), view=1)
    assert len(outcome.receipts) == 2
    assert outcome.receipts[1].transaction_id == bytes(32)


def test_a_contract_that_rejects_and_leaves_events_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(state: State, context: BlockContext, transaction: Transaction) -> Result:
        context.emit(MoneyIssued(transaction.sender, 1))
        return Result(ReasonCode.BALANCE_TOO_LOW)

    monkeypatch.setattr(engine, "HANDLERS", {**HANDLERS, TransactionType.TRANSFER: careless})
    chain = Chain()
    a, b = chain.members[:2]
    with pytest.raises(InvariantViolation, match="left events behind"):
        chain.receipt(a, Transfer(b.address, 1))


@pytest.mark.parametrize("field", ["balance", "energy_wh", "left_height"])
def test_a_contract_that_makes_money_energy_or_members_stops_the_node(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: what the changed accounts add up to must be what the totals moved by."""

    def minting(state: State, context: BlockContext, transaction: Transaction) -> Result:
        account = state.accounts.require(transaction.sender)
        changed = msgspec.structs.replace(account, **{field: (getattr(account, field) or 0) + 1})
        state.accounts.put(transaction.sender, changed)
        return OK

    monkeypatch.setattr(engine, "HANDLERS", {**HANDLERS, TransactionType.TRANSFER: minting})
    chain = Chain()
    a, b = chain.members[:2]
    with pytest.raises(InvariantViolation, match="moved by"):
        chain.receipt(a, Transfer(b.address, 1))


def test_a_contract_that_drops_escrow_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """S7: escrow is what the contracts in force hold."""
    chain = Chain()
    a, b = chain.members[:2]
    opened = chain.transaction(a, TradeOpen(chain.terms(a, b)), b)
    chain.block(opened)

    def dropping(state: State, context: BlockContext, transaction: Transaction) -> Result:
        state.contracts.delete(opened.id)
        return OK

    monkeypatch.setattr(engine, "HANDLERS", {**HANDLERS, TransactionType.TRANSFER: dropping})
    with pytest.raises(InvariantViolation, match="moved by"):
        chain.receipt(a, Transfer(b.address, 1))


def test_totals_that_do_not_balance_stop_the_node() -> None:
    chain = Chain()
    totals = chain.totals
    chain.state.totals.put(SINGLETON, msgspec.structs.replace(totals, issued=1))
    with pytest.raises(InvariantViolation, match="balances and escrow"):
        check_conservation(chain.state, totals)


def test_apply_block_wants_every_transaction() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    block = chain.make_block(chain.transaction(a, Transfer(b.address, 1)))
    with pytest.raises(InvariantViolation):
        apply_block(chain.state, block, (), genesis=chain.genesis, chain_id=chain.chain_id, verifier=VERIFIER)


def test_changes_are_what_a_store_must_write() -> None:
    """Storing every outcome's changes over the genesis entries gives the state, deletions included."""
    chain = Chain()
    a, b = chain.members[:2]
    entries = dict(chain.state.entries())
    opened = chain.transaction(a, TradeOpen(chain.terms(a, b)), b)
    chain.block(opened)
    chain.run_until(lambda: opened.id not in chain.state.contracts, step_ms=900)
    deleted = 0
    for outcome in chain.outcomes:
        for key, value in outcome.changes.items():
            if value is None:
                del entries[key]
                deleted += 1
            else:
                entries[key] = value
    assert entries == dict(chain.state.entries())
    assert deleted > 0


def test_a_record_made_and_removed_in_one_block_is_no_change() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    terms = chain.terms(a, b, expiry_ms=chain.time_ms + 101)
    offer = chain.transaction(a, TradeOffer(terms))
    answer = chain.transaction(b, TradeDecline(offer.id))
    outcome = chain.block(offer, answer)
    assert [receipt.code for receipt in outcome.receipts] == [ReasonCode.OK] * 3
    assert bytes([8]) + offer.id not in outcome.changes


def test_the_same_blocks_give_the_same_roots() -> None:
    """S6: two replicas, one of them restarted now and then."""
    one, two = Chain(), Chain()
    a, b = one.members[:2]
    for number in range(40):
        transactions = []
        if number % 5 == 0:
            terms = one.terms(a, b, slots=1 + number % 3)
            transactions.append(one.transaction(a, TradeOpen(terms), b))
        if number % 7 == 3:
            slot = one.time_ms // 1_000 - 1
            reading = one.reading(a, slot, 700, counter=slot)
            transactions.append(one.transaction(b, Readings((reading,))))
        first, second = one.block(*transactions, after_ms=400), two.block(*transactions, after_ms=400)
        assert (first.state_root, first.receipts_root) == (second.state_root, second.receipts_root)
        if number % 9 == 0:
            two.reload()
    assert len(one.events(ReadingAccepted)) > 3


# ---------------------------------------------------------------- genesis


def test_a_genesis_that_breaks_a_rule_is_refused() -> None:
    good = Chain(operators=2).genesis
    twice = good.members[0]
    key = Key(1).public_key
    cases = (
        ({"version": 2}, "version"),
        ({"members": ()}, "no members"),
        ({"members": (twice, *good.members)}, "address order"),
        ({"members": good.members[::-1]}, "address order"),
        ({"operators": tuple(Key(i + 1).public_key for i in range(17))}, "more than 16"),
        ({"operators": (key, key)}, "twice"),
        ({"operators": (bytes(32),), "operator_threshold": 1}, "operator key"),
        ({"operator_threshold": 3}, "exceeds the number"),
        ({"operator_threshold": 0}, "at least 1"),
        ({"operators": (), "operator_threshold": 0, "admission": Admission.INVITED}, "needs operators"),
        ({"founding_balance": 10**18 + 1}, "10\\^18"),
        ({"parameters": msgspec.structs.replace(good.parameters, alpha=10**6)}, "alpha"),
    )
    for change, text in cases:
        broken = msgspec.structs.replace(good, **change)
        with pytest.raises(InvalidGenesis, match=text):
            check_genesis(broken, VERIFIER)
        with pytest.raises(InvalidGenesis, match=text):
            genesis_state(broken, VERIFIER)


def test_two_founders_cannot_share_a_meter() -> None:
    chain = Chain()
    first, second = chain.members[:2]
    shared = chain.meters[first.address].public_key
    copy = sign_registration("test", second, shared, 100)
    members = (chain.genesis.members[0], copy, *chain.genesis.members[2:])
    with pytest.raises(InvalidGenesis, match="share a meter"):
        check_genesis(msgspec.structs.replace(chain.genesis, members=members), VERIFIER)
