"""What a dishonest member does to the messages its replica wants to send."""

from collections.abc import Iterable
from typing import Final

import msgspec

from consensus.hashing import tagged_hash
from consensus.messages import Commit, NewView, Prepare, PrePrepareVote, Proposal, ViewChange, sign_vote
from consensus.signing import Signer
from consensus.types import PublicKey
from network.wire import ApplicationMessage
from node.runtime import Runtime

CONSENSUS: Final = (Proposal, Prepare, Commit, ViewChange, NewView)


def make_silent(runtime: Runtime, signer: Signer, argument: str = "") -> None:
    """Answer everything but take no part: no vote leaves, and no heartbeat, which would carry one (PROTOCOL 3.2)."""
    del signer, argument
    honest = runtime.transport.broadcast

    def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        return 0 if isinstance(message, CONSENSUS) else honest(public_keys, message)

    runtime.transport.broadcast = broadcast  # type: ignore[method-assign]
    runtime.intake.submit_own = lambda raw: None  # type: ignore[method-assign]


def make_equivocating(runtime: Runtime, signer: Signer, argument: str = "") -> None:
    """Send beside every proposal and vote a second one for the same height and view with another digest."""
    del argument
    chain_id = runtime.ledger.chain_id
    honest = runtime.transport.broadcast

    def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        everyone = tuple(public_keys)
        sent = honest(everyone, message)
        second = conflicting(message, chain_id, signer)
        if second is not None:
            honest(everyone, second)
        return sent

    runtime.transport.broadcast = broadcast  # type: ignore[method-assign]


def conflicting(
    message: ApplicationMessage, chain_id: bytes, signer: Signer
) -> Proposal | Prepare | Commit | None:
    """The same signer's other opinion of the same height and view; None for what carries no vote."""
    match message:
        case Proposal(vote=vote, header=header):
            later = msgspec.structs.replace(header, time_ms=header.time_ms + 1)
            other = sign_vote(
                PrePrepareVote, chain_id, vote.epoch, vote.height, vote.view, later.digest(), signer
            )
            return msgspec.structs.replace(message, vote=other, header=later)
        case Prepare():
            return sign_vote(Prepare, chain_id, *_place(message), signer)
        case Commit():
            return sign_vote(Commit, chain_id, *_place(message), signer)
        case _:
            return None


def _place(vote: Prepare | Commit) -> tuple[int, int, int, bytes]:
    """Where ``vote`` stands, with another digest."""
    return vote.epoch, vote.height, vote.view, tagged_hash("message", vote.digest)
