"""`scripts/simulate`: exit codes, what a finding tells, results files that are continued, processes that agree."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from network.simulation import cluster, reachability
from network.simulation.cluster import Outcome, Scenario, draw, simulate
from network.simulation.runner import run_seed
from scripts.simulating import __main__ as command
from scripts.simulating import campaign
from scripts.simulating.campaign import NOT_DETERMINISTIC, Settings, run_all
from scripts.simulating.results import RunResult
from scripts.simulating.suites import SUITES, SuiteOptions, SuiteResult

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


EVENTS = tuple(reachability.RUN_EVENTS)


def quick(scenario: Scenario, **_options: Any) -> Outcome:
    """An outcome without a run."""
    reached = Counter(dict.fromkeys(EVENTS, 1))
    return Outcome(
        scenario,
        trace_hash=f"trace of {scenario.seed}",
        height=50,
        faults=10,
        virtual_us=9_000_000,
        reached=reached,
    )


@pytest.fixture
def _quick(monkeypatch: Patch) -> None:
    monkeypatch.setattr(campaign, "simulate", quick)


def test_nothing_found_is_exit_code_0(capsys: Capture) -> None:
    assert command.main(["--seed", "2", "--seats", "4", "--jobs", "1", "--twice", "--reached", "--json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any("1 seeds, 0 with findings" in line for line in printed)
    assert any(
        line.endswith("block: transactions: a block with transactions was decided") for line in printed
    )
    figures = json.loads(printed[-1])
    assert figures["seeds"] == 1
    assert figures["blocks"] >= 50


def test_a_finding_tells_how_to_see_it_again(monkeypatch: Patch, capsys: Capture) -> None:
    def found(scenario: Scenario) -> Outcome:
        outcome = quick(scenario)
        outcome.finding = "S1: planted"
        return outcome

    monkeypatch.setattr(campaign, "simulate", found)
    assert command.main(["--seed", "5", "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "seed 5 (" in printed
    assert "S1: planted" in printed
    assert "repeat: scripts/simulate --seed 5 --trace" in printed


def test_the_repeat_command_keeps_what_changes_a_run() -> None:
    assert Settings(seats=7).repeat(3) == "scripts/simulate --seats 7 --seed 3 --trace"
    assert (
        Settings(system=True, epochs=9).repeat(3) == "scripts/simulate --system --epochs 9 --seed 3 --trace"
    )


def test_a_run_that_differs_from_itself_is_a_finding(monkeypatch: Patch) -> None:
    traces = iter(("one", "another"))

    def differing(scenario: Scenario) -> Outcome:
        outcome = quick(scenario)
        outcome.trace_hash = next(traces)
        return outcome

    monkeypatch.setattr(campaign, "simulate", differing)
    assert campaign.run_seed(Settings(twice=True), 1).finding == NOT_DETERMINISTIC


@pytest.mark.parametrize(
    "asked",
    [
        ["--seeds", "x"],
        ["--seeds=1..y"],
        ["--seeds=5..1"],
        ["--seeds=-3..-1"],
        ["--jobs", "0"],
        ["--until", "25:00"],
        ["--epochs", "3"],
        ["--resume"],
        ["--trace", "--minimize"],
    ],
)
def test_what_makes_no_sense_is_refused(asked: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(asked)
    assert stopped.value.code == 2


@pytest.mark.parametrize("asked", [["--trace"], ["--minimize"], ["--minimize", "--system", "--seed", "1"]])
def test_what_lacks_a_seed_says_so(asked: list[str], capsys: Capture) -> None:
    assert command.main(asked) == 2
    assert capsys.readouterr().err.startswith("error: ")


# ---------------------------------------------------------------------- events


@pytest.mark.usefixtures("_quick")
def test_an_event_that_never_occurs_fails_a_long_campaign(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setitem(reachability.RUN_EVENTS, "never at all", "planted")
    monkeypatch.setattr(reachability, "SEEDS_FOR_COMMON", 5)
    assert command.main(["--seeds", "1..4", "--jobs", "1"]) == 0
    assert "not yet: never at all" in capsys.readouterr().out
    assert command.main(["--seeds", "1..5", "--jobs", "1", "--seats", "4"]) == 0
    assert command.main(["--seeds", "1..5", "--jobs", "1"]) == 1
    assert "  never: never at all" in capsys.readouterr().out


def test_a_rare_event_is_due_later() -> None:
    names = ("block: empty", "peer banned")
    assert reachability.due(names, reachability.SEEDS_FOR_COMMON - 1) == []
    assert reachability.due(names, reachability.SEEDS_FOR_COMMON) == ["block: empty"]
    assert reachability.due(names, reachability.SEEDS_FOR_ALL) == list(names)
    assert set(reachability.RUN_EVENTS) >= reachability.RARE


def test_there_are_enough_named_events() -> None:
    """RELIABILITY G19: at least 60, each with a meaning."""
    assert len(reachability.RUN_EVENTS) >= 60
    assert all(meaning.strip() for meaning in reachability.RUN_EVENTS.values())


def test_some_seeds_reach_most_events() -> None:
    """The names are those that runs count under: a misspelt one would only show after thousands of seeds."""
    reached: Counter[str] = Counter()
    for seed in range(1, 5):
        reached.update(simulate(draw(seed)).reached)
    missing = reachability.never(reached, tuple(reachability.RUN_EVENTS))
    assert len(missing) < len(reachability.RUN_EVENTS) // 2, missing


# ---------------------------------------------------------------------- results files


@pytest.mark.usefixtures("_quick")
def test_a_campaign_is_continued(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "runs.jsonl"
    arguments = ["--jobs", "1", "--out", str(out), "--json"]
    assert command.main(["--seeds", "1..3", *arguments]) == 0
    assert command.main(["--seeds", "1..5", *arguments]) == 2
    assert "--resume" in capsys.readouterr().err
    with out.open("a", encoding="utf-8") as file:
        file.write('{"seed":4,"ha')  # killed while it wrote
    assert command.main(["--seeds", "1..5", *arguments, "--resume"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["seeds"] == 5
    assert figures["blocks"] == 250
    assert figures["never"] == []


@pytest.mark.usefixtures("_quick")
def test_results_of_another_commit_are_not_continued(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    out = tmp_path / "runs.jsonl"
    arguments = ["--seeds", "1..3", "--jobs", "1", "--out", str(out), "--json", "--resume"]
    for commit in ("one", "another"):
        monkeypatch.setattr("scripts.simulating.results.commit_id", lambda commit=commit: commit)
        assert command.main(arguments) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["seeds"] == 3
    assert sum('"seed"' in line for line in out.read_text().splitlines()) == 6


@pytest.mark.usefixtures("_quick")
def test_traces_are_compared_with_those_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    """G18: what another Python, or another hash seed, made of the same seeds."""
    out = tmp_path / "runs.jsonl"
    assert command.main(["--seeds", "1..3", "--jobs", "1", "--out", str(out)]) == 0
    assert command.main(["--seeds", "1..3", "--jobs", "1", "--compare", str(out)]) == 0
    out.write_text(out.read_text().replace("trace of 2", "trace of another Python"))
    assert command.main(["--seeds", "1..3", "--jobs", "1", "--compare", str(out)]) == 1
    assert "G18" in capsys.readouterr().out


# ---------------------------------------------------------------------- processes


def _echo(seed: int) -> RunResult:
    return RunResult(seed, None, str(os.getpid()), 1, 0, 0, 0, 0, 0.0, {}, "")


def test_every_seed_is_run_once_in_several_processes() -> None:
    results = list(run_all(_echo, range(1, 30), jobs=2, deadline=None))
    assert sorted(result.seed for result in results) == list(range(1, 30))
    assert str(os.getpid()) not in {result.trace_hash for result in results}


def test_nothing_is_begun_after_the_deadline() -> None:
    assert list(run_all(_echo, range(1, 30), jobs=1, deadline=time.monotonic() - 1)) == []


def test_two_processes_find_what_one_finds() -> None:
    """Outcomes do not depend on the process that makes them."""
    run = partial(campaign.run_seed, Settings(seats=4))
    (there,) = run_all(run, (2,), jobs=2, deadline=None)
    assert there.trace_hash == run_seed(2, seats=4).trace_hash


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from scripts.simulating.__main__ import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
"""The command as a terminal starts it: a shell's background jobs, and all below them, ignore SIGINT."""


def test_ctrl_c_ends_quietly_with_the_summary_so_far(tmp_path: Path) -> None:
    out = tmp_path / "runs.jsonl"
    arguments = ["--seeds", "1..100000", "--jobs", "2", "--seats", "4", "--json", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while process.poll() is None and not (out.exists() and '"seed"' in out.read_text()):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        printed, errors = process.communicate(timeout=100)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == command.INTERRUPTED, errors
    assert "Traceback" not in errors
    assert json.loads(printed.splitlines()[-1])["seeds"] >= 1


def test_a_replica_that_raises_is_a_finding(monkeypatch: Patch) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("consensus.replica.Replica.step", broken)
    assert cluster.simulate(cluster.draw(1)).finding == "RuntimeError: planted"


def test_a_suite_with_a_finding_fails(monkeypatch: Patch, capsys: Capture) -> None:
    asked: list[SuiteOptions] = []

    def planted(options: SuiteOptions) -> SuiteResult:
        asked.append(options)
        return SuiteResult(["a line"], ["S1: planted"], {"cases": 3})

    monkeypatch.setitem(SUITES, "twins", planted)
    arguments = ["--twins", "--views", "2", "--seed", "7", "--only", "x", "--only", "y", "--json"]
    monkeypatch.setattr(command, "NAMED", ("cases",))
    assert command.main(arguments) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["a line", "finding: S1: planted"]
    assert json.loads(printed[-1]) == {"suite": "twins", "findings": 1, "cases": 3}
    (options,) = asked
    assert (options.views, options.seeds, options.only) == (2, range(7, 8), ("x", "y"))


def test_a_name_that_no_suite_knows_is_refused(capsys: Capture) -> None:
    assert command.main(["--mutants", "--only", "no such mutant"]) == 2
    assert "no such mutant" in capsys.readouterr().err


def test_every_suite_is_an_option(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"--{name}" in printed for name in SUITES)
