"""The state tree: 4 096 sorted buckets under three 16-ary levels, with membership and absence proofs (PROTOCOL 9.5).

``key hash = H("state.key", key)``; its first 12 bits choose the bucket. ``leaf = H("state.leaf", value)``.
``bucket = H("state.bucket", key hash || leaf, ... in key-hash order)``; ``node = H("state.node", 16 children)``; the
root is the single node above three levels. An update touches its bucket and three nodes, whatever the size of the
state, and one wide hash costs less in Python than a tall binary path.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from consensus.encoding import Codec
from consensus.hashing import tagged_hash
from consensus.types import Digest, Wire

_FANOUT: Final = 16
_BUCKETS: Final = 4_096
_LEVELS: Final = 3


class BucketEntry(Wire, frozen=True):
    """One key of a bucket, by hash."""

    key_hash: Digest
    leaf: Digest


class StateProof(Wire, frozen=True):
    """That ``key`` has ``value`` (or is absent, None) under a state root.

    ``bucket`` is the whole bucket in order; ``siblings`` holds, from the bottom, the 15 other children of each level.
    """

    key: bytes
    value: bytes | None
    bucket: tuple[BucketEntry, ...]
    siblings: tuple[tuple[Digest, ...], ...]


state_proof_codec: Final[Codec[StateProof]] = Codec(StateProof, 8_388_608)


def _bucket_hash(entries: Mapping[bytes, bytes]) -> Digest:
    return tagged_hash("state.bucket", b"".join([key + entries[key] for key in sorted(entries)]))


def _bucket_index(key_hash: bytes) -> int:
    return int.from_bytes(key_hash[:2], "big") >> 4


class StateTree:
    """Mutable tree over all state entries, updated once per block with the changed keys only."""

    def __init__(self) -> None:
        self._buckets: list[dict[bytes, bytes]] = [{} for _ in range(_BUCKETS)]
        self._levels: list[list[bytes]] = [[_bucket_hash({})] * _BUCKETS]
        for _ in range(_LEVELS):
            child = tagged_hash("state.node", self._levels[-1][0] * _FANOUT)
            self._levels.append([child] * (len(self._levels[-1]) // _FANOUT))

    @property
    def root(self) -> Digest:
        """Root over all entries."""
        return self._levels[-1][0]

    def update(self, changes: Mapping[bytes, bytes | None]) -> Digest:
        """Apply ``key -> value`` (None deletes) and return the new root."""
        touched: dict[int, None] = {}
        buckets, bottom = self._buckets, self._levels[0]
        for key, value in changes.items():
            key_hash = tagged_hash("state.key", key)
            index = _bucket_index(key_hash)
            if value is None:
                buckets[index].pop(key_hash, None)
            else:
                buckets[index][key_hash] = tagged_hash("state.leaf", value)
            touched[index] = None
        for index in touched:
            bottom[index] = _bucket_hash(buckets[index])
        for level in range(1, _LEVELS + 1):
            touched = dict.fromkeys(index // _FANOUT for index in touched)
            below = self._levels[level - 1]
            for index in touched:
                children = below[index * _FANOUT : (index + 1) * _FANOUT]
                self._levels[level][index] = tagged_hash("state.node", b"".join(children))
        return self.root

    def prove(self, key: bytes, value: bytes | None) -> StateProof:
        """Proof for ``key`` under the current root; ``value`` is what the state holds, None for absence."""
        index = _bucket_index(tagged_hash("state.key", key))
        entries = self._buckets[index]
        siblings: list[tuple[bytes, ...]] = []
        position = index
        for level in range(_LEVELS):
            start = position // _FANOUT * _FANOUT
            row = self._levels[level][start : start + _FANOUT]
            siblings.append(tuple(row[: position - start] + row[position - start + 1 :]))
            position //= _FANOUT
        bucket = tuple(BucketEntry(key_hash, entries[key_hash]) for key_hash in sorted(entries))
        return StateProof(key, value, bucket, tuple(siblings))


def verify_state_proof(root: Digest, proof: StateProof) -> bool:
    """Whether ``proof`` holds under ``root``: presence with exactly ``value``, or absence if it is None."""
    key_hash = tagged_hash("state.key", proof.key)
    hashes = [entry.key_hash for entry in proof.bucket]
    if any(a >= b for a, b in pairwise(hashes)) or len(proof.siblings) != _LEVELS:
        return False
    leaves = {entry.key_hash: entry.leaf for entry in proof.bucket}
    expected = None if proof.value is None else tagged_hash("state.leaf", proof.value)
    if leaves.get(key_hash) != expected:
        return False
    position, node = _bucket_index(key_hash), _bucket_hash(leaves)
    for row in proof.siblings:
        if len(row) != _FANOUT - 1:
            return False
        place = position % _FANOUT
        node = tagged_hash("state.node", b"".join((*row[:place], node, *row[place:])))
        position //= _FANOUT
    return node == root
