"""Where mutants are searched for: parts of what ordinary campaigns draw, so that little time is lost on the rest.

Every scenario here is one that `network.simulation.cluster.draw` can draw too, only shorter.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from network.simulation.byzantine import MISCHIEF
from network.simulation.cluster import simulate
from network.simulation.scenario import SECOND_US, TWINS, Scenario, draw
from network.simulation.system import draw as draw_system
from network.simulation.system.false_plans import run_false_plans
from scripts.simulating.audited import run_audited

Family = Callable[[int], str | None]
"""The finding of a seed, if it has one."""
Make = Callable[[int], Scenario]

SEATS: Final = (4, 5, 6, 7)


def _short(seed: int) -> Scenario:
    """Four seats, a few faults in a row, a busy chain, nobody lies, one node may lose its journal or its clock."""
    return replace(
        draw(seed, 4),
        liars=(),
        spare_members=0,
        epoch_heights=None,
        faults=5,
        fault_phase_us=20 * SECOND_US,
        transaction_interval_us=2 * SECOND_US,
        real_keys=False,
        encoded=False,
        links="town",
        blocks=0,
    )


def _faults(seed: int) -> Scenario:
    return replace(_short(seed), faults=12, fault_phase_us=40 * SECOND_US)


def _restarts(seed: int) -> Scenario:
    """Crashes before and after effects, while votes are lost."""
    kinds = ("crash", "crash at effect", "crash at effect", "lose kind", "starve")
    return replace(_short(seed), faults=16, kinds=kinds, fault_phase_us=40 * SECOND_US)


def _starved(seed: int) -> Scenario:
    """Views that fail one after the other, with transactions that wait."""
    kinds = ("lose kind", "starve", "starve", "crash")
    return replace(_short(seed), faults=6, kinds=kinds, fault_phase_us=80 * SECOND_US)


def _frail(seed: int) -> Scenario:
    """Lost journals and clocks."""
    kinds = ("lost journal", "wiped disk", "journal rot", "wrong clock", "crash", "lose kind")
    return replace(_short(seed), faults=12, kinds=kinds, fault_phase_us=60 * SECOND_US)


def _seats(seed: int) -> Scenario:
    """Numbers of seats that are 3 f + 1, and others."""
    return replace(_short(seed), seats=SEATS[seed % len(SEATS)])


def _changing(seed: int) -> Scenario:
    """Sets that change all the time."""
    return replace(_short(seed), spare_members=2, epoch_heights=5)


def _twins(seed: int) -> Scenario:
    return replace(_short(seed), liars=(TWINS,))


def _liar(kind: str, seed: int) -> Scenario:
    """One member with one way to lie, and faults that make views fail."""
    kinds = ("crash", "lose kind", "starve", "pause", "partition")
    scenario = replace(_short(seed), liars=((kind,),), kinds=kinds, faults=8, fault_phase_us=40 * SECOND_US)
    # Who has no seat takes decided blocks from others, true or not.
    return replace(scenario, spare_members=2) if kind == "forger" else scenario


def _any_liar(seed: int) -> Scenario:
    return _liar(random.Random(f"{seed}/liar").choice(tuple(MISCHIEF)), seed)


def _with(kind: str) -> Make:
    return lambda seed: _liar(kind, seed)


def _mixed(seed: int) -> Scenario:
    """All of them in turn."""
    makes: tuple[Make, ...] = (
        _any_liar,
        _restarts,
        _any_liar,
        _starved,
        _any_liar,
        _frail,
        _changing,
        _seats,
    )
    return makes[seed % len(makes)](seed)


def _run(make: Make) -> Family:
    def family(seed: int) -> str | None:
        return simulate(make(seed)).finding

    return family


def _system(seed: int) -> str | None:
    """Whole systems, audited: elections, members that come and go over some epochs, every fourth time trades."""
    scenario = replace(draw_system(seed), epochs=3) if seed % 4 == 3 else draw_system(seed, 6)
    return run_audited(scenario).finding


def _plans(_seed: int) -> str | None:
    """Every form of false plan on the shipped engine, each refused for its own reason; all seeds are the same."""
    for refusal in run_false_plans():
        if not refusal.right:
            return f"S12: {refusal.form}: expected {refusal.expected}, found {refusal.found}"
    return None


FAMILIES: Final[Mapping[str, Family]] = {
    "drawn": _run(draw),
    "short": _run(_short),
    "faults": _run(_faults),
    "restarts": _run(_restarts),
    "starved": _run(_starved),
    "lost journals": _run(_frail),
    "seats": _run(_seats),
    "changing": _run(_changing),
    "twins": _run(_twins),
    "liars": _run(_any_liar),
    "mixed": _run(_mixed),
    "system": _system,
    "plans": _plans,
    **{f"liars: {kind}": _run(_with(kind)) for kind in MISCHIEF},
}
"""By name. Those named ``liars: KIND`` have one member with that mischief."""
