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

from network.simulation.runner import LOG_LINES
from network.simulation.system.events import EXPECTED
from network.simulation.system.scenario import Outcome, Scenario, draw
from network.simulation.system.world import simulate

__all__ = ["EXPECTED", "Outcome", "Scenario", "draw", "run_system", "simulate"]


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
