"""Members that lie in every known way: nothing that PROTOCOL 12 demands breaks, and each lie is really told."""

import random
from dataclasses import replace

import pytest

from consensus.judge import MAX_VIEW
from consensus.messages import (
    Commit,
    NewView,
    Prepare,
    ViewChange,
    sign_vote,
    verify_view_change,
    verify_vote,
)
from network.simulation.cluster import simulate
from network.simulation.intruders import Intruder
from network.simulation.keys import KeyedHashRing
from network.simulation.letters import Letter
from network.simulation.scenario import draw
from network.simulation.transplants import EVERY_MISCHIEF, TRANSPLANTS, Extremist, Transplanter

CHAIN = bytes(range(32))
RING = KeyedHashRing(1)
SIGNER = RING.signer("liar")


class Liar:
    """A node as a mischief sees it."""

    index = 0
    signer = SIGNER


def _told(kind: Transplanter | Extremist, letter: Letter) -> list[Letter]:
    liar: Intruder = Liar()
    return [piece for _ in range(40) for _delay, piece in kind.twist(liar, 1, letter)]


def _view_change() -> ViewChange:
    return ViewChange(0, 3, 1, None, (), SIGNER.public_key, bytes(64))


@pytest.mark.parametrize("name", TRANSPLANTS)
def test_nothing_is_found(name: str) -> None:
    """Two seeds each, with the lie told all the time and refused."""
    for seed in (1, 2):
        scenario = replace(draw(seed, 4), liars=((name,),), faults=6)
        outcome = simulate(scenario)
        assert outcome.finding is None, outcome.finding
        assert outcome.reached["refused"] > 0


def test_every_mischief_has_one_name() -> None:
    assert set(TRANSPLANTS) < set(EVERY_MISCHIEF)


def test_a_transplanted_signature_is_true_elsewhere_only() -> None:
    """PROTOCOL 6.5: what is signed begins with domain, phase and chain, so that no signature fits twice."""
    kind = Transplanter(random.Random(1), CHAIN)
    prepare = sign_vote(Prepare, CHAIN, 0, 3, 0, bytes(32), SIGNER)
    false = [item for item in _told(kind, prepare) if item != prepare]
    assert {type(item) for item in false} == {Prepare, Commit}
    assert not any(verify_vote(item, CHAIN, RING) for item in false if isinstance(item, Prepare | Commit))
    [new_view] = {item for item in _told(kind, _view_change()) if isinstance(item, NewView)}
    assert new_view.signature == _view_change().signature
    assert new_view.view_changes == (_view_change(),)


def test_an_extremist_signs_what_it_says() -> None:
    kind = Extremist(random.Random(1), CHAIN)
    told = [item for item in _told(kind, _view_change()) if item != _view_change()]
    assert all(isinstance(item, ViewChange) and verify_view_change(item, CHAIN, RING) for item in told)
    views = {item.view for item in told if isinstance(item, ViewChange)}
    assert {0, MAX_VIEW, MAX_VIEW + 1, 2**63 - 1} <= views
    assert 0 in {item.height for item in told if isinstance(item, ViewChange)}
