"""The ledger: certified blocks, the state after the last one, and everything that was ever decided (PROTOCOL 9).

A decided block is executed in memory and then written with its certificate, receipts, state changes and index rows in
one atomic, synced batch. Memory is ahead of the disk only within `apply`; if the batch fails, the node stops. A block
decided and not written before a crash is decided again from the journal or fetched from peers.
"""

from collections.abc import Sequence
from typing import Final

from consensus.block import Block, Certificate, CertifiedBlock, Header, certified_block_codec
from consensus.certificate import Decision, check_certificate
from consensus.delegates import Delegate
from consensus.encoding import encode
from consensus.errors import InvalidMessage, MalformedInput, fail, invariant
from consensus.hashing import address_of
from consensus.inputs import HeightContext
from consensus.proposal import block_is_whole
from consensus.signing import Verifier
from consensus.types import Address, Digest, PublicKey, Value
from contracts.engine import BlockOutcome, apply_block, genesis_state, height_context, new_state
from contracts.genesis import Genesis, genesis_codec
from contracts.receipts import Receipt, receipt_codec, receipts_root
from contracts.state import SINGLETON, Account, State
from contracts.transaction import Transaction, decode_transaction
from node.errors import NodeError
from node.journal import JournalPosition
from node.ledger_index import BlockIndexer, genesis_rows
from node.ledger_rows import (
    GENESIS_KEY,
    HEAD_KEY,
    HeaderRow,
    HeadRow,
    Location,
    Prefix,
    delegates_codec,
    head_codec,
    header_row_codec,
    location_codec,
    number,
    receipts_codec,
)
from node.store import Store

NO_JOURNAL: Final = JournalPosition(bytes(16), 0)
"""Journal position of a ledger that no journal was ever written beside."""


class LedgerDamaged(NodeError):
    """What is stored contradicts itself, or belongs to another chain."""


class AppliedBlock(Value, frozen=True):
    """A block that is now durable, with what it did."""

    height: int
    header: Header
    block_hash: Digest
    certified: bytes
    """Canonical bytes of the `CertifiedBlock`."""
    transactions: tuple[Transaction, ...]
    discarded: tuple[Digest, ...]
    receipts: tuple[Receipt, ...]


class _Newest(Value, frozen=True):
    """The last block as it was applied: what most readers ask for is not read and decoded again for each."""

    height: int
    certified: CertifiedBlock
    receipts: tuple[Receipt, ...]
    receipt_bytes: tuple[bytes, ...]


class Ledger:
    """One chain's ledger on one store."""

    def __init__(self, store: Store, genesis: Genesis, verifier: Verifier) -> None:
        """Open the ledger in ``store``, or begin it; `LedgerDamaged` if it does not fit or does not add up."""
        self.store = store
        self.genesis = genesis
        self.chain_id: Digest = genesis.hash()
        self.verifier = verifier
        self.journal_position = NO_JOURNAL
        """How far the journal was durable at the last block."""
        self.header: Header | None = None
        """Of the last block; None after genesis."""
        self.certificate: Certificate | None = None
        self.block_hash: Digest = self.chain_id
        self.height = 0
        self._newest: _Newest | None = None
        self.state: State
        head = store.get(HEAD_KEY)
        if head is None:
            self._begin()
        else:
            self._load(head_codec.decode(head))
        self.context: HeightContext = self._make_context()
        """What deciding the next height needs."""

    # ---- opening

    def _begin(self) -> None:
        self.state = genesis_state(self.genesis, self.verifier)
        rows: dict[bytes, bytes | None] = {
            GENESIS_KEY: encode(self.genesis),
            HEAD_KEY: encode(self._head_row(self.state.tree.root, receipts_root(()))),
        }
        for key, value in self.state.entries():
            rows[Prefix.STATE + key] = value
        rows.update(genesis_rows(self.state))
        self.store.write(rows)

    def _load(self, head: HeadRow) -> None:
        stored = self.store.get(GENESIS_KEY)
        if stored is None or genesis_codec.decode(stored).hash() != self.chain_id:
            raise LedgerDamaged("the ledger in this home belongs to another chain: use another home")
        self.state = new_state(self.genesis)
        try:
            self.state.load({key[1:]: value for key, value in self.store.scan(Prefix.STATE)})
        except MalformedInput as error:
            raise LedgerDamaged(f"the stored state cannot be read ({error}); {_REFETCH}") from error
        self.height, self.block_hash = head.height, head.block_hash
        self.journal_position = JournalPosition(head.journal_identity, head.journal_sequence)
        if self.state.tree.root != head.state_root:
            raise LedgerDamaged(f"the stored state does not have the root recorded for it; {_REFETCH}")
        if head.height:
            row = self.header_row(head.height)
            self.header, self.certificate = row.header, row.certificate
            if row.header.digest() != head.block_hash:
                raise LedgerDamaged(f"the last block's header is not the recorded one; {_REFETCH}")

    def _make_context(self) -> HeightContext:
        return height_context(
            self.state,
            genesis=self.genesis,
            chain_id=self.chain_id,
            header=self.header,
            certificate=self.certificate,
        )

    def _head_row(self, state_root: Digest, receipts: Digest) -> HeadRow:
        position = self.journal_position
        return HeadRow(
            self.height, self.block_hash, state_root, receipts, position.identity, position.sequence
        )

    # ---- growing

    @property
    def time_ms(self) -> int:
        """Block time of the last block (PROTOCOL 0.1)."""
        return self.genesis.time_ms if self.header is None else self.header.time_ms

    def check_certified(self, certified: CertifiedBlock) -> None:
        """Raise `InvalidMessage` unless ``certified`` is the decided block of the next height (PROTOCOL 6.12)."""
        header, context = certified.block.header, self.context
        if header.height != context.height:
            raise InvalidMessage(f"block {header.height} where {context.height} is next")
        decision = Decision(context.epoch, context.height, header.digest(), context.delegates)
        check_certificate(certified.certificate, decision, self.chain_id, self.verifier)
        if not block_is_whole(certified.block):
            raise InvalidMessage("the block's parts are not those that its header binds")

    def apply(
        self,
        certified: CertifiedBlock,
        *,
        transactions: Sequence[Transaction] | None = None,
        encoded: bytes | None = None,
        journal: JournalPosition | None = None,
    ) -> AppliedBlock:
        """Execute and store the decided block of the next height; durable when this returns.

        ``transactions``: its decoded transactions, if at hand; ``encoded``: its bytes, if at hand. The certificate has
        been checked. `InvariantViolation` if the decided header contradicts this node's own state (PROTOCOL 6.8);
        `StoreFailed` on a failing disk. The node stops on either.
        """
        block = certified.block
        self._check_against_state(block.header)
        if transactions is None:
            transactions = [decode_transaction(raw) for raw in block.transactions]
        outcome = apply_block(
            self.state,
            block,
            transactions,
            genesis=self.genesis,
            chain_id=self.chain_id,
            verifier=self.verifier,
        )
        if journal is not None:
            self.journal_position = journal
        self.height, self.header = block.header.height, block.header
        self.block_hash, self.certificate = certified.certificate.digest, certified.certificate
        if encoded is None:
            encoded = encode(certified)
        discarded = tuple(item.transaction_id for item in block.discarded)
        self.store.write(self._rows(block, encoded, transactions, discarded, outcome))
        self._newest = _Newest(self.height, certified, outcome.receipts, outcome.receipt_bytes)
        self.context = self._make_context()
        return AppliedBlock(
            self.height,
            block.header,
            self.block_hash,
            encoded,
            tuple(transactions),
            discarded,
            outcome.receipts,
        )

    def _check_against_state(self, header: Header) -> None:
        """A decided header's roots, parent and sets are this node's own, or somebody's state is wrong (S6)."""
        context = self.context
        invariant(header.height == context.height, f"block {header.height} where {context.height} is next")
        facts = (
            (header.parent_hash == context.parent_hash, "parent hash"),
            (header.state_root == context.state_root, "state root"),
            (header.receipts_root == context.receipts_root, "receipts root"),
            (header.delegates_hash == context.delegates.hash(), "delegates hash"),
            (header.next_delegates_hash == context.next_delegates.hash(), "next delegates hash"),
            (header.epoch == context.epoch, "epoch"),
        )
        for equal, name in facts:
            if not equal:
                fail(
                    f"decided block {header.height} has another {name} than this node's ledger: "
                    "this node's state is wrong, or more than f delegates are"
                )

    def _rows(
        self,
        block: Block,
        encoded: bytes,
        transactions: Sequence[Transaction],
        discarded: Sequence[Digest],
        outcome: BlockOutcome,
    ) -> dict[bytes, bytes | None]:
        header, certificate = block.header, self.certificate
        if certificate is None:
            fail("a block is stored with its certificate")
        key = number(header.height)
        header_row = HeaderRow(header, certificate, len(transactions), len(discarded))
        rows = BlockIndexer(self.store, self.state, header.height).add(
            transactions, discarded, outcome.receipts
        )
        rows[Prefix.BLOCK + key] = encoded
        rows[Prefix.HEADER + key] = encode(header_row)
        rows[Prefix.RECEIPTS + key] = encode(outcome.receipt_bytes)
        rows[HEAD_KEY] = encode(self._head_row(outcome.state_root, outcome.receipts_root))
        state_prefix = bytes(Prefix.STATE)
        for state_key, value in outcome.changes.items():
            rows[state_prefix + state_key] = value
        return rows

    # ---- reading: by key, from the store

    def certified_bytes(self, height: int) -> bytes | None:
        """Canonical bytes of a decided `CertifiedBlock`, or None above the last height and for genesis."""
        return self.store.get(Prefix.BLOCK + number(height))

    def certified_block(self, height: int) -> CertifiedBlock | None:
        """A decided block with its certificate."""
        newest = self._newest
        if newest is not None and newest.height == height:
            return newest.certified
        data = self.certified_bytes(height)
        return None if data is None else certified_block_codec.decode(data)

    def header_row(self, height: int) -> HeaderRow:
        """Header, certificate and counts of a decided height; `LookupError` outside 1..height."""
        data = self.store.get(Prefix.HEADER + number(height))
        if data is None:
            raise LookupError(f"block {height} is not decided here; the last one is {self.height}")
        return header_row_codec.decode(data)

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        """Receipts of a decided height, the block's own last; `LookupError` outside 1..height."""
        newest = self._newest
        if newest is not None and newest.height == height:
            return newest.receipts
        return tuple(receipt_codec.decode(item) for item in self.receipt_bytes(height))

    def receipt(self, height: int, index: int) -> Receipt:
        """One of `receipts`, without decoding the others."""
        return receipt_codec.decode(self.receipt_bytes(height)[index])

    def receipt_bytes(self, height: int) -> tuple[bytes, ...]:
        """Encoded receipts of a decided height; `LookupError` outside 1..height."""
        newest = self._newest
        if newest is not None and newest.height == height:
            return newest.receipt_bytes
        data = self.store.get(Prefix.RECEIPTS + number(height))
        if data is None:
            raise LookupError(f"block {height} is not decided here; the last one is {self.height}")
        return receipts_codec.decode(data)

    def locate(self, transaction_id: Digest) -> Location | None:
        """Where an id was decided, included or removed; None if it was not."""
        data = self.store.get(Prefix.IDENTIFIER + transaction_id)
        return None if data is None else location_codec.decode(data)

    def delegates_at(self, height: int) -> tuple[Delegate, ...]:
        """C(height) in ranking order, for 1 .. last height + 2."""
        for _, data in self.store.scan(Prefix.DELEGATES, Prefix.DELEGATES + number(height), reverse=True):
            return delegates_codec.decode(data)
        raise LookupError(f"no delegate set of height {height}")

    def is_member(self, address: Address) -> bool:
        """Whether ``address`` is registered and has not left."""
        account = self.state.accounts.get(address)
        return account is not None and account.left_height is None

    def account_of_key(self, public_key: PublicKey) -> Account | None:
        """The account of the holder of ``public_key``."""
        return self.state.accounts.get(address_of(public_key))

    def totals_money(self) -> int:
        """Balances and escrow together, nano-units (PROTOCOL 1.6)."""
        totals = self.state.totals.require(SINGLETON)
        return totals.balances + totals.escrow


_REFETCH: Final = "move the ledger directory away: the node fetches all blocks again from its peers"
