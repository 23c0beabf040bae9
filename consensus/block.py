"""Header, certificate, removal proof and block (PROTOCOL 9.1, 6.4, 6.10)."""

from typing import Final

from consensus.encoding import Codec, encode
from consensus.hashing import tagged_hash
from consensus.merkle import MerklePath, leaf_hash, merkle_root
from consensus.types import Address, Digest, PublicKey, SignatureBytes, Unsigned, Wire

PROTOCOL_VERSION: Final = 1


class Header(Wire, frozen=True):
    """What three phases decide; ``digest = H("block.header", encode(header))`` binds the whole block.

    ``receipts_root`` and ``state_root`` are those *after the parent*; ``view`` is the view in which the block
    was first proposed and ``proposer`` the primary of that view (PROTOCOL 6.3, 9.1).
    """

    version: Unsigned
    chain_id: Digest
    height: Unsigned
    epoch: Unsigned
    view: Unsigned
    parent_hash: Digest
    time_ms: Unsigned
    proposer: Address
    transactions_root: Digest
    last_commit_hash: Digest
    discarded_root: Digest
    receipts_root: Digest
    state_root: Digest
    delegates_hash: Digest
    next_delegates_hash: Digest

    def digest(self) -> Digest:
        """The block's hash."""
        return tagged_hash("block.header", encode(self))


class CommitSignature(Wire, frozen=True):
    """One delegate's share of a certificate."""

    signer: PublicKey
    signature: SignatureBytes


class Certificate(Wire, frozen=True):
    """q commits of one view for one digest, in ranking order, each signer once (PROTOCOL 6.4, 9.1)."""

    epoch: Unsigned
    height: Unsigned
    view: Unsigned
    digest: Digest
    signatures: tuple[CommitSignature, ...]

    def hash(self) -> Digest:
        """What the child's header binds as ``last_commit_hash``."""
        return tagged_hash("certificate", encode(self))


NO_CERTIFICATE_HASH: Final = tagged_hash("certificate", b"")
"""``last_commit_hash`` of block 1, whose last commit is empty."""


class FailedProposal(Wire, frozen=True):
    """One of the f+1 proposals that PROTOCOL 6.10 asks for, of view ``header.view``.

    ``pre_prepare`` and ``view_changes`` are canonical bytes of `consensus.messages.PrePrepareVote` and
    `consensus.messages.ViewChange`, kept opaque here so that a block does not depend on message types.
    """

    header: Header
    path: MerklePath
    pre_prepare: bytes
    view_changes: tuple[bytes, ...]


class Discard(Wire, frozen=True):
    """Removal of one transaction: its id, its full hash and the failed proposals that carried it (PROTOCOL 6.10).

    ``body_hash`` is the id; the Merkle leaf is over the full bytes, so ``transaction`` carries them.
    """

    transaction_id: Digest
    transaction: bytes
    proposals: tuple[FailedProposal, ...]


class Block(Wire, frozen=True):
    """Header, transactions as their full bytes, last commit and removals (PROTOCOL 9.1)."""

    header: Header
    transactions: tuple[bytes, ...]
    last_commit: Certificate | None
    discarded: tuple[Discard, ...]


class CertifiedBlock(Wire, frozen=True):
    """A decided block and what proves it."""

    block: Block
    certificate: Certificate


def transactions_root(full_hashes: tuple[Digest, ...] | list[Digest]) -> Digest:
    """Merkle root over transaction references (`full_hash`), in order."""
    return merkle_root([leaf_hash(reference) for reference in full_hashes])


def full_hash(transaction: bytes) -> Digest:
    """A transaction's reference: H of its full bytes, signatures included (PROTOCOL 6.4)."""
    return tagged_hash("transaction.full", transaction)


def discarded_root(discarded: tuple[Discard, ...]) -> Digest:
    """Merkle root over the encoded removals."""
    return merkle_root([leaf_hash(tagged_hash("discard", encode(item))) for item in discarded])


def last_commit_hash(certificate: Certificate | None) -> Digest:
    """`Certificate.hash`, or `NO_CERTIFICATE_HASH` for block 1."""
    return NO_CERTIFICATE_HASH if certificate is None else certificate.hash()


MAX_ENCODED_BLOCK_BYTES: Final = 4 * 1_048_576
"""Cap before decoding: max_block_bytes of any sensible genesis plus certificates of 1 000 delegates."""

block_codec: Final[Codec[Block]] = Codec(Block, MAX_ENCODED_BLOCK_BYTES)
certified_block_codec: Final[Codec[CertifiedBlock]] = Codec(CertifiedBlock, MAX_ENCODED_BLOCK_BYTES)
header_codec: Final[Codec[Header]] = Codec(Header, 1_024)
certificate_codec: Final[Codec[Certificate]] = Codec(Certificate, 262_144)
