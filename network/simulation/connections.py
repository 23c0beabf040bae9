"""Which connections live: a node's synchronizer is told when one comes up or breaks, as the transport would tell it."""

import random
from collections.abc import Sequence
from typing import Final

from network.simulation.agenda import Agenda
from network.simulation.network import Network
from network.simulation.node import SimulatedNode

REDIAL_US: Final = (50_000, 1_500_000)
"""Shortest and longest time until two nodes that can reach each other are connected."""
NOTICE_US: Final = (2_000_000, 12_000_000)
"""Until a connection over a dead link is given up; a crashed peer's machine says so at once."""


class Connections:
    """Between every two nodes at most one; looked at again whenever a process or a link changes."""

    def __init__(
        self, agenda: Agenda, rng: random.Random, network: Network, nodes: Sequence[SimulatedNode]
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._network = network
        self._nodes = nodes
        self._live: dict[tuple[int, int], None] = {}

    def process_ended(self, index: int) -> None:
        """Its connections break at once."""
        for pair in [pair for pair in self._live if index in pair]:
            del self._live[pair]
            other = pair[0] if pair[1] == index else pair[1]
            self._agenda.call(1_000, self._tell, other, index, False)

    def look(self) -> None:
        """After a process began or a link changed: connections come up and break in their time."""
        count = len(self._nodes)
        for one in range(count):
            for other in range(one + 1, count):
                able = self._able(one, other)
                if able != ((one, other) in self._live):
                    least, longest = REDIAL_US if able else NOTICE_US
                    self._agenda.call(self._rng.randint(least, longest), self._change, one, other)

    def _able(self, one: int, other: int) -> bool:
        both = self._nodes[one].up and self._nodes[other].up
        return both and self._network.connected(one, other)

    def _change(self, one: int, other: int) -> None:
        able, pair = self._able(one, other), (one, other)
        if able and pair not in self._live:
            self._live[pair] = None
        elif not able and pair in self._live:
            del self._live[pair]
        else:
            return
        self._tell(one, other, able)
        self._tell(other, one, able)

    def _tell(self, listener: int, peer: int, connected: bool) -> None:
        self._nodes[listener].connect(self._nodes[peer].member.public_key, connected)
