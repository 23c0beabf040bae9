"""Keys, sets and a hand-driven cluster for the replica's tests: no clock, no network, every step visible.

`Cluster` hands messages over only when a test says so; `Node` answers pool and checker effects by itself unless told not
to. The seeded many-run harness is `network.simulation`; this one is for one rule at a time.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from consensus.block import Block, CertifiedBlock, full_hash
from consensus.certificate import Decision, make_certificate
from consensus.delegates import Delegate, DelegateSet, next_head
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
from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.inputs import (
    Advanced,
    Batch,
    HeightContext,
    Input,
    Instant,
    PoolChanged,
    ProposalChecked,
    Received,
    Timer,
    TimerFired,
)
from consensus.messages import (
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from consensus.parameters import Parameters
from consensus.removal import transaction_id
from consensus.replica import Replica

CHAIN = b"\x11" * 32
START_MS = 1_700_000_000_000


class KeyedSigner:
    """A deterministic key: its signature is a hash keyed with the public key, which `KeyedVerifier` can repeat."""

    def __init__(self, index: int) -> None:
        self._public_key = hashlib.sha256(b"key %d" % index).digest()

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=self._public_key).digest()


class KeyedVerifier:
    """Verifies `KeyedSigner`; counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        self.calls += 1
        return hashlib.blake2b(message, key=public_key).digest() == signature


def delegate_set(signers: Iterable[KeyedSigner]) -> DelegateSet:
    """The set of these keys, ranked as given."""
    return DelegateSet(tuple(Delegate(address_of(s.public_key), s.public_key) for s in signers))


def transaction(number: int) -> bytes:
    """Bytes that look like a transaction: two parts, the first of which is the body."""
    return encode((("body", number), "signatures"))


def first_context(delegates: DelegateSet) -> HeightContext:
    """Height 1 above genesis."""
    return HeightContext(
        height=1,
        epoch=0,
        parent_hash=CHAIN,
        parent_time_ms=START_MS,
        parent_certificate=None,
        delegates=delegates,
        next_delegates=delegates,
        head=delegates.ranking[0].address,
        previous_delegates=None,
        state_root=b"\x22" * 32,
        receipts_root=b"\x33" * 32,
    )


def next_context(context: HeightContext, decided: CertifiedBlock) -> HeightContext:
    """The height above ``decided``, with a state root of its own."""
    header = decided.block.header
    return msgspec.structs.replace(
        context,
        height=context.height + 1,
        parent_hash=header.digest(),
        parent_time_ms=header.time_ms,
        parent_certificate=decided.certificate,
        head=next_head(context.delegates, header.proposer, context.next_delegates, first_of_epoch=False),
        previous_delegates=context.delegates,
        delegates=context.next_delegates,
        state_root=hashlib.sha256(context.state_root + header.digest()).digest(),
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

    def sent(self, kind: type[ConsensusMessage]) -> list[ConsensusMessage]:
        """Everything of ``kind`` this node ever sent."""
        return [e.message for e in self.effects if isinstance(e, Send) and isinstance(e.message, kind)]

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
                        tuple(item for item in self.pool.values() if transaction_id(item) not in effect.excluded),
                        tuple(k for k, item in self.pool.items() if transaction_id(item) not in effect.excluded),
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
        wait = 0 if proposal.references else None
        vote = proposal.vote
        self.step(ProposalChecked(self.at, vote.height, vote.view, vote.digest, block, reason, (), wait))

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
                    targets = [index_of[key] for key in to] or [i for i in range(len(self.nodes)) if i != sender]
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


def pre_prepare(signer: KeyedSigner, height: int, view: int, digest: bytes, epoch: int = 0) -> PrePrepareVote:
    return sign_vote(PrePrepareVote, CHAIN, epoch, height, view, digest, signer)


def prepare(signer: KeyedSigner, height: int, view: int, digest: bytes, epoch: int = 0) -> Prepare:
    return sign_vote(Prepare, CHAIN, epoch, height, view, digest, signer)


def commit(signer: KeyedSigner, height: int, view: int, digest: bytes, epoch: int = 0) -> Commit:
    return sign_vote(Commit, CHAIN, epoch, height, view, digest, signer)


def prepared(signers: list[KeyedSigner], height: int, view: int, digest: bytes) -> PreparedCertificate:
    """A certificate: ``signers[0]`` as primary, the others prepare; give them in ranking order."""
    votes = tuple(prepare(signer, height, view, digest) for signer in signers[1:])
    return PreparedCertificate(pre_prepare(signers[0], height, view, digest), votes)


def view_change(
    signer: KeyedSigner,
    height: int,
    view: int,
    prepared_certificate: PreparedCertificate | None = None,
    accepted: tuple = (),
) -> ViewChange:
    """A signed view-change."""
    unsigned = ViewChange(0, height, view, prepared_certificate, accepted, signer.public_key, bytes(64))
    return msgspec.structs.replace(unsigned, signature=signer.sign(view_change_bytes(unsigned, CHAIN)))


def new_view(signer: KeyedSigner, height: int, view: int, view_changes: Iterable[ViewChange]) -> NewView:
    """A signed new-view."""
    unsigned = NewView(0, height, view, tuple(view_changes), signer.public_key, bytes(64))
    return msgspec.structs.replace(unsigned, signature=signer.sign(view_change_bytes(unsigned, CHAIN)))


def certified(block: Block, context: HeightContext, signers: Iterable[KeyedSigner], view: int = 0) -> CertifiedBlock:
    """``block`` with commits of ``signers``."""
    digest = block.header.digest()
    decision = Decision(context.epoch, context.height, digest, context.delegates)
    signatures = {s.public_key: commit(s, context.height, view, digest, context.epoch).signature for s in signers}
    return CertifiedBlock(block, make_certificate(decision, view, signatures))
