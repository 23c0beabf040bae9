"""The world of stand-ins: hash chains for state, sets from the timetable, bodies that only say if they are sound."""

from consensus.parameters import Parameters
from consensus.types import Digest
from network.simulation.disk import Disk
from network.simulation.doors import LedgerDoor, PoolDoor, Terms
from network.simulation.ledger import Ledger
from network.simulation.pool import Pool
from network.simulation.workload import open_transaction


class StandIns:
    """`Doors` without contracts."""

    def __init__(self, chain_id: Digest, terms: Terms, parameters: Parameters) -> None:
        self._chain_id = chain_id
        self._terms = terms
        self._parameters = parameters

    def ledger(self, disk: Disk) -> LedgerDoor:
        """Roots are hash chains over the blocks."""
        return Ledger(self._chain_id, self._terms, disk)

    def pool(self, ledger: LedgerDoor) -> PoolDoor:
        """Of simulated transactions."""
        return Pool(ledger, self._parameters, open_transaction)
