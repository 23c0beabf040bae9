"""Every campaign that is not made of seeds of runs, brought to one shape: lines for people, findings, figures."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class SuiteOptions:
    """What the command line says to a suite."""

    seeds: range
    jobs: int
    views: int | None
    seats: int
    cases: int | None
    """How many cases, runs, flips or inputs; None for the suite's own number."""


@dataclass
class SuiteResult:
    """What came of it."""

    lines: list[str] = field(default_factory=list)
    """For people."""
    findings: list[str] = field(default_factory=list)
    """What must not be; the command ends with 1."""
    figures: dict[str, Any] = field(default_factory=dict)
    """For --json."""


Suite = Callable[[SuiteOptions], SuiteResult]


def _show(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def twins(options: SuiteOptions) -> SuiteResult:
    """All ways to split four nodes and a twin in two, view by view (RELIABILITY G3)."""
    from network.simulation.twins import run_twins

    begun = time.monotonic()
    result = run_twins(
        options.views or 4,
        seats=options.seats,
        limit=options.cases,
        progress=lambda done, total: _show(f"{done} of {total} cases"),
    )
    seconds = time.monotonic() - begun
    figures = {
        "cases": result.cases,
        "distinct": result.distinct,
        "decided": result.decided,
        "findings": result.finding_cases,
        "seconds": round(seconds, 1),
    }
    told = (
        f"{result.cases} cases, {result.decided} decided before the links healed, "
        f"{result.distinct} different ends healed within {result.slowest_views} views, {seconds:.0f} s"
    )
    return SuiteResult(
        [told],
        [f"{finding.text}\n  repeat: play_case({finding.case!r})" for finding in result.findings],
        figures,
    )


def crash_points(options: SuiteOptions) -> SuiteResult:
    """A crash at every call of the journal and the store, and every call failing (RELIABILITY G7)."""
    from scripts.simulating.crash_points import enumerate_crash_points

    lines, findings, points, seconds = [], [], 0, 0.0
    for seed in options.seeds:
        result = enumerate_crash_points(seed, progress=lambda done: _show(f"{done} points"))
        points += result.total
        seconds += result.seconds
        by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(result.points.items()))
        lines.append(f"seed {seed}: {result.total} points ({by_kind}), {result.temptations} temptations")
        findings += [
            f"{text}\n  repeat: scripts/simulate --crash-points --seed {seed}" for text in result.findings
        ]
    lines.append(f"{points} crash points, {len(findings)} findings, {seconds:.0f} s")
    return SuiteResult(lines, findings, {"points": points, "seconds": round(seconds, 1)})


def codecs(options: SuiteOptions) -> SuiteResult:
    """Every message type: canonical, the pinned hashes, the same under other hash seeds and Pythons (G10, G18)."""
    from scripts.simulating.codec_conformance import FULL_CASES, check_codecs, check_elsewhere

    result = check_codecs(
        options.cases or FULL_CASES, jobs=options.jobs, progress=lambda item: _show(f"{item.name}")
    )
    lines = [f"{item.name}: {item.cases} cases, sha256 {item.sha256[:16]}" for item in result.types]
    findings = list(result.findings)
    findings += [f"{name}: the encodings are not the pinned ones" for name in result.changed]
    for other in check_elsewhere():
        lines.append(f"{other.where}: {'the same' if other.agrees else other.detail}")
        if other.agrees is False:
            findings.append(f"{other.where}: {other.detail}")
    lines.append(f"{len(result.types)} types, {result.cases} cases, {len(findings)} findings")
    return SuiteResult(lines, findings, {"types": len(result.types), "cases": result.cases})


def model(options: SuiteOptions) -> SuiteResult:
    """The Promela models (docs/simulation/model.md); --cases is not used."""
    del options
    from scripts.simulating.model import ordinary

    return check_models(ordinary())


def check_models(checks: Any) -> SuiteResult:
    """Run checks of models, each told at once."""
    from scripts.simulating.model import missing_tools, run_checks

    missing = missing_tools()
    if missing:
        text = f"{' and '.join(missing)} not installed (Debian: apt-get install spin gcc libc6-dev)"
        return SuiteResult([], [text])
    result = SuiteResult()
    states, seconds = 0, 0.0
    for outcome in run_checks(checks):
        sys.stdout.write(outcome.line() + "\n")
        sys.stdout.flush()
        states += outcome.states
        seconds += outcome.seconds
        if not outcome.as_expected:
            result.findings.append(
                f"{outcome.check.name}: {outcome.violated or 'a planted bug was not found'}"
            )
    result.lines.append(f"{len(checks)} checks, {states} states, {seconds:.0f} s")
    result.figures = {"checks": len(checks), "states": states, "seconds": round(seconds, 1)}
    return result


SUITES: Final[Mapping[str, Suite]] = {
    "twins": twins,
    "crash-points": crash_points,
    "codecs": codecs,
    "model": model,
}
"""By the option that runs it."""
