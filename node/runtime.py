"""The shell around the replica: one queue in, effects out in list order (ARCHITECTURE, PROTOCOL 6).

Everything runs on one event loop. Inputs are stepped one after the other; an effect is finished before the next
begins, so a `Persist` is on the disk before the `Send` behind it leaves (PROTOCOL 6.5). What goes wrong in here stops
the node: a broken invariant, a failing disk, a bug; nothing is signed afterwards.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, assert_never

import structlog

from consensus.block import Block, CertifiedBlock
from consensus.effects import (
    UNKNOWN_HEIGHT,
    AbstainRecord,
    BlockRecord,
    BuildBatch,
    CancelTimer,
    CheckProposal,
    Decide,
    Effect,
    FetchBlock,
    FetchDecided,
    Forget,
    JournalRecord,
    Persist,
    Report,
    ReportProposal,
    Send,
    SendDecided,
    SentRecord,
    SetTimer,
    Trace,
)
from consensus.errors import invariant
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    Batch,
    BlockFetched,
    DecidedReceived,
    Input,
    JournalLost,
    PoolChanged,
    ProposalChecked,
    Received,
    SyncState,
    TimerFired,
)
from consensus.messages import Commit
from consensus.replica import Replica
from consensus.signing import Signer, Verifier
from consensus.types import PublicKey
from contracts.transaction import Transaction
from contracts.validation import check_transaction
from network.address_book import AddressBook, AddressGossip
from network.dissemination import Dissemination
from network.gossip import TransactionGossip
from network.peer import Endpoint
from network.scheduler import Scheduler
from network.sync import SyncSession
from network.sync_effects import DeliverBlock
from network.synchronizer import Synchronizer
from network.transport import Transport
from network.wire import (
    AddressRecord,
    ApplicationMessage,
    Decided,
    StatusAnnouncement,
)
from node.abstention import ASK_MS, Abstention
from node.block_fetch import BlockFetches
from node.clock import Clock
from node.failure import INPUTS_KEPT, told
from node.intake import Intake, Waiters
from node.journal import Journal
from node.ledger import AppliedBlock, Ledger
from node.mempool import Entry, Mempool
from node.peering import Peering
from node.proposals import CheckedProposal, ProposalChecks, has_room
from node.router import Router
from node.turns import InputKind, InputQueue, Timers
from node.verification import SignatureChecks

TRACES_KEPT: Final = 256
"""Newest traces, for the status page and the dump of a failure."""
MAX_WAITERS: Final = 10_000
"""Clients that wait for a transaction's end at a time; more are answered at once with the present state."""
WINDOWS_MS: Final = 100
"""How often windows of waiting transactions are looked at: a fifth of the shortest usual view timeout."""
SILENT_INTERVALS: Final = 3
"""A member asks others after so many empty-block intervals without a block (PROTOCOL 6.12)."""

log = structlog.get_logger("node.runtime")


class Runtime:
    """Ties replica, engine, network and ledger of one node together."""

    def __init__(  # noqa: PLR0913 - its collaborators are made and tied together here
        self,
        *,
        ledger: Ledger,
        journal: Journal,
        signer: Signer,
        verifier: Verifier,
        clock: Clock,
        pool: Mempool,
        verify_threads: int,
        make_transport: Callable[["Runtime"], Transport],
        book: AddressBook,
        peering: Peering,
        randomness: random.Random,
    ) -> None:
        """Create inside a running loop. ``make_transport`` is given this runtime's callbacks."""
        self.ledger = ledger
        self.journal = journal
        self.clock = clock
        self.pool = pool
        self.own_key: PublicKey = signer.public_key
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the exception that stops the node."""
        self.traces: deque[tuple[int, Trace]] = deque(maxlen=TRACES_KEPT)
        self.inputs: deque[tuple[int, str]] = deque(maxlen=INPUTS_KEPT)
        """The newest, in words, for the dump of a failure."""
        self.trace_counts: Counter[str] = Counter()
        self.waiters = Waiters(MAX_WAITERS)
        self.last_commit_ms = clock.now().monotonic_ms
        self.on_applied: list[Callable[[AppliedBlock], None]] = []
        """Called after every block, on the loop, in order."""
        self.on_committed: list[Callable[[Commit], None]] = []
        self.on_report: list[Callable[[Report | ReportProposal], None]] = []
        self._signed_height = max(
            (r.height for r in journal.recovered if isinstance(r, SentRecord)), default=0
        )
        self._batch: tuple[tuple[bytes, ...], tuple[Transaction, ...]] = ((), ())
        self._waiting_told = 0
        self._delegates_told: tuple[bytes, int] | None = None
        self.transport = make_transport(self)
        self._queue = InputQueue(clock, self._step, self.fail, self.transport.hold)
        self._timers = Timers(lambda timer: self.post(TimerFired, timer), self.fail)
        scheduler: Scheduler = self.transport.scheduler
        self.gossip = TransactionGossip(self.transport, scheduler, self.own_key)
        self.checks = SignatureChecks(self._check_transaction(verifier), verify_threads, self.fail)
        self.intake = Intake(
            ledger=ledger,
            pool=pool,
            checks=self.checks,
            gossip=self.gossip,
            links=self.transport,
            clock=clock,
            delegates=self.delegate_keys,
            own_key=self.own_key,
            on_admitted=self._pool_admitted,
            on_judged=self._judged,
        )
        self.proposals = ProposalChecks(
            ledger=ledger,
            pool=pool,
            checks=self.checks,
            links=self.transport,
            clock=clock,
            own_key=self.own_key,
            answer=self._proposal_checked,
            on_left_out=self.intake.relay_left_out,
        )
        self.peering = peering
        self.book = book
        self.addresses = AddressGossip(self.transport, book, self._address_changed)
        interval_ms = ledger.genesis.parameters.empty_block_interval_ms
        self.synchronizer = Synchronizer(
            links=self.transport,
            scheduler=scheduler,
            session=SyncSession(ledger.height),
            dissemination=Dissemination(self.own_key, SILENT_INTERVALS * interval_ms, scheduler.now_ms()),
            load_block=ledger.certified_bytes,
            tip=self._tip,
            deliver=self._deliver,
            on_caught_up=lambda caught_up: self.post(SyncState, caught_up),
        )
        self.replica = Replica(
            chain_id=ledger.chain_id,
            parameters=ledger.genesis.parameters,
            signer=signer,
            verifier=verifier,
            context=ledger.context,
            at=clock.now(),
            journal=journal.recovered,
        )
        self.fetches = BlockFetches(
            ledger=ledger,
            journal=journal,
            links=self.transport,
            own_key=self.own_key,
            held=self.replica.undecided_block,
            found=lambda block: self.post(BlockFetched, block),
        )
        self.abstention = Abstention(
            ledger=ledger,
            links=self.transport,
            own_key=self.own_key,
            randomness=randomness.randbytes,
            learned=lambda height: self.post(AbstainUntil, height),
        )
        self.router = Router(
            clock=clock,
            scheduler=scheduler,
            intake=self.intake,
            proposals=self.proposals,
            fetches=self.fetches,
            synchronizer=self.synchronizer,
            abstention=self.abstention,
            addresses=self.addresses,
            peering=peering,
            to_replica=lambda sender, message: self._queue.post_from(sender, Received, sender, message),
        )
        abstained = [record.height for record in journal.recovered if isinstance(record, AbstainRecord)]
        self._abstain_height = -1 if abstained[-1:] == [UNKNOWN_HEIGHT] else sum(abstained[-1:])
        self._hold_recovered(journal.recovered)
        journal.recovered = ()

    # ---- life

    def start(self) -> None:
        """Set the replica going; the transport listens already. The node counts as behind until peers say it is not."""
        self._tell_delegates()
        self._run(self.replica.start(self.clock.now()))
        if not self.synchronizer.session.caught_up:
            self._run(self.replica.step(SyncState(self.clock.now(), False)))
        self.synchronizer.start()
        self.peering.update(self.transport)
        if self._abstain_height < 0:
            self.abstention.begin()
        self._timers.every(ASK_MS, self.abstention.tick)
        self._timers.every(WINDOWS_MS, self._look_at_windows)

    async def close(self) -> None:
        """Stop timers and threads, say goodbye to peers, close journal and ledger."""
        self._timers.close()
        self._queue.end()
        self.synchronizer.stop()
        self.gossip.stop()
        self.proposals.entered_height()
        self.fetches.entered_height()
        await self.transport.close()
        self.checks.close()
        self.journal.close()
        self.ledger.store.close()

    def fail(self, error: BaseException) -> None:
        """Stop the node: the first failure counts."""
        self._queue.end()
        if not self.failed.done():
            log.critical("the node stops", error=str(error), kind=type(error).__name__)
            self.failed.set_exception(error)

    # ---- inputs

    def post(self, kind: InputKind, *fields: Any) -> None:
        """Queue an input: its instant is that at which it is stepped."""
        self._queue.post(kind, *fields)

    def _step(self, item: Input) -> None:
        self.inputs.append((item.at.monotonic_ms, told(item)))
        if isinstance(item, DecidedReceived):
            self._step_decided(item)
        else:
            self._run(self.replica.step(item))

    def _step_decided(self, item: DecidedReceived) -> None:
        """A block from the synchronizer: the replica judges and decides it, or its sender pays (PROTOCOL 6.12)."""
        height = item.certified.block.header.height
        if height != self.ledger.height + 1:
            return  # decided meanwhile, or behind one that was invalid and comes again
        self._run(self.replica.step(item))
        if height == self.ledger.height + 1:
            self.synchronizer.invalid(height, "its certificate or its parts are not what C(h) decided")

    def on_message(self, sender: PublicKey, message: ApplicationMessage) -> None:
        """A message from a connected peer; nothing in it is trusted for who sent it."""
        if self.failed.done():
            return
        try:
            self.router.message(sender, message)
        except Exception as error:  # noqa: BLE001 - a peer's fault is a typed refusal; this is our own
            self.fail(error)

    def on_peer(self, key: PublicKey, connected: bool) -> None:
        """A peer came or went."""
        self.router.peer(key, connected)

    def admits(self, key: PublicKey) -> bool:
        """Whether the holder of ``key`` is a member here, or still serves as delegate."""
        account = self.ledger.account_of_key(key)
        if account is not None and account.left_height is None:
            return True
        return self.ledger.context.delegates.position_of_key(key) is not None

    def take_records(self, records: Iterable[AddressRecord]) -> None:
        """Address records from a directory; each proves itself."""
        for moved in self.peering.take(records, self.own_key, self.transport.scheduler.now_ms()):
            self._address_changed(moved.public_key, Endpoint(moved.host, moved.port))

    def _address_changed(self, key: PublicKey, endpoint: Endpoint) -> None:
        log.info("peer listens elsewhere", peer=key.hex(), endpoint=endpoint.text())
        self.peering.update(self.transport)
        self.peering.save()

    # ---- effects

    def _run(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._apply(effect)

    def _apply(self, effect: Effect) -> None:  # noqa: C901, PLR0912 - one case an effect
        match effect:
            case Send(message, to):
                self.transport.broadcast(to or self._other_delegates(), message)
            case Persist(records):
                self._persist(records)
            case SetTimer(timer, delay_ms):
                self._timers.set(timer, delay_ms)
            case CancelTimer(kind):
                self._timers.cancel(kind)
            case BuildBatch():
                self._build_batch(effect)
            case CheckProposal():
                self.proposals.check(effect)
            case Decide():
                self._decide(effect)
            case Forget(height):
                self.journal.forget(height)
            case FetchBlock():
                self.fetches.fetch(effect)
            case FetchDecided(height, holders):
                self.synchronizer.fetch(height, holders)
            case SendDecided(height, to_key):
                data = self.ledger.certified_bytes(height)
                if data is not None:
                    self.transport.send(to_key, Decided(height, data))
            case Report() | ReportProposal():
                for report in self.on_report:
                    report(effect)
            case Trace():
                self._trace(effect)
            case _:
                assert_never(effect)

    def _persist(self, records: tuple[JournalRecord, ...]) -> None:
        self.journal.append(records)
        for record in records:
            match record:
                case BlockRecord(_, block):
                    self._hold_block(block)
                case SentRecord(height, message):
                    self._signed_height = max(self._signed_height, height)
                    if isinstance(message, Commit):
                        for committed in self.on_committed:
                            committed(message)
                case AbstainRecord(height):
                    self._abstain_height = -1 if height == UNKNOWN_HEIGHT else height
                case _:
                    pass

    def _hold_block(self, block: Block) -> None:
        self.proposals.hold(block)
        raws, transactions = self._batch
        if raws and block.transactions is raws:
            self.proposals.note_batch(block.header, transactions)

    def _hold_recovered(self, records: Iterable[JournalRecord]) -> None:
        for record in records:
            if isinstance(record, BlockRecord) and record.height == self.ledger.height + 1:
                self.proposals.hold(record.block)

    def _build_batch(self, effect: BuildBatch) -> None:
        parameters = self.ledger.genesis.parameters
        transactions = tuple(
            self.pool.batch(
                effect.time_ms,
                parameters.max_block_transactions,
                effect.max_bytes,
                frozenset(effect.excluded),
            )
        )
        if not transactions:
            self._waiting_told = (
                0  # what the replica makes of an empty batch: the next arrival has to be told
            )
        raws = tuple(transaction.raw for transaction in transactions)
        self._batch = (raws, transactions)
        references = tuple(transaction.reference for transaction in transactions)
        self._queue.post_first(Batch, effect.height, effect.view, effect.generation, raws, references)

    def _proposal_checked(self, checked: CheckedProposal) -> None:
        c = checked
        self.post(
            ProposalChecked,
            c.height,
            c.view,
            c.digest,
            c.block,
            c.reason,
            c.overlooked,
            c.newest_includable_wait_ms,
            c.offending,
        )

    def _trace(self, trace: Trace) -> None:
        self.trace_counts[trace.event] += 1
        self.traces.append((self.clock.now().monotonic_ms, trace))

    # ---- a block

    def _decide(self, effect: Decide) -> None:
        """Execute and store the block durably, then enter the next height (PROTOCOL 6.4, 6.5)."""
        certified = effect.certified
        digest = certified.certificate.digest
        invariant(certified.block.header.digest() == digest, "a certificate is for the block it comes with")
        applied = self.ledger.apply(
            certified,
            transactions=self.proposals.transactions_of(digest, certified.block),
            journal=self.journal.position,
        )
        self.last_commit_ms = self.clock.now().monotonic_ms
        self._check_own_commit(certified)
        ended = [*(transaction.id for transaction in applied.transactions), *applied.discarded]
        expired = self.pool.decided(ended, applied.header.time_ms)
        self.proposals.entered_height()
        self.fetches.entered_height()
        self._tell_delegates()
        self._queue.post_first(Advanced, self.ledger.context)
        self.synchronizer.decided(applied.height, applied.certified)
        self._tell_pool()
        size = sum(len(transaction.raw) for transaction in applied.transactions)
        if has_room(len(applied.transactions), size, self.ledger.genesis.parameters):
            self.intake.block_decided(frozenset(ended))
        for listener in self.on_applied:
            listener(applied)
        self.waiters.settle(ended)
        self.waiters.settle(expired)

    def _check_own_commit(self, certified: CertifiedBlock) -> None:
        """A commit of this key that its journal does not know: the journal was restored, or the key is used twice.

        The certificate is what some peer collected; the last-commit is the same for all, and holds whoever was in time.
        """
        if self._abstain_height < 0:
            return  # known already
        for certificate in (certified.block.last_commit, certified.certificate):
            if certificate is None or certificate.height <= max(self._signed_height, self._abstain_height):
                continue
            if any(item.signer == self.own_key for item in certificate.signatures):
                log.error("this key signed what its journal does not hold", height=certificate.height)
                self._abstain_height = -1
                self.post(JournalLost)
                self.abstention.begin()
                return

    def _deliver(self, effect: DeliverBlock) -> None:
        self.post(DecidedReceived, effect.certified)

    @property
    def abstaining_until(self) -> int | None:
        """Nothing is signed at heights up to this one; -1: not known yet; None: this node signs (PROTOCOL 6.5)."""
        if not self.replica.abstaining:
            return None
        return self._abstain_height

    def _tip(self) -> StatusAnnouncement:
        return StatusAnnouncement(self.ledger.height, self.ledger.block_hash, 1)

    def delegate_keys(self) -> tuple[PublicKey, ...]:
        """Keys of C(undecided height), in ranking order."""
        return tuple(delegate.public_key for delegate in self.ledger.context.delegates)

    def _other_delegates(self) -> list[PublicKey]:
        own = self.own_key
        return [d.public_key for d in self.replica.context.delegates if d.public_key != own]

    def _tell_delegates(self) -> None:
        """Who decides, who is in this node's group: told to gossip, synchronizer and peering when it changes."""
        context = self.ledger.context
        told = (context.delegates.hash() + context.next_delegates.hash(), context.epoch)
        if told == self._delegates_told:
            return
        self._delegates_told = told
        keys = self.delegate_keys()
        following = tuple(d.public_key for d in context.next_delegates if d.public_key not in keys)
        self.gossip.set_delegates((*keys, *following))
        self.synchronizer.set_delegates(
            keys, self.peering.own_group(), self.own_key, context.delegates.quorum
        )
        self.peering.update(self.transport)
        self.transport.refresh_roles()

    # ---- the pool

    def _judged(self, entries: Sequence[Entry]) -> None:
        self.proposals.judged(entries)

    def _pool_admitted(self, waiting_before: int) -> None:
        """The first transaction wakes the replica, and a block's worth tells it not to wait any longer (6.9)."""
        full = self.ledger.genesis.parameters.max_block_transactions
        if waiting_before == 0 or self._waiting_told == 0 or self._waiting_told < full <= len(self.pool):
            self._tell_pool()

    def _tell_pool(self) -> None:
        waiting = self.pool.includable(max(self.clock.now().wall_ms, self.ledger.time_ms + 1))
        if waiting == 0 and self._waiting_told == 0:
            return
        self._waiting_told = waiting
        self.post(PoolChanged, waiting, self.pool.oldest_received_ms())

    def _look_at_windows(self) -> None:
        """Transactions begin and cease to be includable as time goes by; the primary has nothing else to propose."""
        if len(self.pool) or self._waiting_told:
            self._tell_pool()

    def _check_transaction(self, verifier: Verifier) -> Callable[[Transaction], None]:
        chain_id, parameters = self.ledger.chain_id, self.ledger.genesis.parameters

        def check(transaction: Transaction) -> None:
            check_transaction(transaction, chain_id=chain_id, parameters=parameters, verifier=verifier)

        return check
