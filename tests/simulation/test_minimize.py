"""Making failing runs small: a planted bug needs few faults, and the file that is written repeats it."""

from pathlib import Path

import pytest

from consensus.delegates import DelegateSet
from network.simulation.cluster import draw, simulate
from scripts.simulating import __main__ as command
from scripts.simulating import minimize
from scripts.simulating.minimize import Case, Minimizer, property_of, read_scenario
from scripts.simulating.replay import Replay, plan_of
from scripts.simulating.results import CampaignError

SEED = 4


def test_a_plan_given_one_by_one_is_the_same_run() -> None:
    scenario = draw(SEED, 4)
    assert Replay(scenario).run().trace_hash == simulate(scenario).trace_hash
    assert len(plan_of(scenario)) >= scenario.faults


def test_the_name_of_a_property() -> None:
    assert property_of("S1: 2 decided another block of height 3") == "S1"
    assert property_of("InvariantViolation: views never go backward (6.6)") == "InvariantViolation"


def test_what_is_not_needed_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a run that fails whenever fault 3 and the liar are there, nothing else remains."""

    def finding(case: Case, _plan: object) -> str | None:
        return "S9: planted" if 3 in case.kept and case.scenario.liars else None

    monkeypatch.setattr(minimize, "run_case", finding)
    scenario = draw(33, 7)
    assert scenario.liars
    least = Minimizer((), "S9").minimize(Case(scenario, tuple(range(12))))
    assert least.kept == (3,)
    assert len(least.scenario.liars) == 1
    assert len(least.scenario.liars[0]) == 1
    assert least.scenario.seats == 4
    assert least.scenario.transaction_interval_us == 0
    assert least.scenario.fault_phase_us <= 2_000_000


def test_another_finding_is_not_the_one_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimize, "run_case", lambda _case, _plan: "L1: stuck")
    assert not Minimizer((), "S1").fails(Case(draw(1), ()))


def test_a_planted_bug_needs_no_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """q - 1 shows in the first block; the file says how to see it again, and does."""
    for name in ("judge", "certificate", "own_votes", "core", "tally", "failover", "three_phases", "height"):
        monkeypatch.setattr(f"consensus.{name}.invariant", lambda _condition, _message: None)
    monkeypatch.setattr(DelegateSet, "quorum", property(lambda self: len(self) - self.faults - 1))
    path = tmp_path / "least.json"
    assert command.main(["--seed", str(SEED), "--seats", "4", "--minimize", "--out", str(path)]) == 1
    printed = capsys.readouterr().out
    assert f"repeat: scripts/simulate --trace --scenario {path}" in printed
    scenario, plan = read_scenario(path)
    assert plan == []
    assert scenario.liars == ()
    assert command.main(["--trace", "--scenario", str(path)]) == 1
    assert "!! " in capsys.readouterr().out


def test_a_seed_without_a_finding_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seed", str(SEED), "--seats", "4", "--minimize"]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_what_is_no_scenario_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_text("{}")
    with pytest.raises(CampaignError, match="no scenario file"):
        read_scenario(path)
