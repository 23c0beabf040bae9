"""Tables, their changes, and the tree's shape (docs/annex/state.md)."""

import hashlib
import random

import pytest

from consensus.errors import InvariantViolation, MalformedInput
from contracts.state import State, Table, Tip, number_key, reading_key
from contracts.state_tree import StateTree, verify_state_proof


def plain_root(entries: dict[bytes, bytes]) -> bytes:
    """The annex's tree, written down once more without the project's code."""

    def h(tag: str, data: bytes) -> bytes:
        return hashlib.sha256(bytes([len(tag)]) + tag.encode() + data).digest()

    buckets: list[list[tuple[bytes, bytes]]] = [[] for _ in range(4_096)]
    for key, value in entries.items():
        key_hash = h("state.key", key)
        buckets[int.from_bytes(key_hash, "big") >> 244].append((key_hash, h("state.leaf", value)))
    level = [h("state.bucket", b"".join(a + b for a, b in sorted(bucket))) for bucket in buckets]
    while len(level) > 1:
        level = [h("state.node", b"".join(level[i : i + 16])) for i in range(0, len(level), 16)]
    return level[0]


def test_the_tree_is_that_of_the_annex() -> None:
    """Also after updates and deletions, whatever their order."""
    chance = random.Random(5)
    tree, entries = StateTree(), dict[bytes, bytes]()
    assert tree.root == plain_root(entries)
    for _ in range(6):
        changes: dict[bytes, bytes | None] = {chance.randbytes(8): chance.randbytes(20) for _ in range(300)}
        for key in chance.sample(sorted(entries), len(entries) // 3):
            changes[key] = None if chance.random() < 0.5 else chance.randbytes(4)
        for changed, value in changes.items():
            if value is None:
                del entries[changed]
            else:
                entries[changed] = value
        assert tree.update(changes) == plain_root(entries)
    for key in [*sorted(entries)[:50], *(chance.randbytes(9) for _ in range(50))]:
        proof = tree.prove(key, entries.get(key))
        assert verify_state_proof(tree.root, proof)
        assert not verify_state_proof(bytes(32), proof)


def test_a_tables_changes_are_told_once_and_only_if_there_are_any() -> None:
    state = State(1_000)
    state.tip.put(b"", Tip(bytes(32)))
    changes, root = state.commit()
    assert list(changes) == [b"\x04"]
    assert state.commit() == ({}, root)
    state.tip.delete(b"")
    state.tip.put(b"x", Tip(bytes(32)))
    state.tip.delete(b"x")
    changes, root = state.commit()
    assert changes == {b"\x04": None}
    assert root == StateTree().root


def test_a_missing_record_is_our_own_bug() -> None:
    state = State(1_000)
    with pytest.raises(InvariantViolation):
        state.accounts.require(bytes(20))
    with pytest.raises(InvariantViolation):
        state.accounts.delete(bytes(20))
    with pytest.raises(InvariantViolation):
        state.register(Table(1, Tip))


@pytest.mark.parametrize("entries", [{b"\xfe": b"\x90"}, {b"\x04": b"\x90"}, {b"\x04": b"\x91\xc0"}])
def test_a_damaged_store_is_refused(entries: dict[bytes, bytes]) -> None:
    """An unknown table, a record too short, one of a wrong type."""
    with pytest.raises(MalformedInput):
        State(1_000).load(entries)


def test_keys_sort_like_their_numbers() -> None:
    numbers = [0, 1, 255, 256, 2**40, 2**63 - 1]
    assert sorted(number_key(n) for n in numbers) == [number_key(n) for n in numbers]
    assert reading_key(1, b"\xff" * 20) < reading_key(2, b"\x00" * 20)
