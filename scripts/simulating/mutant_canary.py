"""A campaign that finds nothing proves little unless it would find a bug: so one is planted (RELIABILITY G21)."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Final

from network.simulation.cluster import simulate
from network.simulation.scenario import draw
from scripts.simulating.mutant_list import LATE, MUTANTS
from scripts.simulating.mutants import Ground, Killed, check_shipped, hunt

FAULT_SEEDS: Final = 3
"""Ordinary seeds in which every fault that is counted has to have happened."""


class CanaryMissed(Exception):
    """The planted bug was not found, or no faults happened: what the campaign says is worth nothing."""


@dataclass(frozen=True)
class CanaryResult:
    """Which bug was planted, how it was found, and what went wrong meanwhile on purpose."""

    killed: Killed
    faults: Counter[str]


def run_canary(seed: int) -> CanaryResult:
    """Plant the bug that ``seed`` chooses and demand that it is found within its bound; raises `CanaryMissed`."""
    found_soon = [item for item in MUTANTS if item.family != "system" and item.name not in LATE]
    choice = random.Random(f"{seed}/canary").choice(found_soon)
    faults: Counter[str] = Counter()
    for number in range(1, FAULT_SEEDS + 1):
        outcome = simulate(draw(number))
        if outcome.finding is not None:
            raise CanaryMissed(f"seed {number} finds {outcome.finding!r} without any canary")
        faults.update(
            {event: count for event, count in outcome.reached.items() if event.startswith("fault ")}
        )
    if not faults or min(faults.values()) < 1:
        raise CanaryMissed("no faults happened: the simulator runs in fair weather only")
    with Ground() as ground:
        killed = hunt(choice, ground)
        if killed.finding is None:
            raise CanaryMissed(f"{choice.name} was not found in {killed.seeds} seeds of {choice.family}")
        check_shipped([killed], ground)
    return CanaryResult(killed, faults)
