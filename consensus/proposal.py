"""What makes a proposal valid, as far as no transaction needs to be opened (PROTOCOL 6.8, 9.1)."""

from consensus.block import (
    PROTOCOL_VERSION,
    Block,
    Certificate,
    Discard,
    Header,
    discarded_root,
    full_hash,
    last_commit_hash,
    transactions_root,
)
from consensus.encoding import encode
from consensus.errors import InvalidMessage
from consensus.inputs import HeightContext
from consensus.judge import Judge
from consensus.messages import Proposal
from consensus.parameters import Parameters
from consensus.types import Digest


def check_parts(proposal: Proposal) -> None:
    """Raise `InvalidMessage` unless header, references and the rest are those that the vote's digest binds.

    A carrier could have exchanged what the signature does not cover directly, so a mismatch drops the message and
    is not held against the primary.
    """
    header = proposal.header
    if header.digest() != proposal.vote.digest:
        raise InvalidMessage("the pre-prepare's digest is not that of its header")
    if transactions_root(proposal.references) != header.transactions_root:
        raise InvalidMessage("the references are not those of the header")
    if last_commit_hash(proposal.last_commit) != header.last_commit_hash:
        raise InvalidMessage("the last-commit is not that of the header")
    if discarded_root(proposal.discarded) != header.discarded_root:
        raise InvalidMessage("the removals are not those of the header")


def block_is_whole(block: Block) -> bool:
    """Whether the block's parts are those that its header binds."""
    header = block.header
    return (
        transactions_root([full_hash(item) for item in block.transactions]) == header.transactions_root
        and last_commit_hash(block.last_commit) == header.last_commit_hash
        and discarded_root(block.discarded) == header.discarded_root
    )


def proposal_fits(block: Block, proposal: Proposal) -> bool:
    """Whether ``block`` carries the parts of ``proposal``; its transactions' hashes were compared while gathering."""
    return (
        block.header == proposal.header
        and len(block.transactions) == len(proposal.references)
        and block.last_commit == proposal.last_commit
        and block.discarded == proposal.discarded
    )


def wrong_origin(header: Header, chain_id: Digest, epoch: int) -> str | None:
    """The faults of a header that are evidence by themselves (PROTOCOL 3.2b); None if it has none."""
    if header.chain_id != chain_id:
        return "the header is of another chain"
    if header.version != PROTOCOL_VERSION:
        return f"the header's version is {header.version}, not {PROTOCOL_VERSION}"
    if header.epoch != epoch:
        return f"the header's epoch is {header.epoch}, not {epoch}"
    return None


def check_header(header: Header, context: HeightContext, chain_id: Digest) -> None:
    """Raise `InvalidMessage` unless origin, parent, sets, roots and order of times are right (PROTOCOL 6.8)."""
    origin = wrong_origin(header, chain_id, context.epoch)
    if origin is not None:
        raise InvalidMessage(origin)
    facts = (
        (header.height == context.height, "height"),
        (header.parent_hash == context.parent_hash, "parent"),
        (header.state_root == context.state_root, "state root"),
        (header.receipts_root == context.receipts_root, "receipts root"),
        (header.delegates_hash == context.delegates.hash(), "delegates"),
        (header.next_delegates_hash == context.next_delegates.hash(), "next delegates"),
    )
    for right, name in facts:
        if not right:
            raise InvalidMessage(f"the header's {name} differs from this node's")
    if header.time_ms <= context.parent_time_ms:
        raise InvalidMessage("the header's time is not after its parent's")


def check_role(proposal: Proposal, judge: Judge, chosen: Digest | None) -> None:
    """Raise `InvalidMessage` unless the proposal is fresh where it may be, and the chosen block where it must be (6.6).

    ``chosen`` is the digest of the new-view's highest certificate, None in view 0 or without one.
    """
    vote, header = proposal.vote, proposal.header
    if chosen is not None:
        if vote.digest != chosen:
            raise InvalidMessage("the new-view's highest certificate names another block")
        if header.view >= vote.view:
            raise InvalidMessage("a block proposed again was first proposed in a lower view")
    elif header.view != vote.view:
        raise InvalidMessage("a fresh proposal's header names its own view")
    if header.proposer != judge.primary_address(header.view):
        raise InvalidMessage("the header's proposer was not primary in the header's view")


def check_contents(proposal: Proposal, context: HeightContext, parameters: Parameters) -> None:
    """Raise `InvalidMessage` for too many transactions, removals too large, or an empty block too early."""
    count = len(proposal.references)
    if count > parameters.max_block_transactions:
        raise InvalidMessage(f"{count} transactions, a block holds {parameters.max_block_transactions}")
    if len(frozenset(proposal.references)) != count:
        raise InvalidMessage("a transaction is listed twice")
    if removals_size(proposal.discarded) > parameters.max_block_bytes:
        raise InvalidMessage(f"the removals exceed the block's {parameters.max_block_bytes} bytes")
    early = proposal.header.time_ms < empty_block_time_ms(context, parameters)
    if early and not proposal.references and not proposal.discarded:
        raise InvalidMessage("an empty block comes at least empty_block_interval_ms after its parent (6.9)")


def empty_block_time_ms(context: HeightContext, parameters: Parameters) -> int:
    """The earliest header time of a block without transactions, evidence or discards."""
    return context.parent_time_ms + parameters.empty_block_interval_ms


def removals_size(discarded: tuple[Discard, ...]) -> int:
    """Bytes that removal proofs take of the block (PROTOCOL 6.10)."""
    return sum(len(encode(item)) for item in discarded)


def block_size(block: Block) -> int:
    """What is held against max_block_bytes: transactions and removal proofs."""
    return sum(len(item) for item in block.transactions) + removals_size(block.discarded)


def make_header(
    chain_id: Digest,
    context: HeightContext,
    judge: Judge,
    view: int,
    time_ms: int,
    parts: tuple[tuple[Digest, ...], Certificate | None, tuple[Discard, ...]],
) -> Header:
    """The header of a fresh proposal of ``view`` over (references, last commit, removals)."""
    references, last_commit, discarded = parts
    return Header(
        version=PROTOCOL_VERSION,
        chain_id=chain_id,
        height=context.height,
        epoch=context.epoch,
        view=view,
        parent_hash=context.parent_hash,
        time_ms=time_ms,
        proposer=judge.primary_address(view),
        transactions_root=transactions_root(references),
        last_commit_hash=last_commit_hash(last_commit),
        discarded_root=discarded_root(discarded),
        receipts_root=context.receipts_root,
        state_root=context.state_root,
        delegates_hash=context.delegates.hash(),
        next_delegates_hash=context.next_delegates.hash(),
    )
