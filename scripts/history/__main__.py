"""``scripts/faults/judge check|audit|generate|bench|selftest``: judge a recorded run, or the checker itself."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from node.auditor.source import Unreadable as NoLedger
from node.auditor.source import open_source
from scripts.history.bench import OPERATIONS, bench, self_test, write_lines
from scripts.history.generator import generate
from scripts.history.history import History, Unreadable, read_history
from scripts.history.judge import judge
from scripts.history.ledger import read_chain
from scripts.history.records import Setup
from scripts.history.verdict import Outcome, Verdict

EXIT = {Outcome.VALID: 0, Outcome.INVALID: 1, Outcome.UNKNOWN: 3}


def parser() -> argparse.ArgumentParser:
    """All commands."""
    whole = argparse.ArgumentParser(prog="scripts/faults/judge", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="judge a recorded history against its final ledger")
    check.add_argument("history", type=Path, help="JSON lines, as the recorder writes them")
    check.add_argument("ledger", help="an exported ledger, a node's home or URL")
    audit = commands.add_parser("audit", help="judge a ledger alone: no client was recorded")
    audit.add_argument("ledger", help="an exported ledger, a node's home or URL")
    for one in (check, audit):
        one.add_argument("--json", action="store_true", help="the verdict as JSON")
    make = commands.add_parser("generate", help="write a good history made from a seed")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--operations", type=int, default=300)
    make.add_argument("file", type=Path, nargs="?", default=Path("history.jsonl"))
    speed = commands.add_parser("bench", help="how fast a million operations are judged")
    speed.add_argument("--operations", type=int, default=OPERATIONS)
    test = commands.add_parser("selftest", help="plant anomalies, then look for false alarms")
    test.add_argument("--histories", type=int, default=1_000)
    test.add_argument("--seed", type=int, default=0)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 valid (or done), 1 invalid, 2 wrong usage or unreadable, 3 unknown."""
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "check":
                return _tell(_judge(read_history(options.history), options.ledger), options.json)
            case "audit":
                return _tell(_judge(History.of([Setup([])]), options.ledger), options.json)
            case "generate":
                write_lines(options.file, generate(options.seed, options.operations).lines)
                return 0
            case "bench":
                return 0 if bench(options.operations) else 1
            case _:
                return 0 if self_test(options.histories, options.seed) else 1
    except (Unreadable, NoLedger) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _judge(history: History, ledger: str) -> Verdict:
    source = open_source(ledger)
    try:
        return judge(history, read_chain(source))
    finally:
        source.close()


def _tell(verdict: Verdict, as_json: bool) -> int:
    if as_json:
        print(json.dumps(msgspec.to_builtins(verdict), indent=2))
    else:
        print(verdict.text())
    return EXIT[verdict.outcome]


if __name__ == "__main__":
    sys.exit(main())
