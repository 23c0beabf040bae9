"""`NodeService` on a `MiniChain`: answers from memory, takes what it is told to take, remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator

from consensus.delegates import Delegate
from consensus.errors import MalformedInput
from consensus.types import Address, Digest
from contracts.receipts import (
    CreditChanged,
    CreditReason,
    EpochPhase,
    Event,
    GroupTallied,
    TradeSettled,
    TradeState,
)
from contracts.state import account_of
from contracts.transaction import (
    BuyerRule,
    Payload,
    Terms,
    Transaction,
    Transfer,
    decode_transaction,
)
from node import service as s
from tests.unit.node.mini_chain import BLOCK_MS, GENESIS_MS, MiniChain, key

TRADE_ID = bytes([7]) * 32
OFFER_ID = bytes([8]) * 32


class FakeNode:
    """The node of the first member."""

    def __init__(self) -> None:
        self.chain = MiniChain()
        self.own = key(1)
        self.other = key(2).address
        self.submitted: list[bytes] = []
        self.payloads: list[Payload] = []
        self.votes: list[tuple[Address, ...]] = []
        self.outcome: s.SubmitOutcome | None = None
        """Answer to every submission, where set."""
        self.pending: dict[Digest, Transaction] = {}
        self.healthy = s.Health(True, True, ())
        self.proofs_come = True
        self.max_streams = 8
        self.streams = 0
        self.new_block = asyncio.Condition()
        self.raw = self.chain.transaction(Transfer(self.other, 5), self.own)
        self.first_id = decode_transaction(self.raw).id
        changed = CreditChanged(self.own.address, CreditReason.DELEGATE_REWARD, 1_000, 51_000)
        self.chain.decide((self.raw,), (changed, changed))
        self.chain.decide()
        self.chain.decide()

    # ---- driving it

    async def decide(self, events: tuple[Event, ...] = ()) -> None:
        """One more block, with all that is pending in it."""
        raws = tuple(transaction.raw for transaction in self.pending.values())
        self.pending.clear()
        self.chain.decide(raws, events)
        async with self.new_block:
            self.new_block.notify_all()

    # ---- submitting

    async def submit(self, raw: bytes) -> s.SubmitOutcome:
        self.submitted.append(raw)
        if self.outcome is not None:
            return self.outcome
        try:
            transaction = decode_transaction(raw)
        except MalformedInput as error:
            return s.SubmitOutcome(s.SubmitCode.MALFORMED, None, None, str(error))
        status = self.transaction_status(transaction.id)
        if status.state is not s.TransactionState.UNKNOWN:
            return s.SubmitOutcome(s.SubmitCode.KNOWN, transaction.id, status.state, holders=1)
        self.pending[transaction.id] = transaction
        return s.SubmitOutcome(s.SubmitCode.ACCEPTED, transaction.id, s.TransactionState.PENDING, holders=1)

    async def submit_many(self, raws: list[bytes]) -> list[s.SubmitOutcome]:
        return [await self.submit(raw) for raw in raws]

    async def sign_and_submit(self, payload: Payload) -> s.SubmitOutcome:
        self.payloads.append(payload)
        return await self.submit(self.chain.transaction(payload, self.own, len(self.payloads)))

    async def vote(self, choices: tuple[Address, ...]) -> s.SubmitOutcome:
        self.votes.append(choices)
        return self.outcome or s.SubmitOutcome(
            s.SubmitCode.ACCEPTED, bytes(32), s.TransactionState.PENDING, holders=1
        )

    def transaction_status(self, transaction_id: Digest, *, proof: bool = False) -> s.TransactionStatus:
        at = self.position()
        if transaction_id in self.pending:
            raw = self.pending[transaction_id].raw
            return s.TransactionStatus(at, transaction_id, s.TransactionState.PENDING, raw=raw, holders=1)
        for height in range(1, self.chain.height + 1):
            for index, raw in enumerate(self.chain.blocks[height - 1].block.transactions):
                if decode_transaction(raw).id == transaction_id:
                    provable = proof and height < self.chain.height
                    return s.TransactionStatus(
                        at,
                        transaction_id,
                        s.TransactionState.COMMITTED,
                        height,
                        index,
                        raw,
                        self.chain.receipts[height][index],
                        "ok",
                        1,
                        self.chain.receipt_proof(height, index) if provable else None,
                    )
        return s.TransactionStatus(at, transaction_id, s.TransactionState.UNKNOWN)

    async def wait_committed(self, transaction_id: Digest, timeout_ms: int) -> s.TransactionStatus:
        def decided() -> bool:
            return self.transaction_status(transaction_id).state is not s.TransactionState.PENDING

        try:
            async with asyncio.timeout(timeout_ms / 1000), self.new_block:
                await self.new_block.wait_for(decided)
        except TimeoutError:
            pass
        return self.transaction_status(transaction_id)

    # ---- reading

    def position(self) -> s.LedgerPosition:
        return self.chain.position()

    def _page(self, items: list, cursor: str | None, limit: int) -> s.Page:  # type: ignore[type-arg]
        if not (cursor or "0").isdigit():
            raise s.InvalidCursor(f"{cursor!r} is no cursor of this list")
        start = int(cursor or 0)
        following = str(start + limit) if start + limit < len(items) else None
        return s.Page(self.position(), tuple(items[start : start + limit]), following)

    def _member(self, address: Address) -> s.MemberView:
        account = account_of(self.chain.state, address)
        if account is None:
            raise s.UnknownResource(f"no member {address.hex()}")
        return s.MemberView(
            address=address,
            public_key=account.public_key,
            balance=account.balance,
            credit=account.credit,
            energy_wh=account.energy_wh,
            open_contracts=account.open_contracts,
            active_epoch=account.active_epoch,
            left_height=account.left_height,
            group=0,
            seat=None,
            meter_public_key=None,
            max_power_w=10_000,
        )

    def _addresses(self) -> list[Address]:
        return [member.address for member in self.chain.genesis.members]

    def members(self, cursor: str | None = None, limit: int = s.DEFAULT_PAGE_ITEMS) -> s.Page[s.MemberView]:
        return self._page([self._member(address) for address in self._addresses()], cursor, limit)

    def member(self, address: Address) -> s.MemberAnswer:
        return s.MemberAnswer(self.position(), self._member(address))

    def credit_history(
        self, address: Address, cursor: str | None = None, limit: int = s.DEFAULT_PAGE_ITEMS
    ) -> s.Page[s.CreditEntry]:
        self._member(address)
        entry = s.CreditEntry(1, GENESIS_MS, CreditReason.DELEGATE_REWARD, 1_000, 51_000)
        return self._page([entry], cursor, limit)

    def groups(self) -> s.GroupsAnswer:
        groups = tuple(
            s.GroupView(number, (address,), address, 0, 50_000)
            for number, address in enumerate(self._addresses())
        )
        return s.GroupsAnswer(self.position(), 0, groups)

    def current_epoch(self) -> int:
        return 0

    def epoch(self, number: int) -> s.EpochAnswer:
        if number > 0:
            raise s.UnknownResource(f"epoch {number} has not begun")
        addresses = self._addresses()
        return s.EpochAnswer(
            at=self.position(),
            epoch=0,
            phase=EpochPhase.RUNNING,
            first_height=1,
            snapshot_height=None,
            closing_height=None,
            members=tuple(addresses),
            assignment=tuple(range(len(addresses))),
            energy_excess_wh=0,
            credit_excess=0,
            submitted_plan=False,
            delegates=tuple(addresses),
            tallies=(GroupTallied(0, 0, addresses[0], 50_000, 1, False),),
        )

    def delegates(self, height: int | None = None) -> s.DelegatesAnswer:
        height = self.chain.height + 1 if height is None else height
        if height > self.chain.height + 1:
            raise s.UnknownResource(f"the set of height {height} is not known yet")
        found = self.chain.sets[height - 1]
        return s.DelegatesAnswer(
            at=self.position(),
            height=height,
            epoch=0,
            ranking=found.ranking,
            primary=found.ranking[0].address,
            quorum=found.quorum,
            faults=found.faults,
            set_hash=found.hash(),
        )

    def delegate_changes(
        self, from_height: int = 1, cursor: str | None = None, limit: int = s.DEFAULT_PAGE_ITEMS
    ) -> s.Page[s.DelegateChange]:
        links = [
            s.DelegateChange(self.chain.certified(height), self.chain.sets[height].ranking)
            for height in range(from_height, self.chain.height + 1)
            if self.chain.sets[height] != self.chain.sets[height - 1]
        ]
        return self._page(links, cursor, limit)

    def parameters(self) -> s.ParametersAnswer:
        return s.ParametersAnswer(self.position(), self.chain.chain_id, self.chain.genesis)

    def _known(self, height: int) -> None:
        if not 1 <= height <= self.chain.height:
            raise s.UnknownResource(f"block {height} is not decided")

    def blocks(self, cursor: str | None = None, limit: int = s.DEFAULT_PAGE_ITEMS) -> s.Page[s.BlockSummary]:
        rows = [
            s.BlockSummary(
                h.height, h.digest(), h.time_ms, h.epoch, h.view, h.proposer, len(b.transactions), 0
            )
            for b in (certified.block for certified in reversed(self.chain.blocks))
            for h in (b.header,)
        ]
        return self._page(rows, cursor, limit)

    def block(self, height: int) -> s.BlockAnswer:
        self._known(height)
        block = self.chain.blocks[height - 1].block
        receipts = self.chain.receipts[height]
        ids = tuple(receipt.transaction_id for receipt in receipts[:-1])
        return s.BlockAnswer(self.position(), block.header.digest(), block, ids, receipts)

    def certificate(self, height: int) -> s.CertificateAnswer:
        self._known(height)
        ranking: tuple[Delegate, ...] = self.chain.sets[height - 1].ranking
        return s.CertificateAnswer(self.position(), self.chain.certified(height), ranking)

    def certified_block(self, height: int) -> bytes:
        from consensus.encoding import encode

        self._known(height)
        return encode(self.chain.blocks[height - 1])

    def terms(self) -> Terms:
        return Terms(
            seller=self.own.address,
            buyer=self.other,
            quantity_wh=1_000,
            price=250_000,
            start_ms=GENESIS_MS + 10_000,
            slots=2,
            penalty_bp=1_000,
            buyer_rule=BuyerRule.PAY_ACTUAL,
            expiry_ms=GENESIS_MS + 10_000,
        )

    def trades(
        self,
        party: Address | None = None,
        state: TradeState | None = None,
        cursor: str | None = None,
        limit: int = s.DEFAULT_PAGE_ITEMS,
    ) -> s.Page[s.TradeSummary]:
        rows = [
            s.TradeSummary(TRADE_ID, TradeState.SETTLED, self.terms(), 2),
            s.TradeSummary(OFFER_ID, TradeState.OFFERED, self.terms(), 3),
        ]
        kept = [row for row in rows if state in (None, row.state)]
        parties = (self.own.address, self.other)
        return self._page([row for row in kept if party is None or party in parties], cursor, limit)

    def trade(self, contract_id: Digest) -> s.TradeAnswer:
        if contract_id not in (TRADE_ID, OFFER_ID):
            raise s.UnknownResource(f"no trade {contract_id.hex()}")
        settled = contract_id == TRADE_ID
        state = TradeState.SETTLED if settled else TradeState.OFFERED
        settlement = TradeSettled(contract_id, 900, 1_000, 900, 900, 225_000_000, 2_500_000, 0)
        slot = s.TradeSlot(0, GENESIS_MS + 10_000, 500, 450, True, 500, True, 450, 455, 510)
        return s.TradeAnswer(
            at=self.position(),
            id=contract_id,
            state=state,
            terms=self.terms(),
            escrow=0,
            history=(s.TradeTransition(2, GENESIS_MS, state),),
            slots=(slot,) if settled else (),
            settlement=settlement if settled else None,
            seller_credit_delta=-1_000 if settled else 0,
            buyer_credit_delta=0,
        )

    def quote(self, terms: Terms) -> s.Quote:
        value = terms.quantity_wh * terms.price
        return s.Quote(self.position(), value, value, 0, -10_000, -10_000)

    async def account_proof(self, address: Address, timeout_ms: int) -> s.StateEntryProof:
        if not self.proofs_come:
            raise TimeoutError
        return self.chain.state_proof(self.chain.state.accounts.prefix + address)

    async def contract_proof(self, contract_id: Digest, timeout_ms: int) -> s.StateEntryProof:
        if not self.proofs_come:
            raise TimeoutError
        return self.chain.state_proof(self.chain.state.contracts.prefix + contract_id)

    # ---- events

    def events_of(self, height: int) -> s.BlockEvents:
        header = self.chain.blocks[height - 1].block.header
        records: list[s.EventRecord] = []
        for receipt in self.chain.receipts[height]:
            for event in receipt.events:
                records.append(s.EventRecord(height, len(records), receipt.transaction_id, event))
        transactions = len(self.chain.blocks[height - 1].block.transactions)
        return s.BlockEvents(height, header.digest(), header.time_ms, transactions, tuple(records))

    async def events(
        self, from_height: int, after_sequence: int | None = None
    ) -> AsyncIterator[s.BlockEvents]:
        if self.streams >= self.max_streams:
            raise s.TooManySubscribers(f"{self.max_streams} streams are open")
        self.streams += 1
        try:
            height, after = from_height, after_sequence
            while True:
                async with self.new_block:
                    while self.chain.height < height:
                        await self.new_block.wait()
                block = self.events_of(height)
                kept = tuple(r for r in block.records if after is None or r.sequence > after)
                yield s.BlockEvents(block.height, block.block_hash, block.time_ms, block.transactions, kept)
                height, after = height + 1, None
        finally:
            self.streams -= 1

    # ---- the node

    def status(self) -> s.StatusAnswer:
        at = self.position()
        ranking = self.chain.next_delegates.ranking
        votes = tuple(
            s.DelegateVotes(one.address, rank, rank == 0, at.height + 1, 0, "prepare", 12)
            for rank, one in enumerate(ranking)
        )
        return s.StatusAnswer(
            at=at,
            version="0.1.0",
            protocol_version=1,
            chain_id=self.chain.chain_id,
            chain_name="mini",
            address=self.own.address,
            public_key=self.own.public_key,
            role=s.Role.DELEGATE,
            group=0,
            epoch=0,
            epoch_phase=EpochPhase.RUNNING,
            height=at.height + 1,
            view=0,
            consensus_phase="prepare",
            delegates=votes,
            bft=True,
            caught_up=True,
            best_known_height=at.height,
            abstaining_until=None,
            leaves_at_height=None,
            ready=self.healthy.ready,
            not_ready_because=self.healthy.problems,
            peers=(s.PeerView(key(2).public_key, self.other, True, "127.0.0.1:26702", at.height),),
            pool=s.PoolView(len(self.pending), 0, 20_000, 33_554_432),
            members=4,
            last_commit_age_ms=BLOCK_MS,
            uptime_ms=1_000,
        )

    def health(self) -> s.Health:
        return self.healthy

    def figures(self) -> s.Figures:
        return s.Figures(
            height=self.chain.height + 1,
            view=0,
            blocks_committed=self.chain.height,
            transactions_committed=1,
            transactions_rejected=0,
            submissions_accepted=len(self.submitted),
            submissions_refused=0,
            signatures_verified=9,
            view_changes=2,
            journal_syncs=7,
            journal_sync_ms=3.5,
            journal_bytes=4_096,
            ledger_bytes=8_192,
            pool_transactions=len(self.pending),
            pool_bytes=0,
            peers_connected=1,
            messages_received=11,
            loop_lag_ms=1.5,
            last_commit_age_ms=500,
            resident_bytes=50_000_000,
        )
