"""The snapshot: T, N and eligibility of all members after the last running block (PROTOCOL 4.4, 4.6)."""

from consensus.grouping import eligible, group_count, seed_of
from consensus.parameters import Parameters
from consensus.types import Digest
from contracts.context import BlockContext
from contracts.epoch_records import Snapshot, SnapshotMember
from contracts.state import State, number_key


def take_snapshot(state: State, context: BlockContext) -> None:
    """Fix what the next epoch's groups and seats go by; its seed is H(this block's hash)."""
    seed = seed_of(context.header.digest())
    put_snapshot(state, context.parameters, context.epoch + 1, context.height, seed)


def put_snapshot(state: State, parameters: Parameters, epoch: int, height: int, seed: Digest) -> None:
    """Write the snapshot for the seats of ``epoch``; the members of genesis are those of epoch 0 (PROTOCOL 4.7)."""
    present = [
        (address, account) for address, account in state.accounts.items() if account.left_height is None
    ]
    oldest = max(epoch - 1, 0) - parameters.dormant_epochs
    active = [account.active_epoch >= oldest for _, account in present]
    flags = eligible(active, parameters.groups)
    members = tuple(
        SnapshotMember(address, account.energy_wh, account.credit, flag)
        for (address, account), flag in zip(present, flags, strict=True)
    )
    state.epoch.built_in = None
    state.epoch.snapshots.put(number_key(epoch), Snapshot(epoch, height, seed, members))


def eligible_members(snapshot: Snapshot) -> tuple[SnapshotMember, ...]:
    """Those to be grouped, in address order."""
    return tuple(member for member in snapshot.members if member.eligible)


def group_total(snapshot: Snapshot, parameters: Parameters) -> int:
    """How many groups the snapshot makes (PROTOCOL 4.6)."""
    return group_count(len(eligible_members(snapshot)), parameters.groups)
