"""The groups of an epoch, ready for lookups by member and by number (PROTOCOL 4.1, 5.2)."""

from consensus.grouping import groups_of
from consensus.types import Address
from contracts.epoch_records import Groups, Snapshot, SnapshotMember


class Grouping:
    """A snapshot and the plan that divides it; derived once, since neither record ever changes."""

    def __init__(self, snapshot: Snapshot, groups: Groups) -> None:
        self.epoch = groups.epoch
        self.seed = snapshot.seed
        eligible = tuple(member for member in snapshot.members if member.eligible)
        self.groups: tuple[tuple[SnapshotMember, ...], ...] = tuple(
            tuple(eligible[index] for index in indices)
            for indices in groups_of(groups.assignment, groups.group_total)
        )
        """Members of each group, in address order."""
        self.group_of: dict[Address, int] = {
            member.address: group for member, group in zip(eligible, groups.assignment, strict=True)
        }
        """Group number of each eligible member."""

    def are_grouped_together(self, first: Address, second: Address) -> bool:
        """Whether both stand in one group."""
        group = self.group_of.get(first)
        return group is not None and self.group_of.get(second) == group
