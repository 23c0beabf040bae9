"""The ledger door with the shipped engine behind it.

Every decided block is executed once for the whole run, by `SharedExecution`; nodes that share only look its answers
up. Nodes of their own state execute each block themselves, as a process does, and compare (PROTOCOL 12, S6).
"""

from collections import Counter
from weakref import WeakKeyDictionary

import msgspec

from consensus.block import Block, CertifiedBlock
from consensus.inputs import HeightContext
from consensus.types import Digest
from contracts.engine import BlockOutcome, apply_block, genesis_state, height_context, new_state
from contracts.epoch_state import chain_of
from contracts.seats import delegate_set_at
from contracts.state import State
from network.simulation.checkers import demand
from network.simulation.disk import Disk
from network.simulation.doors import Term
from network.simulation.system.cast import Cast
from network.simulation.system.opening import Opening


class Executor:
    """A state and the blocks it was made of."""

    def __init__(self, cast: Cast, opening: Opening, state: State | None = None) -> None:
        self._cast = cast
        self._opening = opening
        self.state = genesis_state(cast.genesis, cast.ring) if state is None else state

    def execute(self, block: Block) -> BlockOutcome:
        """The next decided block."""
        cast = self._cast
        return apply_block(
            self.state,
            block,
            [self._opening.transaction(data) for data in block.transactions],
            genesis=cast.genesis,
            chain_id=cast.chain_id,
            verifier=cast.ring,
        )

    def context(self, last: CertifiedBlock | None) -> HeightContext:
        """What deciding the height after ``last`` needs."""
        return height_context(
            self.state,
            genesis=self._cast.genesis,
            chain_id=self._cast.chain_id,
            header=None if last is None else last.block.header,
            certificate=None if last is None else last.certificate,
        )


class SharedExecution:
    """The chain as first decided, executed once; `Terms` of the run."""

    def __init__(self, cast: Cast, opening: Opening) -> None:
        self._opening = opening
        self._executor = Executor(cast, opening)
        self.outcomes: list[BlockOutcome] = []
        """Of heights 1, 2, ..."""
        self._digests: list[Digest] = []
        self._contexts: list[HeightContext] = [self._executor.context(None)]
        self._terms: list[Term] = []
        self._finished: dict[Digest, int] = {}
        self._note_terms()

    @property
    def height(self) -> int:
        """Of the last block executed."""
        return len(self.outcomes)

    @property
    def state(self) -> State:
        """The state after the last block executed."""
        return self._executor.state

    def execute(self, certified: CertifiedBlock) -> None:
        """Execute a block once; a second one of the same height is a fork."""
        header = certified.block.header
        digest = header.digest()
        if header.height <= self.height:
            demand(
                digest == self._digests[header.height - 1],
                f"S1: two blocks of height {header.height} decided",
            )
            return
        demand(header.height == self.height + 1, f"S2: height {header.height} decided before the one below")
        expected = self._contexts[-1]
        roots = (header.state_root, header.receipts_root)
        demand(
            roots == (expected.state_root, expected.receipts_root),
            f"S6: the decided header {header.height} has other roots than the ledger",
        )
        self.outcomes.append(self._executor.execute(certified.block))
        self._digests.append(digest)
        for data in certified.block.transactions:
            self._finished[self._opening(data).transaction_id] = header.height
        for item in certified.block.discarded:
            self._finished[item.transaction_id] = header.height
        self._contexts.append(self._executor.context(certified))
        self._note_terms()

    def context(self, last: CertifiedBlock | None) -> HeightContext:
        """As `Executor.context`, with the certificate that the asker holds."""
        if last is None:
            return self._contexts[0]
        context = self._contexts[last.block.header.height]
        return msgspec.structs.replace(context, parent_certificate=last.certificate)

    def finished_at(self, transaction: Digest) -> int | None:
        """The height at which an id was committed or discarded."""
        return self._finished.get(transaction)

    def term(self, height: int) -> Term:
        """The epoch and set of ``height``, up to two above the last block executed."""
        return self._terms[height - 1]

    def _note_terms(self) -> None:
        """The state after block h fixes the epoch of h + 1; that of h + 2 is only its set's until h + 1 is decided."""
        state, height = self.state, self.height
        chain = chain_of(state)
        del self._terms[height:]
        first = chain.epoch_first_height == height + 1
        self._terms.append(Term(chain.epoch, delegate_set_at(state, height + 1), first))
        self._terms.append(Term(chain.epoch, delegate_set_at(state, height + 2), False))


class SharedLedger:
    """The ledger of a node that looks answers up."""

    state: State | None = None

    def __init__(self, disk: Disk, shared: SharedExecution) -> None:
        self._disk = disk
        self._shared = shared

    @property
    def height(self) -> int:
        """Of the last block applied."""
        return self._disk.height

    def finished(self, transaction: Digest) -> bool:
        """Whether the id was committed or discarded here."""
        height = self._shared.finished_at(transaction)
        return height is not None and height <= self._disk.height

    def apply(self, certified: CertifiedBlock) -> None:
        """Store and execute the next block."""
        self._disk.append_block(certified)
        self._shared.execute(certified)

    def context(self) -> HeightContext:
        """What deciding the next height needs."""
        return self._shared.context(self._disk.blocks[-1] if self._disk.blocks else None)


class Stored:
    """The state as a node's disk holds it, written with each block."""

    def __init__(self) -> None:
        self.height = 0
        self.rows: dict[bytes, bytes] = {}


class OwnLedger:
    """The ledger of a node that executes for itself and restarts from what it stored."""

    def __init__(
        self, disk: Disk, stored: Stored, shared: SharedExecution, cast: Cast, opening: Opening
    ) -> None:
        self._disk = disk
        self._stored = stored
        self._shared = shared
        self._executor = self._opened(cast, opening)

    def _opened(self, cast: Cast, opening: Opening) -> Executor:
        """From the stored state if it belongs to the stored blocks, else by replay."""
        if 0 < self._stored.height == self._disk.height:
            state = new_state(cast.genesis)
            state.load(self._stored.rows)
            return Executor(cast, opening, state)
        self._stored.height, self._stored.rows = 0, {}
        executor = Executor(cast, opening)
        self._stored.rows.update(executor.state.entries())
        for certified in self._disk.blocks:
            self._store(executor.execute(certified.block))
        return executor

    def _store(self, outcome: BlockOutcome) -> None:
        self._stored.height += 1
        for key, value in outcome.changes.items():
            if value is None:
                del self._stored.rows[key]
            else:
                self._stored.rows[key] = value

    @property
    def state(self) -> State:
        """The node's own state."""
        return self._executor.state

    @property
    def height(self) -> int:
        """Of the last block applied."""
        return self._disk.height

    def finished(self, transaction: Digest) -> bool:
        """Whether the state holds the id, as committed or discarded."""
        return transaction in self.state.known_ids

    def apply(self, certified: CertifiedBlock) -> None:
        """Store and execute the next block; its roots must be everybody's."""
        self._disk.append_block(certified)
        self._shared.execute(certified)
        outcome = self._executor.execute(certified.block)
        self._store(outcome)
        height = certified.block.header.height
        other = self._shared.outcomes[height - 1]
        demand(
            (outcome.state_root, outcome.receipts_root) == (other.state_root, other.receipts_root),
            f"S6: two nodes have different roots after height {height}",
        )

    def context(self) -> HeightContext:
        """What deciding the next height needs."""
        return self._executor.context(self._disk.blocks[-1] if self._disk.blocks else None)


class Ledgers:
    """Makes the ledgers of a run: of their own state for some nodes, shared for the others."""

    def __init__(self, cast: Cast, opening: Opening, reached: Counter[str]) -> None:
        self.shared = SharedExecution(cast, opening)
        self._reached = reached
        self._cast = cast
        self._opening = opening
        self._stored: WeakKeyDictionary[Disk, Stored] = WeakKeyDictionary()

    def let_execute(self, disk: Disk) -> None:
        """The node of this disk executes for itself from its next start on."""
        self._stored[disk] = Stored()

    def open(self, disk: Disk) -> SharedLedger | OwnLedger:
        """The ledger on ``disk``."""
        stored = self._stored.get(disk)
        if stored is None:
            return SharedLedger(disk, self.shared)
        if disk.height:
            self._reached[
                "restart from stored state" if disk.height == stored.height else "restart by replay"
            ] += 1
        return OwnLedger(disk, stored, self.shared, self._cast, self._opening)
