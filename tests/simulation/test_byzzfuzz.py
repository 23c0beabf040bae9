"""ByzzFuzz (RELIABILITY G4): few small faults in few rounds; mutations of any field; a planted bug that is found."""

import random

import msgspec
import pytest

from consensus import failover
from consensus.messages import (
    Commit,
    Prepare,
    Proposal,
    ViewChange,
    sign_vote,
    verify_view_change,
    verify_vote,
)
from network.simulation.byzzfuzz import CELLS, Cell, play, run_byzzfuzz
from network.simulation.keys import KeyedHashRing
from network.simulation.lockstep import Lockstep, Table, Told
from network.simulation.mutations import Message, Mutator, Scope, delivered, places, replaced, resigned

CHAIN = bytes(32)


@pytest.fixture(scope="module")
def said() -> list[Message]:
    """Everything that is said while a view fails and the next decides."""
    table = Table(4)
    run, heard = Lockstep(table), []

    def listen(_source: int, _target: int, told: Told) -> tuple[Told, ...]:
        heard.append(told)
        return (told,)

    run.begin_view(0, lambda _node: (table.transaction(0),))
    run.round(lambda *_: True, listen)
    run.round(lambda *_: True, listen)
    run.talk(lambda *_: False)
    run.begin_view(1, lambda _node: (table.transaction(1),))
    run.talk(lambda _s, _t, told: not (isinstance(told, Commit) and told.view == 0), listen)
    return [item for item in heard if isinstance(item, Message)]


def test_there_are_nine_cells_in_two_scopes() -> None:
    assert len(set(CELLS)) == 18
    assert {(cell.process_faults, cell.network_faults) for cell in CELLS} == {
        (c, d) for c in range(3) for d in range(3)
    }


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_nothing_is_found(cell: Cell) -> None:
    """A few runs of every cell; thousands are run by command."""
    result = run_byzzfuzz(cell, 6)
    assert result.findings == ()
    assert (result.changed > 0) == (cell.process_faults > 0)
    assert (result.cut > 0) == (cell.network_faults > 0)
    assert result.blocks >= 2 * result.runs


def test_a_seed_is_a_run() -> None:
    cell = Cell(2, 2, "small")
    first, again = play(cell, 3)[0], play(cell, 3)[0]
    assert first.story == again.story != []
    assert play(cell, 4)[0].story != first.story


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positive control: a build that forgets prepared certificates fails in at least 3 of 100 runs."""

    def forgetful(**fields: object) -> ViewChange:
        fields["prepared"] = None
        return ViewChange(**fields)  # type: ignore[arg-type]

    monkeypatch.setattr(failover, "ViewChange", forgetful)
    result = run_byzzfuzz(Cell(2, 2, "small"), 40)
    assert result.rate >= 0.03
    assert all(finding.text.startswith(("S5", "S1")) for finding in result.findings)
    found = result.findings[0]
    assert play(found.cell, found.seed)[1] == found.text


# ---------------------------------------------------------------------- mutations


def test_every_kind_of_message_is_said(said: list[Message]) -> None:
    assert {type(item).__name__ for item in said} == {
        "Proposal",
        "Prepare",
        "Commit",
        "ViewChange",
        "NewView",
    }


def test_places_are_all_fields_with_their_values(said: list[Message]) -> None:
    for message in {id(item): item for item in said}.values():
        for place in places(message):
            assert replaced(message, place.path, place.value) == message
    view_change = next(item for item in said if isinstance(item, ViewChange) and item.prepared)
    paths = {place.path for place in places(view_change)}
    assert {("view",), ("prepared", "prepares", 0, "signature"), ("accepted",)} <= paths


@pytest.mark.parametrize("scope", ["small", "any"])
def test_a_mutation_changes_one_place(said: list[Message], scope: Scope) -> None:
    ring = KeyedHashRing(1)
    mutator = Mutator(random.Random(5), scope, ring.signer("nobody here"), CHAIN)
    draw = random.Random(6)
    reached: set[tuple[str, str]] = set()
    for _ in range(800):
        message = draw.choice(said)
        mutation = mutator.mutate(message, said[:20])
        if not isinstance(message, Proposal):
            assert mutation.message == message or mutation.path
        reached.add((type(message).__name__, mutation.operation))
    operations = {operation for _kind, operation in reached}
    assert {"+1", "-1", "one byte", "one dropped", "one twice", "another seen"} <= operations
    assert ("extreme" in operations) == (scope == "any")


def test_a_liar_signs_its_own_parts_anew_and_no_others(said: list[Message]) -> None:
    table = Table(4)
    liar = table.signers[1]
    view_change = next(
        item
        for item in said
        if isinstance(item, ViewChange) and item.signer == liar.public_key and item.prepared is not None
    )
    changed = msgspec.structs.replace(view_change, view=view_change.view + 1)
    assert not verify_view_change(changed, table.chain_id, table.ring)
    signed = resigned(changed, liar, table.chain_id)
    assert verify_view_change(signed, table.chain_id, table.ring)
    assert signed.view == changed.view
    commit = next(item for item in said if isinstance(item, Commit) and item.signer != liar.public_key)
    foreign = msgspec.structs.replace(commit, digest=bytes(32))
    assert resigned(foreign, liar, table.chain_id) == foreign
    assert not verify_vote(foreign, table.chain_id, table.ring)


def test_what_no_codec_takes_does_not_arrive() -> None:
    signer = KeyedHashRing(1).signer("member 0")
    vote = sign_vote(Prepare, CHAIN, 0, 1, 0, bytes(32), signer)
    assert delivered(vote) == vote
    assert delivered(msgspec.structs.replace(vote, view=-1)) is None
    assert delivered(msgspec.structs.replace(vote, digest=bytes(31))) is None
    assert delivered(msgspec.structs.replace(vote, view=2**64)) is None
