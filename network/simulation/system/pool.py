# mypy: disable-error-code="explicit-override"
"""The pool of real transactions: ballots, heartbeats and evidence first; where there is state its rules judge too."""

from collections.abc import Iterable

from consensus.block import Block
from consensus.errors import MalformedInput
from consensus.inputs import Instant
from consensus.parameters import Parameters
from consensus.types import Digest
from contracts.validation import InvalidTransaction, check_block_transactions
from network.simulation.checkers import demand
from network.simulation.doors import Verdict, Waiting
from network.simulation.pool import Pool
from network.simulation.system.execution import OwnLedger, SharedLedger
from network.simulation.system.opening import Opening


class SystemPool(Pool):
    """Volatile: a crash empties it."""

    def __init__(self, ledger: SharedLedger | OwnLedger, parameters: Parameters, opening: Opening) -> None:
        super().__init__(ledger, parameters, opening)
        self._opening = opening
        self._own_ledger = ledger
        self._rules = parameters

    def holds(self, transaction: Digest) -> bool:
        """Whether an id waits here."""
        return transaction in self._waiting

    def batch(self, time_ms: int, max_bytes: int, excluded: Iterable[Digest]) -> list[Waiting]:
        """Roomy kinds first, at most half of the block; then the others as they came."""
        left_out = frozenset(excluded)
        waiting = [item for item in self.includable(time_ms) if item.opened.transaction_id not in left_out]
        most = self._rules.max_block_transactions
        first = [item for item in waiting if item.opened.always_room][: (most + 1) // 2]
        chosen: list[Waiting] = []
        for item in (*first, *(item for item in waiting if not item.opened.always_room)):
            max_bytes -= len(item.data)
            if max_bytes < 0 or len(chosen) == most:
                break
            chosen.append(item)
        return chosen

    def judge(self, block: Block, entered_ms: int, at: Instant) -> Verdict:
        """As every pool; a node with a state asks the shipped rules too, and both must agree."""
        verdict = super().judge(block, entered_ms, at)
        state = self._own_ledger.state
        if state is not None and block.header.height == self._own_ledger.height + 1:
            refused = self._shipped_refusal(block)
            demand(
                (refused is None) is (verdict.reason is None),
                f"6.8: the shipped rules say {refused}, the pool says {verdict.reason}",
            )
        return verdict

    def _shipped_refusal(self, block: Block) -> str | None:
        state = self._own_ledger.state
        if state is None:
            return None
        try:
            opened = [self._opening.transaction(data) for data in block.transactions]
            if not all(self._opening(data).sound for data in block.transactions):
                return "unsound"
            check_block_transactions(
                state, opened, block.discarded, time_ms=block.header.time_ms, parameters=self._rules
            )
        except (InvalidTransaction, MalformedInput) as error:
            return str(error)
        return None
