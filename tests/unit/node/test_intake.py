"""The way into the pool: every refusal with its code, the same answer to the same bytes (PROTOCOL 9.2, 9.3)."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from consensus.ed25519 import Ed25519Verifier
from contracts.transaction import Heartbeat, Transfer, encode_body, sign_body
from contracts.validation import check_transaction
from network.gossip import TransactionGossip
from network.scheduler import LoopScheduler
from network.wire import Role, Transactions
from node import intake as intake_module
from node.intake import Intake, Waiters
from node.keystore import KeyPair
from node.mempool import Mempool, PoolLimits
from node.service import SubmitCode, TransactionState
from node.verification import Check, SignatureChecks
from tests.unit.node.fake_links import FakeClock, FakeLinks
from tests.unit.node.ledger_chain import LedgerChain

PEER, OWN = bytes([7]) * 32, bytes([8]) * 32


def check_by(chain: LedgerChain) -> Check:
    """The node's own check of a transaction of ``chain``."""
    return partial(
        check_transaction,
        chain_id=chain.ledger.chain_id,
        parameters=chain.genesis.parameters,
        verifier=Ed25519Verifier(),
    )


class Door:
    """An intake on a real ledger, pool and checks, with peers that only remember."""

    def __init__(self, path: Path, limits: PoolLimits | None = None) -> None:
        self.chain = LedgerChain(path)
        self.ledger = self.chain.ledger
        self.links = FakeLinks(PEER)
        self.clock = FakeClock(self.ledger.time_ms)
        self.pool = Mempool(limits or PoolLimits(100, 10**6, 100), self.ledger.is_member)
        self.admitted: list[int] = []
        self.judged: list[bytes] = []
        self.own_seat = False
        self.failures: list[BaseException] = []
        self.checks = SignatureChecks(check_by(self.chain), 1, self.failures.append)
        self.gossip = TransactionGossip(self.links, LoopScheduler(), OWN)
        self.gossip.set_delegates((PEER,))
        self.intake = Intake(
            ledger=self.ledger,
            pool=self.pool,
            checks=self.checks,
            gossip=self.gossip,
            links=self.links,
            clock=self.clock,
            delegates=lambda: (PEER, OWN) if self.own_seat else (PEER,),
            own_key=OWN,
            on_admitted=self.admitted.append,
            on_judged=lambda entries: self.judged.extend(entry.transaction.raw for entry in entries),
        )

    def transfer(
        self, amount: int = 1, signer: KeyPair | None = None, window: tuple[int, int] | None = None
    ) -> bytes:
        sender = signer or self.chain.members[0]
        return self.chain.transaction(Transfer(self.chain.members[1].address, amount), sender, window=window)

    async def code(self, raw: bytes) -> SubmitCode:
        [outcome] = await self.intake.submit([raw])
        assert outcome.accepted or outcome.reason
        return outcome.code

    async def gossiped(self) -> list[bytes]:
        """What was sent on, once all checks are through."""
        for _ in range(200):
            await asyncio.sleep(0.002)
            if not self.checks.waiting and not self.gossip._waiting_count:
                break
        return [
            raw
            for _, message in self.links.take()
            if isinstance(message, Transactions)
            for raw in message.transactions
        ]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    made = Door(tmp_path / "ledger")
    yield made
    made.gossip.stop()
    made.checks.close()
    assert made.failures == []


async def test_good_one_is_pending_relayed_and_told_once(door: Door) -> None:
    raw = door.transfer()
    [outcome] = await door.intake.submit([raw])
    assert (outcome.code, outcome.state, outcome.holders) == (
        SubmitCode.ACCEPTED,
        TransactionState.PENDING,
        1,
    )
    assert door.admitted == [0]
    assert await door.gossiped() == [raw]


async def test_same_bytes_again_are_known_in_every_state(door: Door) -> None:
    raw = door.transfer()
    first, second = await asyncio.gather(door.intake.submit([raw]), door.intake.submit([raw]))
    assert [first[0].code, second[0].code] == [SubmitCode.ACCEPTED, SubmitCode.KNOWN]
    again = (await door.intake.submit([raw]))[0]
    assert (again.code, again.state) == (SubmitCode.KNOWN, TransactionState.PENDING)
    applied = door.chain.decide(raw)
    door.pool.decided([applied.transactions[0].id], applied.header.time_ms)
    committed = (await door.intake.submit([raw]))[0]
    assert (committed.code, committed.state) == (SubmitCode.KNOWN, TransactionState.COMMITTED)
    door.chain.pass_ms(61_000)
    late = (await door.intake.submit([raw]))[0]
    assert (late.code, late.state) == (SubmitCode.KNOWN, TransactionState.COMMITTED)


async def test_rejected_one_is_known_as_rejected(door: Door) -> None:
    raw = door.transfer(10**18)
    door.chain.decide(raw)
    assert (await door.intake.submit([raw]))[0].state is TransactionState.REJECTED


async def test_malformed_and_oversize(door: Door) -> None:
    raw = door.transfer()
    assert await door.code(b"") is SubmitCode.MALFORMED
    assert await door.code(raw[:-1]) is SubmitCode.MALFORMED
    assert await door.code(raw + b"\x00") is SubmitCode.MALFORMED
    assert await door.code(bytes(65_537)) is SubmitCode.TOO_LARGE


async def test_foreign_chain(door: Door) -> None:
    sender = door.chain.members[0]
    body = encode_body(
        bytes(32), sender.address, door.ledger.time_ms, door.ledger.time_ms + 1_000, 1, Heartbeat(0, None)
    )
    assert await door.code(sign_body(body, (sender,))) is SubmitCode.FOREIGN_CHAIN


async def test_bad_signature_and_wrong_signer(door: Door) -> None:
    raw = bytearray(door.transfer())
    raw[-1] ^= 1
    assert await door.code(bytes(raw)) is SubmitCode.BAD_SIGNATURE
    assert door.judged == [bytes(raw)]
    sender, other = door.chain.members[:2]
    body = encode_body(
        door.ledger.chain_id,
        sender.address,
        door.ledger.time_ms,
        door.ledger.time_ms + 1,
        1,
        Transfer(other.address, 1),
    )
    assert await door.code(sign_body(body, (other,))) is SubmitCode.BAD_SIGNATURE
    assert len(door.pool) == 0
    assert door.pool.size_bytes == 0


async def test_windows(door: Door) -> None:
    now_ms = door.ledger.time_ms
    drift_ms = door.chain.genesis.parameters.max_drift_ms
    assert (
        await door.code(door.transfer(window=(now_ms + drift_ms + 1, now_ms + 5_000)))
        is SubmitCode.NOT_YET_VALID
    )
    assert await door.code(door.transfer(window=(now_ms + drift_ms, now_ms + 5_000))) is SubmitCode.ACCEPTED
    assert await door.code(door.transfer(window=(now_ms - 5_000, now_ms - 1))) is SubmitCode.EXPIRED
    too_long = now_ms + door.chain.genesis.parameters.tx_window_ms + 1
    assert await door.code(door.transfer(window=(now_ms, too_long))) is SubmitCode.REFUSED


async def test_clock_behind_the_chain_does_not_refuse_what_the_chain_would_take(door: Door) -> None:
    door.chain.pass_ms(5_000)
    raw = door.transfer()
    assert door.clock.wall_ms < door.ledger.time_ms
    assert await door.code(raw) is SubmitCode.ACCEPTED


async def test_full_pool_and_greedy_sender_are_told_to_come_back(tmp_path: Path) -> None:
    door = Door(tmp_path / "ledger", PoolLimits(2, 10**6, 1))
    first, second = door.chain.members[:2]
    outcomes = await door.intake.submit(
        [door.transfer(1, first), door.transfer(2, first), door.transfer(3, second)]
    )
    assert [outcome.code for outcome in outcomes] == [
        SubmitCode.ACCEPTED,
        SubmitCode.SENDER_LIMIT,
        SubmitCode.ACCEPTED,
    ]
    [full] = await door.intake.submit([door.transfer(4, door.chain.members[2])])
    assert (full.code, full.retry_after_ms) == (SubmitCode.POOL_FULL, intake_module.RETRY_AFTER_MS)
    door.gossip.stop()
    door.checks.close()


async def test_too_many_being_checked_is_told_apart(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MAX_CHECKING", 0)
    assert await door.code(door.transfer()) is SubmitCode.POOL_FULL


async def test_batch_answers_come_in_order(door: Door) -> None:
    good = [door.transfer(n) for n in range(1, 40)]
    mixed = [item for raw in good for item in (raw, b"junk")]
    outcomes = await door.intake.submit(mixed)
    assert [outcome.code for outcome in outcomes[::2]] == [SubmitCode.ACCEPTED] * 39
    assert {outcome.code for outcome in outcomes[1::2]} == {SubmitCode.MALFORMED}
    assert [outcome.id for outcome in outcomes[::2]] == [door.chain.id_of(raw) for raw in good]
    assert (door.intake.accepted, door.intake.refused) == (39, 39)


async def test_delegate_sends_a_members_transactions_no_further(door: Door) -> None:
    door.own_seat = True
    door.gossip.set_delegates((PEER, OWN))
    raw = door.transfer()
    door.intake.gossiped(PEER, [raw])
    assert await door.gossiped() == []
    entry = door.pool.get(door.chain.id_of(raw))
    assert entry is not None
    assert entry.relayed_ms is None


async def test_what_a_block_with_room_left_out_is_sent_on_once(door: Door) -> None:
    """PROTOCOL 6.7: relayed to all delegates before anybody complains."""
    door.own_seat = True
    door.gossip.set_delegates((PEER, OWN))
    raw = door.transfer()
    door.intake.gossiped(PEER, [raw])
    await door.gossiped()
    door.clock.monotonic_ms += 500
    door.intake.relay_left_out((), door.clock.monotonic_ms - 400)
    assert await door.gossiped() == [raw]
    entry = door.pool.get(door.chain.id_of(raw))
    assert entry is not None
    assert entry.relayed_ms == door.clock.monotonic_ms
    door.intake.relay_left_out((), door.clock.monotonic_ms - 400)
    assert await door.gossiped() == []


async def test_guests_transactions_are_sent_on(door: Door) -> None:
    door.own_seat = True
    door.gossip.set_delegates((PEER, OWN))
    guest = bytes([9]) * 32
    door.links.peers.append(guest)
    door.links.roles[guest] = Role.GUEST
    raw = door.transfer()
    door.intake.gossiped(guest, [raw])
    assert await door.gossiped() == [raw]


async def test_peer_that_passes_on_rubbish_is_punished(door: Door) -> None:
    door.intake.gossiped(PEER, [b"rubbish"])
    assert [key for key, _ in door.links.punished] == [PEER]
    forged = bytearray(door.transfer())
    forged[-1] ^= 1
    door.intake.gossiped(PEER, [bytes(forged)])
    await door.gossiped()
    assert len(door.links.punished) == 2
    assert len(door.pool) == 0


async def test_peer_that_passes_on_the_old_or_the_known_is_not(door: Door) -> None:
    raw = door.transfer()
    now_ms = door.ledger.time_ms
    door.intake.gossiped(PEER, [raw, raw, door.transfer(window=(now_ms - 10, now_ms - 1))])
    await door.gossiped()
    door.intake.gossiped(PEER, [raw])
    assert door.links.punished == []
    assert len(door.pool) == 1


async def test_decided_while_its_signatures_were_checked(door: Door) -> None:
    raws = [door.transfer(n) for n in range(1, 10)]
    submitted = asyncio.ensure_future(door.intake.submit(raws))
    await asyncio.sleep(0)
    applied = door.chain.decide(*raws)
    door.pool.decided([transaction.id for transaction in applied.transactions], applied.header.time_ms)
    outcomes = await submitted
    assert {outcome.state for outcome in outcomes} == {TransactionState.COMMITTED}
    assert (len(door.pool), door.pool.size_bytes) == (0, 0)


async def test_own_transaction_needs_no_waiting(door: Door) -> None:
    raw = door.transfer()
    assert door.intake.submit_own(raw) == door.chain.id_of(raw)
    assert await door.gossiped() == [raw]
    assert door.intake.submit_own(raw) == door.chain.id_of(raw)
    assert door.intake.submit_own(b"junk") is None


async def test_own_transaction_waits_from_its_submission_to_its_end(door: Door) -> None:
    """Else what a member does after every block would be signed again while the first one's signature is checked."""
    raw = door.transfer()
    transaction_id = door.intake.submit_own(raw)
    assert transaction_id is not None
    assert door.pool.get(transaction_id) is None
    assert door.intake.is_waiting(transaction_id)
    await door.gossiped()
    assert door.pool.get(transaction_id) is not None
    assert door.intake.is_waiting(transaction_id)
    applied = door.chain.decide(raw)
    door.pool.decided([transaction_id], applied.header.time_ms)
    assert not door.intake.is_waiting(transaction_id)


async def test_waiters_are_woken_timed_out_and_bounded() -> None:
    waiters = Waiters(limit=2)
    first, second = bytes([1]) * 32, bytes([2]) * 32
    woken = asyncio.ensure_future(waiters.wait(first, 60_000))
    late = asyncio.ensure_future(waiters.wait(second, 10))
    await asyncio.sleep(0)
    await waiters.wait(first, 60_000)  # a third returns at once
    waiters.settle([first])
    await woken
    await late
    assert waiters._futures == {}
