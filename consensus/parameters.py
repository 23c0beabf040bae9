"""Genesis parameters: the consensus rules a chain is born with (PROTOCOL 11)."""

import msgspec

from consensus.errors import InvalidGenesis
from consensus.types import BasisPoints, Unsigned, Wire


class Parameters(Wire, frozen=True, kw_only=True):
    """PROTOCOL 11; every field is part of the genesis hash and none can be set by a node's own config.

    Positional on the wire in the order below. ``planning_ms``, ``voting_ms`` and ``missed_ms`` default to the
    greater of the table's value and the bound of PROTOCOL 4.4; `resolved` fills them in.
    """

    groups: Unsigned = 4
    """k; 0 makes every member a delegate (plain PBFT, the baseline of PROTOCOL 4.6)."""
    run_ms: Unsigned = 79_200_000
    planning_ms: Unsigned = 600_000
    voting_ms: Unsigned = 6_000_000
    alpha: Unsigned = 1_000
    """Milli-credits a faultless delegate gains per epoch (PROTOCOL 3.1)."""
    beta: Unsigned = 5_000
    delta: Unsigned = 500
    gamma: Unsigned = 2_000
    decay_bp: BasisPoints = 200
    trade_penalty: Unsigned = 10_000
    trade_reference_wh: Unsigned = 50_000
    candidate_floor: Unsigned = 30_000
    dormant_epochs: Unsigned = 3
    missed_limit: Unsigned = 20
    missed_ms: Unsigned = 30_000
    energy_tolerance_bp: BasisPoints = 1_000
    credit_tolerance_bp: BasisPoints = 1_000
    max_block_transactions: Unsigned = 4_096
    max_block_bytes: Unsigned = 1_048_576
    batch_wait_ms: Unsigned = 20
    tx_window_ms: Unsigned = 120_000
    view_timeout_ms: Unsigned = 2_000
    view_timeout_max_ms: Unsigned = 60_000
    request_timeout_ms: Unsigned = 4_000
    empty_block_interval_ms: Unsigned = 5_000
    max_drift_ms: Unsigned = 10_000
    slot_ms: Unsigned = 900_000
    slot_nominal_ms: Unsigned = 900_000
    meter_deadline_ms: Unsigned = 172_800_000
    max_power_w: Unsigned = 100_000_000
    allow_non_bft: bool = False
    """Permit fewer than 4 delegates, where no fault is survived (PROTOCOL 6.2)."""


DEMO = Parameters(
    run_ms=8_000,
    planning_ms=3_000,
    voting_ms=5_000,
    trade_reference_wh=1_000,
    missed_ms=4_000,
    view_timeout_ms=500,
    request_timeout_ms=700,
    empty_block_interval_ms=500,
    max_drift_ms=300,
    slot_ms=1_000,
    meter_deadline_ms=5_000,
)
"""The demo column of PROTOCOL 11: epochs of seconds, slots of one second standing for 15 minutes."""


def fault_bound_ms(parameters: Parameters, member_count: int) -> int:
    """Least planning_ms, voting_ms and missed_ms: max_drift + (f+1)(request + view timeout), PROTOCOL 4.4, 3.2."""
    delegates = parameters.groups or member_count
    faults = (delegates - 1) // 3
    return parameters.max_drift_ms + (faults + 1) * (
        parameters.request_timeout_ms + parameters.view_timeout_ms
    )


def resolved(parameters: Parameters, member_count: int) -> Parameters:
    """``parameters`` with planning_ms, voting_ms and missed_ms raised to `fault_bound_ms` (PROTOCOL 11)."""
    bound = fault_bound_ms(parameters, member_count)
    return msgspec.structs.replace(
        parameters,
        planning_ms=max(parameters.planning_ms, bound),
        voting_ms=max(parameters.voting_ms, bound),
        missed_ms=max(parameters.missed_ms, bound),
    )


def check_parameters(parameters: Parameters, member_count: int) -> None:
    """Raise `InvalidGenesis` for values that PROTOCOL 3.1, 4.4, 6.2 or 11 rules out."""
    p = parameters
    bound = fault_bound_ms(p, member_count)
    delegates = min(p.groups, member_count) or member_count
    rules = (
        (p.delta < p.gamma, "delta must be below gamma (PROTOCOL 3.1)"),
        (p.alpha < p.beta, "alpha must be below beta (PROTOCOL 3.1)"),
        (p.planning_ms >= bound, f"planning_ms must be at least {bound} (PROTOCOL 4.4)"),
        (p.voting_ms >= bound, f"voting_ms must be at least {bound} (PROTOCOL 4.4)"),
        (p.missed_ms >= bound, f"missed_ms must be at least {bound} (PROTOCOL 3.2)"),
        (p.slot_ms > 0 and p.slot_nominal_ms > 0, "slot_ms and slot_nominal_ms must be positive"),
        (p.max_drift_ms <= p.slot_ms // 2, "max_drift_ms must be at most slot_ms // 2 (PROTOCOL 11)"),
        (p.meter_deadline_ms >= 10 * p.max_drift_ms, "meter_deadline_ms must be at least 10 * max_drift_ms"),
        (
            delegates >= 4 or p.allow_non_bft,
            f"{delegates} delegates survive no fault: set allow_non_bft or use 4",
        ),
        (p.view_timeout_ms > 0 and p.request_timeout_ms > 0, "timeouts must be positive"),
        (p.view_timeout_max_ms >= p.view_timeout_ms, "view_timeout_max_ms must be at least view_timeout_ms"),
        (p.empty_block_interval_ms > 0, "empty_block_interval_ms must be positive"),
        (p.missed_limit > 0, "missed_limit must be positive"),
        (p.trade_reference_wh > 0, "trade_reference_wh must be positive"),
        (p.max_block_transactions > 0, "max_block_transactions must be positive"),
        (p.max_block_bytes >= 65_536, "max_block_bytes must be at least 65 536 to hold one transaction"),
        (p.tx_window_ms > 0, "tx_window_ms must be positive"),
        (0 < p.max_power_w <= 100_000_000, "max_power_w must be in 1..100 000 000"),
        (p.run_ms > 0, "run_ms must be positive"),
    )
    broken = [text for holds, text in rules if not holds]
    if broken:
        raise InvalidGenesis("; ".join(broken))
