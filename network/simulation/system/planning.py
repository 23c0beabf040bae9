"""A search for a better plan, as a bootstrap service makes it (PROTOCOL 4.5, 8.1): exchanges that lower the score."""

import random

from consensus.grouping import score
from consensus.parameters import Parameters
from contracts.epoch_state import chain_of
from contracts.plans import best_score, grouping_members
from contracts.snapshot import group_total
from contracts.state import State, number_key
from contracts.transaction import Plan

TRIES = 60
"""Exchanges tried: with a dozen members that is most of them."""


def better_plan(state: State, parameters: Parameters, rng: random.Random) -> Plan | None:
    """A plan whose score beats the best so far; None if none was found, or none could be."""
    epoch = chain_of(state).epoch + 1
    best = best_score(state, parameters, epoch)
    if best.energy_excess == best.credit_excess == 0:
        return None
    snapshot = state.epoch.snapshots.require(number_key(epoch))
    members = grouping_members(snapshot)
    total = group_total(snapshot, parameters)
    if total == len(members) or total == 1:
        return None
    floor, larger = divmod(len(members), total)
    sizes = [floor] * (total - larger) + [floor + 1] * larger
    assignment = [group for group, size in enumerate(sizes) for _ in range(size)]
    rng.shuffle(assignment)
    found = score(members, assignment, total, parameters)
    for _ in range(TRIES):
        one, other = rng.sample(range(len(members)), 2)
        assignment[one], assignment[other] = assignment[other], assignment[one]
        changed = score(members, assignment, total, parameters)
        if changed <= found:
            found = changed
        else:
            assignment[one], assignment[other] = assignment[other], assignment[one]
    if found >= best:
        return None
    return Plan(epoch, tuple(assignment), found.energy_excess, found.credit_excess)
