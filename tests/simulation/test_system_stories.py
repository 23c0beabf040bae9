"""Forks and halts that PROTOCOL 6.3 to 6.6, 6.10 and 7.2 guard against: a guard taken out turns its story red."""

import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import consensus.delegates
import consensus.removal
import consensus.three_phases
import contracts.engine
import contracts.seats
from network.simulation.system.stories import STORIES, run_story

Guard = tuple[ModuleType, str, str, str]
"""Module, function, its guard, and what stands there without it."""

GUARDS: dict[str, tuple[str, list[Guard]]] = {
    "commits behind its own back": (
        "a commit after a view-change",
        [(consensus.three_phases, "commit", "if view != height.view or view in", "if view in")],
    ),
    "sends its vote without the block on disk": (
        "a lost block body",
        [
            (
                consensus.three_phases,
                "prepare",
                "core.publish(vote, *height.records_of(digest))",
                "core.publish(vote)",
            ),
            (
                consensus.three_phases,
                "commit",
                "(*height.records_of(digest), PreparedRecord",
                "(PreparedRecord",
            ),
        ],
    ),
    "judges a re-proposal's time again": (
        "a re-proposal judged by its new view",
        [
            (
                consensus.three_phases,
                "prepare",
                "if proposal.header.view == proposal.vote.view and not _time_in_bounds",
                "if not _time_in_bounds",
            )
        ],
    ),
    "goes back to the first of the ranking": (
        "a promoted backup lost after a recount",
        [(consensus.delegates, "next_head", "if first_of_epoch:", "if True:")],
    ),
    "seats a replacement one block early": (
        "a new set used one block early",
        [(contracts.seats, "recount_seats", "context.height + 2,", "context.height + 1,")],
    ),
    "seats a tally one block early": (
        "a new set used one block early",
        [(contracts.seats, "tally_seats", "context.height + 2,", "context.height + 1,")],
    ),
    "forgets what was removed": (
        "a removal round",
        [(contracts.engine, "apply_block", "[*transactions, *removed]", "[*transactions]")],
    ),
    "removes nothing": (
        "a removal round",
        [(consensus.removal, "views_remembered", "return max(VIEWS_KEPT, 2 * (faults + 1))", "return 1")],
    ),
}


def without(monkeypatch: pytest.MonkeyPatch, guard: Guard) -> None:
    """The function without its guard, for everybody who holds it."""
    module, name, there, instead = guard
    original: Callable[..., Any] = getattr(module, name)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(there) == 1, f"{name} has no such guard any more: {there}"
    scope: dict[str, Any] = dict(vars(module))
    exec(compile(source.replace(there, instead), str(module.__file__), "exec"), scope)
    monkeypatch.setattr(original, "__code__", scope[name].__code__)


@pytest.mark.parametrize("story", STORIES)
def test_with_all_guards_a_story_ends_well(story: str) -> None:
    assert run_story(story) is None


@pytest.mark.parametrize("mistake", GUARDS)
def test_without_its_guard_a_story_ends_in_a_finding(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story, guards = GUARDS[mistake]
    for guard in guards:
        without(monkeypatch, guard)
    assert run_story(story) is not None
