"""What a whole-system run is like; drawn from its seed."""

import random
from collections import Counter
from dataclasses import dataclass, field

from consensus.parameters import Parameters, resolved

MOST_MEMBERS = 12
FEWEST_MEMBERS = 4
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """One run."""

    seed: int
    groups: int
    """k; 0: every member is a delegate."""
    founders: int
    newcomers: int
    """Players that are no members at genesis."""
    epochs: int
    """The phase of faults ends when this epoch begins."""
    liars: tuple[str, ...]
    """Mischief of the one Byzantine member; empty for none."""
    faults_per_epoch: int
    load_us: int
    """Mean time between wishes of traders; 0 for none."""
    churn_percent: int
    """Chance, in each epoch, that somebody joins, and that somebody leaves."""
    execute_all: bool
    """Whether every node executes every block; else two of them do."""
    invited: bool
    real_keys: bool
    bootstrap: bool = True
    """Whether somebody looks for better plans, the one deed of a bootstrap service that a chain would miss."""
    lean: bool = False
    """Few blocks an epoch and no load but duties and churn: for campaigns over many epochs."""

    def parameters(self) -> Parameters:
        """The chain's rules: short phases, a few blocks each."""
        interval_ms = 2_800 if self.lean else 800
        p = Parameters(
            groups=self.groups,
            run_ms=1_000 if self.lean else 3_000,
            planning_ms=0,
            voting_ms=0,
            missed_ms=0,
            missed_limit=3 if self.lean else 4,
            dormant_epochs=2,
            candidate_floor=45_000,
            decay_bp=200,
            trade_reference_wh=1_000,
            energy_tolerance_bp=0,
            credit_tolerance_bp=0,
            max_block_transactions=64,
            max_block_bytes=131_072,
            batch_wait_ms=20,
            tx_window_ms=60_000,
            view_timeout_ms=500,
            view_timeout_max_ms=4_000,
            request_timeout_ms=700,
            empty_block_interval_ms=interval_ms,
            max_drift_ms=300,
            slot_ms=1_000,
            slot_nominal_ms=900_000,
            meter_deadline_ms=5_000,
            max_power_w=100_000,
        )
        # Phases last as long as genesis demands; a delegate set of members that joined later may be larger.
        return resolved(p, max(self.founders, MOST_MEMBERS if not self.groups else 0))


MISCHIEF = (
    "silent",
    "slow",
    "choosy",
    "two-faced",
    "censor",
    "forked votes",
    "lying view-change",
    "lying new-view",
    "wrong blocks",
    "replayer",
    "bad transactions",
)


def draw(seed: int, epochs: int | None = None) -> Scenario:
    """The scenario of a seed; with ``epochs`` a lean one that lasts so long."""
    rng = random.Random(f"{seed}/system")
    lean = epochs is not None
    groups = rng.choice((4, 4, 4, 5, 7, 0) if not lean else (4, 4, 4, 5, 0))
    founders = rng.choice((4, 5, 5, 6, 8, 9)) if lean else rng.randint(FEWEST_MEMBERS, 10)
    newcomers = rng.randint(1, 3)
    liars: tuple[str, ...] = ()
    if rng.random() < 0.5:
        liars = tuple(rng.sample(MISCHIEF, rng.randint(1, 2)))
    return Scenario(
        seed=seed,
        groups=groups,
        founders=founders,
        newcomers=newcomers,
        epochs=rng.randint(4, 7) if epochs is None else epochs,
        liars=liars,
        faults_per_epoch=1 if lean else rng.randint(1, 3),
        load_us=0 if lean else rng.choice((100_000, 200_000, 400_000)),
        churn_percent=rng.choice((25, 50, 90)) if lean else rng.choice((0, 50, 90)),
        execute_all=rng.random() < 0.1,
        invited=rng.random() < 0.7,
        real_keys=seed % 100 == 99,
        bootstrap=rng.random() < 0.5,
        lean=lean,
    )


@dataclass
class Outcome:
    """What came of a run."""

    scenario: Scenario
    finding: str | None = None
    trace_hash: str = ""
    height: int = 0
    epochs: int = 0
    """Epochs begun after epoch 0."""
    boundaries: int = 0
    boundary_faults: int = 0
    """Boundaries with at least one fault within two blocks of them."""
    events: int = 0
    virtual_us: int = 0
    recovered_us: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
