"""Many seeds, in one process or several."""

import gc
import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial

from network.simulation.cluster import Outcome, draw, simulate

LOG_LINES = 400
"""Of a log the last lines are kept: what led to a finding is seldom longer ago."""


def run_seed(seed: int, *, seats: int | None = None, twice: bool = False, keep_log: bool = False) -> Outcome:
    """The outcome of a seed; with ``twice`` a second run must leave the same trace."""
    scenario = draw(seed, seats)
    # A run is a few thousand events whose objects go with it: collecting in between only costs time.
    gc.disable()
    outcome = simulate(scenario, keep_log=keep_log)
    gc.enable()
    if twice and simulate(scenario).trace_hash != outcome.trace_hash:
        outcome.finding = (
            outcome.finding or "the same seed gave another trace: something is not deterministic"
        )
    del outcome.log[:-LOG_LINES]
    return outcome


def run_seeds(
    seeds: Sequence[int], *, seats: int | None, twice: bool, keep_log: bool, jobs: int
) -> Iterator[Outcome]:
    """The outcomes of all ``seeds``, as they come; ``jobs`` processes share them."""
    run = partial(run_seed, seats=seats, twice=twice, keep_log=keep_log)
    if jobs <= 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=4)
