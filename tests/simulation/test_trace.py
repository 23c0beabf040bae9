"""The readable story of a run: it changes nothing, and says who did what."""

import re

import pytest

from network.simulation.cluster import draw, simulate
from scripts.simulating import __main__ as command
from scripts.simulating.trace import tell

SEED = 4


def test_telling_changes_nothing_and_tells_every_decision() -> None:
    outcome, lines = tell(draw(SEED, 4), letters=True)
    assert outcome.trace_hash == simulate(draw(SEED, 4)).trace_hash
    decided = [line for line in lines if re.search(r" decides \d+ ", line)]
    assert len({line.split(" decides ")[1].split()[0] for line in decided}) == outcome.height
    assert any(" pre-prepares " in line for line in lines)
    assert any("  -- " in line for line in lines), "faults are told"
    times = [float(line.split()[0]) for line in lines if re.match(r" *\d+\.\d{3}  ", line)]
    assert times == sorted(times)


def test_a_finding_is_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("network.simulation.checkers.Decisions.applied", _find)
    assert command.main(["--seed", str(SEED), "--trace"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "!! S1: planted" in lines[-2]
    assert lines[-1].endswith("S1: planted")


def test_a_whole_system_tells_what_the_ledger_books(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--system", "--epochs", "2", "--seed", "2", "--trace"]) == 0
    printed = capsys.readouterr().out
    assert "epoch 1 begins" in printed
    assert " pre-prepares " in printed
    assert printed.endswith("nothing found\n")


def _find(*_arguments: object) -> None:
    from network.simulation.checkers import Finding

    raise Finding("S1: planted")
