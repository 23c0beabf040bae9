"""The local market of one day: surplus meets need, quarter-hour by quarter-hour, with seeded deviations.

Quantities are Wh per slot, prices micro-units of currency per kWh. The profiles' origin is told in node/data/README.md.
"""

import csv
import random
from importlib import resources
from typing import Final

from consensus.types import Value

SLOTS_PER_DAY: Final = 96
FEED_IN_PRICE: Final = 80_000
"""0.08 per kWh: what a roof earns at the grid; nobody sells for less."""
RETAIL_PRICE: Final = 300_000
"""0.30 per kWh: what the grid charges; nobody buys for more."""
LEAST_DEAL_WH: Final = 5
"""Below this a contract is not worth its two signatures."""
DEVIATION_PERCENT: Final = 8
"""Share of a home's slots in which it falls short of what it contracted: enough to see both kinds, not the rule."""


class Home(Value, frozen=True):
    """One home's day."""

    number: int
    load_wh: tuple[int, ...]
    solar_wh: tuple[int, ...]


class Deal(Value, frozen=True):
    """``seller`` and ``buyer`` are positions in the list of homes."""

    seller: int
    buyer: int
    quantity_wh: int
    price: int


class MeterDay(Value, frozen=True):
    """What one home's two registers say after one slot."""

    exported_wh: int
    imported_wh: int


class SlotPlan(Value, frozen=True):
    """One quarter-hour: the deals made beforehand and the readings afterwards, by position of the home."""

    slot_of_day: int
    deals: tuple[Deal, ...]
    readings: tuple[MeterDay, ...]


def load_homes(count: int) -> tuple[Home, ...]:
    """The first ``count`` homes of the packaged day, repeated from the start where it has fewer."""
    text = resources.files("node").joinpath("data/households.csv").read_text(encoding="utf-8")
    load: dict[int, list[int]] = {}
    solar: dict[int, list[int]] = {}
    for row in csv.DictReader(text.splitlines()):
        home = int(row["home"])
        load.setdefault(home, []).append(int(row["load_wh"]))
        solar.setdefault(home, []).append(int(row["solar_wh"]))
    known = [Home(number, tuple(load[number]), tuple(solar[number])) for number in sorted(load)]
    return tuple(known[index % len(known)] for index in range(count))


def clear_market(surplus_wh: list[int]) -> tuple[Deal, ...]:
    """Deals for one slot; ``surplus_wh`` is positive for sellers, negative for buyers, by position.

    Everyone shares alike: each pair's quantity is in proportion to the seller's surplus and the buyer's need, and one
    price, between feed-in and retail by scarcity, holds for all. What is too small to contract goes to the grid.
    """
    sellers = {home: wh for home, wh in enumerate(surplus_wh) if wh > 0}
    buyers = {home: -wh for home, wh in enumerate(surplus_wh) if wh < 0}
    offered, needed = sum(sellers.values()), sum(buyers.values())
    if not offered or not needed:
        return ()
    price = FEED_IN_PRICE + (RETAIL_PRICE - FEED_IN_PRICE) * needed // (needed + offered)
    pairs = (
        Deal(seller, buyer, surplus * need // max(offered, needed), price)
        for seller, surplus in sellers.items()
        for buyer, need in buyers.items()
    )
    return tuple(deal for deal in pairs if deal.quantity_wh >= LEAST_DEAL_WH)


def _metered(contracted: int, expected: int, source: random.Random) -> int:
    """The register of one home and slot: as expected, or, now and then, short of what it contracted."""
    if contracted and source.randrange(100) < DEVIATION_PERCENT:
        return contracted * source.randrange(50, 96) // 100
    return max(expected, contracted)


def plan_day(homes: tuple[Home, ...], seed: int) -> tuple[SlotPlan, ...]:
    """All 96 slots of the day; the same ``seed`` gives the same deviations."""
    source = random.Random(seed)
    plans: list[SlotPlan] = []
    for slot in range(SLOTS_PER_DAY):
        surplus = [home.solar_wh[slot] - home.load_wh[slot] for home in homes]
        deals = clear_market(surplus)
        sold = [sum(deal.quantity_wh for deal in deals if deal.seller == home) for home in range(len(homes))]
        bought = [sum(deal.quantity_wh for deal in deals if deal.buyer == home) for home in range(len(homes))]
        readings = tuple(
            MeterDay(
                _metered(sold[home], max(surplus[home], 0), source),
                _metered(bought[home], max(-surplus[home], 0), source),
            )
            for home in range(len(homes))
        )
        plans.append(SlotPlan(slot, deals, readings))
    return tuple(plans)
