"""Check 3: what clients were told about a transaction's end is what the chain holds (S9, S10)."""

from typing import Final

from scripts.history.case import Case
from scripts.history.history import SUBMITTING, Operation
from scripts.history.records import Fail, Ok
from scripts.history.verdict import Report, Witness

NAME: Final = "3 outcomes"
FINDING_STATES: Final = frozenset({"submit", "resubmit", "status"})
MOST_INFOS: Final = 0.05
"""Share of submissions without an end that is looked for with at most f faults; more is told, and no anomaly."""


def check(case: Case) -> Report:
    """`Info` may have ended either way."""
    witnesses: list[Witness] = []
    submitted = without_end = 0
    for operation in case.history.operations:
        op, end = operation.invoke.op, operation.end
        if op not in FINDING_STATES:
            continue
        if op in SUBMITTING:
            submitted += 1
            without_end += not isinstance(end, Ok | Fail)
        if isinstance(end, Ok):
            what = _told(case, operation, end.state, end.place)
        elif isinstance(end, Fail):
            what = _told(case, operation, end.state, None)
        else:
            continue
        if what:
            heights = {end.place[0]} if isinstance(end, Ok) and end.place else set()
            held = case.places.get(operation.invoke.subject)
            heights |= {held[0]} if held else set()
            witnesses.append(Witness(NAME, what, case.shown(operation), tuple(sorted(heights))))
    share = without_end / submitted if submitted else 0.0
    note = f"{without_end} of {submitted} submissions without an end ({share:.1%})"
    if share > MOST_INFOS:
        note += f": more than the {MOST_INFOS:.0%} that are looked for"
    return Report(NAME, tuple(witnesses), (), (note,))


def _told(case: Case, operation: Operation, state: str, place: tuple[int, int] | None) -> str:
    """What is wrong with the answer; empty if nothing is."""
    identity = operation.invoke.subject
    held = case.places.get(identity)
    if state in ("committed", "rejected"):
        if held is None:
            return f"lost: {identity} was acknowledged as {state}, and no block holds it"
        if place is not None and place != held:
            return f"{identity} was acknowledged at {place}, and is at {held}"
        if (identity in case.rejected) != (state == "rejected"):
            return f"{identity} was answered {state}, and its receipt says otherwise"
    elif state in ("expired", "discarded"):
        if held is not None:
            return f"phantom: {identity} was answered {state}, and block {held[0]} holds it"
        if state == "discarded" and identity not in case.discarded:
            return f"{identity} was answered discarded, and no block removes it"
    return ""
