"""A node's disk: a journal with a durable half and one that a crash may take, and the blocks of its ledger."""

import random

from consensus.block import Block, CertifiedBlock
from consensus.effects import AbstainRecord, BlockRecord, JournalRecord, ResumeRecord, SentRecord
from consensus.encoding import encode
from consensus.errors import invariant
from consensus.types import Digest


class Disk:
    """What of a node survives: `write` is volatile until `sync`; a crash keeps a prefix of what was written.

    The shipped journal writes the records of one `Persist` as one frame, all or nothing; a prefix is the harsher
    model, which an implementation that orders its records rightly survives too.
    """

    def __init__(self) -> None:
        self._durable: list[JournalRecord] = []
        self._written: list[JournalRecord] = []
        self._ever_sent: set[bytes] = set()
        self.blocks: list[CertifiedBlock] = []
        """Decided blocks from height 1 on; writing one is atomic and durable."""
        self.lost = False
        """Whether the journal is missing, damaged or restored: told to the replica at its next start."""

    @property
    def height(self) -> int:
        """Of the last decided block stored."""
        return len(self.blocks)

    def write(self, records: tuple[JournalRecord, ...]) -> None:
        """Append; not durable yet."""
        self._written.extend(records)

    def sync(self) -> None:
        """Make everything written durable."""
        self._durable.extend(self._written)
        for record in self._written:
            if isinstance(record, SentRecord):
                self._ever_sent.add(encode(record.message))
        self._written.clear()

    def crash(self, rng: random.Random) -> None:
        """Power fails: of what was written a random prefix reached the disk."""
        if self._written:
            del self._written[rng.randint(0, len(self._written)) :]
            self.sync()

    def forget(self, height: int) -> None:
        """Drop records of heights below ``height``; the last abstention and resumption stay."""
        standing = (AbstainRecord, ResumeRecord)
        self._durable = [
            record for record in self._durable if isinstance(record, standing) or record.height >= height
        ]

    def journal(self) -> tuple[JournalRecord, ...]:
        """What a restart finds."""
        return tuple(self._durable)

    def find_block(self, height: int, digest: Digest) -> Block | None:
        """An undecided block of the durable journal, by digest."""
        for record in self._durable:
            if isinstance(record, BlockRecord) and record.height == height:
                block = record.block
                if block.header.digest() == digest:
                    return block
        return None

    def ever_sent(self, message: bytes) -> bool:
        """Whether a signed message, encoded, was durable at some time since the journal was made."""
        return message in self._ever_sent

    def append_block(self, certified: CertifiedBlock) -> None:
        """Store a decided block."""
        invariant(certified.block.header.height == self.height + 1, "the ledger stores blocks in order")
        self.blocks.append(certified)

    def lose_journal(self) -> None:
        """Everything signed is forgotten, the ledger stays."""
        self._durable.clear()
        self._written.clear()
        self._ever_sent.clear()
        self.lost = True

    def wipe(self) -> None:
        """Nothing is left."""
        self.lose_journal()
        self.blocks.clear()
