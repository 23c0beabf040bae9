"""Seeded runs of whole networks: safety at every step, progress after all faults healed (PROTOCOL 12, L1)."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from network.simulation.cluster import Outcome, draw, simulate
from network.simulation.runner import run_seed
from network.simulation.scenario import FAULT_KINDS, FRAIL_KINDS, LEAST_BLOCKS, LEAST_FAULTS, TWINS

ROOT = Path(__file__).resolve().parents[2]

PORTIONS_OF_SEEDS = [
    pytest.param(seats, range(first, first + count), id=f"{seats} seats, from {first}")
    for seats, first, count in (
        (4, 1_000, 6),
        (4, 1_006, 6),
        (5, 2_000, 3),
        (6, 3_000, 2),
        (7, 4_000, 2),
        (10, 5_000, 1),
    )
]
"""Small portions, so that several processes can share them and one that hangs is named."""


@pytest.mark.parametrize(("seats", "seeds"), PORTIONS_OF_SEEDS)
def test_nothing_is_found(seats: int, seeds: range) -> None:
    outcomes = [run_seed(seed, seats=seats) for seed in seeds]
    assert [_told(outcome) for outcome in outcomes if outcome.finding] == []
    bearable = [outcome for outcome in outcomes if not outcome.scenario.over_threshold]
    assert all(outcome.height >= LEAST_BLOCKS for outcome in bearable)
    assert all(outcome.faults >= LEAST_FAULTS for outcome in outcomes)


def test_too_many_liars_fork_the_chain_and_are_shown() -> None:
    """Two pairs of twins among four seats: within a few seeds the chain forks, and each fork names its makers."""
    for seed in range(1, 9):
        scenario = replace(draw(seed, 4), liars=(TWINS, TWINS), spare_members=0, epoch_heights=None)
        assert scenario.over_threshold
        outcome = simulate(scenario)
        assert outcome.finding is None
        if outcome.reached["over the threshold: fork"]:
            return
    pytest.fail("no fork came about")


def _told(outcome: Outcome) -> str:
    scenario = outcome.scenario
    return f"scripts/simulate --seeds {scenario.seed} --seats {scenario.seats} --log: {outcome.finding}"


def test_a_seed_is_a_run() -> None:
    """The same seed leaves the same trace; another seed another one."""
    first, again = simulate(draw(7)), simulate(draw(7))
    assert first.trace_hash == again.trace_hash
    assert first.events == again.events
    assert simulate(draw(8)).trace_hash != first.trace_hash


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_the_order_of_sets_and_dicts_decides_nothing(hash_seed: str) -> None:
    """Another PYTHONHASHSEED in a fresh process gives the same trace."""
    code = (
        "from network.simulation.cluster import draw, simulate\n"
        "print(*[simulate(draw(seed)).trace_hash for seed in (11, 26)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == [simulate(draw(seed)).trace_hash for seed in (11, 26)]


EXPECTED_EVENTS = (
    "block: empty",
    "block: transactions",
    "decided in view 1",
    "fault BadLinks",
    "fault ClogLinks",
    "fault Crash",
    "fault CrashAtEffect",
    "fault CutLinks",
    "fault DiskError",
    "fault DriftingClock",
    "fault JumpingClock",
    "fault FrozenClock",
    "fault LoseJournal",
    "fault Pause",
    "fault RestoreDisk",
    "fault RotJournal",
    "fault WrongClock",
    "fault RotBlock",
    "fault SlowDisk",
    "damaged block fetched again",
    "journal-lost",
    "late-commit",
    "new-view",
    "peer banned",
    "proposed-again",
    "refused",
    "stopped by its disk",
    "view-change",
)


def test_what_a_run_is_for_does_happen() -> None:
    """A simulation without faults, view changes or lies would find nothing and prove nothing."""
    reached: Counter[str] = Counter()
    for seed in range(1, 9):
        kinds = (*FAULT_KINDS, *FRAIL_KINDS)
        scenario = replace(draw(seed, 4), liars=seed % 2 * (("forger", "two-faced"),), kinds=kinds, faults=40)
        outcome = simulate(scenario)
        assert outcome.finding is None, _told(outcome)
        reached.update(outcome.reached)
    assert [event for event in EXPECTED_EVENTS if not reached[event]] == []


def test_real_keys_and_bytes_on_the_wire() -> None:
    """A run with Ed25519 and one in which every message is encoded and decoded."""
    real, encoded = draw(99, 4), draw(9, 4)
    assert real.real_keys
    assert encoded.encoded
    assert simulate(real).finding is None
    assert simulate(encoded).finding is None
