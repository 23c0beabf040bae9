"""A node's disk: a journal with a durable half and one that a crash may take, and the blocks of its ledger."""

import random
from dataclasses import dataclass
from typing import TypeAlias

from consensus.block import Block, CertifiedBlock
from consensus.effects import AbstainRecord, BlockRecord, JournalRecord, ResumeRecord, SentRecord
from consensus.encoding import encode
from consensus.errors import invariant
from consensus.messages import ConsensusMessage
from consensus.types import Digest


class DiskFailed(Exception):
    """A sync did not succeed: whether the records are durable is unknown, and the node stops before it signs."""


@dataclass(frozen=True)
class Image:
    """A copy of a whole disk, as a backup is."""

    journal: tuple[JournalRecord, ...]
    blocks: tuple[CertifiedBlock, ...]


Crashed: TypeAlias = str
"""What a crash did to the last write: "nothing was under way", "kept", "torn" or "lost"."""


class Disk:
    """What of a node survives: `write` is volatile until `sync`; a crash keeps a prefix of what was written.

    The shipped journal writes the records of one `Persist` as one frame, all or nothing; a prefix is the harsher
    model, which an implementation that orders its records rightly survives too.
    """

    def __init__(self) -> None:
        self._durable: list[JournalRecord] = []
        self._written: list[JournalRecord] = []
        self._sent: dict[int, ConsensusMessage] = {}
        """Durable messages by identity: most questions are about the very object that was stored."""
        self._ever_sent: dict[bytes, None] | None = None
        self._all_sent: list[ConsensusMessage] = []
        self._failing = False
        self._rotten_journal = False
        self._rotten: dict[int, None] = {}
        self.blocks: list[CertifiedBlock] = []
        """Decided blocks from height 1 on; writing one is atomic and durable."""
        self.lost = False
        """Whether the journal is missing, damaged or restored: told to the replica at its next start."""

    @property
    def height(self) -> int:
        """Of the last decided block stored."""
        return len(self.blocks)

    # ------------------------------------------------------------------ the journal

    def write(self, records: tuple[JournalRecord, ...]) -> None:
        """Append; not durable yet."""
        self._written.extend(records)

    def sync(self) -> None:
        """Make everything written durable; `DiskFailed` while the disk fails."""
        if self._failing:
            raise DiskFailed("the journal's sync failed")
        self._make_durable()

    def _make_durable(self) -> None:
        self._durable.extend(self._written)
        for record in self._written:
            if type(record) is SentRecord:
                self._sent[id(record.message)] = record.message
                self._all_sent.append(record.message)
                self._ever_sent = None
        self._written.clear()

    def crash(self, rng: random.Random) -> Crashed:
        """Power fails: of what was written a random prefix reached the disk."""
        if not self._written:
            return "nothing was under way"
        kept, whole = rng.randint(0, len(self._written)), len(self._written)
        del self._written[kept:]
        self._make_durable()
        return "kept" if kept == whole else "torn" if kept else "lost"

    def forget(self, height: int) -> None:
        """Drop records of heights below ``height``; the last abstention and resumption stay."""
        standing = (AbstainRecord, ResumeRecord)
        self._durable = [
            record for record in self._durable if record.height >= height or isinstance(record, standing)
        ]

    def journal(self) -> tuple[JournalRecord, ...]:
        """What a restart finds; a damaged journal is found to be damaged, and counts as lost."""
        if self._rotten_journal:
            self.lose_journal()
        return tuple(self._durable)

    def find_block(self, height: int, digest: Digest) -> Block | None:
        """An undecided block of the durable journal, by digest."""
        for record in self._durable:
            if isinstance(record, BlockRecord) and record.height == height:
                block = record.block
                if block.header.digest() == digest:
                    return block
        return None

    def ever_sent(self, message: ConsensusMessage) -> bool:
        """Whether a signed message was durable at some time since the journal was made."""
        if id(message) in self._sent:
            return True
        if self._ever_sent is None:
            self._ever_sent = {encode(item): None for item in self._all_sent}
        return encode(message) in self._ever_sent

    # ------------------------------------------------------------------ the blocks

    def append_block(self, certified: CertifiedBlock) -> None:
        """Store a decided block."""
        invariant(certified.block.header.height == self.height + 1, "the ledger stores blocks in order")
        self.blocks.append(certified)

    def read_block(self, height: int) -> CertifiedBlock | None:
        """A stored block; None if there is none or it is found to be damaged."""
        if not 0 < height <= len(self.blocks) or height in self._rotten:
            return None
        return self.blocks[height - 1]

    def repair_blocks(self) -> int | None:
        """What a start does: from the lowest damaged block on all are dropped, to be fetched again; its height."""
        if not self._rotten:
            return None
        lowest = min(self._rotten)
        del self.blocks[lowest - 1 :]
        self._rotten.clear()
        return lowest

    # ------------------------------------------------------------------ what goes wrong

    def fail(self, failing: bool) -> None:
        """From now on syncs fail (EIO, ENOSPC), or no longer."""
        self._failing = failing

    def rot_journal(self) -> None:
        """A bit of a durable record flips; the next start finds it. An empty journal has none to flip."""
        self._rotten_journal = bool(self._durable)

    def rot_block(self, height: int) -> None:
        """A bit of a stored block flips."""
        if 0 < height <= len(self.blocks):
            self._rotten[height] = None

    def image(self) -> Image:
        """A backup."""
        return Image(tuple(self._durable), tuple(self.blocks))

    def restore(self, image: Image) -> None:
        """The backup replaces everything, and nothing tells of it."""
        self._durable = list(image.journal)
        self._written.clear()
        self._rotten.clear()
        self.blocks[:] = image.blocks

    def lose_journal(self) -> None:
        """Everything signed is forgotten, the ledger stays."""
        self._durable.clear()
        self._written.clear()
        self._sent.clear()
        self._all_sent.clear()
        self._ever_sent = None
        self._rotten_journal = False
        self.lost = True

    def wipe(self) -> None:
        """Nothing is left."""
        self.lose_journal()
        self._rotten.clear()
        self.blocks.clear()
