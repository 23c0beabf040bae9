"""`python -m network.simulation`, which scripts/simulate runs."""

import pytest

from network.simulation import __main__ as command
from network.simulation import cluster, runner
from network.simulation.cluster import Outcome, Scenario


def test_nothing_found_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "1..2", "--seats", "4", "--twice", "--reached"]) == 0
    printed = capsys.readouterr().out
    assert "2 seeds, 0 with findings" in printed
    assert "block: " in printed


def test_a_finding_tells_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(scenario: Scenario, *, keep_log: bool = False) -> Outcome:
        return Outcome(scenario, finding="S1: planted", log=["the last event\n"] if keep_log else [])

    monkeypatch.setattr(runner, "simulate", found)
    assert command.main(["--seeds", "5", "--log"]) == 1
    printed = capsys.readouterr().out
    assert "seed 5 (" in printed
    assert "S1: planted" in printed
    assert "repeat: scripts/simulate --seeds 5 --log" in printed
    assert "the last event" in printed


def test_a_run_that_differs_from_itself_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = iter(("one", "another"))

    def differing(scenario: Scenario, *, keep_log: bool = False) -> Outcome:
        del keep_log
        return Outcome(scenario, trace_hash=next(traces))

    monkeypatch.setattr(runner, "simulate", differing)
    outcome = runner.run_seed(1, twice=True)
    assert outcome.finding is not None
    assert "not deterministic" in outcome.finding


@pytest.mark.parametrize("seeds", ["x", "1..y", "5..1", "-3..-1"])
def test_seeds_that_are_none_are_refused(seeds: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main([f"--seeds={seeds}"])
    assert stopped.value.code == 2


def test_two_processes_find_what_one_finds() -> None:
    """Outcomes do not depend on the process that makes them."""
    one = {
        o.scenario.seed: o.trace_hash
        for o in runner.run_seeds(range(1, 4), seats=4, twice=False, keep_log=False, jobs=1)
    }
    two = {
        o.scenario.seed: o.trace_hash
        for o in runner.run_seeds(range(1, 4), seats=4, twice=False, keep_log=False, jobs=2)
    }
    assert one == two


def test_a_replica_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("consensus.replica.Replica.step", broken)
    assert cluster.simulate(cluster.draw(1)).finding == "RuntimeError: planted"
