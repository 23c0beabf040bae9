"""The machinery of mutants, and a few of them: those that any working simulator finds at once (RELIABILITY G5, G21)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.simulating import mutant_generator
from scripts.simulating.mutant_list import BY_NAME, MUTANTS
from scripts.simulating.mutants import (
    Ground,
    Killed,
    Mutant,
    StaleMutant,
    check_shipped,
    hunt,
    hunt_all,
    load,
    mutated_source,
    table,
)

QUICK = (
    "quorum-one-less",
    "primary-by-rank-alone",
    "votes-unsigned",
    "own-block-prepared",
    "header-not-bound",
    "empty-at-once",
    "prepare-before-block",
    "commit-before-certificate",
    "send-before-persist",
    "abstention-one-height-short",
    "view-not-signed",
    "certificate-not-carried",
)
"""Of quorums, places, signatures, phases, what is durable, what is signed, and view changes."""


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as opened:
        yield opened


def test_every_mutant_still_fits_the_code() -> None:
    for mutant in MUTANTS:
        compile(mutated_source(mutant), mutant.file, "exec")


def test_the_list_is_long_and_names_each_mutant_once() -> None:
    assert len(MUTANTS) >= 60
    assert len(BY_NAME) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    files = Counter(mutant.file.partition("/")[0] for mutant in MUTANTS)
    assert files["consensus"] >= 60
    assert files["contracts"] >= 20


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_mutant_is_killed(ground: Ground, name: str) -> None:
    killed = hunt(BY_NAME[name], ground, most_seeds=30)
    assert killed.finding is not None, f"{killed.seeds} seeds of {killed.family} did not find it"
    check_shipped([killed], ground)


def test_a_stale_mutant_is_an_error() -> None:
    gone = Mutant("gone", "consensus/tally.py", "no such line", "", "nothing")
    twice = Mutant("twice", "consensus/tally.py", "return", "", "nothing")
    idle = Mutant("idle", "consensus/tally.py", "VIEWS_KEPT: Final = 8", "VIEWS_KEPT: Final = 8", "nothing")
    for mutant in (gone, twice, idle):
        with pytest.raises(StaleMutant, match=mutant.name):
            mutated_source(mutant)


def test_a_changed_constant_reaches_those_who_imported_it(ground: Ground) -> None:
    """It is outside of all functions, so it takes a process that imports the changed file."""
    killed = hunt(BY_NAME["abstention-one-height-short"], ground, most_seeds=30)
    assert killed.finding is not None
    assert killed.finding.startswith("6.5")


def test_code_that_cannot_be_imported_is_no_mutant(ground: Ground) -> None:
    broken = Mutant("broken", "consensus/tally.py", "VIEWS_KEPT: Final = 8", "VIEWS_KEPT: Final = eight", "")
    with pytest.raises(StaleMutant, match="eight"):
        hunt(broken, ground, most_seeds=1)


def test_results_are_remembered(tmp_path: Path) -> None:
    mutant = BY_NAME["send-before-persist"]
    out = tmp_path / "mutants.json"
    first = hunt_all([mutant], out=out, most_seeds=5)
    told: list[Killed] = []
    assert hunt_all([mutant], out=out, most_seeds=5, progress=told.append) == first == told
    assert load(out) == {mutant.name: first[0]}
    assert f"| {mutant.name} | consensus/core.py |" in table([mutant], first)


def test_generated_mutants_are_the_same_for_the_same_seed_and_can_be_compiled() -> None:
    chosen = mutant_generator.sample(1, 20)
    assert chosen == mutant_generator.sample(1, 20)
    assert len({(item.file, item.line, item.what) for item in chosen}) > 15
    for item in chosen:
        compile(item.source, item.file, "exec")
