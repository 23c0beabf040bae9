"""Checking a proposal beside the replica: gather, judge, see what it left out (PROTOCOL 6.4, 6.7, 6.8).

A proposal names its transactions by hash. Those in the pool are at hand and valid; the others are asked from who sent
the proposal, then from the other delegates in turn, until they are there or the height ends.
"""

import asyncio
from collections.abc import Callable, Container, Sequence
from typing import Final

from consensus.block import Block, Header, full_hash
from consensus.complaint import ProposedBlock, overlooked, proposal_wait_ms
from consensus.effects import CheckProposal
from consensus.errors import MalformedInput
from consensus.inputs import Offending, Overlooked
from consensus.parameters import Parameters
from consensus.proposal import removals_size
from consensus.types import Digest, PublicKey, Value
from contracts.transaction import MAX_TRANSACTION_BYTES, Transaction, decode_transaction
from contracts.validation import InvalidTransaction, check_block_transactions, check_window
from network.links import Links
from network.wire import (
    MAX_TRANSACTIONS,
    MAX_TRANSACTIONS_BYTES,
    TransactionsRequest,
    TransactionsResponse,
)
from node.clock import Clock
from node.ledger import Ledger
from node.mempool import Entry, Mempool
from node.verification import SignatureChecks, Verdict

RETRY_MS: Final = 150
"""After so long without an answer the next delegate is asked as well: a few round trips and a MiB's transfer."""
MAX_CHECKS: Final = 4
"""Proposals being gathered at once, one a view; a flood of them costs the oldest its place."""
MAX_BLOCKS_KNOWN: Final = 8
"""Blocks of the undecided height whose transactions are kept for peers that ask."""


class CheckedProposal(Value, frozen=True):
    """The fields of `consensus.inputs.ProposalChecked` but its instant."""

    height: int
    view: int
    digest: Digest
    block: Block | None
    reason: str | None
    overlooked: tuple[Overlooked, ...]
    newest_includable_wait_ms: int | None
    offending: Offending | None


class _Gathering:
    """One proposal whose transactions are not all there yet."""

    def __init__(self, effect: CheckProposal, held_ms: int) -> None:
        self.effect = effect
        self.held_ms = held_ms
        """When the proposal was held."""
        self.digest = effect.proposal.vote.digest
        self.found: dict[Digest, Transaction] = {}
        self.unchecked: dict[Digest, Transaction] = {}
        """Those of ``found`` that did not come from the pool."""
        self.missing: dict[Digest, None] = {}
        self.awaited: dict[Digest, None] = {}
        """On their way into the pool, their signatures being checked: neither asked for nor checked again."""
        self.asked = 0
        self.timer: asyncio.TimerHandle | None = None


class ProposalChecks:
    """All proposals of the undecided height that are being gathered or were judged."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        pool: Mempool,
        checks: SignatureChecks,
        links: Links,
        clock: Clock,
        own_key: PublicKey,
        answer: Callable[[CheckedProposal], None],
        on_left_out: Callable[[Container[Digest], int], None],
    ) -> None:
        """``answer`` is called on the loop, later or from within `check`.

        ``on_left_out`` is told what a proposal with room holds, and since when what it lacks must have been here.
        """
        self._ledger = ledger
        self._pool = pool
        self._checks = checks
        self._links = links
        self._clock = clock
        self._own_key = own_key
        self._answer = answer
        self._on_left_out = on_left_out
        self._gathering: dict[Digest, _Gathering] = {}
        self._transactions: dict[Digest, tuple[Transaction, ...]] = {}
        """Of judged and valid blocks, by block digest."""
        self._held_blocks: dict[Digest, Block] = {}

    # ---- from the replica

    def check(self, effect: CheckProposal) -> None:
        """Begin to gather and judge ``effect.proposal``."""
        digest = effect.proposal.vote.digest
        old = self._gathering.pop(digest, None)
        if old is not None and old.timer is not None:
            old.timer.cancel()
        while len(self._gathering) >= MAX_CHECKS:
            self._drop(next(iter(self._gathering)))
        gathering = _Gathering(effect, self._clock.now().monotonic_ms)
        self._gathering[digest] = gathering
        known = self._known_bytes(effect)
        for reference in effect.proposal.references:
            transaction = self._pool.by_reference(reference)
            if transaction is not None:
                gathering.found[reference] = transaction
            elif reference in known:
                self._take(gathering, reference, known[reference])
            elif self._pool.is_checking(reference):
                gathering.awaited[reference] = None
            else:
                gathering.missing[reference] = None
        if digest in self._gathering:
            self._go_on(gathering)

    def judged(self, entries: Sequence[Entry]) -> None:
        """The signatures of ``entries`` were checked: what a proposal waits for is now in the pool, or missing."""
        for gathering in list(self._gathering.values()):
            touched = False
            for entry in entries:
                reference = entry.transaction.reference
                if reference not in gathering.awaited and reference not in gathering.missing:
                    continue
                touched = True
                gathering.awaited.pop(reference, None)
                transaction = self._pool.by_reference(reference)
                if transaction is None:  # refused, or its id came with other bytes: judged as the proposal's
                    gathering.missing[reference] = None
                else:
                    gathering.missing.pop(reference, None)
                    gathering.found[reference] = transaction
            if touched and not gathering.awaited and (gathering.timer is None or not gathering.missing):
                self._go_on(gathering)

    def entered_height(self) -> None:
        """The ledger moved on: nothing of the height before matters any more."""
        for digest in list(self._gathering):
            self._drop(digest)
        self._transactions.clear()
        self._held_blocks.clear()

    def hold(self, block: Block) -> None:
        """A block of the undecided height that this node has stored: its transactions are served on request."""
        if len(self._held_blocks) >= MAX_BLOCKS_KNOWN:
            del self._held_blocks[next(iter(self._held_blocks))]
        self._held_blocks[block.header.digest()] = block

    def note_batch(self, header: Header, transactions: tuple[Transaction, ...]) -> None:
        """This node's own proposal: nothing to check, and nothing to decode again when it is decided."""
        self._transactions[header.digest()] = transactions

    def transactions_of(self, digest: Digest, block: Block) -> list[Transaction]:
        """The decoded transactions of a decided block, from what is at hand as far as possible."""
        judged = self._transactions.get(digest)
        if judged is not None:
            return list(judged)
        return [
            self._pool.by_reference(full_hash(raw)) or decode_transaction(raw) for raw in block.transactions
        ]

    # ---- from peers

    def request(self, sender: PublicKey, request: TransactionsRequest) -> None:
        """Answer with what the pool, a proposal being gathered or a stored block holds of the asked-for."""
        found: list[bytes] = []
        size = 0
        stored: dict[Digest, bytes] | None = None
        for reference in request.references:
            raw = self._raw(reference)
            if raw is None:
                if stored is None:
                    stored = self._stored_bytes()
                raw = stored.get(reference)
            if raw is None:
                continue
            size += len(raw)
            if size > MAX_TRANSACTIONS_BYTES:
                break
            found.append(raw)
        self._links.send(sender, TransactionsResponse(tuple(found)))

    def response(self, response: TransactionsResponse) -> None:
        """Take in what is missing somewhere; the hash is the proof, so it does not matter who sent it."""
        if not self._gathering:
            return
        for raw in response.transactions:
            reference = full_hash(raw)
            for gathering in list(self._gathering.values()):
                if reference in gathering.missing:
                    del gathering.missing[reference]
                    self._take(gathering, reference, raw)
        for gathering in list(self._gathering.values()):
            if not gathering.missing and gathering.timer is not None:
                self._go_on(gathering)

    # ---- gathering

    def _known_bytes(self, effect: CheckProposal) -> dict[Digest, bytes]:
        if effect.known is None:
            return self._stored_bytes() if self._held_blocks else {}
        return dict(zip(effect.proposal.references, effect.known.transactions, strict=False))

    def _stored_bytes(self) -> dict[Digest, bytes]:
        return {full_hash(raw): raw for block in self._held_blocks.values() for raw in block.transactions}

    def _raw(self, reference: Digest) -> bytes | None:
        transaction = self._pool.by_reference(reference)
        if transaction is None:
            for gathering in self._gathering.values():
                transaction = gathering.found.get(reference)
                if transaction is not None:
                    break
        return None if transaction is None else transaction.raw

    def _take(self, gathering: _Gathering, reference: Digest, raw: bytes) -> None:
        """Bytes with the right hash; if they are no transaction the proposal is provably wrong."""
        try:
            transaction = decode_transaction(raw, reference)
        except MalformedInput as error:
            self._refuse(gathering, str(error), self._offending(gathering, reference, raw))
            return
        gathering.found[reference] = gathering.unchecked[reference] = transaction

    def _offending(self, gathering: _Gathering, reference: Digest, raw: bytes) -> Offending:
        return Offending(gathering.effect.proposal.references.index(reference), raw)

    def _go_on(self, gathering: _Gathering) -> None:
        if gathering.timer is not None:
            gathering.timer.cancel()
            gathering.timer = None
        if gathering.missing:
            self._ask(gathering)
        elif gathering.awaited:
            return
        elif gathering.unchecked:
            references = list(gathering.unchecked)
            self._checks.submit(
                [gathering.unchecked[reference] for reference in references],
                lambda verdicts: self._signatures_checked(gathering, references, verdicts),
            )
        else:
            self._judge(gathering)

    def _ask(self, gathering: _Gathering) -> None:
        """The sender first, then the delegates one after the other."""
        others = [
            delegate.public_key
            for delegate in self._ledger.context.delegates
            if delegate.public_key not in (self._own_key, gathering.effect.sender)
        ]
        sources = [gathering.effect.sender, *others]
        source = sources[gathering.asked % len(sources)]
        gathering.asked += 1
        missing = list(gathering.missing)
        for start in range(0, len(missing), MAX_TRANSACTIONS):
            self._links.send(source, TransactionsRequest(tuple(missing[start : start + MAX_TRANSACTIONS])))
        loop = asyncio.get_running_loop()
        gathering.timer = loop.call_later(RETRY_MS / 1_000, self._retry, gathering)

    def _retry(self, gathering: _Gathering) -> None:
        if self._gathering.get(gathering.digest) is not gathering:
            return
        # What was missing may have come into the pool by gossip meanwhile.
        for reference in list(gathering.missing):
            transaction = self._pool.by_reference(reference)
            if transaction is not None:
                gathering.found[reference] = transaction
                del gathering.missing[reference]
        self._go_on(gathering)

    def _signatures_checked(
        self, gathering: _Gathering, references: list[Digest], verdicts: Sequence[Verdict]
    ) -> None:
        if self._gathering.get(gathering.digest) is not gathering:
            return
        for reference, verdict in zip(references, verdicts, strict=True):
            if verdict is not None:
                raw = gathering.unchecked[reference].raw
                self._refuse(gathering, str(verdict), self._offending(gathering, reference, raw))
                return
        self._judge(gathering)

    # ---- judging

    def _judge(self, gathering: _Gathering) -> None:
        """Everything is there and its signatures hold: windows, ids, sizes (PROTOCOL 6.8), and what was left out."""
        proposal = gathering.effect.proposal
        header = proposal.header
        if header.height != self._ledger.height + 1:
            self._drop(gathering.digest)
            return
        transactions = tuple(gathering.found[reference] for reference in proposal.references)
        for index, transaction in enumerate(transactions):
            try:
                check_window(transaction, header.time_ms)
            except InvalidTransaction as error:
                self._refuse(gathering, str(error), Offending(index, transaction.raw))
                return
        try:
            check_block_transactions(
                self._ledger.state,
                transactions,
                proposal.discarded,
                time_ms=header.time_ms,
                parameters=self._ledger.genesis.parameters,
            )
        except InvalidTransaction as error:
            self._refuse(gathering, str(error), None)
            return
        raws = tuple([transaction.raw for transaction in transactions])
        block = gathering.effect.known or Block(header, raws, proposal.last_commit, proposal.discarded)
        self._transactions[gathering.digest] = transactions
        self._finish(gathering, block, None, None, *self._complaints(gathering, transactions))

    def _complaints(
        self, gathering: _Gathering, transactions: Sequence[Transaction]
    ) -> tuple[tuple[Overlooked, ...], int | None]:
        """Facts for 6.7, as of the moment at which the proposal was held."""
        proposal, parameters = gathering.effect.proposal, self._ledger.genesis.parameters
        included = {transaction.id for transaction in transactions}
        included.update(item.transaction_id for item in proposal.discarded)
        arrivals = [
            entry.received_ms
            for transaction in transactions
            if (entry := self._pool.get(transaction.id)) is not None
            and entry.received_ms <= gathering.held_ms
        ]
        proposed = ProposedBlock(
            proposal.header.time_ms,
            len(transactions),
            sum(len(transaction.raw) for transaction in transactions) + removals_size(proposal.discarded),
            max(arrivals, default=None),
        )
        waiting = self._pool.complaint_entries(included, gathering.held_ms - parameters.request_timeout_ms)
        left_out = overlooked(waiting, proposed, gathering.held_ms, parameters)
        if has_room(proposed.transaction_count, proposed.size_bytes, parameters):
            self._on_left_out(included, gathering.held_ms - parameters.request_timeout_ms // 2)
        if not transactions:
            return left_out, None
        oldest_ms = min(arrivals, default=gathering.held_ms)
        wait_ms = proposal_wait_ms(gathering.effect.entered_ms, oldest_ms, gathering.held_ms)
        return left_out, wait_ms

    def _refuse(self, gathering: _Gathering, reason: str, offending: Offending | None) -> None:
        self._finish(gathering, None, reason, offending, (), None)

    def _finish(
        self,
        gathering: _Gathering,
        block: Block | None,
        reason: str | None,
        offending: Offending | None,
        left_out: tuple[Overlooked, ...],
        wait_ms: int | None,
    ) -> None:
        if self._gathering.get(gathering.digest) is not gathering:
            return
        self._drop(gathering.digest)
        vote = gathering.effect.proposal.vote
        self._answer(
            CheckedProposal(vote.height, vote.view, vote.digest, block, reason, left_out, wait_ms, offending)
        )

    def _drop(self, digest: Digest) -> None:
        gathering = self._gathering.pop(digest)
        if gathering.timer is not None:
            gathering.timer.cancel()


def has_room(count: int, size_bytes: int, parameters: Parameters) -> bool:
    """Whether a block of ``count`` transactions and ``size_bytes`` could have held any other transaction."""
    return (
        count < parameters.max_block_transactions
        and size_bytes + MAX_TRANSACTION_BYTES <= parameters.max_block_bytes
    )
