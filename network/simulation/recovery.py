"""After all faults healed: commits resume (L1), all catch up (L2), an honest client's transaction commits (L3)."""

from collections.abc import Sequence
from typing import Final

from consensus.parameters import Parameters
from network.simulation.agenda import Agenda
from network.simulation.checkers import Decisions, Finding
from network.simulation.node import SimulatedNode
from network.simulation.scenario import SECOND_US, Scenario
from network.simulation.workload import open_transaction

RECONNECT_US: Final = 2 * SECOND_US
"""Dialling, a tick of the synchronizer, and the messages themselves."""
LEAVE_OUT_US: Final = 480 * SECOND_US
"""A peer that was left out of catching up four times comes back after so long (`SyncLimits.bar_ms`, doubled)."""
BLOCKS_PER_LIAR: Final = 40
"""What a censoring primary may decide between taking over and its removal, at this load."""
BLOCKS_OF_THE_HONEST: Final = 12


class Recovery:
    """Measures one recovery, and the rest of the run."""

    def __init__(
        self,
        scenario: Scenario,
        parameters: Parameters,
        agenda: Agenda,
        decisions: Decisions,
        nodes: Sequence[SimulatedNode],
        probe: bytes,
    ) -> None:
        self._scenario = scenario
        self._parameters = parameters
        self._agenda = agenda
        self._decisions = decisions
        self._nodes = nodes
        self._begun_us = agenda.now_us
        self._height = len(decisions.chain)
        self._probe = open_transaction(probe).transaction_id
        self._commit_us: int | None = None
        self._probe_us: int | None = None
        self._probe_height = 0
        self.level_us = 0
        """From healing until all of the nodes were level and the transaction committed."""
        nodes[scenario.seed % len(nodes)].submit(probe)

    def applied(self, height: int) -> None:
        """A node applied a block."""
        since_us = self._agenda.now_us - self._begun_us
        if self._commit_us is None and height > self._height:
            self._commit_us = since_us
        if self._probe_us is None and self._decisions.finished(self._probe):
            self._probe_us = since_us
            self._probe_height = height
        if not self.level_us or len(self._decisions.chain) >= self._scenario.blocks:
            self._agenda.halt()

    def run(self) -> None:
        """Until all have recovered and the chain is as long as the scenario wants; raises `Finding`."""
        bound_us = self._bound_us()
        deadline_us = self._begun_us + bound_us + LEAVE_OUT_US
        while not self._is_level() and self._agenda.now_us < deadline_us:
            self._agenda.run(deadline_us)
        self.level_us = self._agenda.now_us - self._begun_us
        self._judge(bound_us)
        while len(self._decisions.chain) < self._scenario.blocks:
            before = len(self._decisions.chain)
            bound_us = self._bound_us()
            self._agenda.run(self._agenda.now_us + bound_us)
            if len(self._decisions.chain) == before:
                raise Finding(
                    f"L1: no block for {bound_us // SECOND_US} s at height {before}, without any fault"
                )

    def _is_level(self) -> bool:
        return self._probe_us is not None and all(
            node.ledger.height > self._height for node in self._nodes if node.up
        )

    def _judge(self, bound_us: int) -> None:
        heights = [node.ledger.height for node in self._nodes]
        at = f"; healed at height {self._height}, the nodes are at {heights}"
        if self._commit_us is None or self._commit_us > bound_us:
            raise Finding(f"L1: no block within {bound_us // SECOND_US} s{at}")
        if self._probe_us is None:
            raise Finding(f"L3: a transaction of an honest client did not commit{at}")
        most = BLOCKS_OF_THE_HONEST + BLOCKS_PER_LIAR * len(self._scenario.liars)
        if self._probe_height - self._height > most:
            raise Finding(f"L3: a transaction waited for {self._probe_height - self._height} blocks{at}")
        if not self._is_level():
            raise Finding(f"L2: not all have caught up{at}")

    def _bound_us(self) -> int:
        """L1: the view under way runs out, and each liar may spoil one at two heights, with timeouts that grow."""
        timeout_ms = max(
            (node.replica.view_timeout_ms for node in self._nodes if node.replica is not None), default=0
        )
        total_ms = 0
        for _ in range(2 + 2 * len(self._scenario.liars)):
            total_ms += timeout_ms
            timeout_ms = min(timeout_ms * 3 // 2, self._parameters.view_timeout_max_ms)
        total_ms += self._parameters.empty_block_interval_ms + self._parameters.request_timeout_ms
        return total_ms * 1_000 + RECONNECT_US
