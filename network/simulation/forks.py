"""Runs with more liars than PROTOCOL 6.2 bears: a fork may come, but then f + 1 of the guilty are proven."""

from typing import Final

from consensus.block import Certificate, CertifiedBlock
from consensus.inputs import HeightContext
from consensus.judge import Judge
from consensus.messages import ConsensusMessage
from consensus.next_height import place_of
from consensus.signing import Verifier
from consensus.types import Digest, PublicKey
from network.simulation.accountability import culprits
from network.simulation.checkers import demand
from network.simulation.scenario import SECOND_US
from network.simulation.surroundings import Holder

AFTERWARDS_US: Final = 120 * SECOND_US
"""How long honest nodes have, once links work, to notice that they do not agree."""


class ForkWatch:
    """What honest nodes of such a run decided, sent and saw."""

    def __init__(self, chain_id: Digest, verifier: Verifier, honest: frozenset[PublicKey]) -> None:
        self._chain_id = chain_id
        self._verifier = verifier
        self._honest = honest
        self._decided: dict[int, dict[Digest, Certificate]] = {}
        self._contexts: dict[int, HeightContext] = {}
        self._messages: dict[int, dict[int, ConsensusMessage]] = {}
        """Per height, by identity: one that reached many is kept once."""

    def saw(self, message: ConsensusMessage) -> None:
        """An honest node sent or received a message."""
        height, _view = place_of(message)
        self._messages.setdefault(height, {})[id(message)] = message

    def applied(self, node: Holder, certified: CertifiedBlock, context: HeightContext) -> None:
        """A node decided a block of the height that ``context`` describes."""
        if node.member.public_key in self._honest:
            certificate = certified.certificate
            self._decided.setdefault(certificate.height, {})[certificate.digest] = certificate
            self._contexts.setdefault(certificate.height, context)

    @property
    def height(self) -> int:
        """Of the longest chain."""
        return max(self._decided, default=0)

    def forks(self) -> tuple[int, ...]:
        """Heights at which honest nodes decided different blocks."""
        return tuple(height for height, digests in self._decided.items() if len(digests) > 1)

    def judge(self, *, noticed: bool) -> None:
        """At the end of the run; raises `Finding`. ``noticed``: an honest node stopped or reported somebody."""
        if not self.forks():
            return
        height = min(self.forks())
        demand(noticed, f"S1: the fork at height {height} was noticed by no node")
        judge = Judge(self._chain_id, self._contexts[height], self._verifier)
        verdict = culprits(judge, self._messages.get(height, {}).values(), self._decided[height].values())
        wrong = sum(key in self._honest for key in verdict.culprits)
        demand(not wrong, f"S13: {wrong} honest keys are proven guilty of the fork at height {height}")
        demand(
            verdict.at_least > judge.faults,
            f"S13: only {verdict.at_least} are proven guilty of the fork at height {height}",
        )
