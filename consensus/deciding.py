"""Deciding: q commits of one view are the block's certificate, at any time (PROTOCOL 6.4, 6.8)."""

from consensus.block import Certificate, CertifiedBlock, Header
from consensus.certificate import make_certificate, signatures_of
from consensus.core import Core
from consensus.effects import Decide
from consensus.errors import InvalidMessage, invariant
from consensus.inputs import BlockFetched
from consensus.messages import Commit
from consensus.parent_commits import ParentCommits
from consensus.proposal import block_is_whole
from consensus.timers import KINDS
from consensus.types import Digest


def block_fetched(core: Core, answer: BlockFetched) -> None:
    """An undecided block that f + 1 prepares, a certificate or a new-view named; not whole, it is asked for again."""
    height = core.height
    digest = answer.block.header.digest()
    if digest not in height.fetching:
        return
    if not block_is_whole(answer.block):
        del height.fetching[digest]
        core.fetch_block(digest, ())
        raise InvalidMessage("the fetched block's parts are not those of its header")
    height.hold(answer.block, digest)
    core.trace("block-fetched")


def decide(core: Core) -> bool:
    """6.4: q commits of one view decide, at any time, whatever view a delegate is in."""
    height = core.height
    if height.decided is not None:
        return False
    certificate = height.certificate = height.certificate or _formed(core)
    if certificate is None:
        return False
    block = height.blocks.get(certificate.digest)
    if block is None:
        if core.seek_block(certificate.digest, tuple(item.signer for item in certificate.signatures)):
            core.trace("certificate-before-block")
        return False
    _check_against_ledger(core, block.header)
    invariant(block.header.digest() == certificate.digest, "a block is held under its own digest (S1)")
    signatures = signatures_of(certificate)
    own = _own_commit(core, certificate.view, certificate.digest)
    if own is not None:
        signatures[core.public_key] = own.signature
    decision = height.decision_on(certificate.digest)
    certificate = make_certificate(decision, certificate.view, signatures)
    height.decided = CertifiedBlock(block, certificate)
    core.parent_commits = ParentCommits(certificate, decision)
    core.decided_wall_ms = core.now.wall_ms
    core.backoff.committed(height.view)
    for kind in KINDS:
        core.cancel_timer(kind)
    core.trace("decided")
    core.emit(Decide(height.decided))
    return True


def _formed(core: Core) -> Certificate | None:
    """The certificate of the commits received one by one, once q agree."""
    height = core.height
    for view, digest in height.commits.quorums:
        signatures = {signer: vote.signature for signer, vote in height.commits.votes(view, digest).items()}
        return make_certificate(height.decision_on(digest), view, signatures)
    return None


def _own_commit(core: Core, view: int, digest: Digest) -> Commit | None:
    """The own commit in the deciding view; one that decides without it signs it now (6.4)."""
    height = core.height
    own = height.own.commits.get(view)
    if own is None and core.voting:
        own = core.sign(Commit, view, digest)
        core.publish_decided(own, *height.records_of(digest))
        core.saw(own, "commit")
        core.trace("late-commit")
    return own if own is not None and own.digest == digest else None


def _check_against_ledger(core: Core, header: Header) -> None:
    """6.8: a replica stops if a *decided* header differs from its own ledger."""
    context = core.height.context
    invariant(header.height == context.height, "a decided block is of the height in flight")
    invariant(
        header.parent_hash == context.parent_hash, "a decided block's parent is the own last block (S2)"
    )
    invariant(header.state_root == context.state_root, "a decided block's state root is the own one (S6)")
    invariant(
        header.receipts_root == context.receipts_root, "a decided block's receipts root is the own one (S6)"
    )
    invariant(header.delegates_hash == context.delegates.hash(), "a decided block's set is the own one (S11)")
    invariant(
        header.next_delegates_hash == context.next_delegates.hash(),
        "a decided block's next set is the own one (S11)",
    )
