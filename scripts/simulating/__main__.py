"""`scripts/simulate`: see `--help`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from scripts.simulating.campaign import Settings, run_all, run_seed
from scripts.simulating.results import CampaignError, ResultsFile, RunResult, Totals, read_hashes
from scripts.simulating.suites import SUITES, SuiteOptions, SuiteResult, check_models
from scripts.simulating.telling import Teller, expected_events

ORDINARY: Final = range(1, 1_001)
NAMED: Final = ("doors", "types", "mutants")
"""What --only chooses among."""
INTERRUPTED: Final = 130
"""Exit code of a command ended by Ctrl-C."""

DESCRIPTION: Final = """\
Runs networks of the shipped replicas in one thread and virtual time, with links that fail, nodes that crash, disks
that lie and members with real keys that do; checks what PROTOCOL 12 demands at every step. One seed is one run.
docs/simulation/README.md says more. Ends with 0 if nothing was found, 1 if something was, 2 if asked wrongly."""

EPILOG: Final = """\
examples:
  scripts/simulate                              the ordinary campaign: seeds 1..1000 on all cores
  scripts/simulate --seeds 1..100000 --jobs 2 --out runs.jsonl    and, when it was stopped, the same with --resume
  scripts/simulate --seed 17 --trace            what happened in seed 17, readable
  scripts/simulate --seed 17 --minimize         the least that still breaks the same property
  scripts/simulate --system --epochs 100 --seeds 1..100           elections, trades, members that come and go
  scripts/simulate --stories --write            regenerate the stories of tests/simulation/stories
"""


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither A nor A..B") from error
    if not seeds or seeds.start < 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed")
    return seeds


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _time_of_day(text: str) -> float:
    """Seconds from now to the next HH:MM of this machine's clock."""
    try:
        wanted = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - the clock on the wall is meant
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HH:MM") from error
    now = datetime.now().astimezone()
    until = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    if until <= now:
        until += timedelta(days=1)
    return (until - now).total_seconds()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", "--seed", type=_seeds, metavar="A..B", help="default 1..1000")
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--seats", type=_positive, metavar="N", help="delegates instead of what a seed draws")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no seed after so long")
    parser.add_argument("--until", type=_time_of_day, metavar="HH:MM", help="begin no seed after this time")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append a line of JSON for each seed")
    parser.add_argument("--resume", action="store_true", help="leave out what FILE has of this commit")
    parser.add_argument("--twice", action="store_true", help="run each seed twice; both must be the same")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="traces must be those of this results file"
    )
    parser.add_argument("--reached", action="store_true", help="show how often each event and fault occurred")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument(
        "--system", action="store_true", help="whole systems: contract engine, elections, trades"
    )
    parser.add_argument(
        "--epochs", type=_positive, metavar="N", help="with --system: lean runs of so many epochs"
    )
    parser.add_argument(
        "--views", type=_positive, metavar="N", help="with --twins: views with splits (default 4)"
    )
    parser.add_argument(
        "--cases", type=_positive, metavar="N", help="for suites: cases, runs, flips or inputs"
    )
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="for suites: what has WORD in its name"
    )
    _add_modes(parser)
    return parser


def _add_modes(parser: argparse.ArgumentParser) -> None:
    modes = parser.add_argument_group("instead of a campaign of seeds").add_mutually_exclusive_group()
    modes.add_argument("--trace", action="store_true", help="tell what happened in the runs of the seeds")
    modes.add_argument("--minimize", action="store_true", help="make a failing run as small as it gets")
    modes.add_argument("--stories", action="store_true", help="compare the stories with what happens")
    for name, suite in SUITES.items():
        text = (suite.__doc__ or "").partition("\n")[0]
        modes.add_argument(f"--{name}", dest="suite", action="store_const", const=name, help=text)
    extra = parser.add_argument_group("details")
    extra.add_argument("--write", action="store_true", help="with --stories: write what happens into them")
    extra.add_argument("--letters", action="store_true", help="with --trace: every letter, too")
    extra.add_argument(
        "--scenario", type=Path, metavar="FILE", help="with --trace: a scenario that was minimized"
    )
    bounds = extra.add_mutually_exclusive_group()
    bounds.add_argument("--bounded", action="store_true", help="with --model: small bounds, half a minute")
    bounds.add_argument("--large", action="store_true", help="with --model: large bounds, an hour or more")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.epochs and not options.system:
        parser.error("--epochs is for --system")
    if options.resume and options.out is None:
        parser.error("--resume needs --out FILE")
    try:
        return _run(options)
    except CampaignError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; what else would be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.trace:
        from scripts.simulating.trace import show_traces

        return show_traces(options)
    if options.minimize:
        from scripts.simulating.minimize import show_minimized

        return show_minimized(options)
    if options.stories:
        from scripts.simulating.stories import show_stories

        return show_stories(write=options.write)
    if options.suite:
        return _run_suite(options)
    return _run_campaign(options)


def _print_json(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")


# ---------------------------------------------------------------------- suites


def _run_suite(options: argparse.Namespace) -> int:
    result = _suite_result(options)
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    sys.stdout.writelines(f"{line}\n" for line in result.lines)
    sys.stdout.writelines(f"finding: {finding}\n" for finding in result.findings)
    _print_json(options, {"suite": options.suite, "findings": len(result.findings), **result.figures})
    return 1 if result.findings else 0


def _suite_result(options: argparse.Namespace) -> SuiteResult:
    if options.suite == "model" and (options.bounded or options.large):
        from scripts.simulating import model

        return check_models(model.bounded() if options.bounded else model.large())
    asked = SuiteOptions(
        options.seeds or range(1, 2),
        options.jobs,
        options.views,
        options.seats or 4,
        options.cases,
        tuple(options.only or ()),
        options.out,
    )
    result = SUITES[options.suite](asked)
    if options.only and not any(result.figures.get(things) for things in NAMED):
        raise CampaignError(f"nothing in --{options.suite} has {' or '.join(options.only)} in its name")
    return result


# ---------------------------------------------------------------------- campaigns of seeds


def _run_campaign(options: argparse.Namespace) -> int:
    settings = Settings(options.seats, options.twice, options.system, options.epochs)
    seeds = options.seeds or ORDINARY
    expected_hashes = read_hashes(options.compare) if options.compare else {}
    results = ResultsFile(options.out, kind=settings.kind, resume=options.resume) if options.out else None
    done = results.done if results else {}
    teller = Teller(settings, len(seeds), results.totals if results else Totals())
    left = [seed for seed in seeds if seed not in done]
    interrupted = False
    outcomes = run_all(partial(run_seed, settings), left, jobs=options.jobs, deadline=_deadline(options))
    try:
        with closing(outcomes):
            for result in _compared(outcomes, expected_hashes):
                teller.add(result)
                if results:
                    results.add(result)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if results:
            results.close()
    expected, must = expected_events(settings)
    passed = teller.finish(expected, must=must, show_reached=options.reached)
    _print_json(options, teller.figures(expected))
    if not passed:
        return 1
    return INTERRUPTED if interrupted else 0


def _deadline(options: argparse.Namespace) -> float | None:
    lasting = [options.minutes * 60] if options.minutes is not None else []
    lasting += [options.until] if options.until is not None else []
    return time.monotonic() + min(lasting) if lasting else None


def _compared(results: Iterator[RunResult], hashes: dict[int, str]) -> Iterator[RunResult]:
    """With a finding where another campaign's trace of the same seed was another."""
    for result in results:
        known = hashes.get(result.seed, result.trace_hash)
        if known != result.trace_hash and result.finding is None:
            finding = f"G18: the trace hash is {result.trace_hash}, in the file it is {known}"
            yield RunResult(**{**vars(result), "finding": finding})
        else:
            yield result


if __name__ == "__main__":
    sys.exit(main())
