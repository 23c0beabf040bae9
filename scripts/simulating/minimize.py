"""`scripts/simulate --seed S --minimize`: the least that still breaks the same property.

Faults, liars, load, members and time are taken away one after the other, as long as a finding with the same name
remains. A run is a function of its scenario and its faults, so every attempt is exact.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from network.simulation.cluster import Scenario, draw
from network.simulation.faults import Planned
from scripts.simulating.replay import Replay, plan_of
from scripts.simulating.results import CampaignError

MOST_ATTEMPTS: Final = 400
MOST_SECONDS: Final = 600.0
LEAST_PHASE_US: Final = 1_000_000


@dataclass(frozen=True)
class Case:
    """A scenario with some of the faults that its seed drew."""

    scenario: Scenario
    kept: tuple[int, ...]
    """Positions in the seed's own plan."""


def property_of(finding: str) -> str:
    """The name with which a finding begins: ``S1``, ``L1``, ``6.5``, or the type of what was raised."""
    return finding.partition(":")[0]


def run_case(case: Case, plan: Sequence[Planned]) -> str | None:
    """The finding of a case."""
    return Replay(case.scenario, [plan[place] for place in case.kept]).run().finding


@dataclass
class Minimizer:
    """Makes one failing case smaller."""

    plan: Sequence[Planned]
    wanted: str
    attempts: int = 0
    begun: float = field(default_factory=time.monotonic)

    def fails(self, case: Case) -> bool:
        """Whether a case still breaks the property; False once the time is up."""
        if self.attempts >= MOST_ATTEMPTS or time.monotonic() - self.begun > MOST_SECONDS:
            return False
        self.attempts += 1
        try:
            finding = run_case(case, self.plan)
        except Exception:  # noqa: BLE001 - a scenario that cannot be run at all is no smaller failing one
            return False
        return finding is not None and property_of(finding) == self.wanted

    def minimize(self, case: Case) -> Case:
        """Take away what is not needed until nothing can be."""
        while True:
            smaller = self._fewer_faults(case)
            for step in (_fewer_liars, _plainer, _shorter):
                smaller = self._first_that_fails(smaller, step)
            if smaller == case:
                return case
            case = smaller

    def _fewer_faults(self, case: Case) -> Case:
        """Halves first, then ever smaller parts."""
        size = max(1, len(case.kept) // 2)
        while case.kept:
            place, shrunk = 0, False
            while place < len(case.kept):
                fewer = replace(case, kept=case.kept[:place] + case.kept[place + size :])
                if self.fails(fewer):
                    case, shrunk = fewer, True
                else:
                    place += size
            if size == 1 and not shrunk:
                break
            size = max(1, size // 2)
        return case

    def _first_that_fails(self, case: Case, step: Callable[[Case], Iterator[Case]]) -> Case:
        """Repeat a step as long as one of its proposals still fails."""
        while True:
            smaller = next((proposal for proposal in step(case) if self.fails(proposal)), None)
            if smaller is None:
                return case
            case = smaller


def _with(case: Case, **changes: Any) -> Case:
    return replace(case, scenario=replace(case.scenario, **changes))


def _fewer_liars(case: Case) -> Iterator[Case]:
    liars = case.scenario.liars
    for place, names in enumerate(liars):
        yield _with(case, liars=liars[:place] + liars[place + 1 :])
        if len(names) > 1:
            for name in names:
                fewer = tuple(other for other in names if other != name)
                yield _with(case, liars=(*liars[:place], fewer, *liars[place + 1 :]))


def _plainer(case: Case) -> Iterator[Case]:
    """Without load, change of sets, spare members; fewer seats; local links; no codecs, no real keys."""
    scenario = case.scenario
    if scenario.transaction_interval_us:
        yield _with(case, transaction_interval_us=0)
    if scenario.epoch_heights is not None:
        yield _with(case, epoch_heights=None)
    if scenario.spare_members:
        yield _with(case, spare_members=scenario.spare_members - 1)
    if scenario.seats > 4:
        yield _with(case, seats=4)
        yield _with(case, seats=scenario.seats - 1)
    if scenario.links != "rack":
        yield _with(case, links="rack")
    if scenario.encoded or scenario.real_keys:
        yield _with(case, encoded=False, real_keys=False)
    if scenario.blocks > 1:
        yield _with(case, blocks=1)


def _shorter(case: Case) -> Iterator[Case]:
    phase_us = case.scenario.fault_phase_us
    for part in (phase_us // 4, phase_us // 2, phase_us * 3 // 4):
        if part >= LEAST_PHASE_US:
            yield _with(case, fault_phase_us=part)


# ---------------------------------------------------------------------- scenario files


def case_to_json(seed: int, seats: int | None, case: Case, plan: Sequence[Planned], finding: str) -> str:
    """What a scenario file holds: the seed, what differs from what it draws, and which of its faults remain."""
    drawn = draw(seed, seats)
    changed = {
        item.name: getattr(case.scenario, item.name)
        for item in fields(Scenario)
        if getattr(case.scenario, item.name) != getattr(drawn, item.name)
    }
    value = {
        "seed": seed,
        "seats": seats,
        "changed": changed,
        "faults": {place: str(plan[place].fault) for place in case.kept},
        "finding": finding,
    }
    return json.dumps(value, indent=2) + "\n"


def read_scenario(path: Path) -> tuple[Scenario, list[Planned]]:
    """The scenario of a file and its faults."""
    try:
        value = json.loads(path.read_text("utf-8"))
        changed = dict(value["changed"])
        if "liars" in changed:
            changed["liars"] = tuple(tuple(names) for names in changed["liars"])
        if "kinds" in changed:
            changed["kinds"] = tuple(changed["kinds"])
        drawn = draw(value["seed"], value["seats"])
        scenario = Scenario(**{**asdict(drawn), **changed})
        kept = [int(place) for place in value["faults"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"{path} is no scenario file: {error}") from error
    plan = plan_of(drawn)
    if any(not 0 <= place < len(plan) for place in kept):
        raise CampaignError(f"{path} names faults that seed {value['seed']} does not have on this commit")
    return scenario, [plan[place] for place in kept]


# ---------------------------------------------------------------------- the command


def show_minimized(options: argparse.Namespace) -> int:
    """Minimize each seed that fails; 1 if one does."""
    if options.seeds is None:
        raise CampaignError("--minimize needs --seed S")
    if options.system:
        raise CampaignError("--minimize works on runs of replicas, not on --system")
    found = False
    for seed in options.seeds:
        found = _minimize_seed(seed, options.seats, options.out) or found
    return 1 if found else 0


def _minimize_seed(seed: int, seats: int | None, out: Path | None) -> bool:
    scenario = draw(seed, seats)
    first = Replay(scenario)
    finding = first.run().finding
    if finding is None:
        sys.stdout.write(f"seed {seed}: nothing found\n")
        return False
    plan = first.scheduled
    minimizer = Minimizer(plan, property_of(finding))
    whole = Case(scenario, tuple(range(len(plan))))
    if not minimizer.fails(whole):
        raise CampaignError(f"seed {seed} fails ({finding}), but not when its faults are given one by one")
    least = minimizer.minimize(whole)
    path = out or Path(f"seed-{seed}.json")
    path.write_text(
        case_to_json(seed, seats, least, plan, run_case(least, plan) or finding), encoding="utf-8"
    )
    kept = least.scenario
    sys.stdout.write(
        f"seed {seed}: {finding}\n"
        f"  {len(least.kept)} of {len(plan)} faults, {len(kept.liars)} of {len(scenario.liars)} liars, "
        f"{kept.seats} seats, {kept.fault_phase_us / 1e6:.1f} s of faults, after {minimizer.attempts} attempts\n"
    )
    for place in least.kept:
        item = plan[place]
        sys.stdout.write(f"  {item.begins_us / 1e6:.3f} to {item.ends_us / 1e6:.3f} s: {item.fault}\n")
    sys.stdout.write(f"  repeat: scripts/simulate --trace --scenario {path}\n")
    return True
