# mypy: disable-error-code="explicit-override"
"""A process that dies before or after each single effect of a short simulated run, and starts again (RELIABILITY G7).

Exhaustive: every honest node, every effect of its run, both sides of it. The simulator's checkers (S1 to S13, 6.5,
6.6) watch each run to its end, where all nodes have to be level and a new transaction committed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from consensus.effects import Effect
from network.simulation.cluster import Scenario, Simulation
from network.simulation.surroundings import Holder
from scripts.simulating.crash_points_recording import POOR_LINKS, RUN

DOWN_US = 100_000
"""How long the process is down: shorter than a view, so that it comes back into the height it left."""
MAX_FINDINGS = 20


@dataclass(frozen=True)
class EffectCrash:
    """Where one run's crash is."""

    seed: int
    node: int
    effect: int
    """Number of the effect at that node, from 0."""
    kind: str
    """Of the effect."""
    after: bool


@dataclass(frozen=True)
class EffectCrashResult:
    """Of `enumerate_effect_crashes`."""

    runs: int
    by_effect: dict[str, int]
    findings: tuple[str, ...]
    seconds: float


class _Counting(Simulation):
    """Counts the effects of each node until the faults end."""

    def __init__(self, scenario: Scenario) -> None:
        self.counts: Counter[int] = Counter()
        self.kinds: dict[int, list[str]] = {}
        super().__init__(scenario)
        self.network.quality = POOR_LINKS

    def performed(self, node: Holder, effect: Effect) -> None:
        if self.agenda.now_us < self.scenario.fault_phase_us:
            self.counts[node.index] += 1
            self.kinds.setdefault(node.index, []).append(type(effect).__name__)
        super().performed(node, effect)


class _Crashing(_Counting):
    def __init__(self, scenario: Scenario, crash: EffectCrash) -> None:
        super().__init__(scenario)
        self.crashed_at: str | None = None
        node = self.nodes[crash.node]

        def due(effect: Effect, after: bool) -> bool:
            reached = self.counts[crash.node] - after
            if self.crashed_at is not None or after != crash.after or reached != crash.effect:
                return False
            self.crashed_at = type(effect).__name__
            self.agenda.after(DOWN_US, node.start)
            return True

        node.crash_when = due


def scenario_of(seed: int, milliseconds: int) -> Scenario:
    """Four honest delegates on poor links."""
    return replace(RUN, seed=seed, fault_phase_us=milliseconds * 1_000)


def crash_points_of(seed: int, milliseconds: int) -> Iterator[EffectCrash]:
    """Both sides of every effect of every node of the run without a crash."""
    run = _Counting(scenario_of(seed, milliseconds))
    run.run()
    for node, kinds in sorted(run.kinds.items()):
        for effect, kind in enumerate(kinds):
            for after in (False, True):
                yield EffectCrash(seed, node, effect, kind, after)


def crash_once(crash: EffectCrash, milliseconds: int) -> str | None:
    """One run with one crash; what it found."""
    run = _Crashing(scenario_of(crash.seed, milliseconds), crash)
    outcome = run.run()
    if run.crashed_at != crash.kind:
        return f"{crash}: the run came to {run.crashed_at} instead"
    return None if outcome.finding is None else f"{crash}: {outcome.finding}"


def enumerate_effect_crashes(
    seed: int = 1, *, milliseconds: int = 12_000, progress: Callable[[int], None] = lambda _: None
) -> EffectCrashResult:
    """All of them."""
    began = time.monotonic()
    by_effect: Counter[str] = Counter()
    findings: list[str] = []
    runs = 0
    for crash in crash_points_of(seed, milliseconds):
        finding = crash_once(crash, milliseconds)
        runs += 1
        by_effect[f"{'after' if crash.after else 'before'} {crash.kind}"] += 1
        if finding is not None:
            findings.append(finding)
        if len(findings) >= MAX_FINDINGS:
            break
        progress(runs)
    return EffectCrashResult(runs, dict(by_effect), tuple(findings), time.monotonic() - began)
