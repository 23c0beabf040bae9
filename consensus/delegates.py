"""The ranked delegate set C(h): quorum arithmetic, primaries and who heads a height (PROTOCOL 6.2, 6.3)."""

from collections.abc import Iterator

from consensus.encoding import encode
from consensus.errors import InvalidMessage, invariant
from consensus.hashing import tagged_hash
from consensus.types import Address, Digest, PublicKey, Value, Wire


class Delegate(Wire, frozen=True):
    """A seat's holder."""

    address: Address
    public_key: PublicKey


class DelegateSet(Value, frozen=True):
    """C(h), in ranking order."""

    ranking: tuple[Delegate, ...]

    def __post_init__(self) -> None:
        invariant(len(self.ranking) > 0, "a delegate set cannot be empty")
        invariant(
            len({d.address for d in self.ranking}) == len(self.ranking), "a delegate stands once in a set"
        )

    def __len__(self) -> int:
        return len(self.ranking)

    def __iter__(self) -> Iterator[Delegate]:
        return iter(self.ranking)

    @property
    def faults(self) -> int:
        """f = (n - 1) // 3."""
        return (len(self.ranking) - 1) // 3

    @property
    def quorum(self) -> int:
        """q = n - f."""
        return len(self.ranking) - self.faults

    def hash(self) -> Digest:
        """What headers carry for this set."""
        return tagged_hash("delegates", encode(self.ranking))

    def position(self, address: Address) -> int | None:
        """Rank of ``address``, 0 first; None if it holds no seat."""
        for index, delegate in enumerate(self.ranking):
            if delegate.address == address:
                return index
        return None

    def position_of_key(self, public_key: PublicKey) -> int | None:
        """Rank of the holder of ``public_key``; None if it holds no seat."""
        for index, delegate in enumerate(self.ranking):
            if delegate.public_key == public_key:
                return index
        return None

    def primary(self, head: Address, view: int) -> Delegate:
        """primary(h, view): the view-th after ``head`` = head(h) in ranking, cyclic (PROTOCOL 6.3)."""
        start = self.position(head)
        if start is None:
            raise InvalidMessage(f"head {head.hex()} holds no seat in this set")
        return self.ranking[(start + view) % len(self.ranking)]


def next_head(
    parent_set: DelegateSet, parent_proposer: Address, current: DelegateSet, first_of_epoch: bool
) -> Address:
    """head(h) from C(h-1), the proposer of h-1 (its primary in the header's view) and C(h), PROTOCOL 6.3.

    The promoted backup stays primary; one that lost its seat is followed by the next of C(h-1) still seated.
    Where none of C(h-1) is left the ranking starts anew.
    """
    if first_of_epoch:
        return current.ranking[0].address
    start = parent_set.position(parent_proposer)
    invariant(start is not None, "the parent's proposer held a seat in its own set")
    size = len(parent_set)
    for step in range(size):
        candidate = parent_set.ranking[((start or 0) + step) % size].address
        if current.position(candidate) is not None:
            return candidate
    return current.ranking[0].address
