"""Counting votes of one phase of one height (PROTOCOL 6.4, 3.2b)."""

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

from consensus.errors import invariant
from consensus.messages import Commit, Prepare, PrePrepareVote
from consensus.types import Digest, PublicKey

V = TypeVar("V", PrePrepareVote, Prepare, Commit)

VIEWS_KEPT: Final = 8
"""Views of one sender kept per phase, the highest ones: an honest delegate eight views behind follows a new-view or a
certificate instead, and a liar fills its own places only."""


class Tally(Generic[V]):
    """Of each key and view the first vote counts; a second with another digest is evidence and never counts.

    Only verified votes enter. ``threshold`` votes for one (view, digest) make its quorum.
    """

    def __init__(self, threshold: int) -> None:
        invariant(threshold >= 0, "a quorum is not negative")
        self._threshold = threshold
        self._by_signer: dict[PublicKey, dict[int, V]] = {}
        self._by_view: dict[int, dict[Digest, dict[PublicKey, V]]] = {}
        self._reported: dict[tuple[PublicKey, int], None] = {}
        self._quorums: dict[tuple[int, Digest], None] = {}

    def first(self, signer: PublicKey, view: int) -> V | None:
        """The vote of ``signer`` in ``view`` that counts."""
        return self._by_signer.get(signer, {}).get(view)

    def keeps(self, signer: PublicKey, view: int) -> bool:
        """Whether a vote of ``view`` would find a place among those of ``signer``."""
        own = self._by_signer.get(signer, {})
        return len(own) < VIEWS_KEPT or view > min(own)

    def add(self, vote: V) -> None:
        """Count a verified vote of a key that has none in that view yet."""
        own = self._by_signer.setdefault(vote.signer, {})
        invariant(vote.view not in own, "a key's votes of one view are counted once")
        if not self.keeps(vote.signer, vote.view):
            return
        own[vote.view] = vote
        votes = self._by_view.setdefault(vote.view, {}).setdefault(vote.digest, {})
        votes[vote.signer] = vote
        if len(votes) >= self._threshold:
            self._quorums[(vote.view, vote.digest)] = None
        if len(own) > VIEWS_KEPT:
            self._drop(own.pop(min(own)))
        invariant(len(own) <= VIEWS_KEPT, "a sender fills a bounded number of places")

    def _drop(self, vote: V) -> None:
        digests = self._by_view[vote.view]
        votes = digests[vote.digest]
        invariant(votes.get(vote.signer) is vote, "only a counted vote gives up its place")
        del votes[vote.signer]
        self._reported.pop((vote.signer, vote.view), None)
        if len(votes) < self._threshold:
            self._quorums.pop((vote.view, vote.digest), None)
        if not votes:
            del digests[vote.digest]
        if not digests:
            del self._by_view[vote.view]

    def conflicts(self, vote: V) -> V | None:
        """The counted vote that ``vote`` contradicts, if that was not reported before."""
        first = self.first(vote.signer, vote.view)
        if first is None or first.digest == vote.digest or (vote.signer, vote.view) in self._reported:
            return None
        return first

    def mark_reported(self, vote: V) -> None:
        """One report a key and view is enough."""
        invariant(
            self.first(vote.signer, vote.view) is not None, "only a conflict with a counted vote is reported"
        )
        self._reported[(vote.signer, vote.view)] = None

    def votes(self, view: int, digest: Digest) -> Mapping[PublicKey, V]:
        """The counted votes for ``digest`` in ``view``."""
        return self._by_view.get(view, {}).get(digest, {})

    def digests(self, view: int) -> Iterator[Digest]:
        """What has votes in ``view``, in the order of arrival."""
        return iter(tuple(self._by_view.get(view, {})))

    def has_quorum(self, view: int, digest: Digest) -> bool:
        """Whether ``threshold`` distinct keys voted for ``digest`` in ``view``."""
        return len(self.votes(view, digest)) >= self._threshold

    @property
    def quorums(self) -> tuple[tuple[int, Digest], ...]:
        """Every (view, digest) with a quorum of votes."""
        return tuple(self._quorums)
