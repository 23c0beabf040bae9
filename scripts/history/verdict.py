"""What the checker says: valid, invalid or unknown, with the smallest witness."""

import enum

import msgspec


class Outcome(enum.Enum):
    """Unknown counts as red: something needed for a judgement is missing."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Witness(msgspec.Struct, frozen=True):
    """An anomaly: the fewest operations and blocks that show it."""

    check: str
    """Name of the check, such as ``4 real time``."""
    what: str
    operations: tuple[str, ...] = ()
    """At most two, as they stand in the history."""
    heights: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Smaller is easier to understand."""
        return len(self.operations), len(self.heights)


class Report(msgspec.Struct, frozen=True):
    """One check's result."""

    check: str
    witnesses: tuple[Witness, ...] = ()
    missing: tuple[str, ...] = ()
    """What it would have needed: its result is unknown."""
    notes: tuple[str, ...] = ()
    """Figures worth telling."""


class Verdict(msgspec.Struct, frozen=True):
    """All checks."""

    outcome: Outcome
    reports: tuple[Report, ...]
    operations: int
    blocks: int
    seed: int
    command: str

    @property
    def smallest(self) -> Witness | None:
        """The smallest witness; of equals that of the earliest check."""
        witnesses = [witness for report in self.reports for witness in report.witnesses]
        return min(witnesses, key=lambda witness: witness.size, default=None)

    def text(self) -> str:
        """For people."""
        lines = [f"{self.operations} operations, {self.blocks} blocks"]
        for report in self.reports:
            state = "INVALID" if report.witnesses else "unknown" if report.missing else "ok"
            lines.append(f"  {report.check:<24} {state}")
            lines += [f"      {note}" for note in (*report.notes, *report.missing)]
            lines += [f"      {witness.what}" for witness in report.witnesses[:5]]
            if len(report.witnesses) > 5:
                lines.append(f"      and {len(report.witnesses) - 5} more")
        lines.append(f"verdict: {self.outcome.value}")
        if self.smallest is not None:
            lines.append(f"smallest witness ({self.smallest.check}): {self.smallest.what}")
            lines += [f"  {operation}" for operation in self.smallest.operations]
            lines += [f"  block {height}" for height in self.smallest.heights]
        if self.command:
            lines.append(f"seed {self.seed}; repeat: {self.command}")
        return "\n".join(lines)
