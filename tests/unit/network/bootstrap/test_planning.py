"""The search for a better plan: seeded, bounded, never worse, silent when the built-in plan is balanced (4.5, 8.1c)."""

import random
from itertools import count

from consensus.grouping import GroupingMember, Score, check_plan, score, seed_of
from consensus.parameters import DEMO, Parameters, resolved
from consensus.planner import plan as built_in_plan
from contracts.epoch_state import register_epoch_tables
from contracts.plans import grouping_members
from contracts.snapshot import group_total, put_snapshot
from contracts.state import Account, State, number_key
from network.bootstrap.planning import FoundPlan, SearchTask, search, search_task
from tests.unit.network.bootstrap.support import key


def members(energies: list[int], credit: list[int] | None = None) -> tuple[GroupingMember, ...]:
    addresses = sorted(key(number).address for number in range(1, len(energies) + 1))
    levels = credit or [50_000] * len(energies)
    return tuple(
        GroupingMember(address, energy, level)
        for address, energy, level in zip(addresses, energies, levels, strict=True)
    )


def task(
    people: tuple[GroupingMember, ...], groups: int, parameters: Parameters = DEMO, seed: int = 1
) -> SearchTask:
    return SearchTask(1, people, groups, bytes((seed,)) * 32, parameters)


def run(wanted: SearchTask, rounds: int = 200) -> FoundPlan | None:
    ticks = count()
    return search(wanted, lambda: next(ticks), rounds)


STRICT = Parameters(energy_tolerance_bp=20, credit_tolerance_bp=20)


def hard_tasks() -> list[SearchTask]:
    """Random members whose built-in plan misses limits of no tolerance."""
    found = []
    for seed in range(40):
        randomness = random.Random(seed)
        people = members(
            [randomness.randrange(10**6) for _ in range(160)],
            [randomness.randrange(30_000, 90_000) for _ in range(160)],
        )
        wanted = task(people, 8, STRICT, seed)
        assignment = built_in_plan(people, 8, wanted.seed, STRICT)
        if score(people, assignment, 8, STRICT) > Score(0, 0):
            found.append(wanted)
        if len(found) == 2:
            break
    return found


def test_a_balanced_built_in_plan_is_left_alone() -> None:
    assert run(task(members([1_000] * 8), 4)) is None


def test_no_time_means_no_plan_and_no_error() -> None:
    for wanted in hard_tasks():
        assert run(wanted, rounds=0) is None


def test_a_found_plan_is_a_partition_and_strictly_better_and_its_claim_true() -> None:
    tasks = hard_tasks()
    assert tasks
    found = [(wanted, run(wanted)) for wanted in tasks]
    better = [(wanted, plan) for wanted, plan in found if plan is not None]
    assert better
    for wanted, plan in better:
        check_plan(plan.assignment, len(wanted.members), wanted.group_total)
        assert plan.score == score(wanted.members, plan.assignment, wanted.group_total, wanted.parameters)
        assert plan.score < plan.built_in


def test_one_seed_gives_one_result() -> None:
    wanted = hard_tasks()[0]
    assert run(wanted, rounds=20) == run(wanted, rounds=20)


def test_one_group_or_one_member_each_leaves_nothing_to_search() -> None:
    assert run(task(members([1, 10**6, 5, 7]), 1, STRICT)) is None
    assert run(task(members([1, 10**6, 5, 7]), 4, STRICT)) is None


def test_dormant_members_are_left_out_unless_too_few_remain() -> None:
    """PROTOCOL 4.6, with dormant_epochs 3: who was last active in epoch 1 is not grouped for epoch 6."""
    parameters = resolved(DEMO, 8)
    people = members([10] * 8)
    mixed = [(member, 1 if place == 0 else 5) for place, member in enumerate(people)]
    assert search_task(6, mixed, bytes(32), parameters).members == people[1:]
    idle = [(member, 1 if place < 6 else 5) for place, member in enumerate(people)]
    assert search_task(6, idle, bytes(32), parameters).members == people


def test_the_ledgers_own_snapshot_gives_the_same_task() -> None:
    """Who is eligible, and the seed, are what `contracts.snapshot` says, whoever is dormant (PROTOCOL 4.3, 4.6)."""
    parameters = resolved(DEMO, 12)
    for seed in range(20):
        randomness = random.Random(seed)
        state = State(parameters.slot_ms)
        register_epoch_tables(state)
        epoch = randomness.randrange(1, 9)
        present = []
        for member in members([randomness.randrange(100) for _ in range(12)]):
            active = randomness.randrange(epoch)
            present.append((member, active))
            account = Account(bytes(32), 0, member.credit, member.energy_wh, 0, 0, active, None)
            state.accounts.put(member.address, account)
        block_hash = randomness.randbytes(32)
        put_snapshot(state, parameters, epoch, 5, seed_of(block_hash))
        snapshot = state.epoch.snapshots.require(number_key(epoch))
        wanted = search_task(epoch, present, block_hash, parameters)
        assert wanted.members == grouping_members(snapshot)
        assert wanted.group_total == group_total(snapshot, parameters)
        assert wanted.seed == snapshot.seed
