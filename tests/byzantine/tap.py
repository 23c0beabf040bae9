"""An honest member that writes down every vote it sends or gets: what the links' TLS hides from a proxy, it sees.

One line a vote, as `scripts.history.records.Vote`. Only votes whose signatures hold are kept: anybody may send others.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from consensus.ed25519 import Ed25519Verifier
from consensus.hashing import address_of
from consensus.messages import PHASE_OF, Commit, Prepare, PrePrepareVote, Proposal
from consensus.signing import Signer, consensus_bytes
from consensus.types import PublicKey
from network.wire import ApplicationMessage
from node.runtime import Runtime

NAMES = {PrePrepareVote: "pre_prepare", Prepare: "prepare", Commit: "commit"}


def make_tapping(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Append to the file ``argument``."""
    del signer
    path = Path(argument)
    verifier, chain_id = Ed25519Verifier(), runtime.ledger.chain_id
    seen: dict[bytes, None] = {}

    def note(message: ApplicationMessage) -> None:
        vote = message.vote if isinstance(message, Proposal) else message
        if not isinstance(vote, PrePrepareVote | Prepare | Commit) or vote.signature in seen:
            return
        seen[vote.signature] = None
        if len(seen) > 10_000:
            del seen[next(iter(seen))]
        signed = consensus_bytes(
            PHASE_OF[type(vote)], chain_id, vote.epoch, vote.height, vote.view, vote.digest
        )
        if not verifier.verify(vote.signer, signed, vote.signature):
            return
        row = {
            "type": "vote",
            "at": time.monotonic_ns(),
            "signer": address_of(vote.signer).hex(),
            "epoch": vote.epoch,
            "height": vote.height,
            "view": vote.view,
            "phase": NAMES[type(vote)],
            "digest": vote.digest.hex(),
        }
        with path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")

    receive, send = runtime.router.message, runtime.transport.broadcast

    def take(sender: PublicKey, message: ApplicationMessage) -> None:
        note(message)
        receive(sender, message)

    def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        note(message)
        return send(public_keys, message)

    runtime.router.message = take  # type: ignore[method-assign]
    runtime.transport.broadcast = broadcast  # type: ignore[method-assign]
