"""What a signed message proves, judged anew: no rule of the code under test is asked (PROTOCOL 6.2-6.6, 6.10).

`Checkers` look at what came out; these judgements are for what an honest node relied on when it signed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from consensus.block import Certificate, CertifiedBlock, Discard, FailedProposal, Header, full_hash
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.hashing import tagged_hash
from consensus.merkle import leaf_hash, merkle_root, verify_path
from consensus.messages import (
    Commit,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
    Vote,
    pre_prepare_codec,
    view_change_codec,
)
from consensus.types import Address, Digest, PublicKey
from network.simulation.doors import Terms
from network.simulation.keys import KeyRing

PHASES: Final = {PrePrepareVote: 1, Prepare: 2, Commit: 3, ViewChange: 4, NewView: 5}
LAST_VIEW: Final = 2**62
"""No delegate signs beyond it, and what claims to be of a view beyond does not count."""
MOST_ACCEPTED: Final = 64
KEPT: Final = 20_000
"""Judgements kept; beyond it all are made anew."""

Judged: TypeAlias = Vote | ViewChange | NewView | PreparedCertificate | Proposal


class Proofs:
    """Judgements about messages of heights whose delegates are known; each is made once per object."""

    def __init__(
        self,
        chain_id: Digest,
        terms: Terms,
        keys: KeyRing,
        chain: Callable[[], Sequence[CertifiedBlock]],
    ) -> None:
        self._chain_id = chain_id
        self._terms = terms
        self._keys = keys
        self._chain = chain
        self._seats: dict[int, tuple[PublicKey, ...]] = {}
        self._faults: dict[int, int] = {}
        self._judged: dict[int, tuple[Judged, bool]] = {}
        """By identity; the object is kept, so that no other can take its place."""

    # ------------------------------------------------------------------ who

    def seats(self, height: int) -> tuple[PublicKey, ...]:
        """Keys of C(height) in ranking order."""
        known = self._seats.get(height)
        if known is None:
            ranking = self._terms.term(height).delegates.ranking
            known = self._seats[height] = tuple(delegate.public_key for delegate in ranking)
        return known

    def faults(self, height: int) -> int:
        """f of PROTOCOL 6.2."""
        known = self._faults.get(height)
        if known is None:
            known = self._faults[height] = (len(self.seats(height)) - 1) // 3
        return known

    def quorum(self, height: int) -> int:
        """q of PROTOCOL 6.2."""
        return len(self.seats(height)) - self.faults(height)

    def primary(self, height: int, view: int) -> PublicKey:
        """primary(height, view); the block below must be decided (PROTOCOL 6.3)."""
        seats = self.seats(height)
        return seats[(self._head(height) + view) % len(seats)]

    def _head(self, height: int) -> int:
        """Rank of head(height)."""
        term = self._terms.term(height)
        if height == 1 or term.first_of_epoch:
            return 0
        now = [delegate.address for delegate in term.delegates.ranking]
        before = [delegate.address for delegate in self._terms.term(height - 1).delegates.ranking]
        first = before.index(self._chain()[height - 2].block.header.proposer)
        for address in before[first:] + before[:first]:
            if address in now:
                return now.index(address)
        return 0

    def proposer(self, height: int, view: int) -> Address:
        """The address of `primary`."""
        seats = self._terms.term(height).delegates.ranking
        return seats[(self._head(height) + view) % len(seats)].address

    def parent(self, height: int) -> Header | None:
        """The header decided below ``height``; None for height 1."""
        return self._chain()[height - 2].block.header if height > 1 else None

    def misplaced(self, header: Header) -> str | None:
        """What of a header does not continue the chain, as far as no ledger is needed (PROTOCOL 6.8, 9.1)."""
        term, parent = self._terms.term(header.height), self.parent(header.height)
        following = self._terms.term(header.height + 1).delegates
        facts = {
            "version": header.version == 1,
            "chain": header.chain_id == self._chain_id,
            "epoch": header.epoch == term.epoch,
            "parent": header.parent_hash == (self._chain_id if parent is None else parent.digest()),
            "time": parent is None or header.time_ms > parent.time_ms,
            "set": header.delegates_hash == term.delegates.hash(),
            "next set": header.next_delegates_hash == following.hash(),
        }
        return next((name for name, right in facts.items() if not right), None)

    # ------------------------------------------------------------------ messages

    def holds(self, message: Judged) -> bool:
        """Whether ``message`` and everything nested in it is what PROTOCOL 6.4-6.6 asks for."""
        known = self._judged.get(id(message))
        if known is not None:
            return known[1]
        match message:
            case Proposal():
                right = self._whole(message)
            case PreparedCertificate():
                right = self._prepared(message)
            case ViewChange():
                right = self._view_change(message)
            case NewView():
                right = self._new_view(message)
            case _:
                right = self._signed(message, message.digest)
        if len(self._judged) >= KEPT:
            self._judged.clear()
        self._judged[id(message)] = (message, right)
        return right

    def _signed(self, message: Vote | ViewChange | NewView, digest: Digest) -> bool:
        """By a delegate of its height, in its epoch, over the bytes of PROTOCOL 6.5."""
        term = self._terms.term(message.height)
        if message.epoch != term.epoch or term.delegates.position_of_key(message.signer) is None:
            return False
        if not 0 <= message.view <= LAST_VIEW:
            return False
        places = b"".join(
            number.to_bytes(8, "big") for number in (message.epoch, message.height, message.view)
        )
        signed = b"cgpbft/consensus/1" + bytes((PHASES[type(message)],)) + self._chain_id + places + digest
        return self._keys.verify(message.signer, signed, message.signature)

    def _prepared(self, certificate: PreparedCertificate) -> bool:
        vote, prepares = certificate.pre_prepare, certificate.prepares
        place = (vote.height, vote.epoch, vote.view, vote.digest)
        signers = [prepare.signer for prepare in prepares]
        return (
            self.holds(vote)
            and vote.signer == self.primary(vote.height, vote.view)
            and len(signers) >= self.quorum(vote.height) - 1
            and self._ordered(vote.height, signers)
            and vote.signer not in signers
            and all((p.height, p.epoch, p.view, p.digest) == place and self.holds(p) for p in prepares)
        )

    def _ordered(self, height: int, signers: Sequence[PublicKey]) -> bool:
        """Whether all hold seats and stand in ranking order, each once (PROTOCOL 9.1)."""
        seats = self.seats(height)
        ranks = [seats.index(signer) if signer in seats else -1 for signer in signers]
        return ranks == sorted(set(ranks)) and -1 not in ranks

    def _view_change(self, message: ViewChange) -> bool:
        views = [item.view for item in message.accepted]
        ordered = views == sorted(set(views)) and all(0 <= view < message.view for view in views)
        content = tagged_hash("message", encode((message.prepared, message.accepted)))
        if message.view <= 0 or not ordered or len(views) > MOST_ACCEPTED:
            return False
        if not self._signed(message, content):
            return False
        shown = message.prepared
        if shown is None:
            return True
        vote = shown.pre_prepare
        return vote.height == message.height and vote.view < message.view and self.holds(shown)

    def _new_view(self, message: NewView) -> bool:
        content = tagged_hash("message", encode(message.view_changes))
        signers = {item.signer for item in message.view_changes}
        return (
            message.view > 0
            and message.signer == self.primary(message.height, message.view)
            and len(signers) == len(message.view_changes)
            and len(self.counting(message)) >= self.quorum(message.height)
            and self._signed(message, content)
        )

    @staticmethod
    def _whole(proposal: Proposal) -> bool:
        """Whether the vote binds the header, and the header every other part (PROTOCOL 9.1)."""
        header = proposal.header
        references = [leaf_hash(reference) for reference in proposal.references]
        removals = [leaf_hash(tagged_hash("discard", encode(item))) for item in proposal.discarded]
        shown = b"" if proposal.last_commit is None else encode(proposal.last_commit)
        return (
            header.digest() == proposal.vote.digest
            and merkle_root(references) == header.transactions_root
            and tagged_hash("certificate", shown) == header.last_commit_hash
            and merkle_root(removals) == header.discarded_root
        )

    def counting(self, message: NewView) -> tuple[ViewChange, ...]:
        """The view-changes of a new-view that count: whole, for exactly its view and height."""
        place = (message.height, message.view)
        return tuple(
            item for item in message.view_changes if (item.height, item.view) == place and self.holds(item)
        )

    @staticmethod
    def choice(view_changes: Iterable[ViewChange]) -> Digest | None:
        """What has to be proposed again: the digest of the highest certificate view; None allows a fresh block."""
        shown = [item.prepared.pre_prepare for item in view_changes if item.prepared is not None]
        if not shown:
            return None
        highest = max(vote.view for vote in shown)
        return min(vote.digest for vote in shown if vote.view == highest)

    def decides(self, certificate: Certificate, height: int, digest: Digest) -> bool:
        """Whether q distinct delegates of ``height`` committed ``digest`` in one view, and nobody else is named."""
        if (certificate.height, certificate.epoch) != (height, self._terms.term(height).epoch):
            return False
        signers = [item.signer for item in certificate.signatures]
        if certificate.digest != digest or not self._ordered(height, signers):
            return False
        return len(signers) >= self.quorum(height) and all(
            self._signed(
                Commit(certificate.epoch, height, certificate.view, digest, item.signer, item.signature),
                digest,
            )
            for item in certificate.signatures
        )

    # ------------------------------------------------------------------ removals

    def removed(self, discard: Discard, height: int, view: int) -> bool:
        """Whether f + 1 distinct primaries proposed the transaction in failed views below ``view`` (PROTOCOL 6.10)."""
        needed = self.faults(height) + 1
        views = [item.header.view for item in discard.proposals]
        primaries = {self.primary(height, failed) for failed in views}
        leaf = leaf_hash(full_hash(discard.transaction))
        return (
            needed > 1
            and len(views) == len(primaries) == needed
            and max(views) < view
            and all(verify_path(item.header.transactions_root, leaf, item.path) for item in discard.proposals)
            and all(self._failed(item, height) for item in discard.proposals)
        )

    def _failed(self, item: FailedProposal, height: int) -> bool:
        try:
            vote = pre_prepare_codec.decode(item.pre_prepare)
            witnesses = [view_change_codec.decode(raw) for raw in item.view_changes]
        except MalformedInput:
            return False
        accepted = (vote.view, vote.digest)
        return (
            (vote.height, vote.view, vote.digest) == (height, item.header.view, item.header.digest())
            and vote.signer == self.primary(height, vote.view)
            and self.holds(vote)
            and len({message.signer for message in witnesses}) == len(witnesses) == self.faults(height) + 1
            and all(
                (message.height, message.view) == (height, vote.view + 1)
                and accepted in [(item.view, item.digest) for item in message.accepted]
                and self.holds(message)
                for message in witnesses
            )
        )
