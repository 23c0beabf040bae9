"""Checking a proposal beside the replica: gathering, judging, complaining (PROTOCOL 6.4, 6.7, 6.8)."""

from collections.abc import AsyncIterator, Container
from pathlib import Path

import msgspec
import pytest

from consensus.block import Block, full_hash, transactions_root
from consensus.effects import CheckProposal
from consensus.messages import PrePrepareVote, Proposal, sign_vote
from contracts.transaction import Transaction, Transfer, decode_transaction
from network.wire import TransactionsRequest, TransactionsResponse
from node import proposals as proposals_module
from node.mempool import Entry, Mempool, PoolLimits
from node.proposals import CheckedProposal, ProposalChecks
from node.verification import SignatureChecks
from tests.unit.node.fake_links import FakeClock, FakeLinks
from tests.unit.node.ledger_chain import LedgerChain
from tests.unit.node.test_intake import check_by


class Bench:
    """Proposal checks on a real ledger and pool, the delegates' keys as peers."""

    def __init__(self, path: Path) -> None:
        self.chain = LedgerChain(path)
        ledger = self.chain.ledger
        self.others = [d.public_key for d in ledger.context.delegates][1:]
        self.own = ledger.context.delegates.ranking[0].public_key
        self.links = FakeLinks(*self.others)
        self.clock = FakeClock(ledger.time_ms)
        self.pool = Mempool(PoolLimits(100, 10**6, 100), ledger.is_member)
        self.answers: list[CheckedProposal] = []
        self.left_out: list[tuple[Container[bytes], int]] = []
        self.checks = SignatureChecks(check_by(self.chain), 1, self._failed)
        self.proposals = ProposalChecks(
            ledger=ledger,
            pool=self.pool,
            checks=self.checks,
            links=self.links,
            clock=self.clock,
            own_key=self.own,
            answer=self.answers.append,
            on_left_out=lambda included, before_ms: self.left_out.append((included, before_ms)),
        )

    @staticmethod
    def _failed(error: BaseException) -> None:
        raise error

    def transfer(self, amount: int = 1, window: tuple[int, int] | None = None) -> bytes:
        return self.chain.transaction(
            Transfer(self.chain.members[1].address, amount), self.chain.members[0], window=window
        )

    def pooled(self, raw: bytes) -> Transaction:
        entry = self.pool.begin(decode_transaction(raw), self.clock.monotonic_ms)
        assert isinstance(entry, Entry)
        assert self.pool.admit(entry)
        return entry.transaction

    def effect(self, *raws: bytes, known: Block | None = None) -> CheckProposal:
        block = self.chain.block(raws).block
        references = tuple(full_hash(raw) for raw in raws)
        header = msgspec.structs.replace(block.header, transactions_root=transactions_root(references))
        signer = next(k for k in self.chain.members if k.public_key == self.others[0])
        vote = sign_vote(
            PrePrepareVote, self.chain.ledger.chain_id, 0, header.height, 0, header.digest(), signer
        )
        assert isinstance(vote, PrePrepareVote)
        proposal = Proposal(vote, header, references, block.last_commit, ())
        return CheckProposal(proposal, self.others[0], self.clock.monotonic_ms, known)

    async def settle(self) -> None:
        await self.checks.check([])
        while self.checks.waiting:
            await self.checks.check([])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "ledger")
    yield made
    made.proposals.entered_height()
    made.checks.close()


async def test_what_the_pool_holds_is_checked_at_once(bench: Bench) -> None:
    raws = [bench.transfer(n) for n in range(1, 5)]
    for raw in raws:
        bench.pooled(raw)
    bench.proposals.check(bench.effect(*raws))
    [answer] = bench.answers
    assert answer.block is not None
    assert answer.block.transactions == tuple(raws)
    assert (answer.reason, answer.overlooked, bench.links.sent) == (None, (), [])
    assert bench.proposals.transactions_of(answer.digest, answer.block) == [
        bench.pool.by_reference(full_hash(raw)) for raw in raws
    ]


async def test_missing_bytes_are_asked_from_the_sender_then_from_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, missing = bench.transfer(1), bench.transfer(2)
    bench.pooled(held)
    bench.proposals.check(bench.effect(held, missing))
    [(asked, request)] = bench.links.take()
    assert asked == bench.others[0]
    assert request == TransactionsRequest((full_hash(missing),))
    [gathering] = bench.proposals._gathering.values()
    bench.proposals._retry(gathering)
    [(asked_next, again)] = bench.links.take()
    assert (asked_next, again) == (bench.others[1], request)
    bench.proposals.response(TransactionsResponse((bench.transfer(9), missing)))
    await bench.settle()
    [answer] = bench.answers
    assert answer.block is not None
    assert answer.block.transactions == (held, missing)


async def test_missing_bytes_that_come_by_gossip_end_the_search(bench: Bench) -> None:
    missing = bench.transfer(2)
    bench.proposals.check(bench.effect(missing))
    bench.pooled(missing)
    [gathering] = bench.proposals._gathering.values()
    bench.proposals._retry(gathering)
    assert bench.answers[0].block is not None


async def test_what_is_being_checked_is_awaited_not_asked_for(bench: Bench) -> None:
    """One check of signatures a transaction and node, also when the proposal comes before it has ended."""
    held, late, later = (bench.transfer(n) for n in (1, 2, 3))
    bench.pooled(held)
    entries = []
    for raw in (late, later):
        entry = bench.pool.begin(decode_transaction(raw), 0)
        assert isinstance(entry, Entry)
        entries.append(entry)
    bench.proposals.check(bench.effect(held, late, later))
    assert bench.pool.admit(entries[0])
    bench.proposals.judged(entries[:1])
    assert (bench.answers, bench.links.sent) == ([], [])
    assert bench.pool.admit(entries[1])
    bench.proposals.judged(entries[1:])
    [answer] = bench.answers
    assert answer.block is not None
    assert answer.block.transactions == (held, late, later)
    assert (bench.links.sent, bench.checks.checked) == ([], 0)


async def test_what_the_pool_refused_is_asked_for_and_judged_as_proposed(bench: Bench) -> None:
    raw = bench.transfer(1)
    entry = bench.pool.begin(decode_transaction(raw), 0)
    assert isinstance(entry, Entry)
    bench.proposals.check(bench.effect(raw))
    bench.pool.refuse(entry)
    bench.proposals.judged([entry])
    [(_, request)] = bench.links.take()
    assert request == TransactionsRequest((full_hash(raw),))
    bench.proposals.response(TransactionsResponse((raw,)))
    await bench.settle()
    [answer] = bench.answers
    assert answer.block is not None


async def test_missing_and_awaited_together(bench: Bench) -> None:
    """What is missing is asked for at once; gossip that brings it spares the answer."""
    missing, awaited = bench.transfer(1), bench.transfer(2)
    entries = [bench.pool.begin(decode_transaction(awaited), 0)]
    bench.proposals.check(bench.effect(missing, awaited))
    [(_, request)] = bench.links.take()
    assert request == TransactionsRequest((full_hash(missing),))
    entries.append(bench.pool.begin(decode_transaction(missing), 0))
    for entry in reversed(entries):
        assert isinstance(entry, Entry)
        assert bench.answers == []
        assert bench.pool.admit(entry)
        bench.proposals.judged([entry])
    [answer] = bench.answers
    assert answer.block is not None


async def test_re_proposed_block_is_checked_from_its_own_bytes(bench: Bench) -> None:
    raw = bench.transfer(1)
    block = bench.chain.block((raw,)).block
    bench.proposals.check(bench.effect(raw, known=block))
    await bench.settle()
    assert bench.answers[0].block is block
    assert bench.links.sent == []


async def test_badly_signed_transaction_is_named_as_proof(bench: Bench) -> None:
    good, bad = bench.transfer(1), bytearray(bench.transfer(2))
    bad[-1] ^= 1
    bench.pooled(good)
    bench.proposals.check(bench.effect(good, bytes(bad)))
    bench.proposals.response(TransactionsResponse((bytes(bad),)))
    await bench.settle()
    [answer] = bench.answers
    assert answer.block is None
    assert answer.offending is not None
    assert (answer.offending.index, answer.offending.transaction) == (1, bytes(bad))


async def test_bytes_that_are_no_transaction_are_named_as_proof(bench: Bench) -> None:
    bench.proposals.check(bench.effect(b"no transaction"))
    bench.proposals.response(TransactionsResponse((b"no transaction",)))
    [answer] = bench.answers
    assert answer.offending is not None
    assert answer.offending.transaction == b"no transaction"


@pytest.mark.parametrize("offset", [-10_000, 10_000])
async def test_transaction_out_of_its_window_is_named_as_proof(bench: Bench, offset: int) -> None:
    now_ms = bench.chain.ledger.time_ms
    raw = bench.transfer(1, window=(now_ms + offset, now_ms + offset + 5_000))
    bench.pooled(raw)
    bench.proposals.check(bench.effect(raw))
    [answer] = bench.answers
    assert answer.block is None
    assert answer.offending is not None


async def test_transaction_on_chain_is_invalid_but_no_proof(bench: Bench) -> None:
    raw = bench.transfer(1)
    bench.chain.decide(raw)
    bench.pooled(raw)
    bench.proposals.check(bench.effect(raw))
    [answer] = bench.answers
    assert answer.block is None
    assert answer.offending is None
    assert "on chain" in (answer.reason or "")


async def test_what_waited_too_long_and_was_left_out_is_overlooked(bench: Bench) -> None:
    """PROTOCOL 6.7."""
    timeout_ms = bench.chain.genesis.parameters.request_timeout_ms
    included, waiting = bench.transfer(1), bench.transfer(2)
    transaction = bench.pooled(waiting)
    entry = bench.pool.get(transaction.id)
    assert entry is not None
    entry.relayed_ms = bench.clock.monotonic_ms
    bench.clock.monotonic_ms += timeout_ms
    bench.pooled(included)
    bench.proposals.check(bench.effect(included))
    [answer] = bench.answers
    assert [item.transaction_id for item in answer.overlooked] == [transaction.id]
    assert answer.newest_includable_wait_ms == 0
    assert len(bench.left_out) == 1


async def test_what_was_never_relayed_accuses_nobody(bench: Bench) -> None:
    bench.pooled(bench.transfer(2))
    bench.clock.monotonic_ms += 10_000
    bench.proposals.check(bench.effect())
    assert bench.answers[0].overlooked == ()
    assert bench.answers[0].newest_includable_wait_ms is None


async def test_flood_of_proposals_costs_the_oldest_its_place(bench: Bench) -> None:
    for n in range(1, 4 + proposals_module.MAX_CHECKS):
        bench.proposals.check(bench.effect(bench.transfer(n)))
    assert len(bench.proposals._gathering) == proposals_module.MAX_CHECKS


async def test_stored_block_is_served_and_forgotten_with_its_height(bench: Bench) -> None:
    raws = (bench.transfer(1), bench.transfer(2))
    bench.proposals.hold(bench.chain.block(raws).block)
    request = TransactionsRequest((full_hash(raws[1]), bytes(32)))
    bench.proposals.request(bench.others[2], request)
    assert bench.links.take() == [(bench.others[2], TransactionsResponse((raws[1],)))]
    bench.proposals.entered_height()
    bench.proposals.request(bench.others[2], request)
    assert bench.links.take() == [(bench.others[2], TransactionsResponse(()))]


async def test_answer_for_a_height_that_is_over_never_comes(bench: Bench) -> None:
    raw = bench.transfer(1)
    bench.proposals.check(bench.effect(raw))
    bench.chain.decide()
    bench.proposals.response(TransactionsResponse((raw,)))
    await bench.settle()
    assert bench.answers == []
