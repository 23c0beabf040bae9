"""Signed messages among delegates, each with what it signs beside its fields (PROTOCOL 6.4-6.6).

A message proves its own signature (`verify`); whether its signer holds a seat, and whether nested parts form what
they claim, is judged against a `DelegateSet` in `consensus.certificate` and `consensus.view_change`.
"""

from typing import Final, TypeAlias, TypeVar

from consensus.block import Certificate, Discard, Header
from consensus.encoding import Codec, encode
from consensus.hashing import tagged_hash
from consensus.signing import Phase, Signer, Verifier, consensus_bytes
from consensus.types import Digest, PublicKey, SignatureBytes, Unsigned, Wire


class PrePrepareVote(Wire, frozen=True, tag=1):
    """The primary's signature over (epoch, h, v, digest): the votable core of a pre-prepare, also in evidence."""

    epoch: Unsigned
    height: Unsigned
    view: Unsigned
    digest: Digest
    signer: PublicKey
    signature: SignatureBytes


class Prepare(Wire, frozen=True, tag=2):
    """A backup found the block valid."""

    epoch: Unsigned
    height: Unsigned
    view: Unsigned
    digest: Digest
    signer: PublicKey
    signature: SignatureBytes


class Commit(Wire, frozen=True, tag=3):
    """A delegate holds a prepared certificate (or decided without having committed)."""

    epoch: Unsigned
    height: Unsigned
    view: Unsigned
    digest: Digest
    signer: PublicKey
    signature: SignatureBytes


Vote: TypeAlias = PrePrepareVote | Prepare | Commit
V = TypeVar("V", PrePrepareVote, Prepare, Commit)

PHASE_OF: Final = {PrePrepareVote: Phase.PRE_PREPARE, Prepare: Phase.PREPARE, Commit: Phase.COMMIT}


def vote_bytes(vote: Vote, chain_id: bytes) -> bytes:
    """What ``vote`` signs."""
    return consensus_bytes(PHASE_OF[type(vote)], chain_id, vote.epoch, vote.height, vote.view, vote.digest)


def verify_vote(vote: Vote, chain_id: bytes, verifier: Verifier) -> bool:
    """Whether the signature of ``vote`` is its signer's."""
    return verifier.verify(vote.signer, vote_bytes(vote, chain_id), vote.signature)


def sign_vote(
    kind: type[V],
    chain_id: bytes,
    epoch: int,
    height: int,
    view: int,
    digest: bytes,
    signer: Signer,
) -> V:
    """A signed vote of ``kind``."""
    message = consensus_bytes(PHASE_OF[kind], chain_id, epoch, height, view, digest)
    return kind(epoch, height, view, digest, signer.public_key, signer.sign(message))


class Proposal(Wire, frozen=True, tag=4):
    """Pre-prepare on the wire: the signed vote, the header and references instead of transaction bytes (6.4)."""

    vote: PrePrepareVote
    header: Header
    references: tuple[Digest, ...]
    """`consensus.block.full_hash` of each transaction, in block order."""
    last_commit: Certificate | None
    discarded: tuple[Discard, ...]


class PreparedCertificate(Wire, frozen=True):
    """A pre-prepare and q - 1 prepares of others than the primary, one (epoch, h, v, digest) (PROTOCOL 6.4)."""

    pre_prepare: PrePrepareVote
    prepares: tuple[Prepare, ...]


class Accepted(Wire, frozen=True):
    """The digest a delegate prepared or, as primary, pre-prepared in ``view`` (PROTOCOL 6.6)."""

    view: Unsigned
    digest: Digest


class ViewChange(Wire, frozen=True, tag=5):
    """A delegate asks for view ``view`` of ``height`` and shows what it prepared before (PROTOCOL 6.6)."""

    epoch: Unsigned
    height: Unsigned
    view: Unsigned
    prepared: PreparedCertificate | None
    accepted: tuple[Accepted, ...]
    """Ascending views, each below ``view``."""
    signer: PublicKey
    signature: SignatureBytes

    def content(self) -> Digest:
        """Digest of everything but signer and signature; the signed bytes add epoch, height and view."""
        return tagged_hash("message", encode((self.prepared, self.accepted)))


class NewView(Wire, frozen=True, tag=6):
    """The new primary's proof: view-changes for exactly ``view`` from at least q delegates (PROTOCOL 6.6)."""

    epoch: Unsigned
    height: Unsigned
    view: Unsigned
    view_changes: tuple[ViewChange, ...]
    signer: PublicKey
    signature: SignatureBytes

    def content(self) -> Digest:
        """Digest of everything but signer and signature."""
        return tagged_hash("message", encode(self.view_changes))


ConsensusMessage: TypeAlias = Proposal | Prepare | Commit | ViewChange | NewView
"""What delegates exchange; a bare `PrePrepareVote` travels only inside others."""


def view_change_bytes(message: ViewChange | NewView, chain_id: bytes) -> bytes:
    """What a view-change or new-view signs."""
    phase = Phase.VIEW_CHANGE if isinstance(message, ViewChange) else Phase.NEW_VIEW
    return consensus_bytes(phase, chain_id, message.epoch, message.height, message.view, message.content())


def verify_view_change(message: ViewChange | NewView, chain_id: bytes, verifier: Verifier) -> bool:
    """Whether the outer signature is the signer's; nested parts are checked elsewhere."""
    return verifier.verify(message.signer, view_change_bytes(message, chain_id), message.signature)


MAX_MESSAGE_BYTES: Final = 2 * 1_048_576
"""A proposal of 4 096 references is 140 KiB, removal proofs count toward the block's 1 MiB; a new-view of 31
delegates, each view-change with a certificate of 21 prepares, is about 100 KiB."""

message_codec: Final[Codec[ConsensusMessage]] = Codec(ConsensusMessage, MAX_MESSAGE_BYTES)
pre_prepare_codec: Final[Codec[PrePrepareVote]] = Codec(PrePrepareVote, 512)
view_change_codec: Final[Codec[ViewChange]] = Codec(ViewChange, 262_144)
