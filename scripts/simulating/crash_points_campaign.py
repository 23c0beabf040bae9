"""All crash points of one seed in one call: journal, lost journal, ledger store, and both sides of every effect."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from scripts.simulating.crash_points import check_recording
from scripts.simulating.crash_points_effects import enumerate_effect_crashes
from scripts.simulating.crash_points_lost import enumerate_lost_points
from scripts.simulating.crash_points_recording import record
from scripts.simulating.crash_points_store import enumerate_store_points


@dataclass(frozen=True)
class PartResult:
    """Of one part."""

    name: str
    points: dict[str, int]
    """By kind."""
    findings: tuple[str, ...]
    seconds: float

    @property
    def total(self) -> int:
        """All points."""
        return sum(self.points.values())


@dataclass(frozen=True)
class CampaignResult:
    """Of `crash_everywhere`."""

    parts: tuple[PartResult, ...]

    @property
    def total(self) -> int:
        """All points."""
        return sum(part.total for part in self.parts)

    @property
    def findings(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(f"{part.name}: {finding}" for part in self.parts for finding in part.findings)

    def table(self) -> str:
        """Parts and kinds with their counts and rates."""
        lines = ["| part | kind | points |", "|---|---|---|"]
        for part in self.parts:
            lines += [f"| {part.name} | {kind} | {count} |" for kind, count in sorted(part.points.items())]
            rate = part.total / max(part.seconds, 0.001)
            lines.append(f"| {part.name} | all | {part.total} in {part.seconds:.0f} s, {rate:.0f}/s |")
        return "\n".join(lines)


def crash_everywhere(seed: int = 1, *, progress: Callable[[int], None] = lambda _: None) -> CampaignResult:
    """The four parts, one after the other; ``progress`` is told the number of points so far."""
    done = 0

    def told(points: int) -> None:
        progress(done + points)

    recording = record(seed)
    parts: list[PartResult] = []
    journal = check_recording(recording, progress=told)
    parts.append(PartResult("journal", journal.points, journal.findings, journal.seconds))
    done += journal.total
    began = time.monotonic()
    lost = enumerate_lost_points(recording, told)
    parts.append(PartResult("lost journal", lost.points, lost.findings, time.monotonic() - began))
    done += parts[-1].total
    store = enumerate_store_points(seed, progress=told)
    parts.append(PartResult("ledger store", store.points, store.findings, store.seconds))
    done += parts[-1].total
    effects = enumerate_effect_crashes(seed, progress=told)
    parts.append(PartResult("effects", effects.by_effect, effects.findings, effects.seconds))
    return CampaignResult(tuple(parts))
