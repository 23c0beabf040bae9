"""Whole-system simulation: the shipped contract engine under the simulated network, disks and clocks.

cast          keys, meters, operators, genesis
execution     the ledger door: every block executed once for the run, and again by some nodes for themselves
opening, pool real transactions
duties, planning, traders      what members submit
troubles, mischief             what goes wrong, and who lies
books, elections               S7, S11 and S12 by a second, plain model
world         a run
events        names that a campaign must reach
"""

from dataclasses import replace

from network.simulation.system.events import EXPECTED
from network.simulation.system.false_plans import run_false_plans
from network.simulation.system.scenario import Outcome, Scenario, draw
from network.simulation.system.world import simulate

__all__ = [
    "EXPECTED",
    "Outcome",
    "Scenario",
    "draw",
    "run_epochs",
    "run_false_plans",
    "run_system",
    "run_without_bootstrap",
    "simulate",
]


LOG_LINES = 400
"""Of a log the last lines are kept."""


def run_system(
    seed: int, *, epochs: int | None = None, twice: bool = False, keep_log: bool = False
) -> Outcome:
    """The outcome of a seed; with ``epochs`` a lean run of so many; with ``twice`` a second one must be the same."""
    scenario = draw(seed, epochs)
    outcome = simulate(scenario, keep_log=keep_log)
    if twice and simulate(scenario).trace_hash != outcome.trace_hash:
        outcome.finding = (
            outcome.finding or "the same seed gave another trace: something is not deterministic"
        )
    del outcome.log[:-LOG_LINES]
    return outcome


def run_epochs(seed: int, *, epochs: int = 100, keep_log: bool = False) -> Outcome:
    """G15: so many epochs with a fault within two blocks of each boundary, delegates replaced, seats changing."""
    return run_system(seed, epochs=epochs, keep_log=keep_log)


def run_without_bootstrap(seed: int, *, epochs: int = 1_000) -> Outcome:
    """G16: so many epochs in which nobody but the members does anything."""
    scenario = replace(draw(seed, epochs), bootstrap=False)
    outcome = simulate(scenario)
    if outcome.finding is None and outcome.reached["plan accepted"]:
        outcome.finding = "a plan was accepted where nobody should have made one"
    return outcome
