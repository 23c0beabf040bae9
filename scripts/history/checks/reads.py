"""Check 5: an answer is the state at the height it names, and no older than its reader was promised."""

from collections.abc import Iterator
from typing import Final

from scripts.history.case import Case
from scripts.history.history import Operation
from scripts.history.records import Fail, Info, Ok
from scripts.history.verdict import Report, Witness

NAME: Final = "5 reads"


def check(case: Case) -> Report:
    """Values, hashes, sessions, consistent reads; how stale plain reads were."""
    witnesses = [
        Witness(NAME, what, case.shown(operation), (_height(operation),))
        for operation in case.history.operations
        if type(operation.end) is Ok and operation.end.height
        for what in _wrong(case, operation, operation.end)
    ]
    witnesses += _sessions(case)
    fresh, notes = _freshness(case)
    return Report(NAME, (*witnesses, *fresh), (), notes)


def _height(operation: Operation) -> int:
    end = operation.end
    return 0 if end is None or isinstance(end, Info) else end.height


# ---- values


def _wrong(case: Case, operation: Operation, end: Ok) -> Iterator[str]:
    known = case.chain.hash_at(end.height)
    if known is not None and end.hash and known != end.hash:
        yield f"read at block {end.height} with hash {end.hash}, which is {known} in the chain"
        return
    if known is None:
        return  # beyond the chain that was kept: nothing to compare with
    match operation.invoke.op:
        case "submit" | "resubmit" | "status":
            yield from _wrong_status(case, operation, end)
        case "account":
            yield from _wrong_account(case, operation, end)
        case _:
            yield from _wrong_answer(case, operation, end)


def _wrong_account(case: Case, operation: Operation, end: Ok) -> Iterator[str]:
    told, address, timeline = end.value, operation.invoke.subject, case.timeline
    if not isinstance(told, dict):
        return
    tables = (("balance", timeline.balances), ("credit", timeline.credits), ("energy_wh", timeline.energy))
    for name, table in tables:
        values = table.get(address)
        expected = None if values is None else values.at(end.height)
        if name in told and told[name] != (expected or 0):
            yield f"{name} of {address} read as {told[name]} at block {end.height}, not {expected}"


def _wrong_answer(case: Case, operation: Operation, end: Ok) -> Iterator[str]:
    invoke, timeline = operation.invoke, case.timeline
    if invoke.op == "trade":
        states = timeline.trades.get(invoke.subject)
        expected = None if states is None else states.at(end.height) or ""
        if expected is not None and expected != end.state:
            yield f"trade {invoke.subject} read as {end.state} at block {end.height}, not {expected}"
    elif invoke.op == "delegates" and isinstance(end.value, list):
        seated = timeline.delegates(invoke.number)
        if tuple(end.value) != seated:
            yield f"C({invoke.number}) read as {end.value}, not {seated}"
    elif invoke.op == "block" and isinstance(end.value, dict):
        told = end.value.get("hash")
        if told != case.chain.hash_at(invoke.number):
            yield f"block {invoke.number} read with hash {told}"


def _wrong_status(case: Case, operation: Operation, end: Ok) -> Iterator[str]:
    held = case.places.get(operation.invoke.subject)
    if end.place is not None and end.place[0] > end.height:
        yield f"{operation.invoke.subject} answered as committed at {end.place[0]}, read at block {end.height}"
    if held is not None and held[0] <= end.height and end.state in ("pending", "unknown"):
        yield f"{operation.invoke.subject} answered {end.state} at block {end.height}; block {held[0]} holds it"


# ---- sessions


def _sessions(case: Case) -> Iterator[Witness]:
    """Heights never go back for one client, and its own committed writes are seen.

    A client that stays with one node whose home was wiped or put back cannot ask for more than that node has.
    """
    forgot = case.history.forgot()
    floors: dict[int, tuple[int, Operation]] = {}
    for operation in case.history.operations:
        invoke, end = operation.invoke, operation.end
        if type(end) is not Ok and type(end) is not Fail:
            continue
        if not invoke.session or not end.height:
            continue
        floor = floors.get(invoke.process)
        if floor is not None and end.height < floor[0]:
            since = floor[1].invoke.at
            if not any(begun <= end.at and until >= since for begun, until in forgot.get(invoke.node, ())):
                what = f"process {invoke.process} saw block {floor[0]}, then an answer of block {end.height}"
                yield Witness(NAME, what, case.shown(floor[1], operation), (end.height, floor[0]))
                continue
        seen = end.height
        if type(end) is Ok and end.place is not None:
            seen = max(seen, end.place[0])
        floors[invoke.process] = (seen, operation)


# ---- consistent reads


def _freshness(case: Case) -> tuple[list[Witness], tuple[str, ...]]:
    """Consistent reads see what anybody was told before they began; how far behind that plain reads are."""
    ends: list[tuple[int, int, int]] = []
    starts: list[tuple[int, int]] = []
    operations = case.history.operations
    for number, operation in enumerate(operations):
        end, invoke = operation.end, operation.invoke
        if type(end) is not Ok or not end.height:
            continue
        if invoke.consistent:
            ends.append((end.at, end.height, number))
        elif end.place is not None:
            ends.append((end.at, end.place[0], number))
        if invoke.op not in ("submit", "resubmit"):
            starts.append((invoke.at, number))
    ends.sort()
    starts.sort()
    witnesses: list[Witness] = []
    stale: list[int] = []
    next_end, newest, by = 0, 0, 0
    for at, number in starts:
        while next_end < len(ends) and ends[next_end][0] < at:
            if ends[next_end][1] > newest:
                newest, by = ends[next_end][1:]
            next_end += 1
        operation = operations[number]
        height = _height(operation)
        if not operation.invoke.consistent:
            stale.append(max(0, newest - height))
        elif height < newest:
            what = f"a consistent read of block {height} began after block {newest} had been acknowledged"
            witnesses.append(Witness(NAME, what, case.shown(operations[by], operation), (height, newest)))
    return witnesses, _staleness(stale)


def _staleness(stale: list[int]) -> tuple[str, ...]:
    if not stale:
        return ("no plain reads",)
    stale.sort()
    last = len(stale) - 1
    middle, high = stale[last // 2], stale[last * 99 // 100]
    return (f"{len(stale)} plain reads, blocks behind: p50 {middle}, p99 {high}, most {stale[-1]}",)
