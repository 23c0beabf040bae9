"""Whole-system runs judged afterwards by the auditor, which shares no code with what made the chain."""

from dataclasses import replace

from consensus.encoding import encode
from network.simulation.system import Outcome, Scenario
from network.simulation.system.world import SystemRun
from node.auditor.replay import Audit, Prepared


def run_audited(scenario: Scenario) -> Outcome:
    """A run with real keys, whose finding may also be the auditor's: of any height, rule by rule from genesis."""
    run = SystemRun(replace(scenario, real_keys=True))
    outcome = run.run()
    if outcome.finding is not None:
        return outcome
    audit, before = Audit(encode(run.cast.genesis)), None
    for height, certified in enumerate(run.checkers.decisions.chain, 1):
        if audit.is_stopped():
            break
        before = Prepared(height, encode(certified), audit.chain_id, before)
        # The checkers verified every signature when it was made.
        audit.add(before, [])
    if not audit.is_stopped():
        audit.check_sums()
    if audit.findings:
        first = audit.findings[0]
        outcome.finding = f"auditor: height {first.height}: {first.rule}: {first.found}, not {first.expected}"
    return outcome
