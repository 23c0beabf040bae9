"""The households' market: who sells to whom, and what the meters say."""

from node.households.market import (
    FEED_IN_PRICE,
    LEAST_DEAL_WH,
    RETAIL_PRICE,
    SLOTS_PER_DAY,
    Deal,
    clear_market,
    load_homes,
    plan_day,
)


def test_every_pair_trades_in_proportion_to_surplus_and_need() -> None:
    deals = clear_market([600, -300, 200, -100])
    assert [(d.seller, d.buyer, d.quantity_wh) for d in deals] == [
        (0, 1, 225),
        (0, 3, 75),
        (2, 1, 75),
        (2, 3, 25),
    ]


def test_scarce_surplus_is_rationed_over_all_buyers() -> None:
    assert [d.quantity_wh for d in clear_market([100, -300, -100])] == [75, 25]


def test_dust_is_left_to_the_grid() -> None:
    assert clear_market([LEAST_DEAL_WH - 1, -1000]) == ()


def test_no_deal_without_both_sides() -> None:
    assert clear_market([-1, -2]) == ()
    assert clear_market([5, 0]) == ()


def test_price_lies_between_feed_in_and_retail_and_rises_with_scarcity() -> None:
    plenty = clear_market([1000, -10])[0].price
    scarce = clear_market([10, -1000])[0].price
    assert FEED_IN_PRICE <= plenty < scarce <= RETAIL_PRICE


def test_nobody_sells_or_buys_more_than_it_has_or_needs() -> None:
    homes = load_homes(24)
    for plan in plan_day(homes, seed=1):
        for position, home in enumerate(homes):
            surplus = home.solar_wh[plan.slot_of_day] - home.load_wh[plan.slot_of_day]
            assert _sum(plan.deals, seller=position) <= max(surplus, 0)
            assert _sum(plan.deals, buyer=position) <= max(-surplus, 0)


def test_the_day_of_eight_homes_has_both_kinds_of_shortfall_and_enough_trades() -> None:
    plans = plan_day(load_homes(8), seed=2026)
    sellers_short = buyers_short = trades = 0
    for plan in plans:
        trades += len(plan.deals)
        for position, reading in enumerate(plan.readings):
            sellers_short += reading.exported_wh < _sum(plan.deals, seller=position)
            buyers_short += reading.imported_wh < _sum(plan.deals, buyer=position)
    assert len(plans) == SLOTS_PER_DAY
    assert trades >= 250
    assert sellers_short > 5
    assert buyers_short > 5


def test_same_seed_same_day() -> None:
    homes = load_homes(8)
    assert plan_day(homes, seed=7) == plan_day(homes, seed=7)
    assert plan_day(homes, seed=7) != plan_day(homes, seed=8)


def test_more_members_than_homes_start_over() -> None:
    homes = load_homes(30)
    assert homes[24] == homes[0]
    assert len(homes) == 30


def _sum(deals: tuple[Deal, ...], seller: int | None = None, buyer: int | None = None) -> int:
    return sum(d.quantity_wh for d in deals if seller in (None, d.seller) and buyer in (None, d.buyer))
