"""Who may sign what at one height, and whether they did (PROTOCOL 6.2-6.5)."""

from collections.abc import Callable

from consensus.delegates import DelegateSet
from consensus.errors import InvalidMessage, invariant
from consensus.inputs import HeightContext
from consensus.messages import NewView, ViewChange, Vote, verify_view_change, verify_vote
from consensus.signing import Verifier
from consensus.types import Address, Digest, PublicKey

MAX_VIEW = 2**62
"""No delegate signs beyond it; far above what any clock allows, far below what the encoding refuses."""


class Judge:
    """C(h) at work: seats, quorum arithmetic, primaries and signatures of one height.

    ``known`` tells of a vote whether the same bytes were verified before; they are not verified again.
    """

    def __init__(self, chain_id: Digest, context: HeightContext, verifier: Verifier) -> None:
        delegates = context.delegates
        self.chain_id = chain_id
        self.epoch = context.epoch
        self.height = context.height
        self.verifier = verifier
        self.delegates: DelegateSet = delegates
        self.head: Address = context.head
        self.quorum = delegates.quorum
        self.faults = delegates.faults
        self.known: Callable[[Vote], bool] = _nothing
        self._ranks = {delegate.public_key: rank for rank, delegate in enumerate(delegates)}
        start = delegates.position(context.head)
        invariant(start is not None, "head(h) holds a seat in C(h) (PROTOCOL 6.3)")
        self._start = start or 0
        invariant(len(self._ranks) == len(delegates), "no two seats of a set share a key")
        invariant(
            2 * self.quorum - len(delegates) > self.faults, "two quorums share an honest delegate (6.2)"
        )

    def rank(self, public_key: PublicKey) -> int | None:
        """Position in the ranking; None without a seat."""
        return self._ranks.get(public_key)

    def primary_key(self, view: int) -> PublicKey:
        """primary(h, view)'s key (PROTOCOL 6.3)."""
        return self.delegates.ranking[(self._start + view) % len(self.delegates)].public_key

    def primary_address(self, view: int) -> Address:
        """primary(h, view)'s address."""
        return self.delegates.ranking[(self._start + view) % len(self.delegates)].address

    def check_place(self, message: Vote | ViewChange | NewView) -> None:
        """Raise `InvalidMessage` unless a delegate of C(h) names this epoch, this height and a view in range."""
        if message.signer not in self._ranks:
            raise InvalidMessage("the signer holds no seat at this height")
        if message.height != self.height or message.epoch != self.epoch:
            raise InvalidMessage(
                f"message of epoch {message.epoch} height {message.height}, not {self.epoch} {self.height}"
            )
        if not 0 <= message.view <= MAX_VIEW:
            raise InvalidMessage(f"view {message.view} is out of range")

    def check_vote(self, vote: Vote) -> None:
        """Raise `InvalidMessage` unless ``vote`` is a delegate's, of this height, and its signature holds."""
        self.check_place(vote)
        if not self.known(vote) and not verify_vote(vote, self.chain_id, self.verifier):
            raise InvalidMessage(f"{type(vote).__name__} of view {vote.view} is not signed by its signer")

    def check_signature(self, message: ViewChange | NewView) -> None:
        """Raise `InvalidMessage` unless a delegate of this height signed ``message``; nested parts are not judged."""
        self.check_place(message)
        if not verify_view_change(message, self.chain_id, self.verifier):
            raise InvalidMessage(
                f"{type(message).__name__} for view {message.view} is not signed by its signer"
            )


def _nothing(_vote: Vote) -> bool:
    return False
