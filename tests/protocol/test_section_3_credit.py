"""PROTOCOL 2.6, 3.1, 3.3, 3.5: the sentences that are pure arithmetic."""

import pytest

from consensus import credit
from consensus.errors import InvalidGenesis
from consensus.parameters import Parameters, check_parameters, resolved


def test_2_6_any_shortfall_costs() -> None:
    assert credit.trade_penalty(10_000, 1, 10**9, 50_000) == 1
    assert credit.trade_penalty(10_000, 0, 10**9, 50_000) == 0


def test_2_6_splitting_a_contract_changes_nothing() -> None:
    """100 contracts of 500 Wh cost what one of 50 000 Wh costs (the reference divides evenly, so nothing rounds)."""
    whole = credit.trade_penalty(10_000, 50_000, 50_000, 50_000)
    assert 100 * credit.trade_penalty(10_000, 500, 500, 50_000) == whole


def test_2_6_above_the_reference_the_share_counts() -> None:
    assert credit.trade_penalty(10_000, 100_000, 200_000, 50_000) == 5_000


def test_3_1_credit_is_hard_to_earn_and_easy_to_lose() -> None:
    """With the default parameters one fault undoes five epochs' gains at any score."""
    p = Parameters()
    for score in range(0, 100_001, 500):
        assert 5 * credit.booked_gain(score, p.alpha) <= credit.fault_penalty(p.beta, 1)


@pytest.mark.parametrize(
    "parameters",
    [Parameters(delta=2_000), Parameters(delta=2_001), Parameters(alpha=5_000), Parameters(alpha=5_001)],
)
def test_3_1_a_genesis_with_other_values_is_refused(parameters: Parameters) -> None:
    with pytest.raises(InvalidGenesis, match=r"PROTOCOL 3\.1"):
        check_parameters(resolved(parameters, 8), 8)


def test_3_1_the_honest_do_not_pile_up_at_100() -> None:
    """From 50 credits on a gain shrinks with the distance to 100 and is nothing there."""
    booked = [credit.booked_gain(score, 1_000) for score in range(50_000, 100_001, 1_000)]
    assert booked == sorted(booked, reverse=True)
    assert booked[0] == 1_000
    assert booked[-1] == 0


def test_3_1_the_sth_fault_costs_twice_the_one_before_up_to_eight_times() -> None:
    assert [credit.fault_penalty(5_000, s) // 5_000 for s in range(1, 7)] == [1, 2, 4, 8, 8, 8]


def test_3_1_s_falls_by_one_per_clean_epoch() -> None:
    streak = 0
    for _ in range(3):
        streak = credit.streak_after_fault(streak)
    falling = []
    for _ in range(4):
        streak = credit.streak_after_clean_epoch(streak)
        falling.append(streak)
    assert falling == [2, 1, 0, 0]


def test_3_3_idle_epochs_compound() -> None:
    """m idle epochs come to about T * (1 - decay)^m: within one milli-credit an epoch, and never above."""
    score, exact = 80_000, 80_000 * 10**12
    for idle in range(1, 51):
        score -= credit.decay_loss(score, 200)
        exact = exact * 98 // 100
        assert exact // 10**12 - idle <= score <= exact // 10**12 + 1


def test_3_5_the_amount_is_as_applied_after_the_clamp() -> None:
    assert credit.change(3_000, -5_000) == credit.Change(0, -3_000)
    assert credit.change(99_500, 1_000) == credit.Change(100_000, 500)
