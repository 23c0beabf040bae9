"""Reads of one ledger for the API: by key and by short ranges, each answer at one position (LESSONS 14, 19)."""

from collections.abc import Iterator

from consensus.block import full_hash
from consensus.delegates import DelegateSet
from consensus.merkle import leaf_hash, merkle_path
from consensus.types import Address, Digest
from contracts.epoch_queries import group_of, groups_status
from contracts.epoch_state import chain_of
from contracts.receipts import ReasonCode
from contracts.seats import delegate_set_at
from contracts.state import Account
from contracts.trade_records import MeterRecord
from node.ledger_index import events_of
from node.ledger_rows import (
    EpochRow,
    HeaderRow,
    Location,
    Prefix,
    credit_codec,
    delegates_codec,
    epoch_codec,
    number,
    place_of,
)
from node.paging import check_limit, cursor_bytes, number_of
from node.service import (
    DEFAULT_PAGE_ITEMS,
    BlockAnswer,
    BlockEvents,
    BlockSummary,
    CertificateAnswer,
    CertifiedHeader,
    CreditEntry,
    DelegateChange,
    DelegatesAnswer,
    EpochAnswer,
    EventRecord,
    GroupsAnswer,
    GroupView,
    InvalidCursor,
    MemberAnswer,
    MemberView,
    Page,
    ParametersAnswer,
    ReceiptProof,
    TransactionState,
    TransactionStatus,
    UnknownResource,
)
from node.trade_queries import TradeQueries


class LedgerQueries(TradeQueries):
    """All reading methods of `node.service.NodeService` that need only the ledger."""

    def _rows(
        self, prefix: bytes, cursor: str | None, length: int, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows behind ``cursor``, which names the last key end of the page before; ``length`` of a key's end."""
        start = None
        if cursor is not None:
            start = prefix + cursor_bytes(cursor, length)
        for key, value in self._ledger.store.scan(prefix, start, reverse=reverse):
            if key != start:
                yield key, value

    # ---- members

    def members(self, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS) -> Page[MemberView]:
        """All members and leavers in address order."""
        check_limit(limit)
        rows = self._rows(Prefix.STATE + self._ledger.state.accounts.prefix, cursor, 20, reverse=False)
        found: list[MemberView] = []
        for key, _ in rows:
            if len(found) == limit:
                return Page(self.position(), tuple(found), found[-1].address.hex())
            address = key[-20:]
            found.append(self._member(address, self._ledger.state.accounts.require(address)))
        return Page(self.position(), tuple(found), None)

    def member(self, address: Address) -> MemberAnswer:
        """One member."""
        account = self._ledger.state.accounts.get(address)
        if account is None:
            raise UnknownResource(f"no member has the address {address.hex()}")
        return MemberAnswer(self.position(), self._member(address, account))

    def _member(self, address: Address, account: Account) -> MemberView:
        state = self._ledger.state
        meter: MeterRecord | None = state.meters.get(address)
        term = meter.terms[-1] if meter is not None and meter.terms else None
        return MemberView(
            address=address,
            public_key=account.public_key,
            balance=account.balance,
            credit=account.credit,
            energy_wh=account.energy_wh,
            open_contracts=account.open_contracts,
            active_epoch=account.active_epoch,
            left_height=account.left_height,
            group=group_of(state, chain_of(state).epoch, address),
            seat=self._ledger.context.delegates.position(address),
            meter_public_key=None if term is None else term.public_key,
            max_power_w=None if term is None else term.max_power_w,
        )

    def credit_history(
        self, address: Address, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS
    ) -> Page[CreditEntry]:
        """A member's credit changes with reasons, newest first."""
        check_limit(limit)
        self.member(address)
        found: list[CreditEntry] = []
        last = b""
        for key, value in self._rows(Prefix.CREDIT + address, cursor, 12, reverse=True):
            if len(found) == limit:
                return Page(self.position(), tuple(found), last.hex())
            row, (height, _) = credit_codec.decode(value), place_of(key[-12:])
            time_ms = self._header_row(height).header.time_ms
            found.append(CreditEntry(height, time_ms, row.reason, row.delta, row.credit))
            last = key[-12:]
        return Page(self.position(), tuple(found), None)

    # ---- epochs and delegates

    def groups(self) -> GroupsAnswer:
        """The current epoch's groups."""
        state = self._ledger.state
        epoch = chain_of(state).epoch
        groups = tuple(
            GroupView(
                number=status.number,
                members=tuple(member.address for member in status.members),
                delegate=None if status.seat is None else status.seat.holder,
                energy_wh=status.energy_wh,
                credit=status.credit,
            )
            for status in groups_status(state, epoch)
        )
        return GroupsAnswer(self.position(), epoch, groups)

    def current_epoch(self) -> int:
        """Epoch of the next block."""
        return chain_of(self._ledger.state).epoch

    def epoch(self, epoch: int) -> EpochAnswer:
        """An epoch: heights, groups, delegates and tallies."""
        data = self._ledger.store.get(Prefix.EPOCH + number(epoch)) if 0 <= epoch < 2**63 else None
        if data is None:
            raise UnknownResource(
                f"nothing is known of epoch {epoch} yet; the current one is {self.current_epoch()}"
            )
        row: EpochRow = epoch_codec.decode(data)
        chain = chain_of(self._ledger.state)
        return EpochAnswer(
            at=self.position(),
            epoch=epoch,
            phase=chain.phase if chain.epoch == epoch else None,
            first_height=row.first_height,
            snapshot_height=row.snapshot_height,
            closing_height=row.closing_height,
            members=row.members,
            assignment=row.assignment,
            energy_excess_wh=row.energy_excess_wh,
            credit_excess=row.credit_excess,
            submitted_plan=row.submitted,
            delegates=row.delegates,
            tallies=row.tallies,
        )

    def delegates(self, height: int | None = None) -> DelegatesAnswer:
        """C(height); by default of the undecided height, at most one above it."""
        ledger = self._ledger
        context = ledger.context
        chosen = context.height if height is None else height
        if not 1 <= chosen <= context.height + 1:
            raise UnknownResource(f"C({chosen}) is not known: heights 1 to {context.height + 1} are")
        if chosen <= ledger.height:
            header = self._header_row(chosen).header
            epoch, primary = header.epoch, header.proposer
        else:
            epoch, primary = context.epoch, context.head
        if chosen > ledger.height:
            delegates = delegate_set_at(ledger.state, chosen)
            if chosen > context.height:
                primary = primary if delegates.position(primary) is not None else delegates.ranking[0].address
            ranking = delegates.ranking
        else:
            ranking = ledger.delegates_at(chosen)
        faults = (len(ranking) - 1) // 3
        return DelegatesAnswer(
            at=self.position(),
            height=chosen,
            epoch=epoch,
            ranking=ranking,
            primary=primary,
            quorum=len(ranking) - faults,
            faults=faults,
            set_hash=DelegateSet(ranking).hash(),
        )

    def delegate_changes(
        self, from_height: int = 1, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS
    ) -> Page[DelegateChange]:
        """Links of the chain of set hashes at heights from ``from_height`` on, oldest first."""
        check_limit(limit)
        if not 0 <= from_height < 2**62:
            raise InvalidCursor("from_height is a height")
        start = max(from_height, 1) + 1 if cursor is None else number_of(cursor) + 1
        prefix = bytes(Prefix.DELEGATES)
        found: list[DelegateChange] = []
        for key, value in self._ledger.store.scan(prefix, prefix + number(start)):
            height = int.from_bytes(key[1:], "big")
            if height > self._ledger.height + 1:
                break  # its link is the next block's header
            if len(found) == limit:
                return Page(
                    self.position(), tuple(found), number(found[-1].certified.header.height + 1).hex()
                )
            found.append(DelegateChange(self._certified_header(height - 1), delegates_codec.decode(value)))
        return Page(self.position(), tuple(found), None)

    def parameters(self) -> ParametersAnswer:
        """Genesis, with the rules of PROTOCOL 11."""
        return ParametersAnswer(self.position(), self._ledger.chain_id, self._ledger.genesis)

    # ---- blocks

    def blocks(self, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS) -> Page[BlockSummary]:
        """Decided blocks, newest first."""
        check_limit(limit)
        newest = self._ledger.height if cursor is None else min(self._ledger.height, number_of(cursor) - 1)
        found = [self._summary(height) for height in range(newest, max(0, newest - limit), -1)]
        more = bool(found) and found[-1].height > 1
        return Page(self.position(), tuple(found), number(found[-1].height).hex() if more else None)

    def _summary(self, height: int) -> BlockSummary:
        row = self._header_row(height)
        header = row.header
        return BlockSummary(
            height=height,
            hash=row.certificate.digest,
            time_ms=header.time_ms,
            epoch=header.epoch,
            view=header.view,
            proposer=header.proposer,
            transactions=row.transactions,
            discarded=row.discarded,
        )

    def block(self, height: int) -> BlockAnswer:
        """A decided block with its receipts."""
        certified = self._ledger.certified_block(height) if 0 < height < 2**63 else None
        if certified is None:
            raise UnknownResource(
                f"block {height} is not decided here; the last one is {self._ledger.height}"
            )
        receipts = self._ledger.receipts(height)
        return BlockAnswer(
            at=self.position(),
            hash=certified.certificate.digest,
            block=certified.block,
            transaction_ids=tuple(receipt.transaction_id for receipt in receipts[:-1]),
            receipts=receipts,
        )

    def certificate(self, height: int) -> CertificateAnswer:
        """A decided block's header and certificate."""
        certified = self._certified_header(height)
        return CertificateAnswer(self.position(), certified, self._ledger.delegates_at(height))

    def certified_block(self, height: int) -> bytes:
        """Canonical bytes of `consensus.block.CertifiedBlock`, for auditors."""
        data = self._ledger.certified_bytes(height) if 0 < height < 2**63 else None
        if data is None:
            raise UnknownResource(
                f"block {height} is not decided here; the last one is {self._ledger.height}"
            )
        return data

    def block_events(self, height: int, after_sequence: int | None = None) -> BlockEvents:
        """All events of a decided block, those up to ``after_sequence`` left out."""
        row = self._header_row(height)
        first = 0 if after_sequence is None else after_sequence + 1
        records = tuple(
            EventRecord(height, sequence, transaction_id, event)
            for sequence, (transaction_id, event) in enumerate(events_of(self._ledger.receipts(height)))
            if sequence >= first
        )
        return BlockEvents(height, row.certificate.digest, row.header.time_ms, row.transactions, records)

    def _header_row(self, height: int) -> HeaderRow:
        try:
            return self._ledger.header_row(height if 0 <= height < 2**63 else 0)
        except LookupError as error:
            raise UnknownResource(str(error)) from None

    def _certified_header(self, height: int) -> CertifiedHeader:
        row = self._header_row(height)
        return CertifiedHeader(row.header, row.certificate)

    # ---- transactions

    def decided_status(self, transaction_id: Digest, proof: bool) -> TransactionStatus | None:
        """Where and how a transaction ended; None if no decided block holds or removes it."""
        location = self._ledger.locate(transaction_id)
        if location is None:
            return None
        if location.discarded:
            return self._discarded_status(transaction_id, location, proof)
        receipt = self._ledger.receipt(location.height, location.index)
        committed = receipt.code is ReasonCode.OK
        return TransactionStatus(
            at=self.position(),
            id=transaction_id,
            state=TransactionState.COMMITTED if committed else TransactionState.REJECTED,
            height=location.height,
            index=location.index,
            raw=self._raw(location),
            receipt=receipt,
            reason="" if committed else receipt.code.name.lower(),
            proof=self.receipt_proof(location) if proof else None,
        )

    def _discarded_status(self, transaction_id: Digest, location: Location, proof: bool) -> TransactionStatus:
        return TransactionStatus(
            at=self.position(),
            id=transaction_id,
            state=TransactionState.DISCARDED,
            height=location.height,
            raw=self._raw(location),
            receipt=self._ledger.receipt(location.height, -1),
            reason="removed: f + 1 primaries proposed it in failed views; submit it anew (PROTOCOL 6.10)",
            proof=self.receipt_proof(location) if proof else None,
        )

    def _raw(self, location: Location) -> bytes | None:
        certified = self._ledger.certified_block(location.height)
        if certified is None:
            return None
        if location.discarded:
            return certified.block.discarded[location.index].transaction
        return certified.block.transactions[location.index]

    def receipt_proof(self, location: Location) -> ReceiptProof | None:
        """Proof of a decided transaction's receipt, or of the block's own for a removed one; None until h + 1."""
        height = location.height
        if height >= self._ledger.height:
            return None
        leaves = [leaf_hash(item) for item in self._ledger.receipt_bytes(height)]
        path = None
        if not location.discarded:
            certified = self._ledger.certified_block(height)
            if certified is None:
                return None
            references = [leaf_hash(full_hash(raw)) for raw in certified.block.transactions]
            path = merkle_path(references, location.index)
        index = len(leaves) - 1 if location.discarded else location.index
        return ReceiptProof(
            self._header_row(height).header,
            path,
            merkle_path(leaves, index),
            self._certified_header(height + 1),
        )
