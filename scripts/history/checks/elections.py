"""Check 8: every tally is the recount of the ballots on chain, every set follows, all nodes say so (S11, S12)."""

from collections.abc import Iterator
from typing import Final

from scripts.history.case import Case
from scripts.history.chain import Block, DelegatesChanged, GroupTallied, PhaseChanged
from scripts.history.electorate import Electorate, Result, count, ranked
from scripts.history.history import Operation
from scripts.history.records import Ok
from scripts.history.timeline import events_of
from scripts.history.verdict import Report, Witness

NAME: Final = "8 elections"


def check(case: Case) -> Report:
    """Ballots are recounted block by block, then what nodes answered about plans is compared."""
    electorate = Electorate(case.chain)
    witnesses: list[Witness] = []
    elections = 0
    for block in case.chain.blocks:
        faults = list(_recount(case, electorate, block))
        witnesses += [Witness(NAME, fault, (), (block.height,)) for fault in faults]
        elections += any(isinstance(event, GroupTallied) and not event.recount for event in block.events)
    witnesses += _plans(case)
    return Report(NAME, tuple(witnesses), (), (f"{elections} elections recounted",))


def _recount(case: Case, electorate: Electorate, block: Block) -> Iterator[str]:
    tallies: list[GroupTallied] = []
    for event in events_of(block):
        electorate.take(block.epoch, event)
        if isinstance(event, GroupTallied):
            tallies.append(event)
            yield from _check_tally(case, electorate, event)
        elif isinstance(event, DelegatesChanged):
            yield from _check_set(case, electorate, block.height, event, tallies)
            tallies = []
        elif isinstance(event, PhaseChanged) and event.phase == "planning":
            electorate.take_snapshot(event.epoch + 1, block.hash)


def _check_tally(case: Case, electorate: Electorate, tally: GroupTallied) -> Iterator[str]:
    if tally.epoch not in electorate.groups or tally.epoch not in electorate.snapshots:
        yield f"a tally for epoch {tally.epoch}, which has no groups"
        return
    members = electorate.members_of(tally.epoch, tally.group)
    floor = case.chain.rules.candidate_floor
    electable = electorate.electable(tally.epoch, members, floor, recount=tally.recount)
    if not electable:
        yield f"group {tally.group} was tallied for epoch {tally.epoch}, and nobody in it can be seated"
        return
    ballots = electorate.ballots.get(tally.epoch, {})
    expected = count(electorate.snapshots[tally.epoch], members, electable, ballots)
    told = Result(tally.delegate, tally.votes, tally.ballots)
    if told != expected:
        yield f"group {tally.group} of epoch {tally.epoch}: {told}, and the ballots say {expected}"


def _check_set(
    case: Case, electorate: Electorate, height: int, change: DelegatesChanged, tallies: list[GroupTallied]
) -> Iterator[str]:
    if change.height != height + 2:
        yield f"a set from block {change.height} on was made in block {height}"
    results = [Result(tally.delegate, tally.votes, tally.ballots) for tally in tallies]
    if not tallies:
        yield f"the set of block {change.height} changed without an election"
    elif not tallies[0].recount:
        expected = ranked(electorate.snapshots[tallies[0].epoch], results)
        if change.ranking != expected:
            yield f"the set of block {change.height} is {change.ranking}, and the votes say {expected}"
    else:
        yield from _check_replacement(case, electorate, height, change, tallies)


def _check_replacement(
    case: Case, electorate: Electorate, height: int, change: DelegatesChanged, tallies: list[GroupTallied]
) -> Iterator[str]:
    """Only the excluded go, the others keep their order, the new come last (PROTOCOL 7.2)."""
    before, new = case.timeline.delegates(height + 1), [tally.delegate for tally in tallies]
    kept = change.ranking[: len(change.ranking) - len(new)]
    replaced = [holder for holder in before if holder not in kept]
    if list(change.ranking[len(kept) :]) != new or [one for one in before if one in kept] != list(kept):
        yield f"the set of block {change.height} is {change.ranking}, made from {before} and {new}"
    for holder in replaced:
        if holder not in electorate.gone and not electorate.excluded(holder, tallies[0].epoch):
            yield f"{holder} lost its seat for nothing"


# ---- what nodes answered


def _plans(case: Case) -> Iterator[Witness]:
    """``get_plan`` says on every node what the chain says."""
    first: dict[int, Operation] = {}
    for operation in case.history.operations:
        invoke, end = operation.invoke, operation.end
        if invoke.op != "plan" or type(end) is not Ok or not isinstance(end.value, dict):
            continue
        formed = case.timeline.groups.get(invoke.number)
        told = (list(end.value.get("members", ())), list(end.value.get("assignment", ())))
        if formed is not None and told != (list(formed.members), list(formed.assignment)):
            what = f"the plan of epoch {invoke.number} was answered otherwise than the chain has it"
            yield Witness(NAME, what, case.shown(first.get(invoke.number), operation))
        else:
            first.setdefault(invoke.number, operation)
