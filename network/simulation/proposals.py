"""A node's answers about undecided blocks: batches, gathered proposals, and blocks wanted by digest."""

from dataclasses import dataclass

from consensus.block import Block, full_hash
from consensus.effects import BuildBatch, CheckProposal, FetchBlock
from consensus.encoding import encode
from consensus.inputs import Batch, BlockFetched, ProposalChecked
from consensus.types import Digest, PublicKey
from network.simulation.doors import PoolDoor
from network.simulation.letters import AskBlock, AskTransactions, GiveBlock, GiveTransactions
from network.simulation.surroundings import Process
from network.wire import Decided


@dataclass(frozen=True)
class Gathering:
    """A proposal whose transactions are being gathered, or that waits for its turn."""

    effect: CheckProposal


class Proposals:
    """Volatile; everything in it ends with the height."""

    def __init__(self, process: Process, pool: PoolDoor) -> None:
        self._process = process
        self._pool = pool
        self._gatherings: dict[Digest, Gathering] = {}
        self._wanted: dict[Digest, FetchBlock] = {}

    @property
    def pending(self) -> bool:
        """Whether something is being gathered or looked for."""
        return bool(self._gatherings or self._wanted)

    def end_height(self) -> None:
        """The height was decided."""
        self._gatherings.clear()
        self._wanted.clear()

    def build(self, effect: BuildBatch) -> bool:
        """Answer with a batch; whether there is anything in it."""
        chosen = self._pool.batch(effect.time_ms, effect.max_bytes, effect.excluded)
        self._process.step(
            Batch(
                self._process.at(),
                effect.height,
                effect.view,
                effect.generation,
                tuple(item.data for item in chosen),
                tuple(item.reference for item in chosen),
            )
        )
        return bool(chosen)

    # ------------------------------------------------------------------ proposals of others

    def check(self, effect: CheckProposal) -> None:
        """Begin to gather; `retry` goes on with it."""
        digest = effect.proposal.vote.digest
        self._gatherings[digest] = Gathering(effect)
        self._gather(digest)

    def retry(self) -> None:
        """Ask again for whatever is still missing."""
        for digest in tuple(self._gatherings):
            self._gather(digest)
        for digest in tuple(self._wanted):
            self._search(digest)

    def came_in(self) -> None:
        """Transactions arrived: assemble what is complete now."""
        for digest, gathering in tuple(self._gatherings.items()):
            if all(map(self._pool.find, gathering.effect.proposal.references)):
                self._gather(digest)

    def take(self, transactions: tuple[bytes, ...]) -> None:
        """Bytes sent on request; only what a proposal names is kept."""
        gatherings = self._gatherings.values()
        named = {reference for item in gatherings for reference in item.effect.proposal.references}
        for data in transactions:
            if full_hash(data) in named:
                self._pool.keep(data)
        self.came_in()

    def answer_transactions(self, sender: PublicKey, asked: AskTransactions) -> None:
        """Give what is held of what another node lacks."""
        held = tuple(data for data in map(self._pool.find, asked.references) if data is not None)
        if held:
            self._process.post(sender, GiveTransactions(held))

    def _gather(self, digest: Digest) -> None:
        gathering = self._gatherings.get(digest)
        if gathering is None:
            return
        proposal = gathering.effect.proposal
        if gathering.effect.known is not None:
            self._judge(gathering, gathering.effect.known)
            return
        found = [(reference, self._pool.find(reference)) for reference in proposal.references]
        missing = tuple(reference for reference, data in found if data is None)
        if missing:
            self._process.post(gathering.effect.sender, AskTransactions(missing))
            return
        transactions = tuple(data for _, data in found if data is not None)
        block = Block(proposal.header, transactions, proposal.last_commit, proposal.discarded)
        self._judge(gathering, block)

    def _judge(self, gathering: Gathering, block: Block) -> None:
        vote = gathering.effect.proposal.vote
        del self._gatherings[vote.digest]
        at = self._process.at()
        verdict = self._pool.judge(block, gathering.effect.entered_ms, at)
        self._process.step(
            ProposalChecked(
                at,
                vote.height,
                vote.view,
                vote.digest,
                block if verdict.reason is None else None,
                verdict.reason,
                verdict.overlooked,
                verdict.wait_ms,
                verdict.offending,
            )
        )

    # ------------------------------------------------------------------ blocks wanted by digest

    def fetch(self, effect: FetchBlock) -> None:
        """Begin to look for a block; `retry` goes on with it."""
        self._wanted[effect.digest] = effect
        self._search(effect.digest)

    def _search(self, digest: Digest) -> None:
        wanted = self._wanted.get(digest)
        if wanted is None:
            return
        own = self._process.disk.find_block(wanted.height, digest)
        if own is not None:
            self.found(own)
            return
        for key in wanted.holders or self._process.others:
            self._process.post(key, AskBlock(wanted.height, digest))

    def found(self, block: Block) -> None:
        """A block came in; unasked ones are dropped."""
        if self._wanted.pop(block.header.digest(), None) is not None:
            self._process.step(BlockFetched(self._process.at(), block))

    def answer_block(self, sender: PublicKey, asked: AskBlock) -> None:
        """Give an undecided block from the journal, or the decided one of its height."""
        disk = self._process.disk
        decided = disk.read_block(asked.height)
        if decided is not None:
            self._process.post(sender, Decided(asked.height, encode(decided)))
            return
        block = disk.find_block(asked.height, asked.digest)
        if block is not None:
            self._process.post(sender, GiveBlock(block))
