"""Check 6: each event stream tells every event of the chain once, in order, and goes on where it was cut off."""

from collections.abc import Iterator
from typing import Final

import msgspec

from scripts.history.case import Case
from scripts.history.records import Event, Subscribe
from scripts.history.verdict import Report, Witness

NAME: Final = "6 streams"


def check(case: Case) -> Report:
    """No gap, no duplicate, no other order, nothing that the chain does not hold."""
    contents: dict[int, list[tuple[str, str]]] = {}
    witnesses: list[Witness] = []
    told = 0
    for process, records in case.history.streams.items():
        expected: tuple[int, int] | None = None
        for record in records:
            if isinstance(record, Subscribe):
                expected = (record.height, record.sequence + 1)
                continue
            told += 1
            faults = list(_faults(case, record, expected, contents))
            witnesses += [
                Witness(NAME, f"process {process}: {fault}", (_shown(record),), (record.height,))
                for fault in faults
            ]
            expected = (record.height, record.sequence + 1)
            if faults:
                break
    return Report(NAME, tuple(witnesses), (), (f"{told} events on {len(case.history.streams)} streams",))


def _faults(
    case: Case, event: Event, expected: tuple[int, int] | None, contents: dict[int, list[tuple[str, str]]]
) -> Iterator[str]:
    block_hash = case.chain.hash_at(event.height)
    if block_hash is None:
        return  # decided after the chain was taken
    if event.hash != block_hash:
        yield f"an event of block {event.height} with hash {event.hash}, which is {block_hash}"
        return
    if expected is not None and not _follows(case, (event.height, event.sequence), expected, contents):
        yield f"event {event.height}.{event.sequence} came where {expected[0]}.{expected[1]} was due"
    if event.sequence:
        inside = _contents(case, event.height, contents)
        if event.sequence > len(inside):
            yield f"event {event.height}.{event.sequence} is not in block {event.height}"
        elif inside[event.sequence - 1] != (event.kind, event.transaction):
            due, whose = inside[event.sequence - 1]
            yield f"event {event.height}.{event.sequence} is {event.kind}, in the chain {due} of {whose or 'the block'}"


def _follows(
    case: Case,
    came: tuple[int, int],
    expected: tuple[int, int],
    contents: dict[int, list[tuple[str, str]]],
) -> bool:
    if came == expected:
        return True
    if came[1] != 0 or case.chain.hash_at(expected[0]) is None:
        return False
    # The block before is exhausted, and the next begins.
    return came[0] == expected[0] + 1 and expected[1] > len(_contents(case, expected[0], contents))


def _contents(case: Case, height: int, contents: dict[int, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    known = contents.get(height)
    if known is None:
        known = contents[height] = list(case.chain.blocks[height - 1].stream())
    return known


def _shown(event: Event) -> str:
    return msgspec.json.encode(event).decode()
