"""Named events: each name is one that something counts under, and what takes two looks is counted right."""

import inspect
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from consensus.effects import Trace
from network.simulation import faults
from network.simulation.doors import Term
from network.simulation.reachability import RUN_EVENTS, Witness, never
from network.simulation.system.events import EXPECTED

ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_of_fault_is_a_named_event() -> None:
    kinds = {
        name
        for name, kind in inspect.getmembers(faults, inspect.isclass)
        if hasattr(kind, "begin") and kind.__module__ == faults.__name__ and name != "Fault"
    }
    assert {f"fault {name}" for name in kinds} == {name for name in RUN_EVENTS if name.startswith("fault ")}


def test_every_name_stands_in_the_code_that_counts_it() -> None:
    sources = [*ROOT.glob("consensus/*.py"), *ROOT.glob("network/simulation/*.py")]
    text = "\n".join(path.read_text("utf-8") for path in sources if path.name != "reachability.py")
    witness = inspect.getsource(Witness)
    for name in RUN_EVENTS:
        first, _, rest = name.partition(": ")
        words = (
            f'"{name}"',
            f'"{first}"',
            f'f"{first} ',
            f'f"{first}: ',
            f'"{rest}"',
            f'f"{first.split()[0]} ',
        )
        composed = name.startswith(("fault ", "decided in view", "torn ", "lost "))
        assert composed or any(word in witness or word in text for word in words), name


def test_there_are_enough_of_them_and_none_is_named_twice() -> None:
    """RELIABILITY G19: at least 60."""
    assert len(RUN_EVENTS) >= 60
    assert len(set(EXPECTED)) == len(EXPECTED) >= 30


def test_what_never_occurred_is_named() -> None:
    assert never(Counter({"one": 1}), ("one", "other")) == ["other"]


@pytest.mark.parametrize(
    ("event", "detail", "counted"),
    [
        ("view-change", "timeout", "view-change: timeout"),
        ("new-view", "again", "new-view: again"),
        ("equivocation", "Prepare", "equivocation: Prepare"),
        ("complaint", "2 overlooked", "complaint: overlooked"),
    ],
)
def test_details_of_traces_are_counted(event: str, detail: str, counted: str) -> None:
    reached: Counter[str] = Counter()
    Witness(reached, _NoTerms()).performed(_Node(0), Trace(event, 1, 0, detail))
    assert reached == Counter({counted: 1})
    assert counted in RUN_EVENTS


@pytest.mark.parametrize(
    ("mine", "others", "counted"),
    [
        ((5, 0), [(6, 0), (5, 3)], "woke behind"),
        ((5, 1), [(5, 2)], "woke in a stale view"),
        ((5, 2), [(5, 2), (5, 1)], None),
    ],
)
def test_who_wakes_late_is_counted(
    mine: tuple[int, int], others: list[tuple[int, int]], counted: str | None
) -> None:
    reached: Counter[str] = Counter()
    Witness(reached, _NoTerms()).woke(_Awake(*mine), [_Awake(*other) for other in others])
    assert reached == (Counter() if counted is None else Counter({counted: 1}))


@dataclass(frozen=True)
class _Awake:
    height: int
    view: int


@dataclass(frozen=True)
class _Node:
    index: int


class _NoTerms:
    def term(self, height: int) -> Term:
        raise AssertionError(f"nothing of height {height} is asked for")
