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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Self

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


class Ground:
    """Where mutants run: a process that forks for each, or a fresh one where that cannot be."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [*_CHILD, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        return self

    def __exit__(self, *_: object) -> None:
        server, self._server = self._server, None
        if server is not None and server.stdin is not None and server.stdout is not None:
            server.stdin.close()
            server.wait()
            server.stdout.close()

    def run(
        self,
        runs: Sequence[tuple[str, int]],
        *,
        mutant: Mutant | None = None,
        planted: tuple[str, str] = ("", ""),
        to_the_end: bool = False,
    ) -> tuple[list[str | None], float]:
        """Run (family, seed) pairs on mutated code up to the first finding, or all: findings, CPU seconds.

        Without a mutant ``planted`` is a file and the text to run in its place; empty for the code as shipped.
        """
        file, source = planted if mutant is None else (mutant.file, mutated_source(mutant))
        name = "the code as shipped" if not file else file if mutant is None else mutant.name
        order = {"file": file, "source": source, "runs": list(runs), "to_the_end": to_the_end}
        told = self._served(json.dumps(order))
        if told.get("import"):
            told = _fresh(json.dumps(order))
        if "error" in told:
            # It cannot even be imported: no test of the simulator.
            raise StaleMutant(f"{name}: {told['error']}")
        return told["findings"], told["seconds"]

    def _served(self, order: str) -> dict[str, Any]:
        server = self._server
        if server is None or server.stdin is None or server.stdout is None:
            return {"import": True}
        server.stdin.write(order + "\n")
        server.stdin.flush()
        line = server.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"error": "the serving process is gone"}
        return told


_CHILD: Final = (sys.executable, "-m", "scripts.simulating.mutant_child")


def _fresh(order: str) -> dict[str, Any]:
    done = subprocess.run(_CHILD, input=order, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if done.returncode:
        return {"error": f"the process ended with {done.returncode}: {done.stderr[-2_000:]}"}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def hunt(
    mutant: Mutant, ground: Ground | None = None, *, most_seeds: int | None = None, first_seed: int = 1
) -> Killed:
    """Search for ``mutant`` until a seed finds it or its bound is reached; `check_shipped` judges the seeds."""
    limit = most_seeds or mutant.bound
    runs = [(mutant.family, seed) for seed in range(first_seed, first_seed + limit)]
    findings, seconds = (ground or Ground()).run(runs, mutant=mutant)
    seed = None if findings[-1] is None else runs[len(findings) - 1][1]
    return Killed(mutant.name, mutant.family, len(findings), seed, findings[-1], round(seconds, 2))


def check_shipped(results: Sequence[Killed], ground: Ground | None = None) -> None:
    """The seeds that killed mutants find nothing on the code as shipped, else `ShippedFinding`."""
    runs = sorted({(killed.family, killed.seed) for killed in results if killed.seed is not None})
    if not runs:
        return
    findings, _ = (ground or Ground()).run(runs, to_the_end=True)
    wrong = [f"{family} {seed}: {text}" for (family, seed), text in zip(runs, findings, strict=True) if text]
    if wrong:
        raise ShippedFinding("seeds that find something on the code as shipped: " + "; ".join(wrong))


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
    with Ground() as ground:
        for mutant in mutants:
            mutated_source(mutant)
            killed = known.get(mutant.name)
            if killed is None or killed.finding is None or killed.family != mutant.family:
                killed = hunt(mutant, ground, most_seeds=most_seeds)
                known[mutant.name] = killed
                if out is not None:
                    out.write_text(json.dumps([asdict(item) for item in known.values()], indent=1) + "\n")
            results.append(killed)
            progress(killed)
        check_shipped(results, ground)
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
