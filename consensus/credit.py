"""Credit arithmetic: rewards, fault penalties, decay and trade penalties (PROTOCOL 2.6, 3.1, 3.3, 3.5).

Credits are milli-credits in 0..100 000. The functions that answer "how much" do not clamp; `change` applies an
amount to a score and tells what was really applied, which is what the ledger entry carries.
"""

from typing import Final

from consensus.errors import invariant
from consensus.types import MAX_CREDIT, Value

GAIN_SLOPE: Final = 50_000
"""A gain is booked in full up to 50 credits and shrinks to nothing at 100 (PROTOCOL 3.1)."""
MAX_STREAK_DOUBLINGS: Final = 3
"""Repeated faults cost at most eight times beta (PROTOCOL 3.1)."""
FULL_BP: Final = 10_000
"""The whole, in basis points."""


class Change(Value, frozen=True):
    """A credit score after an amount was applied."""

    credit: int
    """The new score, 0..100 000."""
    applied: int
    """New minus old: the amount after the clamp, as the ledger entry shows it (PROTOCOL 3.5)."""


def change(credit: int, amount: int) -> Change:
    """Apply ``amount`` (negative for a loss) to ``credit`` and clamp to 0..100 000 (PROTOCOL 3.5)."""
    _check_credit(credit)
    after = min(max(credit + amount, 0), MAX_CREDIT)
    return Change(after, after - credit)


def booked_gain(credit: int, gain: int) -> int:
    """What of a ``gain`` x (alpha or delta) is booked at score T: min(x, x * (100 000 - T) // 50 000), PROTOCOL 3.1."""
    _check_credit(credit)
    invariant(gain >= 0, "a gain is not negative")
    return min(gain, gain * (MAX_CREDIT - credit) // GAIN_SLOPE)


def fault_penalty(beta: int, streak: int) -> int:
    """What the ``streak``-th fault (1 for the first) costs its delegate: beta * 2^min(s - 1, 3), PROTOCOL 3.1."""
    invariant(streak >= 1, "the first fault has streak 1")
    return beta << min(streak - 1, MAX_STREAK_DOUBLINGS)


def streak_after_fault(streak: int) -> int:
    """s once another fault is charged; `fault_penalty` takes this new value (PROTOCOL 3.1)."""
    return streak + 1


def streak_after_clean_epoch(streak: int) -> int:
    """s after an epoch served without a fault: one lower, never below 0 (PROTOCOL 3.1)."""
    return max(streak - 1, 0)


def decay_loss(credit: int, decay_bp: int) -> int:
    """What an idle epoch costs at score T: ceil(T * decay_bp / 10 000), PROTOCOL 3.3."""
    _check_credit(credit)
    invariant(0 <= decay_bp <= FULL_BP, "decay_bp is a share in basis points")
    return _ceil_div(credit * decay_bp, FULL_BP)


def trade_penalty(penalty: int, shortfall_wh: int, contracted_wh: int, reference_wh: int) -> int:
    """What a shortfall costs: ceil(trade_penalty * shortfall / max(contracted, trade_reference_wh)), PROTOCOL 2.6.

    0 only without a shortfall. Up to the reference the cost follows the energy, so splitting a contract saves nothing.
    """
    invariant(0 <= shortfall_wh <= contracted_wh, "a shortfall is within the contracted quantity")
    invariant(contracted_wh > 0 and reference_wh > 0, "contracted quantity and reference are positive")
    return _ceil_div(penalty * shortfall_wh, max(contracted_wh, reference_wh))


def _ceil_div(numerator: int, denominator: int) -> int:
    """Division rounded up; ``//`` rounds toward minus infinity."""
    return -(-numerator // denominator)


def _check_credit(credit: int) -> None:
    invariant(0 <= credit <= MAX_CREDIT, "credit is in 0..100 000")
