"""`scripts/simulate`: run many seeds, say what was found and how to see it again."""

import argparse
import sys
import time
from collections import Counter

from network.simulation.cluster import Outcome
from network.simulation.runner import LOG_LINES, run_seeds

MICROSECONDS_PER_HOUR = 3_600_000_000


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither A nor A..B") from error
    if not seeds or seeds.start < 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed")
    return seeds


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Runs networks of replicas in one thread, in virtual time, with links that fail, nodes that crash "
        "and members that lie, and checks what PROTOCOL 12 demands. One seed is one run.",
    )
    parser.add_argument("--seeds", type=_seeds, default=range(1, 101), metavar="A..B", help="default 1..100")
    parser.add_argument(
        "--seats", type=int, metavar="N", help="delegates per height instead of what the seed draws"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (default 1)")
    parser.add_argument(
        "--twice", action="store_true", help="run each seed twice and compare the trace hashes"
    )
    parser.add_argument(
        "--log", action="store_true", help=f"show the last {LOG_LINES} events of each finding"
    )
    parser.add_argument("--reached", action="store_true", help="show how often each event and fault occurred")
    return parser.parse_args(arguments)


def _tell(outcome: Outcome, seats: int | None, show_log: bool) -> None:
    scenario = outcome.scenario
    liars = "; ".join(" and ".join(names) for names in scenario.liars) or "nobody"
    repeat = f"scripts/simulate --seeds {scenario.seed}" + (f" --seats {seats}" if seats else "") + " --log"
    if show_log:
        sys.stdout.writelines(outcome.log)
    sys.stdout.write(
        f"seed {scenario.seed} ({scenario.seats} seats, lying: {liars}), height {outcome.height}, "
        f"{outcome.virtual_us / 1e6:.3f} s: {outcome.finding}\n  repeat: {repeat}\n"
    )
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if nothing was found, else 1."""
    options = _arguments(arguments)
    begun, found, blocks, virtual_us = time.monotonic(), 0, 0, 0
    reached: Counter[str] = Counter()
    outcomes = run_seeds(
        options.seeds, seats=options.seats, twice=options.twice, keep_log=options.log, jobs=options.jobs
    )
    for number, outcome in enumerate(outcomes, 1):
        blocks += outcome.height
        virtual_us += outcome.virtual_us
        reached.update(outcome.reached)
        if outcome.finding is not None:
            found += 1
            _tell(outcome, options.seats, options.log)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {len(options.seeds)} seeds, {found} with findings ")
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    if options.reached:
        sys.stdout.writelines(f"{count:10} {event}\n" for event, count in sorted(reached.items()))
    seconds = time.monotonic() - begun
    faults = sum(count for event, count in reached.items() if event.startswith("fault "))
    sys.stdout.write(
        f"{len(options.seeds)} seeds, {found} with findings: {blocks} blocks, {faults} faults, "
        f"{virtual_us / MICROSECONDS_PER_HOUR:.2f} h simulated in {seconds:.0f} s\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
