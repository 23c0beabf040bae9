"""Every campaign that is not made of seeds of runs, brought to one shape: lines for people, findings, figures."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
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
    only: tuple[str, ...] = ()
    """Words, one of which has to be in the name of what is run; empty for all."""
    out: Path | None = None
    """Where the suite may remember its results."""

    def chosen(self, name: str) -> bool:
        """Whether what is called ``name`` is to be run."""
        return not self.only or any(word in name for word in self.only)


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
    from network.simulation.twins import TwinsResult, merged, parts, run_part, sample_twins, told_case

    begun = time.monotonic()
    views = options.views or 4
    result: TwinsResult
    if options.seats == 4:
        portions = parts(views, options.cases)
        results = []
        for done in in_processes(partial(run_part, views=views), portions, options.jobs):
            results.append(done)
            _show(f"{len(results)} of {len(portions)} parts")
        result = merged(results)
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
    """A crash at every call of journal and store and at every effect, and every call failing (RELIABILITY G7)."""
    from scripts.simulating.crash_points_campaign import crash_everywhere

    lines, findings, points, seconds = [], [], 0, 0.0
    for seed in options.seeds:
        result = crash_everywhere(seed, progress=lambda done: _show(f"{done} points"))
        points += result.total
        seconds += sum(part.seconds for part in result.parts)
        lines += [f"seed {seed}", *result.table().splitlines()]
        findings += [
            f"{text}\n  repeat: scripts/simulate --crash-points --seed {seed}" for text in result.findings
        ]
    lines.append(f"{points} crash points, {len(findings)} findings, {seconds:.0f} s")
    return SuiteResult(lines, findings, {"points": points, "seconds": round(seconds, 1)})


def codecs(options: SuiteOptions) -> SuiteResult:
    """Every message type: canonical, the pinned hashes, the same under other hash seeds and Pythons (G10, G18)."""
    from scripts.simulating.codec_conformance import FULL_CASES, check_codecs, check_elsewhere

    result = check_codecs(
        options.cases or FULL_CASES,
        names=options.only,
        jobs=options.jobs,
        progress=lambda item: _show(item.name),
    )
    lines = [f"{item.name}: {item.cases} cases, sha256 {item.sha256[:16]}" for item in result.types]
    findings = list(result.findings)
    findings += [f"{name}: the encodings are not the pinned ones" for name in result.changed]
    for other in check_elsewhere():
        lines.append(f"{other.where}: {'the same' if other.agrees else other.detail}")
        if other.agrees is False:
            findings.append(f"{other.where}: {other.detail}")
    if result.unpinned:
        lines.append(f"{len(result.unpinned)} types have no pin for so many cases")
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


def malformed(options: SuiteOptions) -> SuiteResult:
    """Malformed input at every door of a node: refused or canonical, in bounded time and memory (G9)."""
    from scripts.simulating.malformed_input import CASES, send_malformed

    result = send_malformed(
        options.cases or CASES,
        seed=options.seeds.start,
        names=options.only,
        progress=lambda door: _show(door.name),
    )
    lines = [
        f"{door.name}{' (with a delegate key)' if door.keyed else ''}: {door.cases} cases, {door.refused} refused, "
        f"{door.taken} taken, at most {door.slowest_seconds * 1_000:.1f} ms and {door.largest_bytes >> 10} KiB"
        for door in result.doors
    ]
    lines.append(f"{len(result.doors)} doors, {result.cases} cases, {len(result.findings)} findings")
    return SuiteResult(lines, list(result.findings), {"doors": len(result.doors), "cases": result.cases})


def mutants(options: SuiteOptions) -> SuiteResult:
    """One-line mutants of the consensus and epoch code, each found by a seed (G5); --cases bounds the seeds."""
    from scripts.simulating.mutant_list import MUTANTS
    from scripts.simulating.mutants import hunt_all

    chosen = [mutant for mutant in MUTANTS if options.chosen(mutant.name)]
    killed: list[Any] = []

    def tell(item: Any) -> None:
        killed.append(item)
        _show(f"{len(killed)} of {len(chosen)} mutants")

    return _hunted(hunt_all(chosen, out=options.out, most_seeds=options.cases, progress=tell))


def canary(options: SuiteOptions) -> SuiteResult:
    """A few planted bugs that must be found at once, and one that each seed chooses: the simulator can see (G21)."""
    from scripts.simulating.mutant_canary import CanaryMissed, run_canary
    from scripts.simulating.mutant_list import BY_NAME
    from scripts.simulating.mutants import hunt_all

    result = _hunted(hunt_all([BY_NAME[name] for name in CANARIES], progress=lambda item: _show(item.name)))
    for seed in options.seeds:
        try:
            drawn = run_canary(seed)
        except CanaryMissed as missed:
            result.findings.append(f"canary of seed {seed}: {missed}")
        else:
            result.lines.append(
                f"canary of seed {seed}: {drawn.killed.name} found by seed {drawn.killed.seed}; "
                f"{drawn.faults.total()} faults of {len(drawn.faults)} kinds in its ordinary seeds"
            )
    return result


def _hunted(killed: Sequence[Any]) -> SuiteResult:
    result = SuiteResult()
    for item in killed:
        if item.finding is None:
            result.findings.append(f"{item.name}: survived {item.seeds} seeds of the family {item.family}")
        else:
            result.lines.append(
                f"{item.name}: seed {item.seed} of the family {item.family}: {item.finding[:160]}"
            )
    found = [item for item in killed if item.finding is not None]
    seeds = sorted(item.seeds for item in found) or [0]
    result.lines.append(
        f"{len(found)} of {len(killed)} mutants found; median {seeds[len(seeds) // 2]} seeds, most {seeds[-1]}"
    )
    result.figures = {
        "mutants": len(killed),
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
    "malformed": malformed,
    "mutants": mutants,
    "canary": canary,
    "false-plans": false_plans,
    "model": model,
}
"""By the option that runs it."""
