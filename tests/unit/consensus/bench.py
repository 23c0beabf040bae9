"""Replicas driven by hand: no clock, no network, every step visible.

`Node` is a replica with the smallest shell, `Cluster` several whose messages wait to be delivered, `Bench` one
whose fellow delegates are only keys in the test's hand. The seeded many-run harness is `network.simulation`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from consensus.block import Block, CertifiedBlock, full_hash
from consensus.effects import (
    BuildBatch,
    CheckProposal,
    Decide,
    Effect,
    JournalRecord,
    Persist,
    Send,
    SetTimer,
)
from consensus.inputs import (
    Advanced,
    Batch,
    HeightContext,
    Input,
    Instant,
    Overlooked,
    PoolChanged,
    ProposalChecked,
    Received,
    Timer,
    TimerFired,
)
from consensus.judge import Judge
from consensus.messages import (
    Commit,
    ConsensusMessage,
    Prepare,
    PreparedCertificate,
    Proposal,
)
from consensus.parameters import Parameters
from consensus.removal import transaction_id
from consensus.replica import Replica
from tests.unit.consensus.support import (
    CHAIN,
    START_MS,
    KeyedSigner,
    KeyedVerifier,
    M,
    Made,
    commit,
    delegate_set,
    first_context,
    make_proposal,
    new_view,
    next_context,
    prepare,
    sent_of,
    view_change,
)


@dataclass
class Node:
    """A replica with the smallest shell: a pool, a checker, a journal, and everything it ever asked for."""

    signer: KeyedSigner
    verifier: KeyedVerifier
    parameters: Parameters
    context: HeightContext
    at: Instant
    answers: bool = True
    """Whether `BuildBatch`, `CheckProposal` and `Decide` are answered at once."""
    reject: Callable[[Proposal], str | None] = lambda _proposal: None
    overlooked: tuple[Overlooked, ...] = ()
    """What the pool says of every proposal that it left out."""
    wait_ms: int = 0
    """How long every non-empty proposal is said to have been waited for."""
    pool: dict[bytes, bytes] = field(default_factory=dict)
    journal: list[JournalRecord] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    outbox: list[tuple[ConsensusMessage, tuple[bytes, ...]]] = field(default_factory=list)
    decided: list[CertifiedBlock] = field(default_factory=list)
    timers: dict[str, Timer] = field(default_factory=dict)
    delays: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boot(self.context)

    @property
    def key(self) -> bytes:
        return self.signer.public_key

    def boot(self, context: HeightContext) -> None:
        """Start, or start again from the journal."""
        self.replica = Replica(
            chain_id=CHAIN,
            parameters=self.parameters,
            signer=self.signer,
            verifier=self.verifier,
            context=context,
            at=self.at,
            journal=tuple(self.journal),
        )
        self.timers.clear()
        self._run(self.replica.start(self.at))

    def step(self, item: Input) -> list[Effect]:
        """Hand in one input and run what follows; the effects, answers included."""
        before = len(self.effects)
        self._run(self.replica.step(item))
        return self.effects[before:]

    def receive(self, message: ConsensusMessage, sender: bytes | None = None) -> list[Effect]:
        """Hand in a message, sent by its signer unless ``sender`` is given."""
        signer = message.vote.signer if isinstance(message, Proposal) else message.signer
        return self.step(Received(self.at, sender or signer, message))

    def fire(self, kind: str) -> list[Effect]:
        """Let the running timer of ``kind`` run out, at its time."""
        timer = self.timers.pop(kind)
        self.pass_ms(self.delays[kind])
        return self.step(TimerFired(self.at, timer))

    def pass_ms(self, delay_ms: int) -> None:
        """Both clocks go on."""
        self.at = Instant(self.at.wall_ms + delay_ms, self.at.monotonic_ms + delay_ms)

    def submit(self, *transactions: bytes) -> list[Effect]:
        """Transactions arrive in the pool."""
        self.pool.update({full_hash(item): item for item in transactions})
        return self.tell_pool()

    def tell_pool(self) -> list[Effect]:
        """What the pool tells: how much waits."""
        oldest = self.at.monotonic_ms if self.pool else None
        return self.step(PoolChanged(self.at, len(self.pool), oldest))

    def sent(self, kind: type[M]) -> list[M]:
        """Everything of ``kind`` this node ever sent."""
        return sent_of(self.effects, kind)

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case Persist():
                    self.journal.extend(effect.records)
                case Send():
                    self.outbox.append((effect.message, effect.to))
                case SetTimer():
                    self.timers[effect.timer.kind] = effect.timer
                    self.delays[effect.timer.kind] = effect.delay_ms
                case _:
                    pass
        if self.answers:
            for effect in effects:
                self.answer(effect)

    def answer(self, effect: Effect) -> None:
        """What pool, checker and ledger answer to ``effect``."""
        match effect:
            case BuildBatch():
                self.step(
                    Batch(
                        self.at,
                        effect.height,
                        effect.view,
                        effect.generation,
                        tuple(
                            item for item in self.pool.values() if transaction_id(item) not in effect.excluded
                        ),
                        tuple(
                            k for k, item in self.pool.items() if transaction_id(item) not in effect.excluded
                        ),
                    )
                )
            case CheckProposal():
                self.check(effect)
            case Decide():
                self.decided.append(effect.certified)
                for item in effect.certified.block.transactions:
                    self.pool.pop(full_hash(item), None)
                self.context = next_context(self.replica.context, effect.certified)
                self.step(Advanced(self.at, self.context))
                self.tell_pool()
            case _:
                pass

    def check(self, effect: CheckProposal) -> None:
        """Answer a `CheckProposal` from the pool; without all bytes no answer comes."""
        proposal = effect.proposal
        reason = self.reject(proposal)
        if reason is None and any(item not in self.pool for item in proposal.references):
            return
        block = None if reason else self.assemble(proposal)
        wait_ms = self.wait_ms if proposal.references else None
        vote = proposal.vote
        self.step(
            ProposalChecked(
                self.at, vote.height, vote.view, vote.digest, block, reason, self.overlooked, wait_ms
            )
        )

    def assemble(self, proposal: Proposal) -> Block:
        """The block of ``proposal`` from this node's pool."""
        transactions = tuple(self.pool[item] for item in proposal.references)
        return Block(proposal.header, transactions, proposal.last_commit, proposal.discarded)


class Cluster:
    """n nodes at height 1; messages wait in the outboxes until `deliver`."""

    def __init__(self, size: int, parameters: Parameters | None = None) -> None:
        self.parameters = parameters or Parameters()
        self.signers = [KeyedSigner(index) for index in range(size)]
        self.verifier = KeyedVerifier()
        self.delegates = delegate_set(self.signers)
        at = Instant(START_MS + 1, 1_000)
        self.nodes = [
            Node(signer, self.verifier, self.parameters, first_context(self.delegates), at)
            for signer in self.signers
        ]
        self.down: set[int] = set()

    def submit(self, *transactions: bytes) -> None:
        """Every node's pool receives the transactions."""
        for index, node in enumerate(self.nodes):
            if index not in self.down:
                node.submit(*transactions)

    def deliver(self, drop: Callable[[int, int, ConsensusMessage], bool] | None = None) -> None:
        """Hand over everything that waits, and what follows from it, until all is quiet."""
        index_of = {node.key: index for index, node in enumerate(self.nodes)}
        while any(node.outbox for node in self.nodes):
            for sender, node in enumerate(self.nodes):
                outbox, node.outbox = node.outbox, []
                for message, to in outbox:
                    if sender in self.down:
                        continue
                    targets = [index_of[key] for key in to] or [
                        i for i in range(len(self.nodes)) if i != sender
                    ]
                    for target in targets:
                        if target in self.down or (drop is not None and drop(sender, target, message)):
                            continue
                        self.nodes[target].step(Received(self.nodes[target].at, node.key, message))

    def pass_ms(self, delay_ms: int) -> None:
        """All clocks go on."""
        for node in self.nodes:
            node.pass_ms(delay_ms)

    def fire(self, kind: str) -> None:
        """Let the timer of ``kind`` run out wherever it runs."""
        for index, node in enumerate(self.nodes):
            if index not in self.down and kind in node.timers:
                node.fire(kind)


class Bench:
    """One replica under test, rank ``rank`` of ``size``; the other delegates are only keys in the test's hand."""

    def __init__(
        self,
        size: int = 4,
        rank: int = 1,
        parameters: Parameters | None = None,
        journal: Iterable[JournalRecord] = (),
    ) -> None:
        self.signers = [KeyedSigner(index) for index in range(size)]
        self.verifier = KeyedVerifier()
        self.delegates = delegate_set(self.signers)
        self.context = first_context(self.delegates)
        self.judge = Judge(CHAIN, self.context, KeyedVerifier())
        self.node = Node(
            self.signers[rank],
            self.verifier,
            parameters or Parameters(),
            self.context,
            Instant(START_MS + 1, 1_000),
            journal=list(journal),
        )
        self.others = [signer for index, signer in enumerate(self.signers) if index != rank]

    @property
    def replica(self) -> Replica:
        return self.node.replica

    def propose(self, *transactions: bytes, view: int = 0, **changes: Any) -> Made:
        """A fresh proposal of the primary of ``view``, whose transactions this node's pool holds; not yet handed in."""
        self.node.pool.update({full_hash(item): item for item in transactions})
        return make_proposal(
            self.context, self.signers[view % len(self.signers)], *transactions, view=view, **changes
        )

    def prepares(self, made: Made, ranks: Iterable[int], view: int = 0) -> list[Effect]:
        """Prepares of others arrive."""
        return self._votes(prepare(self.signers[r], self.context.height, view, made.digest) for r in ranks)

    def commits(self, made: Made, ranks: Iterable[int], view: int = 0) -> list[Effect]:
        """Commits of others arrive."""
        return self._votes(commit(self.signers[r], self.context.height, view, made.digest) for r in ranks)

    def _votes(self, votes: Iterable[Prepare | Commit]) -> list[Effect]:
        effects: list[Effect] = []
        for vote in votes:
            effects += self.node.receive(vote)
        return effects

    def view_changes(self, view: int, ranks: Iterable[int]) -> list[Effect]:
        """Plain view-changes of others arrive."""
        effects: list[Effect] = []
        for rank in ranks:
            effects += self.node.receive(view_change(self.signers[rank], self.context.height, view))
        return effects

    def enter(
        self, view: int, ranks: Iterable[int], certificate: PreparedCertificate | None = None
    ) -> list[Effect]:
        """A valid new-view arrives, made of the view-changes of ``ranks``, the first with ``certificate``."""
        messages = [view_change(self.signers[rank], self.context.height, view) for rank in ranks]
        first = self.signers[next(iter(ranks))]
        messages[0] = view_change(first, self.context.height, view, certificate)
        return self.node.receive(
            new_view(self.signers[view % len(self.signers)], self.context.height, view, messages)
        )
