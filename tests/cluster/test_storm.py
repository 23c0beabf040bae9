"""A short storm on real processes ends with a verdict on the whole of what clients saw (issue 4)."""

import json
from pathlib import Path

import pytest

from scripts.faulting.storm import main
from scripts.history.__main__ import main as history

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

RULES = ("run_ms=15000", "planning_ms=3000", "voting_ms=5000")


def test_a_short_storm_is_valid_and_can_be_judged_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What breaks here breaks a promise of PROTOCOL 12: the verdict names two operations and blocks at most."""
    rules = [part for rule in RULES for part in ("--set", rule)]
    line = [
        "--minutes",
        "0.3",
        "--seed",
        "4",
        "--members",
        "5",
        "--base-port",
        "28400",
        "--out",
        str(tmp_path),
    ]
    line += ["--gap-limit-ms", "30000"]  # how fast commits come is for a machine that does nothing else
    code = main([*line, *rules])
    printed = capsys.readouterr().out
    assert code == 0, printed
    verdict = json.loads((tmp_path / "verdict.json").read_bytes())
    assert verdict["operations"] > 20
    assert verdict["blocks"] > 10
    assert " faults of " in printed
    files = [str(tmp_path / "history.jsonl"), str(tmp_path / "ledger.export")]
    assert history(["check", *files]) == 0
