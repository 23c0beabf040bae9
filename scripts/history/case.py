"""What all checks look at: the history, the chain, and where each transaction is in it."""

from scripts.history.chain import Chain
from scripts.history.history import History, Operation
from scripts.history.timeline import Timeline

Place = tuple[int, int]


class Case:
    """One run to be judged."""

    def __init__(self, history: History, chain: Chain) -> None:
        self.history = history
        self.chain = chain
        self.timeline = Timeline(chain)
        self.places: dict[str, Place] = {}
        """Height and index of the first inclusion of each id."""
        self.discarded: dict[str, int] = {}
        self.rejected: set[str] = set()
        for block in chain.blocks:
            for index, item in enumerate(block.items):
                self.places.setdefault(item.id, (block.height, index))
                if item.code:
                    self.rejected.add(item.id)
            for identity in block.discarded:
                self.discarded.setdefault(identity, block.height)

    def shown(self, *operations: Operation | None) -> tuple[str, ...]:
        """Operations as witnesses show them."""
        return tuple(operation.shown() for operation in operations if operation is not None)
