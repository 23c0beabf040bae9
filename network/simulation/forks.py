"""Runs with more liars than PROTOCOL 6.2 bears: a fork may come, but then f + 1 of the guilty are shown."""

from typing import Final

from consensus.block import CertifiedBlock
from consensus.messages import ConsensusMessage
from consensus.signing import Verifier
from consensus.types import Digest, PublicKey
from network.simulation.accountability import Accountability
from network.simulation.checkers import demand
from network.simulation.scenario import SECOND_US
from network.simulation.surroundings import Holder

AFTERWARDS_US: Final = 120 * SECOND_US
"""How long honest nodes have, once links work, to notice that they do not agree."""


class ForkWatch:
    """What honest nodes of such a run decided and saw."""

    def __init__(self, chain_id: Digest, verifier: Verifier, honest: frozenset[PublicKey]) -> None:
        self._honest = honest
        self._decided: dict[int, dict[Digest, int]] = {}
        """Per height what was decided, and in which view."""
        self.accountability = Accountability(chain_id, verifier)

    def saw(self, message: ConsensusMessage) -> None:
        """A message reached an honest node."""
        self.accountability.add(message)

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A node decided a block."""
        if node.member.public_key in self._honest:
            certificate = certified.certificate
            self._decided.setdefault(certificate.height, {})[certificate.digest] = certificate.view
            self.accountability.add_certificate(certificate)

    @property
    def height(self) -> int:
        """Of the longest chain."""
        return max(self._decided, default=0)

    def forks(self) -> tuple[int, ...]:
        """Heights at which honest nodes decided different blocks."""
        return tuple(height for height, digests in self._decided.items() if len(digests) > 1)

    def judge(self, faults: int, *, noticed: bool) -> None:
        """At the end of the run; raises `Finding`. ``noticed``: an honest node stopped or reported somebody."""
        culprits = self.accountability.culprits()
        wrong = [key for key in culprits if key in self._honest]
        demand(not wrong, f"S13: {len(wrong)} honest keys are proven guilty in a run with too many liars")
        forks = self.forks()
        if not forks:
            return
        demand(noticed, f"S1: the fork at height {min(forks)} was noticed by no node")
        views = self._decided[min(forks)].values()
        suspects = dict.fromkeys(culprits)
        if len(frozenset(views)) == len(views):
            suspects |= dict.fromkeys(self.accountability.hiders(min(forks)))
        demand(
            len(suspects) > faults,
            f"S13: a fork at height {min(forks)}, and only {len(suspects)} are shown to be guilty of it",
        )
