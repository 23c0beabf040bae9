"""What runs came to: one result a seed, their totals, and the file that a long campaign appends to."""

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

ROOT: Final = Path(__file__).resolve().parents[2]
MICROSECONDS: Final = 1_000_000
SEEDS_PER_COUNT: Final = 200
"""After so many seeds the file gets a line with what they reached: lines of single seeds stay short."""


class CampaignError(Exception):
    """A campaign cannot be run as asked; the text says why and what to do."""


@dataclass(frozen=True)
class RunResult:
    """One seed's run, small enough to travel between processes."""

    seed: int
    finding: str | None
    trace_hash: str
    height: int
    faults: int
    events: int
    virtual_us: int
    recovered_us: int
    cpu_seconds: float
    reached: Mapping[str, int]
    about: str
    """The scenario in a few words."""

    def row(self) -> dict[str, Any]:
        """A line of the results file."""
        row: dict[str, Any] = {
            "seed": self.seed,
            "hash": self.trace_hash,
            "height": self.height,
            "faults": self.faults,
            "events": self.events,
            "virtual_us": self.virtual_us,
            "cpu_s": round(self.cpu_seconds, 4),
        }
        return row if self.finding is None else {**row, "finding": self.finding}


@dataclass
class Totals:
    """The sum over the seeds of a campaign."""

    seeds: int = 0
    findings: int = 0
    blocks: int = 0
    faults: int = 0
    events: int = 0
    virtual_us: int = 0
    cpu_seconds: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)

    def add(self, result: RunResult) -> None:
        """One more seed."""
        self.add_row(result.row())
        self.reached.update(result.reached)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """One more seed, as a results file has it."""
        self.seeds += 1
        self.findings += "finding" in row
        self.blocks += row["height"]
        self.faults += row["faults"]
        self.events += row["events"]
        self.virtual_us += row["virtual_us"]
        self.cpu_seconds += row["cpu_s"]

    @property
    def times_real(self) -> float:
        """Virtual time over the CPU time that it took: how much faster than a clock one core is."""
        return self.virtual_us / MICROSECONDS / self.cpu_seconds if self.cpu_seconds else 0.0


def commit_id() -> str:
    """The commit that runs, with ``-modified`` if tracked files differ from it; ``unknown`` outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", "consensus", "contracts", "network"
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("-modified" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class ResultsFile:
    """Lines of JSON, appended: a campaign says what it is, each seed adds a line, counts come now and then."""

    def __init__(self, path: Path, *, kind: str, resume: bool) -> None:
        """Open for appending; ``resume`` reads what the same commit and kind of campaign did before."""
        self.commit = commit_id()
        self.done: dict[int, str] = {}
        """Trace hash by seed, of this commit."""
        self.totals = Totals()
        if path.exists() and path.stat().st_size and not resume:
            raise CampaignError(
                f"{path} has results already: continue them with --resume, or name another file"
            )
        if resume and path.exists():
            self._read(path, kind)
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._counts: Counter[str] = Counter()
        self._uncounted = 0
        self._write({"campaign": kind, "commit": self.commit, "python": platform.python_version()})

    def _read(self, path: Path, kind: str) -> None:
        ours = False
        for line in path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a campaign that was killed
            if "campaign" in row:
                ours = row["campaign"] == kind and row["commit"] == self.commit
            elif ours and "reached" in row:
                self.totals.reached.update(row["reached"])
            elif ours and row["seed"] not in self.done:
                self.done[row["seed"]] = row["hash"]
                self.totals.add_row(row)

    def add(self, result: RunResult) -> None:
        """Append a seed's line."""
        self._write(result.row())
        self._counts.update(result.reached)
        self._uncounted += 1
        if self._uncounted >= SEEDS_PER_COUNT:
            self._write_counts()

    def _write_counts(self) -> None:
        if self._uncounted:
            self._write({"reached": dict(sorted(self._counts.items()))})
        self._counts.clear()
        self._uncounted = 0

    def close(self) -> None:
        """Write what is not counted yet."""
        self._write_counts()
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")
        self._file.flush()


def read_hashes(path: Path) -> dict[int, str]:
    """Trace hashes by seed of a results file, to compare runs of other Pythons or hash seeds with."""
    hashes: dict[int, str] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        if "seed" in row:
            hashes[row["seed"]] = row["hash"]
    if not hashes:
        raise CampaignError(f"{path} holds no results to compare with")
    return hashes
