"""Many seeds in several processes: fed as they get free, ended by a time or Ctrl-C, told as they come."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from network.simulation.cluster import Outcome, draw, simulate
from scripts.simulating.results import RunResult

SEEDS_PER_TASK: Final = 2
TASKS_AHEAD: Final = 2
"""Tasks that wait for each process, so that none is idle and Ctrl-C has little to wait for."""
NOT_DETERMINISTIC: Final = "G18: the same seed gave another trace: something is not deterministic"

RunSeed = Callable[[int], RunResult]
"""Runs one seed; picklable."""


@dataclass(frozen=True)
class Settings:
    """What kind of runs a campaign is made of."""

    seats: int | None = None
    twice: bool = False
    system: bool = False
    epochs: int | None = None
    """Length of a lean whole-system run."""

    @property
    def kind(self) -> str:
        """A name that tells results of different campaigns apart."""
        words = ["system" if self.system else "runs"]
        words += [f"seats={self.seats}"] if self.seats else []
        words += [f"epochs={self.epochs}"] if self.epochs else []
        return " ".join(words)

    @property
    def options(self) -> str:
        """The same as options of the command."""
        words = ["--system"] if self.system else []
        words += ["--seats", str(self.seats)] if self.seats else []
        words += ["--epochs", str(self.epochs)] if self.epochs else []
        return " ".join(words)

    def repeat(self, seed: int) -> str:
        """The command that shows a seed's run."""
        return " ".join(filter(None, ("scripts/simulate", self.options, f"--seed {seed}", "--trace")))


def run_seed(settings: Settings, seed: int) -> RunResult:
    """Run a seed, twice if asked for, and measure it."""
    begun = time.process_time()
    result = _once(settings, seed)
    seconds = time.process_time() - begun
    finding = result.finding
    if settings.twice and _once(settings, seed).trace_hash != result.trace_hash:
        finding = finding or NOT_DETERMINISTIC
    return RunResult(**{**vars(result), "finding": finding, "cpu_seconds": seconds})


def _once(settings: Settings, seed: int) -> RunResult:
    if settings.system:
        return _system_run(settings, seed)
    outcome = simulate(draw(seed, settings.seats))
    return _result(seed, outcome, about(outcome))


AUDITED_IN: Final = 10
"""One whole-system run in so many has real keys and is judged by the auditor too."""


def _system_run(settings: Settings, seed: int) -> RunResult:
    from network.simulation import system
    from scripts.simulating.audited import run_audited

    if seed % AUDITED_IN == 0:
        outcome = run_audited(system.draw(seed, settings.epochs))
    else:
        outcome = system.run_system(seed, epochs=settings.epochs)
    scenario = outcome.scenario
    told = f"{scenario.founders} founders in {scenario.groups} groups, {outcome.epochs} epochs"
    return _result(seed, outcome, told + _lying([scenario.liars] if scenario.liars else []))


def _result(seed: int, outcome: Any, told: str) -> RunResult:
    reached = dict(outcome.reached)
    faults = getattr(outcome, "faults", None)
    if faults is None:
        faults = sum(count for event, count in reached.items() if event.startswith("fault "))
    return RunResult(
        seed,
        outcome.finding,
        outcome.trace_hash,
        outcome.height,
        faults,
        outcome.events,
        outcome.virtual_us,
        outcome.recovered_us,
        0.0,
        reached,
        told,
    )


def about(outcome: Outcome) -> str:
    """A run's scenario in a few words."""
    return f"{outcome.scenario.seats} seats" + _lying(outcome.scenario.liars)


def _lying(liars: Iterable[tuple[str, ...]]) -> str:
    names = "; ".join(" and ".join(kinds) for kinds in liars)
    return f", lying: {names}" if names else ""


# ---------------------------------------------------------------------- processes


def _ignore_interrupts() -> None:
    """In a worker: Ctrl-C reaches the whole group, but only the parent decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_some(run: RunSeed, seeds: tuple[int, ...]) -> list[RunResult]:
    return [run(seed) for seed in seeds]


Item = TypeVar("Item")
Done = TypeVar("Done")


def in_processes(work: Callable[[Item], Done], items: Sequence[Item], jobs: int) -> Iterator[Done]:
    """``work`` of each item, in their order; both are picklable."""
    if jobs <= 1 or len(items) == 1:
        yield from map(work, items)
        return
    with _processes(min(jobs, len(items))) as executor:
        yield from executor.map(work, items)


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that end with the block, at once if it ends by an exception."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupts)
    try:
        yield executor
    except BaseException:
        # Whatever the workers are at, nobody waits for it any more.
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def run_all(
    run: RunSeed, seeds: Iterable[int], *, jobs: int, deadline: float | None
) -> Generator[RunResult, None, None]:
    """Results as they come; no seed is begun after ``deadline`` (of `time.monotonic`). Closing it ends the workers."""
    remaining = _until(seeds, deadline)
    if jobs <= 1:
        yield from map(run, remaining)
        return
    with _processes(jobs) as executor:
        yield from _feed(executor, partial(_run_some, run), remaining, jobs)


def _until(seeds: Iterable[int], deadline: float | None) -> Iterator[int]:
    for seed in seeds:
        if deadline is not None and time.monotonic() >= deadline:
            return
        yield seed


def _feed(
    executor: ProcessPoolExecutor,
    work: Callable[[tuple[int, ...]], list[RunResult]],
    seeds: Iterator[int],
    jobs: int,
) -> Iterator[RunResult]:
    pending: set[Future[list[RunResult]]] = set()
    more = True
    while more or pending:
        while more and len(pending) < jobs * TASKS_AHEAD:
            task = tuple(islice(seeds, SEEDS_PER_TASK))
            if not task:
                more = False
                break
            pending.add(executor.submit(work, task))
        if pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
