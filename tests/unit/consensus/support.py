"""Keys, sets and messages made by hand for the consensus tests; `bench` has replicas to feed them to."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from consensus.block import Block, CertifiedBlock, Discard, full_hash
from consensus.certificate import Decision, make_certificate
from consensus.delegates import Delegate, DelegateSet, next_head
from consensus.effects import (
    Effect,
    Send,
    Trace,
)
from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.inputs import (
    HeightContext,
)
from consensus.judge import Judge
from consensus.messages import (
    Accepted,
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
from consensus.proposal import make_header

E = TypeVar("E", bound=Effect)
M = TypeVar("M", bound=ConsensusMessage)

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
    accepted: tuple[Accepted, ...] = (),
) -> ViewChange:
    """A signed view-change."""
    unsigned = ViewChange(0, height, view, prepared_certificate, accepted, signer.public_key, bytes(64))
    return msgspec.structs.replace(unsigned, signature=signer.sign(view_change_bytes(unsigned, CHAIN)))


def new_view(signer: KeyedSigner, height: int, view: int, view_changes: Iterable[ViewChange]) -> NewView:
    """A signed new-view."""
    unsigned = NewView(0, height, view, tuple(view_changes), signer.public_key, bytes(64))
    return msgspec.structs.replace(unsigned, signature=signer.sign(view_change_bytes(unsigned, CHAIN)))


def certified(
    block: Block, context: HeightContext, signers: Iterable[KeyedSigner], view: int = 0
) -> CertifiedBlock:
    """``block`` with commits of ``signers``."""
    digest = block.header.digest()
    decision = Decision(context.epoch, context.height, digest, context.delegates)
    signatures = {
        s.public_key: commit(s, context.height, view, digest, context.epoch).signature for s in signers
    }
    return CertifiedBlock(block, make_certificate(decision, view, signatures))


@dataclass
class Made:
    """A proposal built by hand, with its block."""

    proposal: Proposal
    block: Block

    @property
    def digest(self) -> bytes:
        return self.proposal.vote.digest


def make_proposal(
    context: HeightContext,
    signer: KeyedSigner,
    *transactions: bytes,
    view: int = 0,
    time_ms: int | None = None,
    discarded: tuple[Discard, ...] = (),
    **changes: Any,
) -> Made:
    """What ``signer`` would propose fresh in ``view``; ``changes`` replace fields of the header."""
    references = tuple(full_hash(item) for item in transactions)
    last_commit = context.parent_certificate
    judge = Judge(CHAIN, context, KeyedVerifier())
    time_ms = context.parent_time_ms + 1 if time_ms is None else time_ms
    header = make_header(CHAIN, context, judge, view, time_ms, (references, last_commit, discarded))
    header = msgspec.structs.replace(header, **changes)
    vote = pre_prepare(signer, context.height, view, header.digest(), context.epoch)
    block = Block(header, transactions, last_commit, discarded)
    return Made(Proposal(vote, header, references, last_commit, discarded), block)


def again(made: Made, signer: KeyedSigner, view: int) -> Proposal:
    """The same block proposed again by the primary of a later view."""
    header = made.proposal.header
    vote = pre_prepare(signer, header.height, view, made.digest, header.epoch)
    return msgspec.structs.replace(made.proposal, vote=vote)


def of_kind(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent_of(effects: Iterable[Effect], kind: type[M]) -> list[M]:
    """The messages of one kind among the effects."""
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def events(effects: Iterable[Effect]) -> list[str]:
    """The names of what was traced."""
    return [effect.event for effect in effects if isinstance(effect, Trace)]
