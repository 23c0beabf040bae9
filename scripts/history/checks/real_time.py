"""Check 4: what was acknowledged before another was submitted stands before it (strict serialisability of writes)."""

from typing import Final

from scripts.history.case import Case, Place
from scripts.history.history import SUBMITTING, Operation
from scripts.history.records import Ok
from scripts.history.verdict import Report, Witness

NAME: Final = "4 real time"


def check(case: Case) -> Report:
    """A sweep by time with the greatest acknowledged position so far."""
    begun: dict[str, Operation] = {}
    told: dict[str, Operation] = {}
    for operation in case.history.operations:
        invoke, end = operation.invoke, operation.end
        if invoke.subject not in case.places:
            continue
        if invoke.op in SUBMITTING:
            first = begun.get(invoke.subject)
            if first is None or invoke.at < first.invoke.at:
                begun[invoke.subject] = operation
        elif invoke.op != "status":
            continue
        if type(end) is Ok and end.place is not None:
            earliest = told.get(invoke.subject)
            if earliest is None or end.at < earliest.ended_at:
                told[invoke.subject] = operation
    return Report(NAME, tuple(_sweep(case, begun, told)))


def _sweep(case: Case, begun: dict[str, Operation], told: dict[str, Operation]) -> list[Witness]:
    places = case.places
    ends = sorted([(operation.ended_at, identity) for identity, operation in told.items()])
    starts = sorted([(operation.invoke.at, identity) for identity, operation in begun.items()])
    witnesses: list[Witness] = []
    next_end = 0
    newest: tuple[Place, str] = ((0, -1), "")
    for at, identity in starts:
        while next_end < len(ends) and ends[next_end][0] < at:
            other = ends[next_end][1]
            newest = max(newest, (places[other], other))
            next_end += 1
        if places[identity] < newest[0] and newest[1] != identity:
            before, after = told[newest[1]], begun[identity]
            what = f"{newest[1]} at {newest[0]} was acknowledged before {identity} at {places[identity]} was submitted"
            heights = tuple(sorted({newest[0][0], places[identity][0]}))
            witnesses.append(Witness(NAME, what, case.shown(before, after), heights))
    return witnesses
