"""What a run is like: a seed draws a scenario. Swarm style: each seed turns on some kinds of trouble only."""

import random
from dataclasses import dataclass, replace
from typing import Final

from consensus.parameters import Parameters, resolved
from network.simulation.byzantine import draw_mischief
from network.simulation.network import LinkQuality

SECOND_US: Final = 1_000_000

PARAMETERS: Final = resolved(
    Parameters(max_block_transactions=16, max_block_bytes=65_536, allow_non_bft=True), 10
)
"""The protocol's own defaults (PROTOCOL 11), but for blocks so small that they fill up."""

TWINS: Final = ("twins",)
"""The mischief of a member that runs two honest nodes with one key: each signs what the other contradicts."""

LINKS: Final = {
    "rack": LinkQuality(100, 1_000),
    "town": LinkQuality(1_000, 8_000),
    "country": LinkQuality(5_000, 40_000),
    "continents": LinkQuality(20_000, 160_000),
}
"""Usual delays, as a share of the view timeout what they are in reality."""

FAULT_KINDS: Final = (
    "crash",
    "crash at effect",
    "pause",
    "partition",
    "isolate",
    "one way",
    "lose kind",
    "starve",
    "bad links",
    "bad directions",
    "clog",
    "swizzle",
    "slow disk",
    "disk error",
    "block rot",
    "clock jump",
    "clock drift",
)
"""What may befall any node: nothing in it breaks what PROTOCOL 6.5 and 6.8 rely on."""
FRAIL_KINDS: Final = (
    "wrong clock",
    "frozen clock",
    "lost journal",
    "wiped disk",
    "journal rot",
    "restored journal",
    "restored disk",
)
"""What counts toward the f faulty delegates: a journal or the sense of time is gone, or a past has come back."""
ALWAYS_ON: Final = ("crash", "crash at effect", "lose kind")
"""Kinds that every seed has: what they break is what PROTOCOL 6.5 and 6.6 mend."""

LEAST_BLOCKS: Final = 50
UNDER_A_CENSOR_US: Final = SECOND_US
"""Mean time between transactions where a censor lies: without others to go on with, its view times out first."""
LEAST_FAULTS: Final = 10
OVER_THRESHOLD_IN: Final = 20
"""One seed in so many has more liars than any protocol survives."""


@dataclass(frozen=True)
class Scenario:
    """What a run is like; `draw` makes one from a seed."""

    seed: int
    seats: int
    spare_members: int
    """Members without a seat at any given height."""
    liars: tuple[tuple[str, ...], ...]
    """Per Byzantine member the names of its mischief; `TWINS` are two nodes with one key."""
    epoch_heights: int | None
    """Length of an epoch; None for a delegate set that never changes."""
    faults: int
    """At least so many begin."""
    fault_phase_us: int
    transaction_interval_us: int
    """Mean time between transactions; 0 for an idle chain."""
    real_keys: bool = False
    """Ed25519 instead of keyed hashes."""
    encoded: bool = False
    """Whether consensus messages travel as bytes, so that codecs take part."""
    kinds: tuple[str, ...] = (*FAULT_KINDS, *FRAIL_KINDS)
    """Kinds of faults that may come."""
    links: str = "town"
    blocks: int = LEAST_BLOCKS
    """The run goes on after recovery until the chain is so long."""

    @property
    def over_threshold(self) -> bool:
        """Whether more members lie than PROTOCOL 6.2 bears: then a fork may come, but not unproven."""
        return len(self.liars) > (self.seats - 1) // 3


def draw(seed: int, seats: int | None = None) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"{seed}/scenario")
    chosen = seats or rng.choice((4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10))
    most = (chosen - 1) // 3
    liars = tuple(draw_mischief(rng) for _ in range(rng.choice((0, most, rng.randint(0, most)))))
    if rng.random() < 0.25:
        liars = (TWINS,) * len(liars)
    changing = rng.random() < 0.5
    epoch_heights = rng.randint(5, 20) if changing else None
    if seed % OVER_THRESHOLD_IN == OVER_THRESHOLD_IN - 7:
        liars = _too_many(rng, most + 1, chosen - 1)
    optional = [kind for kind in (*FAULT_KINDS, *FRAIL_KINDS) if kind not in ALWAYS_ON]
    on = rng.sample(optional, rng.randint(3, len(optional)))
    scenario = Scenario(
        seed=seed,
        seats=chosen,
        spare_members=rng.randint(1, 3) if changing else rng.choice((0, 0, 1)),
        liars=liars,
        epoch_heights=epoch_heights,
        faults=rng.randint(LEAST_FAULTS, 2 * LEAST_FAULTS),
        fault_phase_us=rng.randint(60, 120) * SECOND_US,
        transaction_interval_us=rng.choice((0, 3 * SECOND_US, 6 * SECOND_US, 10 * SECOND_US)),
        real_keys=seed % 100 == 99,
        encoded=seed % 10 == 9,
        kinds=(*ALWAYS_ON, *(kind for kind in optional if kind in on)),
        links=rng.choice(tuple(LINKS)),
    )
    if any("censor" in names for names in liars):
        return replace(scenario, transaction_interval_us=UNDER_A_CENSOR_US)
    return scenario


def _too_many(rng: random.Random, least: int, greatest: int) -> tuple[tuple[str, ...], ...]:
    """More liars than f, of the sort that makes forks."""
    sorts = (TWINS, TWINS, ("two-faced", "forked votes"), ("forked votes",))
    sort = rng.choice(sorts)
    return (sort,) * rng.randint(least, greatest)
