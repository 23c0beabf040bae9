"""All twelve checks over one run."""

from collections.abc import Callable
from typing import Final

from scripts.history.case import Case
from scripts.history.chain import Chain
from scripts.history.checks import (
    credit,
    elections,
    exactly_once,
    hygiene,
    liveness,
    outcomes,
    reads,
    real_time,
    signatures,
    streams,
    structure,
    trades,
)
from scripts.history.history import History, without_collector
from scripts.history.verdict import Outcome, Report, Verdict

CHECKS: Final[tuple[Callable[[Case], Report], ...]] = (
    structure.check,
    exactly_once.check,
    outcomes.check,
    real_time.check,
    reads.check,
    streams.check,
    trades.check,
    elections.check,
    credit.check,
    signatures.check,
    liveness.check,
    hygiene.check,
)


def judge(history: History, chain: Chain) -> Verdict:
    """Invalid with any anomaly; else unknown if anything needed is missing; else valid."""
    with without_collector():
        case = Case(history, chain)
        reports = tuple([check(case) for check in CHECKS])
    outcome = Outcome.VALID
    if any(report.missing for report in reports):
        outcome = Outcome.UNKNOWN
    if any(report.witnesses for report in reports):
        outcome = Outcome.INVALID
    setup = history.setup
    seed, command = (0, "") if setup is None else (setup.seed, setup.command)
    return Verdict(outcome, reports, len(history.operations), chain.height, seed, command)
