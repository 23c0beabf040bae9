"""Every campaign that is not made of seeds of runs, brought to one shape: lines for people, findings, figures."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from scripts.simulating.campaign import in_processes

TWINS_SAMPLE: Final = 100_000
BYZZFUZZ_RUNS: Final = 2_000
"""Of each cell; ten times those of the paper."""
CANARIES: Final = (
    "quorum-one-less",
    "send-before-persist",
    "certificate-not-carried",
    "journal-votes-ignored",
    "two-proposals-judged",
    "set-one-block-early",
)


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
    """Twins: every split of four nodes and a twin in two, view by view; with other --seats a sample (G3)."""
    from network.simulation.twins import TwinsResult, run_twins, sample_twins, told_case

    begun = time.monotonic()
    views = options.views or 4
    result: TwinsResult
    if options.seats == 4:
        result = run_twins(views, limit=options.cases, progress=_shown("cases"))
    else:
        pairs = (options.seats - 1) // 3
        result = sample_twins(
            options.cases or TWINS_SAMPLE,
            options.seeds.start,
            seats=options.seats,
            pairs=pairs,
            views=views,
            progress=_shown("cases"),
        )
    seconds = time.monotonic() - begun
    figures = {
        "cases": result.cases,
        "distinct": result.distinct,
        "decided": result.decided,
        "finding_cases": result.finding_cases,
        "seconds": round(seconds, 1),
    }
    told = (
        f"{options.seats} seats, {views} views: {result.cases} cases, {result.decided} decided before links healed, "
        f"{result.distinct} different ends healed within {result.slowest_views} views, {seconds:.0f} s"
    )
    return SuiteResult(
        [told],
        [
            f"{finding.text}\n  {told_case(finding.case)}\n"
            f"  repeat: network.simulation.twins.play_case({finding.case!r})"
            for finding in result.findings
        ],
        figures,
    )


def byzzfuzz(options: SuiteOptions) -> SuiteResult:
    """ByzzFuzz: small changes of any field of any message, and splits, in 18 cells (G4)."""
    from network.simulation.byzzfuzz import CELLS, run_byzzfuzz

    runs = options.cases or BYZZFUZZ_RUNS
    work = partial(run_byzzfuzz, runs=runs, first_seed=options.seeds.start)
    result = SuiteResult()
    for done, cell in enumerate(in_processes(work, CELLS, options.jobs), 1):
        _show(f"{done} of {len(CELLS)} cells")
        at = f"c={cell.cell.process_faults} d={cell.cell.network_faults} {cell.cell.scope}"
        result.lines.append(
            f"{at}: {cell.runs} runs, {len(cell.findings)} findings; {cell.changed} messages changed "
            f"({cell.malformed} malformed), {cell.cut} cut, {cell.blocks} blocks, {cell.proofs} proofs"
        )
        result.findings += [
            f"{at}, seed {finding.seed}: {finding.text}\n  "
            + "\n  ".join(finding.story)
            + f"\n  repeat: network.simulation.byzzfuzz.play({finding.cell!r}, {finding.seed})"
            for finding in cell.findings
        ]
    result.lines.append(f"{len(CELLS)} cells, {runs * len(CELLS)} runs, {len(result.findings)} findings")
    result.figures = {"cells": len(CELLS), "runs": runs * len(CELLS)}
    return result


def _shown(things: str) -> Callable[[int, int], None]:
    return lambda done, total: _show(f"{done} of {total} {things}")


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


def bit_flips(options: SuiteOptions) -> SuiteResult:
    """Single bits flipped in every durable file of a node: never a silent wrong answer (G8)."""
    from scripts.simulating.bit_flips import flip_bits

    result = flip_bits(options.seeds.start, progress=lambda done: _show(f"{done} flips"))
    lines = [
        *result.table().splitlines(),
        f"{result.total} flips, {len(result.findings)} findings, {result.seconds:.0f} s",
    ]
    return SuiteResult(
        lines, list(result.findings), {"flips": result.total, "seconds": round(result.seconds, 1)}
    )


def false_plans(options: SuiteOptions) -> SuiteResult:
    """What a lying bootstrap service could submit: each form refused, each for its own reason (G16)."""
    from network.simulation.system.false_plans import run_false_plans

    result = SuiteResult()
    for seed in options.seeds:
        for refusal in run_false_plans(seed):
            _show(refusal.form)
            result.lines.append(f"{'refused' if refusal.right else 'WRONG'}: {refusal.form}: {refusal.found}")
            if not refusal.right:
                result.findings.append(f"{refusal.form}: expected {refusal.expected}, found {refusal.found}")
    result.figures = {"forms": len(result.lines)}
    result.lines.append(
        f"{len(result.lines)} forms of false plans, {len(result.findings)} not refused as they must be"
    )
    return result


def mutants(options: SuiteOptions) -> SuiteResult:
    """One-line mutants of the consensus and epoch code, each found by a seed (G5); --cases bounds the seeds."""
    from scripts.simulating.mutant_list import MUTANTS

    return _hunt(MUTANTS, options)


def canary(options: SuiteOptions) -> SuiteResult:
    """A few planted bugs that must be found at once: the simulator can still see (G21)."""
    from scripts.simulating.mutant_list import BY_NAME

    return _hunt([BY_NAME[name] for name in CANARIES], options)


def _hunt(chosen: Sequence[Any], options: SuiteOptions) -> SuiteResult:
    from scripts.simulating.mutants import check_shipped, hunt

    result, killed = SuiteResult(), []
    for item in in_processes(partial(hunt, most_seeds=options.cases), chosen, options.jobs):
        killed.append(item)
        _show(f"{len(killed)} of {len(chosen)} mutants")
        if item.finding is None:
            result.findings.append(f"{item.name}: survived {item.seeds} seeds of the family {item.family}")
        else:
            result.lines.append(f"{item.name}: seed {item.seed} of the family {item.family}: {item.finding}")
    check_shipped(killed)
    found = [item for item in killed if item.finding is not None]
    seeds = sorted(item.seeds for item in found) or [0]
    result.lines.append(
        f"{len(found)} of {len(chosen)} mutants found; median {seeds[len(seeds) // 2]} seeds, most {seeds[-1]}"
    )
    result.figures = {
        "mutants": len(chosen),
        "killed": len(found),
        "median_seeds": seeds[len(seeds) // 2],
        "most_seeds": seeds[-1],
    }
    return result


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
    "byzzfuzz": byzzfuzz,
    "crash-points": crash_points,
    "bit-flips": bit_flips,
    "codecs": codecs,
    "mutants": mutants,
    "canary": canary,
    "false-plans": false_plans,
    "model": model,
}
"""By the option that runs it."""
