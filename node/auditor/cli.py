"""The auditor's command line: ``verify DIR|URL`` (PROTOCOL 12, S6).

Exit codes: 0 the ledger holds, 1 there are findings, 2 wrong usage or a source that cannot be read.
"""

import argparse
import json
import sys
import time
from typing import Any, NamedTuple

from node.auditor.driver import audit_source
from node.auditor.replay import Audit
from node.auditor.source import Unreadable, open_source

EXIT_HOLDS, EXIT_FINDINGS, EXIT_USAGE = 0, 1, 2
PROGRESS_EVERY_S = 1.0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    try:
        source = open_source(options.source)
    except Unreadable as error:
        return _refuse(str(error))
    progress = _Progress(quiet=options.json or options.quiet)
    started = time.monotonic()
    try:
        audit = audit_source(source, options.genesis_hash, progress.show)
    except Unreadable as error:
        return _refuse(str(error))
    finally:
        source.close()
    progress.end()
    report = _report(source.name, audit, time.monotonic() - started)
    sys.stdout.write(json.dumps(report.plain(), indent=2) + "\n" if options.json else report.text())
    return EXIT_FINDINGS if audit.findings else EXIT_HOLDS


def _refuse(text: str) -> int:
    sys.stderr.write(f"cgpbft ledger verify: {text}\n")
    return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m node.auditor", description="Replay a ledger by a second implementation of its rules."
    )
    verify = parser.add_subparsers(dest="command", required=True).add_parser(
        "verify",
        help="check every block from genesis",
        description="Replays every block from genesis and checks certificates, rules, receipts and state.",
    )
    verify.add_argument(
        "source", metavar="DIR|URL", help="a node's home, an exported ledger, or a node's URL"
    )
    verify.add_argument(
        "--genesis-hash",
        type=_digest,
        metavar="HEX",
        help="the chain id that you expect; without it the source's own genesis is taken as given",
    )
    verify.add_argument(
        "--from-checkpoint",
        choices=["no"],
        default="no",
        help="an audit always begins at genesis: that is its point",
    )
    verify.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    verify.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser


def _digest(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not hexadecimal") from error
    if len(value) != 32:
        raise argparse.ArgumentTypeError(f"a genesis hash has 64 hexadecimal digits, not {len(text)}")
    return value


class _Progress:
    """A line on standard error, renewed once a second on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = False
        self._next_s = time.monotonic() + PROGRESS_EVERY_S
        self._quiet = quiet or not sys.stderr.isatty()

    def show(self, audit: Audit, last: int) -> None:
        """After each block."""
        now_s = time.monotonic()
        if self._quiet or now_s < self._next_s:
            return
        self._next_s, self._shown = now_s + PROGRESS_EVERY_S, True
        sys.stderr.write(f"\rblock {audit.height} of {last}, {len(audit.findings)} findings ")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            sys.stderr.write("\n")


class Report(NamedTuple):
    """What an audit found."""

    source: str
    chain_id: bytes
    holds: bool
    complete: bool
    """False if a finding kept the blocks after it from being judged."""
    blocks: int
    transactions: int
    kinds: dict[str, int]
    trades_settled: int
    elections: int
    state_root: bytes
    seconds: float
    findings: list[dict[str, Any]]

    @property
    def blocks_per_second(self) -> float:
        """Of the whole audit."""
        return self.blocks / self.seconds if self.seconds else 0.0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        plain = self._asdict() | {"blocks_per_second": round(self.blocks_per_second, 1)}
        plain |= {"chain_id": self.chain_id.hex(), "state_root": self.state_root.hex()}
        return plain | {"seconds": round(self.seconds, 3)}

    def text(self) -> str:
        """For people."""
        lines = [
            f"block {f['height']}: {f['rule']}: expected {f['expected']}, found {f['found']}"
            for f in self.findings
        ]
        verdict = "holds" if self.holds else f"DOES NOT HOLD: {len(self.findings)} findings"
        if not self.complete:
            verdict += f"; what follows block {self.blocks} could not be judged"
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kinds.items()))
        lines += [
            f"ledger          {self.source}",
            f"chain id        {self.chain_id.hex()}",
            f"blocks          {self.blocks}",
            f"transactions    {self.transactions}" + (f" ({kinds})" if kinds else ""),
            f"trades settled  {self.trades_settled}",
            f"elections       {self.elections}",
            f"state root      {self.state_root.hex()}",
            f"time            {self.seconds:.1f} s, {self.blocks_per_second:.0f} blocks/s",
            f"verdict         {verdict}",
        ]
        return "\n".join(lines) + "\n"


def _report(source: str, audit: Audit, seconds: float) -> Report:
    summary = audit.summary()
    return Report(
        source=source,
        chain_id=audit.chain_id,
        holds=not audit.findings,
        complete=not audit.is_stopped(),
        blocks=summary.blocks,
        transactions=summary.transactions,
        kinds=dict(audit.kinds),
        trades_settled=summary.trades_settled,
        elections=summary.elections,
        state_root=summary.state_root,
        seconds=seconds,
        findings=[finding._asdict() for finding in audit.findings],
    )
