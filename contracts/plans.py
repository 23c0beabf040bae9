"""Plans: the built-in one, better ones from anybody, and the groups that follow (PROTOCOL 4.3, 4.5)."""

from consensus.errors import MalformedInput, invariant
from consensus.grouping import GroupingMember, Score, check_plan, score
from consensus.parameters import Parameters
from consensus.planner import plan as plan_groups
from contracts.context import OK, BlockContext, Result, payload_of
from contracts.epoch_records import BestPlan, BuiltInPlan, Groups, Snapshot
from contracts.receipts import EpochPhase, GroupsFormed, PlanAccepted, ReasonCode
from contracts.snapshot import eligible_members, group_total
from contracts.state import SINGLETON, State, number_key
from contracts.transaction import Plan, Transaction


def built_in_plan(snapshot: Snapshot, parameters: Parameters) -> BuiltInPlan:
    """The built-in planner's answer to ``snapshot``; pure, so that a node may run it beside the protocol (4.3)."""
    members = grouping_members(snapshot)
    total = group_total(snapshot, parameters)
    assignment = plan_groups(members, total, snapshot.seed, parameters)
    return BuiltInPlan(snapshot.epoch, total, assignment, score(members, assignment, total, parameters))


def provide_built_in_plan(state: State, plan: BuiltInPlan) -> None:
    """Hand in what `built_in_plan` gave for the latest snapshot, so that no block has to wait for it."""
    if number_key(plan.epoch) in state.epoch.snapshots and number_key(plan.epoch) not in state.epoch.groups:
        state.epoch.built_in = plan


def require_built_in_plan(state: State, parameters: Parameters, epoch: int) -> BuiltInPlan:
    """The built-in plan for the groups of ``epoch``, computed at most once per snapshot."""
    known = state.epoch.built_in
    if known is None or known.epoch != epoch:
        known = built_in_plan(state.epoch.snapshots.require(number_key(epoch)), parameters)
        state.epoch.built_in = known
    return known


def grouping_members(snapshot: Snapshot) -> tuple[GroupingMember, ...]:
    """The eligible members as the planner sees them."""
    return tuple(
        GroupingMember(member.address, member.energy_wh, member.credit)
        for member in eligible_members(snapshot)
    )


def handle_plan(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Take a plan with a strictly smaller score; a claim not below the best is refused unread (PROTOCOL 4.5)."""
    payload = payload_of(transaction, Plan)
    epoch = context.epoch + 1
    if context.phase is not EpochPhase.PLANNING or payload.epoch != epoch:
        return Result(ReasonCode.PLAN_PHASE_WRONG)
    best = state.epoch.best_plan.get(SINGLETON)
    submitters = () if best is None else best.submitters
    if transaction.sender in submitters:
        return Result(ReasonCode.PLAN_ALREADY_COMMITTED)
    claim = Score(payload.energy_excess_wh, payload.credit_excess)
    if claim >= best_score(state, context.parameters, epoch):
        return Result(ReasonCode.PLAN_CLAIM_NOT_BETTER)
    snapshot = state.epoch.snapshots.require(number_key(epoch))
    members = grouping_members(snapshot)
    total = group_total(snapshot, context.parameters)
    try:
        check_plan(payload.assignment, len(members), total)
    except MalformedInput:
        return Result(ReasonCode.PLAN_NO_PARTITION)
    if score(members, payload.assignment, total, context.parameters) != claim:
        return Result(ReasonCode.PLAN_CLAIM_WRONG)
    accepted = (*submitters, transaction.sender)
    state.epoch.best_plan.put(
        SINGLETON, BestPlan(epoch, transaction.sender, payload.assignment, claim, accepted)
    )
    context.emit(PlanAccepted(epoch, transaction.sender, claim.energy_excess, claim.credit_excess))
    return OK


def best_score(state: State, parameters: Parameters, epoch: int) -> Score:
    """The score to beat: the best committed plan's, else the built-in one's."""
    best = state.epoch.best_plan.get(SINGLETON)
    return require_built_in_plan(state, parameters, epoch).score if best is None else best.score


def form_groups(state: State, context: BlockContext) -> None:
    """End of planning: fix the groups of the next epoch."""
    epoch = context.epoch + 1
    groups = put_groups(state, context.parameters, epoch)
    snapshot = state.epoch.snapshots.require(number_key(epoch))
    members = tuple(member.address for member in eligible_members(snapshot))
    context.emit(
        GroupsFormed(
            epoch=epoch,
            members=members,
            assignment=groups.assignment,
            energy_excess_wh=groups.score.energy_excess,
            credit_excess=groups.score.credit_excess,
            submitted=groups.submitter is not None,
        )
    )


def put_groups(state: State, parameters: Parameters, epoch: int) -> Groups:
    """Write the groups of ``epoch``: the best committed plan, which beats the built-in one, or that."""
    best = state.epoch.best_plan.get(SINGLETON)
    total = group_total(state.epoch.snapshots.require(number_key(epoch)), parameters)
    if best is None:
        built_in = require_built_in_plan(state, parameters, epoch)
        groups = Groups(epoch, total, built_in.assignment, built_in.score, None)
    else:
        groups = Groups(epoch, total, best.assignment, best.score, best.submitter)
        state.epoch.best_plan.delete(SINGLETON)
    snapshot = state.epoch.snapshots.require(number_key(epoch))
    eligible = sum(member.eligible for member in snapshot.members)
    invariant(len(groups.assignment) == eligible, "a plan gives every eligible member a group (4.5)")
    invariant(len(dict.fromkeys(groups.assignment)) == total, "no group is empty (4.3)")
    state.epoch.groups.put(number_key(epoch), groups)
    state.epoch.built_in = None
    return groups
