"""A short storm on real processes ends with a verdict on the whole of what clients saw (issue 4)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STORM: Final = (
    *("--minutes", "0.3", "--seed", "4", "--members", "5", "--base-port", "28400"),
    *("--gap-limit-ms", "30000"),  # how fast commits come is for a machine that does nothing else
    *(part for rule in ("run_ms=15000", "planning_ms=3000", "voting_ms=5000") for part in ("--set", rule)),
)


def run(module: str, *arguments: str) -> str:
    """What the program prints; it has to end with 0."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_short_storm_is_valid_and_can_be_judged_again(tmp_path: Path) -> None:
    """What breaks here breaks a promise of PROTOCOL 12: the verdict names two operations and blocks at most."""
    printed = run("scripts.faulting.storm", *STORM, "--out", str(tmp_path))
    verdict = json.loads((tmp_path / "verdict.json").read_bytes())
    assert verdict["operations"] > 20
    assert verdict["blocks"] > 10
    assert " faults of " in printed
    run("scripts.history", "check", str(tmp_path / "history.jsonl"), str(tmp_path / "ledger.export"))
