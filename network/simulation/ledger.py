"""A stand-in for the contract engine: roots are hash chains over the blocks, the sets come from the timetable."""

from consensus.block import CertifiedBlock
from consensus.delegates import next_head
from consensus.hashing import tagged_hash
from consensus.inputs import HeightContext
from consensus.removal import transaction_id
from consensus.types import Address, Digest
from network.simulation.clock import GENESIS_MS
from network.simulation.disk import Disk
from network.simulation.doors import Terms

GENESIS_STATE = tagged_hash("genesis", b"state of a simulation")
NO_RECEIPTS = tagged_hash("genesis", b"receipts of a simulation")


class Ledger:
    """The state after the blocks of one disk; made anew from them at every start, as a replay would be."""

    def __init__(self, chain_id: Digest, terms: Terms, disk: Disk) -> None:
        self._chain_id = chain_id
        self._terms = terms
        self._disk = disk
        self._state_root = GENESIS_STATE
        self._receipts_root = NO_RECEIPTS
        self._head: Address = terms.term(1).delegates.ranking[0].address
        self._finished: set[Digest] = set()
        self._context: HeightContext | None = None
        for certified in disk.blocks:
            self._execute(certified)

    @property
    def height(self) -> int:
        """Of the last block applied."""
        return self._disk.height

    def finished(self, transaction: Digest) -> bool:
        """Whether the id was committed or discarded: it never commits again."""
        return transaction in self._finished

    def apply(self, certified: CertifiedBlock) -> None:
        """Store and execute the next block."""
        self._disk.append_block(certified)
        self._execute(certified)

    def _execute(self, certified: CertifiedBlock) -> None:
        block = certified.block
        header = block.header
        digest = header.digest()
        self._finished.update(transaction_id(item) for item in block.transactions)
        self._finished.update(item.transaction_id for item in block.discarded)
        self._context = None
        self._state_root = tagged_hash("state.node", self._state_root + digest)
        self._receipts_root = tagged_hash("state.leaf", digest)
        following = self._terms.term(header.height + 1)
        self._head = next_head(
            self._terms.term(header.height).delegates,
            header.proposer,
            following.delegates,
            following.first_of_epoch,
        )

    def context(self) -> HeightContext:
        """What deciding the next height needs (PROTOCOL 9.1)."""
        if self._context is None:
            self._context = self._make_context()
        return self._context

    def _make_context(self) -> HeightContext:
        height = self.height + 1
        parent = self._disk.blocks[-1] if self._disk.blocks else None
        term = self._terms.term(height)
        return HeightContext(
            height=height,
            epoch=term.epoch,
            parent_hash=self._chain_id if parent is None else parent.block.header.digest(),
            parent_time_ms=GENESIS_MS if parent is None else parent.block.header.time_ms,
            parent_certificate=None if parent is None else parent.certificate,
            delegates=term.delegates,
            next_delegates=self._terms.term(height + 1).delegates,
            head=self._head,
            previous_delegates=None if parent is None else self._terms.term(height - 1).delegates,
            state_root=self._state_root,
            receipts_root=self._receipts_root,
        )
