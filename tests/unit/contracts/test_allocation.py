"""Allocation, deadlines and settlement against the plain model, on seeded random days."""

import random

import pytest

from contracts import deadlines
from contracts.engine import BlockOutcome
from contracts.epoch_state import chain_of
from contracts.receipts import ReadingAccepted, ReasonCode, TradeChanged, TradeState
from contracts.state import SINGLETON
from contracts.transaction import BuyerRule, TradeCancel, TradeOpen, Transaction
from tests.support.chain import Chain
from tests.unit.contracts.trade_model import TradeModel


class RandomDay:
    """Random trades, readings, gaps, cancellations, halts and restarts, mirrored in the model."""

    def __init__(self, seed: int, limit: int) -> None:
        self.random = random.Random(seed)
        self.chain = Chain(members=5, meter_deadline_ms=5_000)
        parameters = self.chain.parameters
        self.model = TradeModel(
            slot_ms=parameters.slot_ms,
            deadline_ms=parameters.meter_deadline_ms,
            limit=limit,
            genesis_slot=self.chain.time_ms // parameters.slot_ms,
            members=[key.address for key in self.chain.members],
        )
        self.unread: list[tuple[int, int]] = []
        self.next_unread = self.model.genesis_slot + 1

    def step(self) -> None:
        """One block of a few random transactions."""
        jump = self.random.choice((200, 500, 500, 900, 1_000, 1_000, 2_500, 9_000))
        at = self.chain.time_ms + jump
        transactions = [self._open() for _ in range(self.random.randrange(4))]
        transactions += self._cancels()
        transactions += self._readings(at)
        outcome = self.chain.block(*transactions, at=at)
        self._mirror(transactions, outcome)
        self.model.end_block(at, chain_of(self.chain.state).chain_ms)
        if self.random.random() < 0.1:
            self.chain.reload()

    def _open(self) -> Transaction:
        seller, buyer = self.random.sample(self.chain.members, 2)
        slots = self.random.choice((1, 1, 2, 3, 6))
        terms = self.chain.terms(
            seller,
            buyer,
            quantity_wh=self.random.randrange(1, 400),
            price=self.random.randrange(10**6),
            start_slot=self.chain.time_ms // 1_000 + self.random.randrange(1, 8),
            slots=slots,
            penalty_bp=self.random.choice((0, 777, 10_000)),
            buyer_rule=self.random.choice(list(BuyerRule)),
        )
        return self.chain.transaction(seller, TradeOpen(terms), buyer)

    def _cancels(self) -> list[Transaction]:
        if not self.model.contracts or self.random.random() < 0.8:
            return []
        contract_id = self.random.choice(sorted(self.model.contracts))
        terms = self.model.contracts[contract_id].terms
        parties = (self.chain.keys[terms.seller], self.chain.keys[terms.buyer])
        return [self.chain.transaction(party, TradeCancel(contract_id)) for party in parties]

    def _readings(self, at: int) -> list[Transaction]:
        while (self.next_unread + 1) * 1_000 <= at:
            self.unread.extend((self.next_unread, index) for index in range(5))
            self.next_unread += 1
        kept, readings = [], []
        for slot, index in self.unread:
            fate = self.random.random()
            if fate < 0.5:
                pair = (self.random.randrange(300), self.random.randrange(300))
                readings.append(self.chain.reading(self.chain.members[index], slot, *pair, counter=slot))
            elif fate < 0.9:
                kept.append((slot, index))
        self.unread = kept
        self.random.shuffle(readings)
        return [self.chain.readings(*readings[i : i + 50]) for i in range(0, len(readings), 50)]

    def _mirror(self, transactions: list[Transaction], outcome: BlockOutcome) -> None:
        for index, (transaction, receipt) in enumerate(zip(transactions, outcome.receipts, strict=False)):
            if receipt.code is not ReasonCode.OK:
                continue
            if isinstance(transaction.payload, TradeOpen):
                self.model.open(transaction.id, transaction.payload.terms, (self.chain.height, index))
            for event in receipt.events:
                if isinstance(event, ReadingAccepted):
                    self.model.read(event.member, event.slot, event.exported_wh, event.imported_wh)
                elif isinstance(event, TradeChanged) and event.state is TradeState.CANCELLED:
                    self.model.cancel(event.contract_id)

    def check(self) -> None:
        """The chain's records are the model's."""
        state, model = self.chain.state, self.model
        assert {
            key: (c.seller_slots, c.buyer_slots, c.state is TradeState.METERING)
            for key, c in state.contracts.items()
        } == {
            key: (tuple(c.seller_slots), tuple(c.buyer_slots), c.metering)
            for key, c in model.contracts.items()
        }
        progress = state.metering.require(SINGLETON)
        assert (progress.running_slot, progress.open_slot) == (model.running_slot, model.open_slot)
        assert {(int.from_bytes(key[:8], "big"), key[8:]) for key in state.readings} == set(model.readings)
        for key in self.chain.members:
            account = self.chain.account(key)
            assert account.balance - self.chain.genesis.founding_balance == model.balances[key.address]
            assert account.energy_wh == model.energy[key.address]
            assert state.meters.require(key.address).next_slot == model.next_slot[key.address]
            mine = [c for c in model.contracts.values() if key.address in (c.terms.seller, c.terms.buyer)]
            assert account.open_contracts == len(mine)
        order = [
            event.contract_id
            for event in self.chain.events(TradeChanged)
            if event.state is TradeState.SETTLED
        ]
        assert order == model.settled


@pytest.mark.parametrize("seed", range(12))
def test_random_days_match_the_plain_model(seed: int) -> None:
    """PROTOCOL 2.4, 2.5, 6.11: every record after every block, across restarts."""
    day = RandomDay(seed, deadlines.MAX_DEADLINES)
    for _ in range(60):
        day.step()
        day.check()
    assert len(day.model.settled) > 30


@pytest.mark.parametrize("seed", range(100, 106))
def test_a_small_deadline_limit_defers_without_changing_the_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6.11: at most the limit in a block, the rest next block."""
    monkeypatch.setattr(deadlines, "MAX_DEADLINES", 2)
    day = RandomDay(seed, 2)
    deferred = 0
    for _ in range(60):
        day.step()
        day.check()
        deferred += len(day.model.due(day.chain.time_ms)) > 0
    assert deferred > 5
