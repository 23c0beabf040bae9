# mypy: disable-error-code="explicit-override"
"""One line of shipped source changed, in a process of its own, without touching the checkout (RELIABILITY G5).

A mutant is found by the simulator alone: a campaign of seeds runs on the mutated code, and the first seed with a
finding kills it. The same seed on the code as shipped must find nothing.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
MAX_SEED_SECONDS: Final = 60
"""CPU time of one seed, hundreds of times the usual; beyond it the mutated code does not come to an end."""


@dataclass(frozen=True)
class Mutant:
    """A changed line."""

    name: str
    file: str
    """Relative to the repository."""
    old: str
    """Occurs once in the file."""
    new: str
    why: str
    """What the line is for, so what goes wrong without it."""
    family: str = "drawn"
    """Of `mutant_families`: where the search begins."""
    bound: int = 300
    """Seeds within which it has to be found."""


class ShippedFinding(Exception):
    """The seed that killed a mutant finds something on the code as shipped too: that comes first."""


class StaleMutant(Exception):
    """The text that a mutant changes is not there exactly once: the mutant has to follow the code."""


@dataclass(frozen=True)
class Killed:
    """How one mutant fared; ``finding`` is None if it survived ``seeds`` seeds."""

    name: str
    family: str
    seeds: int
    """Run up to and including the one that found it."""
    seed: int | None
    finding: str | None
    seconds: float
    """CPU time."""


def mutated_source(mutant: Mutant, root: Path = REPOSITORY) -> str:
    """The whole file with the line changed; `StaleMutant` if it cannot be."""
    source = (root / mutant.file).read_text(encoding="utf-8")
    found = source.count(mutant.old)
    if found != 1:
        raise StaleMutant(f"{mutant.name}: {mutant.old!r} occurs {found} times in {mutant.file}, not once")
    if mutant.old == mutant.new:
        raise StaleMutant(f"{mutant.name} changes nothing")
    return source.replace(mutant.old, mutant.new)


class _Loader(importlib.abc.InspectLoader):
    def __init__(self, name: str, source: str, path: str) -> None:
        self._name, self._source, self._path = name, source, path

    def get_source(self, fullname: str) -> str:
        return self._source

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, source: str, path: str) -> None:
        self._name, self._source, self._path = name, source, path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(fullname, self._source, self._path))


def plant(file: str, source: str) -> None:
    """From now on importing the module of ``file`` runs ``source`` instead; it must not be imported yet."""
    name = file.removesuffix(".py").replace("/", ".")
    if name in sys.modules:
        raise StaleMutant(f"{name} is imported already: mutants need a fresh process")
    sys.meta_path.insert(0, _Finder(name, source, str(REPOSITORY / file)))


def run_child(
    mutant: Mutant | None,
    family: str,
    seeds: Iterable[int],
    *,
    source: tuple[str, str] | None = None,
    timeout_s: float | None = None,
    nice: int = 10,
) -> Killed:
    """Run ``seeds`` of ``family`` on the mutated code in a fresh process; on the code as shipped without a mutant.

    ``source`` (file, text) stands for a mutant that is no single line of the list.
    """
    file, text = source or ("", "")
    if mutant is not None:
        file, text = mutant.file, mutated_source(mutant)
    order = json.dumps({"file": file, "source": text, "family": family, "seeds": list(seeds)})
    command = ["nice", "-n", str(nice), sys.executable, "-m", "scripts.simulating.mutant_child"]
    begun = time.monotonic()
    name = mutant.name if mutant is not None else file or "as shipped"
    try:
        done = subprocess.run(
            command,
            input=order,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Killed(name, family, 0, None, None, time.monotonic() - begun)
    if done.returncode:
        # It cannot even be imported, or it took the interpreter along: no test of the simulator.
        raise StaleMutant(f"{name}: the process ended with {done.returncode}: {done.stderr[-2_000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Killed(name, family, told["seeds"], told["seed"], told["finding"], told["seconds"])


def hunt(mutant: Mutant, *, most_seeds: int | None = None, first_seed: int = 1) -> Killed:
    """Search for ``mutant`` until a seed finds it or its bound is reached; the seed is clean on the code as shipped."""
    limit = most_seeds or mutant.bound
    killed = run_child(mutant, mutant.family, range(first_seed, first_seed + limit))
    if killed.seed is not None:
        shipped = run_child(None, mutant.family, (killed.seed,))
        if shipped.finding is not None:
            raise ShippedFinding(
                f"seed {killed.seed} of {mutant.family} finds {shipped.finding!r} as shipped"
            )
    return killed


# ---------------------------------------------------------------------- all of them


Progress = Callable[[Killed], None]


def hunt_all(
    mutants: Sequence[Mutant],
    *,
    out: Path | None = None,
    most_seeds: int | None = None,
    progress: Progress = lambda _killed: None,
) -> list[Killed]:
    """Every mutant, one process at a time; results in ``out`` are not made again, except of those that survived."""
    known = load(out)
    results = []
    for mutant in mutants:
        mutated_source(mutant)
        killed = known.get(mutant.name)
        if killed is None or killed.finding is None or killed.family != mutant.family:
            killed = hunt(mutant, most_seeds=most_seeds)
            known[mutant.name] = killed
            if out is not None:
                out.write_text(json.dumps([asdict(item) for item in known.values()], indent=1) + "\n")
        results.append(killed)
        progress(killed)
    return results


def load(path: Path | None) -> dict[str, Killed]:
    """Results remembered in a file, by mutant."""
    if path is None or not path.exists():
        return {}
    return {item["name"]: Killed(**item) for item in json.loads(path.read_text())}


def table(mutants: Sequence[Mutant], results: Sequence[Killed]) -> str:
    """The results as docs/simulation/mutants.md shows them."""
    by_name = {killed.name: killed for killed in results}
    lines = ["| Mutant | File | Killed by | Family | Seeds |", "|---|---|---|---|---|"]
    for mutant in mutants:
        killed = by_name.get(mutant.name)
        if killed is None:
            continue
        finding = (killed.finding or "**survived**").replace("|", "\\|")
        short = finding if len(finding) <= 100 else finding[:97] + "..."
        lines.append(f"| {mutant.name} | {mutant.file} | {short} | {killed.family} | {killed.seeds} |")
    return "\n".join(lines) + "\n"
