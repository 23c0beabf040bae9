"""Ledgers that are not what they should be: certified blocks changed, and signed again as colluding delegates would."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from consensus.block import (
    Block,
    Certificate,
    CertifiedBlock,
    Discard,
    FailedProposal,
    Header,
    certified_block_codec,
    discarded_root,
    full_hash,
    last_commit_hash,
    transactions_root,
)
from consensus.encoding import encode
from consensus.merkle import leaf_hash, merkle_path
from consensus.messages import (
    Accepted,
    Commit,
    PrePrepareVote,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from contracts.transaction import Transaction
from node.auditor.driver import audit_source
from node.auditor.replay import Audit
from tests.support.chain import Key
from tests.unit.auditor.history import CertifiedChain

replace = msgspec.structs.replace


class ListSource:
    """A source of blocks in memory; None is a block that is missing."""

    name = "memory"

    def __init__(self, genesis: bytes, blocks: Sequence[bytes | None]) -> None:
        self._genesis, self._blocks = genesis, blocks

    def genesis(self) -> bytes:
        return self._genesis

    def height(self) -> int:
        return len(self._blocks)

    def block(self, height: int) -> bytes | None:
        return self._blocks[height - 1]

    def receipts(self, height: int) -> list[bytes] | None:
        return None

    def head(self) -> tuple[bytes, bytes] | None:
        return None

    def state(self) -> dict[bytes, bytes] | None:
        return None

    def close(self) -> None:
        return


def audit_of(
    chain: CertifiedChain, changed: Mapping[int, bytes | None] | None = None, genesis: bytes | None = None
) -> Audit:
    """The audit of the chain's blocks, those in ``changed`` (by height) exchanged."""
    blocks: list[bytes | None] = list(chain.certified)
    for height, data in (changed or {}).items():
        blocks[height - 1] = data
    return audit_source(ListSource(chain.genesis_bytes if genesis is None else genesis, blocks))


def found(audit: Audit) -> list[tuple[int, str]]:
    """(height, rule) of each finding."""
    return [(finding.height, finding.rule) for finding in audit.findings]


def decoded(chain: CertifiedChain, height: int) -> CertifiedBlock:
    """The certified block of a height."""
    return certified_block_codec.decode(chain.certified[height - 1])


def sign_again(chain: CertifiedChain, header: Header, like: Certificate) -> Certificate:
    """A certificate for ``header`` by the signers and of the view of ``like``."""
    by_key = {key.public_key: key for key in chain.keys.values()}
    digest, shares = header.digest(), []
    for share in like.signatures:
        place = (chain.chain_id, header.epoch, header.height, like.view, digest)
        vote = sign_vote(Commit, *place, by_key[share.signer])
        shares.append(replace(share, signature=vote.signature))
    return Certificate(header.epoch, header.height, like.view, digest, tuple(shares))


def resealed(
    chain: CertifiedChain, height: int, change: Callable[[Block], Block], **header: Any
) -> dict[int, bytes | None]:
    """Block ``height`` changed, its roots made to fit, and everything from there on linked and signed again.

    Fields in ``header`` are set last.
    """
    result: dict[int, bytes | None] = {}
    parent: CertifiedBlock | None = None
    for at in range(height, chain.height + 1):
        old = decoded(chain, at)
        block = change(old.block) if at == height else old.block
        commit = block.last_commit if parent is None else parent.certificate
        fields: dict[str, Any] = {
            "transactions_root": transactions_root([full_hash(raw) for raw in block.transactions]),
            "discarded_root": discarded_root(block.discarded),
            "last_commit_hash": last_commit_hash(commit),
        }
        if parent is not None:
            fields["parent_hash"] = parent.block.header.digest()
        if at == height:
            fields |= header
        block = replace(block, header=replace(block.header, **fields), last_commit=commit)
        parent = CertifiedBlock(block, sign_again(chain, block.header, old.certificate))
        result[at] = encode(parent)
    return result


def recertified(chain: CertifiedChain, height: int, **certificate: Any) -> bytes:
    """Block ``height`` with fields of its certificate exchanged."""
    certified = decoded(chain, height)
    return encode(replace(certified, certificate=replace(certified.certificate, **certificate)))


def removal(chain: CertifiedChain, transaction: Transaction, views: Sequence[int] = (0, 1)) -> Discard:
    """A proof that the primaries of ``views`` of the next height proposed ``transaction`` in vain (PROTOCOL 6.10)."""
    context = chain.context()
    proposals = []
    for view in views:
        template = chain.make_block(transaction, after_ms=100, view=view)
        leaves = [leaf_hash(transaction.reference)]
        primary = chain.keys[template.header.proposer]
        vote = chain.pre_prepare(primary, template.header)
        assert isinstance(vote, PrePrepareVote)
        accepted = (Accepted(view, template.header.digest()),)
        place = (template.header.epoch, template.header.height, view + 1)
        changes = tuple(
            encode(_view_change(chain, place, accepted, chain.keys[delegate.address]))
            for delegate in context.delegates.ranking[: context.delegates.faults + 1]
        )
        proposals.append(FailedProposal(template.header, merkle_path(leaves, 0), encode(vote), changes))
    return Discard(transaction.id, transaction.raw, tuple(proposals))


def _view_change(
    chain: CertifiedChain, place: tuple[int, int, int], accepted: tuple[Accepted, ...], key: Key
) -> ViewChange:
    unsigned = ViewChange(*place, None, accepted, key.public_key, bytes(64))
    return replace(unsigned, signature=key.sign(view_change_bytes(unsigned, chain.chain_id)))
