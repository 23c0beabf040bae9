"""A deliberately plain second model of the ledger: every value at every height, from the events alone."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

from scripts.history.chain import (
    BalanceChanged,
    Block,
    Chain,
    CreditChanged,
    DelegatesChanged,
    Event,
    GroupsFormed,
    TradeChanged,
    TradeSettled,
)

T = TypeVar("T")


class Values(Generic[T]):
    """A value that changes with the height; of several in one block the last counts."""

    __slots__ = ("heights", "values")

    def __init__(self, height: int, value: T) -> None:
        self.heights = [height]
        self.values = [value]

    def set(self, height: int, value: T) -> None:
        """From ``height`` on."""
        if self.heights[-1] == height:
            self.values[-1] = value
        else:
            self.heights.append(height)
            self.values.append(value)

    def at(self, height: int) -> T | None:
        """After the block of ``height``; None before the first value."""
        index = bisect_right(self.heights, height) - 1
        return self.values[index] if index >= 0 else None


def events_of(block: Block) -> Iterator[Event]:
    """In the order in which they happened."""
    for item in block.items:
        yield from item.events
    yield from block.events


class Timeline:
    """What the chain's events say."""

    def __init__(self, chain: Chain) -> None:
        self.balances = {one.address: Values(0, one.balance) for one in chain.members}
        self.credits = {one.address: Values(0, one.credit) for one in chain.members}
        self.energy = {one.address: Values(0, 0) for one in chain.members}
        self.trades: dict[str, Values[str]] = {}
        self.parties: dict[str, tuple[str, str]] = {}
        self.seats = Values(1, chain.delegates)
        """C(h)."""
        self.groups = {0: chain.groups}
        for block in chain.blocks:
            for event in events_of(block):
                self._take(block.height, event)

    def _take(self, height: int, event: Event) -> None:
        kind = type(event)
        if kind is BalanceChanged:
            _set(self.balances, event.address, height, event.balance)  # type: ignore[union-attr]
        elif kind is CreditChanged:
            _set(self.credits, event.address, height, event.credit)  # type: ignore[union-attr]
        elif isinstance(event, TradeChanged):
            self.parties[event.contract] = (event.seller, event.buyer)
            _set(self.trades, event.contract, height, event.state)
        elif isinstance(event, TradeSettled):
            for party in self.parties.get(event.contract, ()):
                known = self.energy.get(party)
                before = 0 if known is None else known.values[-1]
                _set(self.energy, party, height, before + event.delivered_wh)
        elif isinstance(event, DelegatesChanged):
            self.seats.set(event.height, event.ranking)
        elif isinstance(event, GroupsFormed):
            self.groups[event.epoch] = event

    def delegates(self, height: int) -> tuple[str, ...]:
        """C(height)."""
        return self.seats.at(height) or ()


def _set(table: dict[str, Values[T]], key: str, height: int, value: T) -> None:
    known = table.get(key)
    if known is None:
        table[key] = Values(height, value)
    else:
        known.set(height, value)
