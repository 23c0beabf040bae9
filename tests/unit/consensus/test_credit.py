"""Credit arithmetic: values by hand and properties over the whole range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import credit
from consensus.errors import InvariantViolation

scores = st.integers(0, 100_000)
amounts = st.integers(0, 10**9)


@given(scores, st.integers(-(10**9), 10**9))
def test_change_clamps_and_tells_what_was_applied(score: int, amount: int) -> None:
    result = credit.change(score, amount)
    assert 0 <= result.credit <= 100_000
    assert result.credit == score + result.applied
    assert abs(result.applied) <= abs(amount)
    if 0 <= score + amount <= 100_000:
        assert result.applied == amount


@pytest.mark.parametrize(
    ("score", "gain", "booked"),
    [
        (0, 1000, 1000),
        (50_000, 1000, 1000),
        (50_001, 1000, 999),
        (75_000, 1000, 500),
        (99_999, 1000, 0),
        (100_000, 7, 0),
    ],
)
def test_booked_gain_by_hand(score: int, gain: int, booked: int) -> None:
    assert credit.booked_gain(score, gain) == booked


@given(scores, amounts)
def test_a_gain_never_exceeds_what_is_earned(score: int, gain: int) -> None:
    assert 0 <= credit.booked_gain(score, gain) <= gain


@given(scores, st.integers(0, 50_000))
def test_a_gain_of_sane_size_never_needs_the_clamp(score: int, gain: int) -> None:
    assert score + credit.booked_gain(score, gain) <= 100_000


@pytest.mark.parametrize(
    ("streak", "cost"), [(1, 5000), (2, 10_000), (3, 20_000), (4, 40_000), (5, 40_000), (99, 40_000)]
)
def test_fault_penalty_doubles_three_times(streak: int, cost: int) -> None:
    assert credit.fault_penalty(5000, streak) == cost


def test_streak() -> None:
    assert credit.streak_after_fault(0) == 1
    assert credit.streak_after_clean_epoch(3) == 2
    assert credit.streak_after_clean_epoch(0) == 0


@pytest.mark.parametrize(
    ("score", "loss"), [(0, 0), (1, 1), (49, 1), (50, 1), (51, 2), (50_000, 1000), (100_000, 2000)]
)
def test_decay_rounds_up(score: int, loss: int) -> None:
    assert credit.decay_loss(score, 200) == loss


@given(scores, st.integers(0, 10_000))
def test_decay_takes_at_most_what_is_there(score: int, decay_bp: int) -> None:
    assert 0 <= credit.decay_loss(score, decay_bp) <= score


@pytest.mark.parametrize(
    ("shortfall", "contracted", "loss"),
    [
        (0, 100_000, 0),
        (1, 100_000, 1),
        (50_000, 100_000, 5000),
        (100_000, 100_000, 10_000),
        (1, 1, 1),
        (1000, 1000, 200),
    ],
)
def test_trade_penalty_by_hand(shortfall: int, contracted: int, loss: int) -> None:
    assert credit.trade_penalty(10_000, shortfall, contracted, 50_000) == loss


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=5))
def test_splitting_a_contract_below_the_reference_saves_nothing(parts: list[int]) -> None:
    whole = credit.trade_penalty(10_000, sum(parts), sum(parts), 50_000)
    assert sum(credit.trade_penalty(10_000, part, part, 50_000) for part in parts) >= whole


def test_misuse_stops() -> None:
    for call in (
        lambda: credit.change(-1, 0),
        lambda: credit.booked_gain(0, -1),
        lambda: credit.fault_penalty(1, 0),
        lambda: credit.decay_loss(1, 10_001),
        lambda: credit.trade_penalty(1, 2, 1, 1),
        lambda: credit.trade_penalty(1, 0, 0, 1),
    ):
        with pytest.raises(InvariantViolation):
            call()
