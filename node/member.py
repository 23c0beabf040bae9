"""A running member: the runtime with its duties and the surface that the HTTP API is served from."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from consensus.block import PROTOCOL_VERSION
from consensus.errors import invariant
from consensus.hashing import address_of
from consensus.types import Address, Digest, PublicKey
from contracts.ballots import sign_ballot
from contracts.duties import next_ballot_sequence, open_ballot_epoch
from contracts.epoch_queries import group_of, serves_until
from contracts.epoch_state import chain_of
from contracts.plans import built_in_plan, provide_built_in_plan
from contracts.receipts import EpochPhase, ReasonCode
from contracts.state import SINGLETON, number_key
from contracts.transaction import Ballots, Join, Payload, encode_body, sign_body
from network.address_book import AddressBook
from node.clock import Clock
from node.duties import CarryBallot, Duties
from node.joining import Joining
from node.keystore import KeyPair
from node.ledger import AppliedBlock
from node.queries import LedgerQueries
from node.runtime import Runtime
from node.service import (
    BlockEvents,
    CertifiedHeader,
    DelegateVotes,
    Figures,
    Health,
    PeerView,
    PoolView,
    Role,
    StateEntryProof,
    StatusAnswer,
    SubmitCode,
    SubmitOutcome,
    TooManySubscribers,
    TransactionState,
    TransactionStatus,
)
from node.watch import LoopWatch, resident_bytes

MAX_SUBSCRIBERS: Final = 64
"""Event streams at a time; each costs one read of a block's receipts per block."""
STALE_INTERVALS: Final = 2
STALE_VIEWS: Final = 4
"""Without a block for so many empty-block intervals and view timeouts it is not ready; a failed primary takes less."""
DEAD_LAG_MS: Final = 30_000.0
"""A loop that late is no longer taken for alive."""


def software_version() -> str:
    """The installed package's version; "0" when run from a bare checkout."""
    try:
        return version("cgpbft")
    except PackageNotFoundError:
        return "0"


class MemberNode(LedgerQueries):
    """`node.service.NodeService` of a running node."""

    def __init__(
        self,
        runtime: Runtime,
        key: KeyPair,
        clock: Clock,
        book: AddressBook,
        *,
        carry: CarryBallot | None = None,
        join: Join | None = None,
        returns: bool = False,
    ) -> None:
        """``join`` is submitted while this key is no member; ``returns``: also if it has left (PROTOCOL 1.5)."""
        super().__init__(runtime.ledger)
        self.runtime = runtime
        self._key = key
        self._address = address_of(key.public_key)
        self._clock = clock
        self._book = book
        self._watch = LoopWatch()
        self._started_ms = clock.now().monotonic_ms
        self._new_block = asyncio.Event()
        self._subscribers = 0
        self._nonces = random.SystemRandom()
        self._planning: asyncio.Future[None] | None = None
        self._counts = {"blocks": 0, "committed": 0, "rejected": 0}
        self.duties = Duties(
            ledger=runtime.ledger,
            signer=key,
            own_address=self._address,
            submit=self._submit_own,
            is_waiting=runtime.intake.is_waiting,
            carry=carry,
            joining=Joining(
                ledger=runtime.ledger,
                own_address=self._address,
                join=join,
                returns=returns,
                submit=self._submit_own,
                is_waiting=runtime.intake.is_waiting,
                refuse=runtime.fail,
            ),
        )
        runtime.on_committed.append(self.duties.committed)
        runtime.on_report.append(self.duties.report)
        runtime.on_applied.append(self._applied)

    def start(self) -> None:
        """Begin to watch the loop and to do what is due."""
        self._watch.start()
        self._plan_beside()

    def stop(self) -> None:
        """Stop watching."""
        self._watch.stop()

    # ---- after every block

    def _applied(self, applied: AppliedBlock) -> None:
        self._counts["blocks"] += 1
        accepted = sum(receipt.code is ReasonCode.OK for receipt in applied.receipts[:-1])
        self._counts["committed"] += accepted
        self._counts["rejected"] += len(applied.transactions) - accepted
        self._new_block.set()
        self._new_block = asyncio.Event()
        self._plan_beside()
        self.duties.enabled = self.runtime.synchronizer.session.caught_up
        self.duties.look()

    def _plan_beside(self) -> None:
        """Compute the built-in plan on a thread as soon as its snapshot is fixed, so that no block waits (4.3)."""
        state = self._ledger.state
        chain = chain_of(state)
        epoch = chain.epoch + 1
        known = state.epoch.built_in
        if chain.phase is not EpochPhase.PLANNING or self._planning is not None:
            return
        if known is not None and known.epoch == epoch:
            return
        snapshot = state.epoch.snapshots.require(number_key(epoch))
        parameters = self._ledger.genesis.parameters
        loop = asyncio.get_running_loop()

        async def plan() -> None:
            made = await loop.run_in_executor(None, built_in_plan, snapshot, parameters)
            provide_built_in_plan(self._ledger.state, made)

        self._planning = asyncio.ensure_future(plan())
        self._planning.add_done_callback(self._planned)

    def _planned(self, finished: "asyncio.Future[None]") -> None:
        self._planning = None
        if not finished.cancelled() and (error := finished.exception()) is not None:
            self.runtime.fail(error)

    # ---- submitting

    async def submit(self, raw: bytes) -> SubmitOutcome:
        """Take one signed transaction."""
        [outcome] = await self.submit_many([raw])
        return outcome

    async def submit_many(self, raws: Sequence[bytes]) -> list[SubmitOutcome]:
        """Take many, one answer each, in order."""
        if not self.runtime.synchronizer.session.caught_up:
            reason = "this node is catching up: try again soon, or another node"
            return [SubmitOutcome(SubmitCode.NOT_READY, None, None, reason, 1_000) for _ in raws]
        return await self.runtime.intake.submit(raws)

    async def sign_and_submit(self, payload: Payload) -> SubmitOutcome:
        """Sign with the node's own key and submit."""
        return await self.submit(self._sign(payload))

    def _submit_own(self, payload: Payload) -> Digest | None:
        return self.runtime.intake.submit_own(self._sign(payload))

    def _sign(self, payload: Payload) -> bytes:
        """Valid from a little ago, since a primary's clock may be behind, for as long as the chain allows."""
        parameters = self._ledger.genesis.parameters
        now_ms = max(self._clock.now().wall_ms, self._ledger.time_ms)
        valid_from_ms = max(0, now_ms - min(parameters.max_drift_ms, parameters.tx_window_ms // 2))
        body = encode_body(
            self._ledger.chain_id,
            self._address,
            valid_from_ms,
            valid_from_ms + parameters.tx_window_ms,
            self._nonces.getrandbits(62),
            payload,
        )
        return sign_body(body, (self._key,))

    async def vote(self, choices: tuple[Address, ...]) -> SubmitOutcome:
        """Sign and submit the node's own ballot for the epoch that accepts ballots now."""
        state = self._ledger.state
        epoch = open_ballot_epoch(state)
        sequence = next_ballot_sequence(state, epoch, self._address)
        if sequence is None:
            reason = f"all ballots that one may cast for epoch {epoch} are cast (PROTOCOL 5.2)"
            return SubmitOutcome(SubmitCode.REFUSED, None, None, reason)
        ballot = sign_ballot(self._ledger.chain_id, self._key, epoch, sequence, choices)
        return await self.sign_and_submit(Ballots((ballot,)))

    def transaction_status(self, transaction_id: Digest, *, proof: bool = False) -> TransactionStatus:
        """PROTOCOL 9.3."""
        decided = self.decided_status(transaction_id, proof)
        if decided is not None:
            return decided
        entry = self.runtime.pool.get(transaction_id)
        if entry is not None:
            return TransactionStatus(
                self.position(),
                transaction_id,
                TransactionState.PENDING,
                raw=entry.transaction.raw,
                holders=entry.relayed_to,
            )
        if self.runtime.pool.is_expired(transaction_id):
            reason = "a decided header's time passed its valid_until"
            return TransactionStatus(self.position(), transaction_id, TransactionState.EXPIRED, reason=reason)
        return TransactionStatus(self.position(), transaction_id, TransactionState.UNKNOWN)

    async def wait_committed(self, transaction_id: Digest, timeout_ms: int) -> TransactionStatus:
        """The status once it is final, or as it is when the timeout runs out."""
        status = self.transaction_status(transaction_id)
        if status.state in (TransactionState.PENDING, TransactionState.UNKNOWN):
            await self.runtime.waiters.wait(transaction_id, timeout_ms)
            status = self.transaction_status(transaction_id)
        return status

    # ---- proofs and events

    async def account_proof(self, address: Address, timeout_ms: int) -> StateEntryProof:
        """The account's entry, proven by the next header."""
        self.member(address)
        return await self._state_proof(self._ledger.state.accounts.prefix + address, timeout_ms)

    async def contract_proof(self, contract_id: Digest, timeout_ms: int) -> StateEntryProof:
        """A contract in the hot state, an offer, or the contract's absence, proven by the next header."""
        state = self._ledger.state
        table = state.offers if contract_id in state.offers else state.contracts
        return await self._state_proof(table.prefix + contract_id, timeout_ms)

    async def _state_proof(self, key: bytes, timeout_ms: int) -> StateEntryProof:
        """The state after block h has its root in header h + 1: prove now, wait for that header (PROTOCOL 9.1)."""
        height = self._ledger.height
        proof = self._ledger.state.prove(key)
        async with asyncio.timeout(timeout_ms / 1_000):
            await self._reached(height + 1)
        row = self._ledger.header_row(height + 1)
        invariant(row.header.height == height + 1, "a header row stands under its height")
        return StateEntryProof(proof, CertifiedHeader(row.header, row.certificate))

    async def _reached(self, height: int) -> None:
        while self._ledger.height < height:
            await self._new_block.wait()

    async def events(self, from_height: int, after_sequence: int | None = None) -> AsyncIterator[BlockEvents]:
        """Blocks from ``from_height`` on, for ever, each exactly once, read at the reader's pace."""
        if self._subscribers >= MAX_SUBSCRIBERS:
            raise TooManySubscribers(f"{MAX_SUBSCRIBERS} event streams are open: try another node")
        self._subscribers += 1
        try:
            height = max(1, from_height)
            after = after_sequence if height == from_height else None
            while True:
                await self._reached(height)
                yield self.block_events(height, after)
                height, after = height + 1, None
        finally:
            self._subscribers -= 1

    # ---- the node itself

    def status(self) -> StatusAnswer:
        """What the node is doing and, if it does not decide, why."""
        ledger, replica, now_ms = self._ledger, self.runtime.replica, self._clock.now().monotonic_ms
        chain = chain_of(ledger.state)
        health = self.health()
        session = self.runtime.synchronizer.session
        context = ledger.context
        own_group = group_of(ledger.state, chain.epoch, self._address)
        serving = context.delegates.position(self._address) is not None
        return StatusAnswer(
            at=self.position(),
            version=software_version(),
            protocol_version=PROTOCOL_VERSION,
            chain_id=ledger.chain_id,
            chain_name=ledger.genesis.chain_name,
            address=self._address,
            public_key=self._key.public_key,
            role=self._role(),
            group=own_group,
            epoch=chain.epoch,
            epoch_phase=chain.phase,
            height=replica.height,
            view=replica.view,
            consensus_phase=replica.phase,
            delegates=self._delegate_votes(now_ms),
            bft=len(context.delegates) >= 4,
            caught_up=session.caught_up,
            best_known_height=max(session.target_height, ledger.height),
            abstaining_until=self.runtime.abstaining_until,
            leaves_at_height=serves_until(ledger.state, self._address) if serving else None,
            ready=health.ready,
            not_ready_because=health.problems,
            peers=self._peers(),
            pool=self._pool_view(),
            members=ledger.state.totals.require(SINGLETON).members,
            last_commit_age_ms=now_ms - self.runtime.last_commit_ms,
            uptime_ms=now_ms - self._started_ms,
        )

    def _role(self) -> Role:
        replica = self.runtime.replica
        if replica.is_delegate:
            return Role.PRIMARY if replica.primary == self._address else Role.DELEGATE
        return Role.MEMBER if self._ledger.is_member(self._address) else Role.OBSERVER

    def _delegate_votes(self, now_ms: int) -> tuple[DelegateVotes, ...]:
        replica = self.runtime.replica
        votes, primary = replica.last_votes, replica.primary
        answers: list[DelegateVotes] = []
        for rank, delegate in enumerate(replica.context.delegates):
            height, view, phase = votes.get(delegate.address, (None, None, None))
            heard_ms = self.runtime.router.heard_ms.get(delegate.public_key)
            answers.append(
                DelegateVotes(
                    address=delegate.address,
                    rank=rank,
                    primary=delegate.address == primary,
                    height=height,
                    view=view,
                    phase=phase,
                    age_ms=None if heard_ms is None else now_ms - heard_ms,
                )
            )
        return tuple(answers)

    def _peers(self) -> tuple[PeerView, ...]:
        transport = self.runtime.transport
        keys: dict[PublicKey, None] = dict.fromkeys(transport.connected())
        keys.update(dict.fromkeys(self.runtime.peering.wanted_keys()))
        return tuple(self._peer(key) for key in keys)

    def _peer(self, key: PublicKey) -> PeerView:
        endpoint = self._book.endpoint(key)
        return PeerView(
            public_key=key,
            address=address_of(key),
            connected=self.runtime.transport.is_connected(key),
            endpoint="" if endpoint is None else endpoint.text(),
            height=self.runtime.router.heights.get(key),
        )

    def _pool_view(self) -> PoolView:
        pool = self.runtime.pool
        return PoolView(len(pool), pool.size_bytes, pool.limits.max_transactions, pool.limits.max_bytes)

    def health(self) -> Health:
        """Live: the consensus task runs and the loop turns. Ready: caught up, and commits come."""
        problems: list[str] = []
        live = True
        if self.runtime.failed.done():
            live = False
            problems.append(f"the node has stopped: {self.runtime.failed.exception()}")
        lag_ms = self._watch.lag_ms
        if lag_ms > DEAD_LAG_MS:
            live = False
            problems.append(f"the event loop is {lag_ms / 1_000:.0f} s late")
        session = self.runtime.synchronizer.session
        if not session.caught_up:
            problems.append(f"catching up: at {self._ledger.height}, others announce {session.target_height}")
        p = self._ledger.genesis.parameters
        age_ms = self._clock.now().monotonic_ms - self.runtime.last_commit_ms
        limit_ms = STALE_INTERVALS * p.empty_block_interval_ms + STALE_VIEWS * p.view_timeout_ms
        if session.caught_up and age_ms > limit_ms:
            problems.append(f"no block for {age_ms} ms: too few delegates answer, see /v1/status")
        return Health(live, live and not problems, tuple(problems))

    def figures(self) -> Figures:
        """Numbers for /metrics."""
        runtime, ledger = self.runtime, self._ledger
        return Figures(
            height=runtime.replica.height,
            view=runtime.replica.view,
            blocks_committed=self._counts["blocks"],
            transactions_committed=self._counts["committed"],
            transactions_rejected=self._counts["rejected"],
            submissions_accepted=runtime.intake.accepted,
            submissions_refused=runtime.intake.refused,
            signatures_verified=runtime.checks.checked,
            view_changes=runtime.trace_counts["view-change"],
            journal_syncs=runtime.journal.syncs,
            journal_sync_ms=runtime.journal.sync_seconds * 1_000,
            journal_bytes=runtime.journal.size_bytes,
            ledger_bytes=ledger.store.size_bytes(),
            pool_transactions=len(runtime.pool),
            pool_bytes=runtime.pool.size_bytes,
            peers_connected=len(runtime.transport.connected()),
            messages_received=runtime.transport.metrics.messages_received,
            loop_lag_ms=self._watch.lag_ms,
            last_commit_age_ms=self._clock.now().monotonic_ms - runtime.last_commit_ms,
            resident_bytes=resident_bytes(),
        )
