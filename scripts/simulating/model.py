"""`scripts/model`: checks the Promela models of model/ with spin, and that each can fail (docs/simulation/model.md)."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODELS: Final = Path(__file__).resolve().parents[2] / "model"
DEEPEST_STEP: Final = 100_000
"""Steps of one run of a model; none has more than a hundred."""
MOST_MEMORY_MB: Final = 6_000
_STATES: Final = re.compile(r"^\s*(\S+) states, stored", re.MULTILINE)
_ERRORS: Final = re.compile(r"errors: (\d+)")
_VIOLATED: Final = re.compile(r"assertion violated (.*)")


@dataclass(frozen=True)
class Check:
    """One run of the model checker."""

    model: str
    defines: tuple[str, ...]
    holds: bool
    """What must come out: every assertion holds in every state, or (planted bug, claim of emptiness) one breaks."""
    compiled_with: tuple[str, ...] = ()
    """Options for the C compiler that builds the checker, beside the usual ones."""

    @property
    def name(self) -> str:
        """As printed."""
        return " ".join((self.model, *self.defines, *self.compiled_with))


@dataclass(frozen=True)
class Result:
    """What came out of a check."""

    check: Check
    states: int
    violated: str | None
    """The first assertion that broke."""
    seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether it held or failed as it must."""
        return (self.violated is None) == self.check.holds

    def line(self) -> str:
        """One line of a report."""
        outcome = "holds in every state" if self.violated is None else "is broken"
        return (
            f"{'ok ' if self.as_expected else 'NOT EXPECTED'} {self.check.name}: {outcome}, "
            f"{self.states} states, {self.seconds:.1f} s"
        )


class ModelError(Exception):
    """The checker could not be built or did not end as it should."""


def missing_tools() -> tuple[str, ...]:
    """What is not installed of what a check needs (Debian: `apt-get install spin gcc libc6-dev`)."""
    return tuple(tool for tool in ("spin", "gcc") if shutil.which(tool) is None)


BUGS: Final = (
    ("height.pml", "BUG_QUORUM"),
    ("height.pml", "BUG_NEW_VIEW_QUORUM"),
    ("height.pml", "BUG_LOWEST"),
    ("height.pml", "BUG_UNCHECKED_NEW_VIEW"),
    ("height.pml", "BUG_FLOOR"),
    ("height.pml", "BUG_LOST_CERTIFICATE"),
    ("epoch.pml", "BUG_EARLY"),
    ("epoch.pml", "BUG_UNDECIDED"),
    ("epoch.pml", "BUG_OLD_SET"),
    ("epoch.pml", "BUG_LAST_COMMIT"),
    ("epoch.pml", "BUG_QUORUM"),
)
"""Each must be found."""
REACHED: Final = (
    ("height.pml", "REACH_DECIDED"),
    ("height.pml", "REACH_CARRIED"),
    ("height.pml", "REACH_LIAR"),
    ("epoch.pml", "REACH_END"),
    ("epoch.pml", "REACH_JOINER"),
    ("epoch.pml", "REACH_OUTVOTED"),
)
"""Claims that something never happens; a model in which one holds would prove nothing."""


OPTIMIZED: Final = ("-O2",)
"""Compiling so costs seconds; it pays for millions of states."""


def _height(views: int, liar: int, *compiled_with: str) -> Check:
    return Check("height.pml", (f"VIEWS={views}", f"LIAR={liar}"), True, compiled_with)


def _must_fail(model: str, define: str) -> Check:
    bounds = ("VIEWS=3", f"LIAR={0 if define == 'REACH_LIAR' else 1}") if model == "height.pml" else ()
    return Check(model, (*bounds, define), holds=False)


def bounded() -> list[Check]:
    """Half a minute: two views with every liar, three heights, all bugs."""
    whole = [_height(2, liar) for liar in range(3)]
    whole.append(Check("epoch.pml", ("HEIGHTS=3",), holds=True))
    return whole + [_must_fail(*item) for item in BUGS + REACHED]


def ordinary() -> list[Check]:
    """Some minutes: three views with every liar, four heights, all bugs."""
    whole = [_height(3, liar, *OPTIMIZED) for liar in range(4)]
    whole.append(Check("epoch.pml", ("HEIGHTS=4",), True, OPTIMIZED))
    return whole + [_must_fail(*item) for item in BUGS + REACHED]


def large() -> list[Check]:
    """An hour or more: five heights; four views by supertrace, which visits most states but may miss some."""
    return [
        Check("epoch.pml", ("HEIGHTS=5",), True, (*OPTIMIZED, "-DCOLLAPSE")),
        *(_height(4, liar, *OPTIMIZED, "-DBITSTATE") for liar in range(4)),
    ]


def run_check(check: Check) -> Result:
    """Build the checker of one model and run it; `ModelError` if that does not work."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cgpbft-model-") as folder:
        defines = [f"-D{define}" for define in check.defines]
        _run(["spin", "-a", *defines, str(MODELS / check.model)], folder)
        # NOREDUCE: every step touches what all share, so partial orders reduce nothing and only cost time.
        options = ["-w", "-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={MOST_MEMORY_MB}", *check.compiled_with]
        _run(["gcc", *options, "-o", "pan", "pan.c"], folder)
        search = ["-w32"] if "-DBITSTATE" in check.compiled_with else []
        printed = _run(["./pan", f"-m{DEEPEST_STEP}", *search], folder)
    return _read(check, printed, time.monotonic() - begun)


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ModelError(f"{command[0]} failed: {(done.stdout + done.stderr).strip()[-600:]}")
    return done.stdout


def _read(check: Check, printed: str, seconds: float) -> Result:
    errors, states = _ERRORS.search(printed), _STATES.search(printed)
    cut_short = "max search depth too small" in printed or "out of memory" in printed
    if errors is None or states is None or cut_short:
        raise ModelError(f"{check.name}: the search is not complete: {printed.strip()[-600:]}")
    violated = _VIOLATED.search(printed)
    if (violated is None) != (errors.group(1) == "0"):
        raise ModelError(f"{check.name}: an error that is no assertion: {printed.strip()[-600:]}")
    text = None if violated is None else violated.group(1)
    return Result(check, int(float(states.group(1))), text, seconds)


def run_checks(checks: Iterable[Check]) -> Iterator[Result]:
    """One result after the other."""
    yield from map(run_check, checks)
