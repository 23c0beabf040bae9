"""Orders beside the tables: they follow from the tables alone and do not grow with the past."""

import random
from typing import Any

from contracts.trade_index import Buckets
from contracts.transaction import TradeAccept, TradeCancel, TradeDecline, TradeOffer, TradeOpen
from tests.support.chain import Chain


def test_buckets_give_items_in_number_order_then_in_that_of_adding() -> None:
    chance = random.Random(1)
    buckets: Buckets[int] = Buckets()
    expected: list[tuple[int, int]] = []
    for item in range(2_000):
        number = chance.randrange(50)
        buckets.add(number, item)
        expected.append((number, item))
        if chance.random() < 0.4:
            gone = chance.choice(expected)
            expected.remove(gone)
            buckets.remove(*gone)
            buckets.remove(*gone)
        if chance.random() < 0.02:
            bound = chance.randrange(50)
            expected.sort()
            below = [item for number, item in expected if number < bound]
            assert buckets.take_below(bound) == below
            expected = [pair for pair in expected if pair[0] >= bound]
            assert buckets.first() == (expected[0][0] if expected else None)
    expected.sort()
    assert buckets.take_first() == [item for number, item in expected if number == expected[0][0]]
    buckets.take_below(50)
    assert (buckets.first(), buckets.take_first()) == (None, [])


def sizes(value: Any) -> int:
    """Items held anywhere inside an index."""
    if isinstance(value, Buckets):
        return sum(len(bucket) for bucket in value._buckets.values())
    if isinstance(value, dict):
        return sum(sizes(item) for item in value.values())
    if isinstance(value, list):
        return len(value)
    if hasattr(value, "__dict__"):
        return sum(sizes(item) for item in vars(value).values())
    return 0


def test_what_ends_early_leaves_nothing_behind() -> None:
    """Answered offers, cancelled and settled contracts, however far their deadlines are."""
    chain = Chain(meter_deadline_ms=3_600_000)
    a, b = chain.members[:2]
    far = chain.time_ms // 1_000 + 2_000_000
    for number in range(10):
        offers = [
            chain.transaction(a, TradeOffer(chain.terms(a, b, start_slot=far + number))) for _ in range(2)
        ]
        chain.block(*offers)
        chain.block(
            chain.transaction(b, TradeDecline(offers[0].id)), chain.transaction(b, TradeAccept(offers[1].id))
        )
        chain.block(*(chain.transaction(key, TradeCancel(offers[1].id)) for key in (a, b)))
    slot = chain.time_ms // 1_000 + 2
    opened = [
        chain.transaction(a, TradeOpen(chain.terms(a, b, start_slot=slot, quantity_wh=10)), b)
        for _ in range(10)
    ]
    chain.block(*opened)
    chain.run_to((slot + 1) * 1_000)
    chain.block(
        chain.readings(chain.reading(a, slot, 100, counter=1), chain.reading(b, slot, 0, 100, counter=1))
    )
    assert len(chain.state.contracts) == 0
    chain.block(after_ms=1_000)
    slot += 1
    chain.block(
        chain.readings(chain.reading(a, slot, 1, 1, counter=2), chain.reading(b, slot, 1, 1, counter=2))
    )
    index = chain.state.trades
    assert sizes(index) == 4 * 2  # four readings, by member and by slot
    assert index.due == []
