"""Check 11: while at most f delegates are faulty blocks keep coming, and they come again after more were (L1)."""

from bisect import bisect_right
from itertools import islice, pairwise
from typing import Final

from scripts.history.case import Case
from scripts.history.history import ENDLESS
from scripts.history.records import Event
from scripts.history.verdict import Report, Witness

NAME: Final = "11 liveness"
MILLISECOND: Final = 1_000_000
WINDOW_NS: Final = 10_000 * MILLISECOND


def check(case: Case) -> Report:
    """Commits as the event streams saw them; times with more than f faulty delegates, and after them, are excused."""
    setup = case.history.setup
    seen = _first_seen(case)
    if setup is None or len(seen) < 2:
        return Report(NAME, (), () if setup is None else ("fewer than two blocks were seen on streams",))
    instants = [at for at, _ in seen]
    excused = _excused(case, seen, setup.recovery_ms * MILLISECOND)
    limit_ns = setup.gap_limit_ms * MILLISECOND
    witnesses: list[Witness] = []
    longest = 0
    for (begin, height), (end, _) in pairwise(seen):
        gap = end - begin - _overlap(begin, end, excused)
        longest = max(longest, gap)
        if gap > limit_ns:
            what = f"{gap / 1e9:.1f} s without a commit after block {height}, with at most f delegates faulty"
            witnesses.append(Witness(NAME, what, (), (height,)))
    notes = [f"longest time without a commit {longest / 1e9:.2f} s, limit {setup.gap_limit_ms / 1000:g} s"]
    notes.append(_windows(instants, excused))
    return Report(NAME, tuple(witnesses), (), tuple(notes))


def _first_seen(case: Case) -> list[tuple[int, int]]:
    """(instant, height) of each block at the first stream that told of it, in order of height, never going back."""
    first: dict[int, int] = {}
    for records in case.history.streams.values():
        for record in records:
            if isinstance(record, Event) and record.sequence == 0:
                first[record.height] = min(record.at, first.get(record.height, record.at))
    seen: list[tuple[int, int]] = []
    latest = 0
    for height in sorted(first):
        latest = max(latest, first[height])
        seen.append((latest, height))
    return seen


def _excused(case: Case, seen: list[tuple[int, int]], recovery_ns: int) -> list[tuple[int, int]]:
    """Intervals in which more than f delegates were faulty, each with the time to recover."""
    setup = case.history.setup
    addresses = {} if setup is None else {node.name: node.address for node in setup.nodes}
    active: dict[tuple[str, int], list[str]] = {}
    intervals: list[tuple[int, int]] = []
    since: int | None = None
    for event in sorted(case.history.nemesis, key=lambda event: event.at):
        if event.on:
            active[(event.fault, event.number)] = event.nodes
        else:
            active.pop((event.fault, event.number), None)
        place = bisect_right(seen, (event.at, ENDLESS)) - 1
        seated = case.timeline.delegates(seen[max(place, 0)][1] + 1)
        faulty = {addresses[name] for nodes in active.values() for name in nodes if name in addresses}
        beyond = len(faulty & set(seated)) > (len(seated) - 1) // 3
        if beyond and since is None:
            since = event.at
        elif not beyond and since is not None:
            intervals.append((since, event.at + recovery_ns))
            since = None
    if since is not None:
        intervals.append((since, seen[-1][0] + recovery_ns))
    return _union(intervals)


def _union(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same time in intervals that do not touch; ``intervals`` come by their beginnings."""
    union: list[tuple[int, int]] = []
    for begin, end in intervals:
        if union and begin <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((begin, end))
    return union


def _overlap(begin: int, end: int, intervals: list[tuple[int, int]]) -> int:
    """How much of begin..end ``intervals`` cover."""
    covered = 0
    for start, stop in islice(intervals, max(0, bisect_right(intervals, (begin, ENDLESS)) - 1), None):
        if start >= end:
            break
        covered += max(0, min(end, stop) - max(begin, start))
    return covered


def _windows(instants: list[int], excused: list[tuple[int, int]]) -> str:
    total = with_commit = place = 0
    begin = instants[0]
    while begin + WINDOW_NS <= instants[-1]:
        end = begin + WINDOW_NS
        upto = place
        while upto < len(instants) and instants[upto] < end:
            upto += 1
        if not _overlap(begin, end, excused):
            total += 1
            with_commit += upto > place
        begin, place = end, upto
    share = with_commit / total if total else 1.0
    return (
        f"{with_commit} of {total} windows of 10 s with at most f faulty delegates had a commit ({share:.1%})"
    )
