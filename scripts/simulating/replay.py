"""A run whose faults are given one by one: what a seed drew, or a part of it."""

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from network.simulation.cluster import Scenario, Simulation
from network.simulation.faults import FaultPlanner, Planned


class Replay(Simulation):
    """A simulation that remembers its plan of faults, or is given one."""

    def __init__(self, scenario: Scenario, plan: Sequence[Planned] | None = None) -> None:
        """Without ``plan`` what the scenario's seed draws; with one, exactly that and nothing is added."""
        self._given = plan
        self.scheduled: list[Planned] = []
        """All faults with the times, since the beginning, at which they began and ended."""
        super().__init__(scenario if plan is None else replace(scenario, faults=0))

    @override
    def _make_plan(self) -> tuple[FaultPlanner, list[Planned]]:
        planner, drawn = super()._make_plan()
        return planner, drawn if self._given is None else list(self._given)

    @override
    def _schedule(self, plan: Sequence[Planned]) -> None:
        now_us = self.agenda.now_us
        self.scheduled += [
            replace(item, begins_us=now_us + item.begins_us, ends_us=now_us + item.ends_us) for item in plan
        ]
        super()._schedule(plan)


def plan_of(scenario: Scenario) -> list[Planned]:
    """The faults of a scenario, those included that were added because others found nothing to break."""
    run = Replay(scenario)
    run.run()
    return run.scheduled
