"""The test vectors of docs/annex/planner.md: generator of the members, read back from the page itself."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from consensus.grouping import GroupingMember

PAGE = Path(__file__).resolve().parents[3] / "docs" / "annex" / "planner.md"
SEED = bytes([7]) * 32


def members_of(count: int, start: int) -> list[GroupingMember]:
    """The members of one vector, in address order (section 5 of the page)."""
    draws = _draws(start)
    members = []
    for number in range(count):
        energy, credit = next(draws), next(draws)
        address = hashlib.sha256(b"member" + number.to_bytes(4, "big")).digest()[:20]
        energy_wh = 0 if energy % 4 == 0 else (energy % 1000 + 1) << (energy // 1000 % 12)
        members.append(GroupingMember(address, energy_wh, credit % 100_001))
    return sorted(members, key=lambda member: member.address)


def _draws(state: int) -> Iterator[int]:
    while True:
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        yield state >> 33


def shown(assignment: tuple[int, ...]) -> str:
    """A plan as the page shows it: short ones in full, long ones by hash."""
    if len(assignment) <= 16:
        return " ".join(str(group) for group in assignment)
    return hashlib.sha256(b"".join(group.to_bytes(2, "big") for group in assignment)).hexdigest()


def rows() -> list[tuple[int, int, int, str, str]]:
    """(m, K, start, plan, score) of each vector on the page."""
    found = re.findall(
        r"^\| (\d+) \| (\d+) \| (\d+) \| ([0-9a-f ]+) \| (\(\d+, \d+\)) \|$",
        PAGE.read_text("utf-8"),
        re.MULTILINE,
    )
    return [(int(m), int(k), int(start), plan, score) for m, k, start, plan, score in found]
