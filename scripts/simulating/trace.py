"""`scripts/simulate --seed S --trace`: one run as a readable story."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from consensus.block import CertifiedBlock
from consensus.effects import Effect
from consensus.inputs import Input
from consensus.types import PublicKey
from network.simulation.cluster import Outcome, Scenario, draw
from network.simulation.disk import DiskFailed
from network.simulation.faults import CutLinks, Fault, Planned
from network.simulation.letters import Letter
from network.simulation.network import Cut
from network.simulation.surroundings import Holder
from scripts.simulating.campaign import about
from scripts.simulating.minimize import read_scenario
from scripts.simulating.replay import Replay
from scripts.simulating.results import CampaignError
from scripts.simulating.story import LEGEND, Story

if TYPE_CHECKING:
    from network.simulation.system.scenario import Outcome as SystemOutcome

UNTOLD: tuple[str, ...] = ("block: ", "decided in view")


class ToldRun(Replay):
    """A run that tells its story while it happens; everything else about it stays as it is."""

    def __init__(
        self, scenario: Scenario, plan: Sequence[Planned] | None = None, *, letters: bool = False
    ) -> None:
        super().__init__(scenario, plan)
        self.story = Story(self._lanes, lambda: self.agenda.now_us, self._of_key, letters=letters)
        self._lying = frozenset(node.index for node in self.nodes) - {node.index for node in self.honest}
        self._told_term = self._timetable.term(1)

    def _lanes(self) -> str:
        seated = {item.public_key for item in self._told_term.delegates.ranking}
        return "".join(
            "x" if not node.up
            else "=" if node.paused
            else "*" if node.index in self._lying
            else "." if node.member.public_key in seated
            else ":"
            for node in self.nodes
        )  # fmt: skip

    # ------------------------------------------------------------------ the world of the nodes, listened to

    @override
    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica was stepped."""
        self.story.stepped(node.index, item, effects)
        super().stepped(node, item, effects)

    @override
    def performed(self, node: Holder, effect: Effect) -> None:
        """An effect was carried out."""
        self.story.performed(node.index, node.member.public_key, effect)
        super().performed(node, effect)

    @override
    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A block was decided."""
        self.story.applied(node.index, certified)
        super().applied(node, certified)
        term = self._timetable.term(certified.block.header.height + 1)
        if certified.block.header.height == len(self.checkers.decisions.chain) and (
            term.epoch != self._told_term.epoch or term.delegates.ranking != self._told_term.delegates.ranking
        ):
            change = "begins with" if term.epoch != self._told_term.epoch else "goes on with"
            self._told_term = term
            ranked = ", ".join(self.story.name(item.public_key) for item in term.delegates.ranking)
            self.story.say(f"epoch {term.epoch} {change} the seats of {ranked}")

    @override
    def broke(self, node: Holder, error: Exception) -> None:
        """A replica raised."""
        self.story.say(f"its replica stops: {type(error).__name__}: {error}", node.index, "!")
        super().broke(node, error)

    @override
    def stopped(self, node: Holder, error: DiskFailed) -> None:
        """A node stopped since its disk failed."""
        self.story.say(f"stops: {error}", node.index, "x")
        super().stopped(node, error)

    @override
    def punished(self, node: Holder, culprit: PublicKey, reason: str) -> None:
        """A node banned a peer."""
        self.story.say(f"bans {self.story.name(culprit)}: {reason}", node.index)
        super().punished(node, culprit, reason)

    @override
    def happened(self, node: Holder, event: str) -> None:
        """Something that the replica knows nothing of."""
        if not event.startswith(UNTOLD):
            self.story.say(event, node.index)
        super().happened(node, event)

    @override
    def came_up(self, node: Holder, up: bool) -> None:
        """A process began or ended."""
        if self.agenda.now_us or not up:
            self.story.say("starts" if up else "is down", node.index, "^" if up else "x")
        super().came_up(node, up)

    @override
    def _deliver(self, source: int, target: int, letter: Letter) -> None:
        self.story.delivered(source, target, letter, liar=source in self._lying)
        super()._deliver(source, target, letter)

    @override
    def _begin(self, planned: Planned) -> None:
        if self._plan:
            self.story.say(f"-- {describe(planned.fault)}")
        super()._begin(planned)

    @override
    def _end(self, planned: Planned) -> None:
        if self._plan:
            self.story.say(f"-- over: {describe(planned.fault)}")
        super()._end(planned)

    @override
    def _recover(self) -> None:
        self.story.say("-- all faults end; from here on every honest node must come level")
        super()._recover()

    @override
    def run(self) -> Outcome:
        """The run; a finding is the story's last line."""
        outcome = super().run()
        if outcome.finding is not None:
            self.story.say(f"!! {outcome.finding}")
        return outcome


def describe(fault: Fault) -> str:
    """A fault in words; links as who does not hear whom."""
    if not isinstance(fault, CutLinks):
        return str(fault)
    if _is_partition(fault.cuts):
        return f"partition: {_list(fault.cuts[0].sources)} | {_list(fault.cuts[0].targets)}"
    return "; ".join(
        f"{' and '.join(cut.kinds) or 'nothing'} {'gets lost' if cut.kinds else 'gets'} "
        f"from {_list(cut.sources)} to {_list(cut.targets)}"
        for cut in fault.cuts
    )


def _is_partition(cuts: Sequence[Cut]) -> bool:
    return len(cuts) == 2 and cuts[1] == Cut(cuts[0].targets, cuts[0].sources) and not cuts[0].kinds


def _list(indices: Sequence[int]) -> str:
    return " ".join(map(str, sorted(indices)))


# ---------------------------------------------------------------------- the command


def tell(
    scenario: Scenario, plan: Sequence[Planned] | None = None, *, letters: bool = False
) -> tuple[Outcome, list[str]]:
    """Run a scenario; its outcome and its story."""
    run = ToldRun(scenario, plan, letters=letters)
    outcome = run.run()
    head = [
        f"seed {scenario.seed}: {about(outcome)}, {scenario.spare_members} spare members, links {scenario.links}",
        LEGEND,
        f"{'seconds':>9}  {' '.join(str(node.index % 10) for node in run.nodes)}",
    ]
    return outcome, head + run.story.lines


def show_traces(options: argparse.Namespace) -> int:
    """Print the story of each seed; 1 if one has a finding."""
    if options.system:
        return _show_system(options)
    found = False
    for scenario, plan in _chosen(options.seeds, options.seats, options.scenario):
        outcome, lines = tell(scenario, plan, letters=options.letters)
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.write(_end_of(outcome))
        found = found or outcome.finding is not None
    return 1 if found else 0


def _chosen(
    seeds: range | None, seats: int | None, file: Path | None
) -> list[tuple[Scenario, Sequence[Planned] | None]]:
    if file is not None:
        return [read_scenario(file)]
    if seeds is None:
        raise CampaignError("--trace needs --seed S or --scenario FILE")
    return [(draw(seed, seats), None) for seed in seeds]


def _end_of(outcome: "Outcome | SystemOutcome") -> str:
    end = f"height {outcome.height} after {outcome.virtual_us / 1e6:.3f} s"
    return f"{end}: {outcome.finding or 'nothing found'}\n"


def _show_system(options: argparse.Namespace) -> int:
    from network.simulation import system
    from scripts.simulating.trace_system import ToldSystem

    if options.seeds is None:
        raise CampaignError("--trace needs --seed S")
    found = False
    for seed in options.seeds:
        run = ToldSystem(system.draw(seed, options.epochs), letters=options.letters)
        outcome = run.run()
        scenario = outcome.scenario
        lying = f", one lies: {' and '.join(scenario.liars)}" if scenario.liars else ""
        sys.stdout.write(
            f"seed {seed}: {scenario.founders} founders, {scenario.newcomers} more, {scenario.groups} groups{lying}\n"
            f"{LEGEND}\n{'seconds':>9}  {' '.join(str(node.index % 10) for node in run.nodes)}\n"
        )
        sys.stdout.writelines(f"{line}\n" for line in run.story.lines)
        sys.stdout.write(_end_of(outcome))
        found = found or outcome.finding is not None
    return 1 if found else 0
