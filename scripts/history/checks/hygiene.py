"""Check 12: no traceback, no lost exception, no exit that nobody planned (R2)."""

from typing import Final

from scripts.history.case import Case
from scripts.history.verdict import Report, Witness

NAME: Final = "12 hygiene"


def check(case: Case) -> Report:
    """What the recorder found in logs and processes."""
    problems = case.history.problems
    witnesses = [
        Witness(NAME, f"{one.node}: {one.what}", (one.line,) if one.line else ()) for one in problems
    ]
    return Report(NAME, tuple(witnesses), tuple(case.history.flaws[:3]))
