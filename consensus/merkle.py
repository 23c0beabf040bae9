"""Binary Merkle tree over a list, with membership paths.

Leaves and inner nodes have different domain tags; an odd node is carried up unchanged, and the root binds the
number of leaves, so that no two lists share a root: ``root = H("list", count (8 bytes) || top)``.
"""

from collections.abc import Sequence

from consensus.hashing import tagged_hash
from consensus.types import Digest, Unsigned, Wire


class MerklePath(Wire, frozen=True):
    """Proof that a leaf stands at ``index`` of a list of ``count``; siblings from the leaf upward."""

    index: Unsigned
    count: Unsigned
    siblings: tuple[Digest, ...]


def leaf_hash(data: bytes) -> Digest:
    """Hash of one list entry."""
    return tagged_hash("merkle.leaf", data)


def _parents(level: list[bytes]) -> list[bytes]:
    pairs = [tagged_hash("merkle.node", level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        pairs.append(level[-1])
    return pairs


def _bind(count: int, top: bytes) -> Digest:
    return tagged_hash("list", count.to_bytes(8, "big") + top)


def merkle_root(leaves: Sequence[Digest]) -> Digest:
    """Root over leaf hashes, in order; the empty list has a root of its own."""
    if not leaves:
        return _bind(0, tagged_hash("merkle.empty", b""))
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return _bind(len(leaves), level[0])


class MerkleTree:
    """All levels of one list, for who needs many of its paths: each is then looked up, not hashed anew."""

    def __init__(self, leaves: Sequence[Digest]) -> None:
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))

    def path(self, index: int) -> MerklePath:
        """Path of the leaf at ``index``; `IndexError` outside the list."""
        count = len(self._levels[0])
        if not 0 <= index < count:
            raise IndexError(f"leaf {index} of a list of {count}")
        siblings: list[bytes] = []
        position = index
        for level in self._levels[:-1]:
            sibling = position ^ 1
            if sibling < len(level):
                siblings.append(level[sibling])
            position //= 2
        return MerklePath(index, count, tuple(siblings))


def merkle_path(leaves: Sequence[Digest], index: int) -> MerklePath:
    """Path of ``leaves[index]``; `IndexError` outside the list."""
    return MerkleTree(leaves).path(index)


def verify_path(root: Digest, leaf: Digest, path: MerklePath) -> bool:
    """Whether ``leaf`` stands at ``path.index`` of the list with ``root``."""
    if not path.index < path.count or len(path.siblings) > 64:
        return False
    node, position, width = leaf, path.index, path.count
    remaining = iter(path.siblings)
    while width > 1:
        if position ^ 1 < width:
            sibling = next(remaining, None)
            if sibling is None:
                return False
            pair = sibling + node if position % 2 else node + sibling
            node = tagged_hash("merkle.node", pair)
        position, width = position // 2, (width + 1) // 2
    return next(remaining, None) is None and _bind(path.count, node) == root
