"""A pytest plugin: the auditor follows every block that a test's engine executes, and both must agree.

    python -m pytest -p tests.unit.auditor.shadow -n0 tests/protocol tests/unit/contracts

Chains whose state a test changes by hand are followed up to there.
"""

from collections.abc import Callable
from typing import Any

import pytest

import contracts.deadlines
import node.auditor.metering
from consensus.block import CertifiedBlock
from consensus.encoding import encode
from contracts.engine import BlockOutcome
from node.auditor.replay import Audit, Prepared
from tests.support.chain import Chain

_followed = 0


def _follow(engine_block: Callable[..., BlockOutcome]) -> Callable[..., BlockOutcome]:
    def block(self: Chain, *transactions: Any, **options: Any) -> BlockOutcome:
        global _followed  # noqa: PLW0603 - told at the end of the run
        if "shadow" not in self.__dict__:
            self.__dict__["shadow"] = Audit(encode(self.genesis))
        outcome = engine_block(self, *transactions, **options)
        audit: Audit = self.__dict__["shadow"]
        if audit.is_stopped() or self.certificate is None:
            return outcome
        block = self.blocks[-1]
        if block.header.state_root != audit.root:
            audit.note("a test changed the state", audit.root, block.header.state_root, stop=True)
            return outcome
        data = encode(CertifiedBlock(block, self.certificate))
        prepared = Prepared(block.header.height, data, audit.chain_id, None)
        # A test may lower the limit of the engine.
        node.auditor.metering.MAX_DEADLINES = contracts.deadlines.MAX_DEADLINES
        receipts = audit.execution.apply(prepared.block, prepared.digest, prepared.included, prepared.removed)
        audit.root = audit.ledger.state.tree.root
        assert receipts == [encode(receipt) for receipt in outcome.receipts], "the auditor's receipts differ"
        assert audit.root == outcome.state_root, "the auditor's state root differs"
        audit.check_sums()
        assert audit.findings == []
        _followed += 1
        return outcome

    return block


def pytest_configure(config: pytest.Config) -> None:
    """Put the auditor beside the engine."""
    del config
    Chain.block = _follow(Chain.block)  # type: ignore[method-assign]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was compared."""
    terminalreporter.write_line(f"the auditor followed {_followed} blocks and agreed")
