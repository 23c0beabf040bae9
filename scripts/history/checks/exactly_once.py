"""Check 2: each transaction id is in the chain once or not at all (S8)."""

from typing import Final

from scripts.history.case import Case
from scripts.history.verdict import Report, Witness

NAME: Final = "2 exactly once"


def check(case: Case) -> Report:
    """Also no id that was removed, before or after (S10)."""
    witnesses: list[Witness] = []
    seen: dict[str, int] = {}
    for block in case.chain.blocks:
        for identity in (*[item.id for item in block.items], *block.discarded):
            if identity in seen:
                heights = tuple(sorted({seen[identity], block.height}))
                witnesses.append(Witness(NAME, f"transaction {identity} is in the chain again", (), heights))
            seen[identity] = block.height
    return Report(NAME, tuple(witnesses))
