"""Who is guilty when the chain forks: what the messages seen prove, and about whom they prove it.

Two votes of one key for one (phase, epoch, height, view) with different digests prove guilt by themselves (PROTOCOL
3.2b). A fork across views may need more to be explained: whoever committed in a view and then asked for a higher one
without showing what it had prepared is either guilty, or decided late on q commits of others (6.4). So such keys are
`hiders`: no evidence against one of them, but at least f + 1 - late ones of them lied.
"""

from collections.abc import Iterable
from typing import TypeAlias

from consensus.block import Certificate
from consensus.messages import (
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
    Vote,
    verify_view_change,
    verify_vote,
)
from consensus.signing import Verifier
from consensus.types import Digest, PublicKey

Slot: TypeAlias = tuple[PublicKey, str, int, int, int]
"""(key, phase, epoch, height, view)."""


class Accountability:
    """Takes in messages and certificates, whoever sent them; only what its signer signed counts."""

    def __init__(self, chain_id: Digest, verifier: Verifier) -> None:
        self._chain_id = chain_id
        self._verifier = verifier
        self._votes: dict[Slot, dict[Digest, None]] = {}
        self._changes: dict[tuple[PublicKey, int], dict[int, int]] = {}
        """Per key and height: view asked for, and the view of the certificate shown (-1: none)."""
        self._seen: dict[int, object] = {}
        """By identity; the object is kept, so that no other can take its place."""

    def add(self, message: ConsensusMessage) -> None:
        """A message was seen."""
        if id(message) in self._seen:
            return
        self._seen[id(message)] = message
        match message:
            case Proposal():
                self._add_vote(message.vote)
                if message.last_commit is not None:
                    self.add_certificate(message.last_commit)
            case Prepare() | Commit():
                self._add_vote(message)
            case ViewChange():
                self._add_change(message)
            case NewView():
                for item in message.view_changes:
                    self._add_change(item)

    def add_certificate(self, certificate: Certificate) -> None:
        """A certificate was seen: each share is a commit."""
        if id(certificate) in self._seen:
            return
        self._seen[id(certificate)] = certificate
        for share in certificate.signatures:
            self._add_vote(
                Commit(
                    certificate.epoch,
                    certificate.height,
                    certificate.view,
                    certificate.digest,
                    share.signer,
                    share.signature,
                )
            )

    def _add_vote(self, vote: Vote) -> None:
        slot = (vote.signer, type(vote).__name__, vote.epoch, vote.height, vote.view)
        digests = self._votes.setdefault(slot, {})
        if vote.digest not in digests and verify_vote(vote, self._chain_id, self._verifier):
            digests[vote.digest] = None

    def _add_change(self, message: ViewChange) -> None:
        if id(message) in self._seen or not verify_view_change(message, self._chain_id, self._verifier):
            return
        self._seen[id(message)] = message
        shown = -1 if message.prepared is None else message.prepared.pre_prepare.view
        shown_before = self._changes.setdefault((message.signer, message.height), {})
        shown_before[message.view] = min(shown, shown_before.get(message.view, shown))
        if message.prepared is not None:
            self._add_prepared(message.prepared)

    def _add_prepared(self, certificate: PreparedCertificate) -> None:
        vote: PrePrepareVote = certificate.pre_prepare
        self._add_vote(vote)
        for prepare in certificate.prepares:
            self._add_vote(prepare)

    def culprits(self) -> tuple[PublicKey, ...]:
        """Keys that two of their own votes convict, in the order in which they were seen first."""
        return tuple(dict.fromkeys(slot[0] for slot, digests in self._votes.items() if len(digests) > 1))

    def hiders(self, height: int) -> tuple[PublicKey, ...]:
        """Keys that committed in a view of ``height`` and asked for a higher one as if they had not."""
        found: dict[PublicKey, None] = {}
        for (key, phase, _epoch, voted, view), digests in self._votes.items():
            if phase == "Commit" and voted == height and digests:
                changes = self._changes.get((key, height), {})
                if any(asked > view > shown for asked, shown in changes.items()):
                    found[key] = None
        return tuple(found)


def culprits(
    messages: Iterable[ConsensusMessage], chain_id: Digest, verifier: Verifier
) -> tuple[PublicKey, ...]:
    """Keys that ``messages`` convict of equivocation, each once."""
    accountability = Accountability(chain_id, verifier)
    for message in messages:
        accountability.add(message)
    return accountability.culprits()
