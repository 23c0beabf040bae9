"""What a campaign says: progress on a terminal, each finding at once, the summary at the end."""

import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from network.simulation.reachability import RUN_EVENTS, due, never
from scripts.simulating.campaign import Settings
from scripts.simulating.results import RunResult, Totals

PROGRESS_SECONDS: Final = 0.5
SYSTEM_SEEDS_FOR_ALL: Final = 2_000
"""Whole-system runs that reach every event of theirs."""
MICROSECONDS_PER_HOUR: Final = 3_600_000_000


class Teller:
    """Counts a campaign and tells of it."""

    def __init__(self, settings: Settings, planned: int, totals: Totals) -> None:
        self._settings = settings
        self._planned = planned
        self.totals = totals
        self._seeds_before = totals.seeds
        self._begun = time.monotonic()
        self._shown = 0.0

    def add(self, result: RunResult) -> None:
        """A seed is done."""
        self.totals.add(result)
        if result.finding is not None:
            self._clear()
            sys.stdout.write(
                f"seed {result.seed} ({result.about}), height {result.height}, "
                f"{result.virtual_us / 1e6:.3f} s: {result.finding}\n"
                f"  repeat: {self._settings.repeat(result.seed)}\n"
            )
            sys.stdout.flush()
        self._progress()

    @property
    def seconds(self) -> float:
        """Since the campaign (or its last part) began."""
        return time.monotonic() - self._begun

    @property
    def seeds_per_hour(self) -> float:
        """Of this part."""
        return (self.totals.seeds - self._seeds_before) / max(self.seconds, 1e-9) * 3600

    def _progress(self) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._shown >= PROGRESS_SECONDS:
            self._shown = time.monotonic()
            sys.stderr.write(
                f"\r\033[K{self.totals.seeds} of {self._planned} seeds, {self.totals.findings} with findings, "
                f"{self.seeds_per_hour:.0f} an hour "
            )
            sys.stderr.flush()

    @staticmethod
    def _clear() -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def finish(self, expected: Sequence[str], *, must: bool, show_reached: bool) -> bool:
        """Print the summary; whether the campaign passes. ``must``: events that are due fail it if they are missing."""
        self._clear()
        totals = self.totals
        if show_reached:
            for event in sorted({*totals.reached, *expected}):
                meaning = RUN_EVENTS.get(event, "")
                sys.stdout.write(f"{totals.reached[event]:10} {event}{': ' if meaning else ''}{meaning}\n")
        missing = never(totals.reached, expected)
        sys.stdout.write(
            f"{totals.seeds} seeds, {totals.findings} with findings: {totals.blocks} blocks, {totals.faults} faults, "
            f"{totals.events} events, {totals.virtual_us / MICROSECONDS_PER_HOUR:.2f} h simulated in "
            f"{self.seconds:.0f} s: {self.seeds_per_hour:.0f} seeds/h, {totals.times_real:.0f} x real time per core\n"
            f"{len(expected) - len(missing)} of {len(expected)} named events reached"
            f"{': all' if not missing else ''}\n"
        )
        overdue = never(totals.reached, self._due(expected)) if must else []
        for event in missing:
            sys.stdout.write(f"  {'never' if event in overdue else 'not yet'}: {event}\n")
        if overdue:
            sys.stdout.write(f"G19: {totals.seeds} seeds must reach these: {', '.join(overdue)}\n")
        sys.stdout.flush()
        return not totals.findings and not overdue

    def _due(self, expected: Sequence[str]) -> Sequence[str]:
        if self._settings.system:
            return expected if self.totals.seeds >= SYSTEM_SEEDS_FOR_ALL else ()
        return due(expected, self.totals.seeds)

    def figures(self, expected: Sequence[str]) -> dict[str, Any]:
        """The same for programs."""
        totals = self.totals
        return {
            "campaign": self._settings.kind,
            "seeds": totals.seeds,
            "findings": totals.findings,
            "blocks": totals.blocks,
            "faults": totals.faults,
            "events": totals.events,
            "virtual_hours": round(totals.virtual_us / MICROSECONDS_PER_HOUR, 3),
            "seconds": round(self.seconds, 1),
            "seeds_per_hour": round(self.seeds_per_hour),
            "times_real_per_core": round(totals.times_real),
            "reached": len(expected) - len(never(totals.reached, expected)),
            "never": never(totals.reached, expected),
        }


def expected_events(settings: Settings) -> tuple[Sequence[str], bool]:
    """Names that a campaign of this kind should reach, and whether it must, given seeds enough.

    Lean runs and those with a fixed number of seats are for a purpose: what they happen to reach is only shown.
    """
    if settings.system:
        from network.simulation.system.events import EXPECTED

        return EXPECTED, settings.epochs is None
    return tuple(RUN_EVENTS), settings.seats is None
