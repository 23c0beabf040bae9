"""How much a replica holds: all it keeps for peers is bounded, whatever they send (PROTOCOL 6.6, RELIABILITY R1)."""

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

PER_SEAT: Final = 80
"""Entries that one delegate may fill: three kinds of votes of eight views, each of them up to three entries (of its
view, its digest, its signer) where all contradict each other; what comes early or for the next height; view-changes."""
BESIDE: Final = 70
"""What a replica holds of its own: votes, blocks, samples, timers."""


def entries(root: object) -> int:
    """Entries of all containers that belong to ``root``, without what is inside messages and blocks."""
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, msgspec.Struct):
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            total += len(item)
            waiting += item.values()
        elif isinstance(item, list | set | deque | frozenset):
            total += len(item)
            waiting += item
        elif type(item).__module__.startswith("consensus.") and hasattr(item, "__dict__"):
            waiting += vars(item).values()
    return total


def most_entries(seats: int) -> int:
    """What a replica among so many seats may hold."""
    return PER_SEAT * seats + BESIDE
