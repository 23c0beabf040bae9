"""The bootstrap's view of the chain comes from the real API of a node (PROTOCOL 8.1)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from consensus.types import Address
from contracts import receipts
from network.bootstrap.chain import (
    BallotCounted,
    ChainEvent,
    ChainPhase,
    CreditMoved,
    DelegatesSet,
    EnergyTraded,
    GroupsFixed,
    MemberEntered,
    PhaseEntered,
    SeatTallied,
)
from network.bootstrap.errors import Refused, Unavailable
from node.api.server import ApiServer, serve
from node.bootstrap_chain import HttpChain, chain_block
from node.config import ApiConfig
from tests.unit.node.fake_node import FakeNode

ONE, TWO = bytes((1,)) * 20, bytes((2,)) * 20
CONTRACT = bytes((9,)) * 32


@pytest.fixture
async def served() -> AsyncIterator[tuple[FakeNode, str, HttpChain]]:
    node = FakeNode()
    server: ApiServer = await serve(node, ApiConfig(port=0))
    chain = HttpChain()
    yield node, f"http://127.0.0.1:{server.port}", chain
    await chain.close()
    await server.close()


async def test_status_epoch_and_members_are_read(served: tuple[FakeNode, str, HttpChain]) -> None:
    node, url, chain = served
    status = await chain.status(url)
    own = node.status()
    assert (status.address, status.height, status.epoch) == (own.address, own.at.height, own.epoch)
    assert status.phase is ChainPhase(own.epoch_phase.name.lower())
    facts = await chain.epoch(url, own.epoch)
    answer = node.epoch(own.epoch)
    assert (facts.members, facts.assignment, facts.delegates) == (
        answer.members,
        answer.assignment,
        answer.delegates,
    )
    found = await chain.members(url)
    expected: list[Address] = []
    cursor = None
    while True:
        page = node.members(cursor, 100)
        expected += [view.address for view in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [member.address for member in found] == expected
    assert all(member.height == node.position().height for member in found)


async def test_every_event_that_matters_arrives_in_its_block(served: tuple[FakeNode, str, HttpChain]) -> None:
    node, url, chain = served
    start = node.position().height + 1
    told: list[tuple[receipts.Event, ChainEvent | None]] = [
        (receipts.PhaseChanged(3, receipts.EpochPhase.VOTING), PhaseEntered(3, ChainPhase.VOTING)),
        (receipts.CreditChanged(ONE, receipts.CreditReason.DECAY, -7, 10), CreditMoved(ONE, -7)),
        (receipts.TradeSettled(CONTRACT, 5, 6, 5, 5, 1, 0, 0), None),
        (
            receipts.TradeChanged(CONTRACT, receipts.TradeState.SETTLED, ONE, TWO),
            EnergyTraded((ONE, TWO), 5),
        ),
        (receipts.TradeChanged(CONTRACT, receipts.TradeState.OFFERED, ONE, TWO), None),
        (
            receipts.GroupsFormed(4, (ONE, TWO), (0, 1), 0, 0, True),
            GroupsFixed(4, (ONE, TWO), (0, 1), 0, 0, True),
        ),
        (receipts.BallotAccepted(ONE, 4, 2, (TWO,)), BallotCounted(ONE, 4, 2)),
        (receipts.GroupTallied(4, 1, TWO, 50, 1, False), SeatTallied(4, 1, TWO, 50, 1, False)),
        (receipts.DelegatesChanged(9, (ONE, TWO)), DelegatesSet(9, (ONE, TWO))),
        (receipts.MemberJoined(TWO, bytes((3,)) * 32), MemberEntered(TWO)),
        (receipts.HeartbeatSeen(ONE), None),
    ]
    await node.decide(tuple(event for event, _ in told))
    await node.decide()
    await node.decide()
    async with asyncio.timeout(10):
        blocks = chain.follow(url, start)
        first = await anext(blocks)
        second = await anext(blocks)
    assert first.height == start
    assert first.events == tuple(wanted for _, wanted in told if wanted is not None)
    assert (second.height, second.events) == (start + 1, ())


async def test_an_absent_member_is_unavailable_and_a_refusal_says_why(
    served: tuple[FakeNode, str, HttpChain],
) -> None:
    _, url, chain = served
    with pytest.raises(Unavailable):
        await chain.status("http://127.0.0.1:1")
    with pytest.raises(Refused) as caught:
        await chain.submit(url, b"junk")
    assert caught.value.code == "malformed_transaction"


@pytest.mark.parametrize(
    "record",
    [
        {"type": "phase_changed", "data": {"epoch": 1, "phase": "dancing"}},
        {"type": "member_joined", "data": {"address": "00"}},
        {"type": "groups_formed", "data": {"epoch": 1, "members": [], "assignment": [1]}},
        {"type": "credit_changed", "data": {}},
    ],
)
def test_what_no_node_tells_is_an_error(record: dict[str, object]) -> None:
    head = {"height": 1, "block_hash": "00" * 32, "time_ms": 1}
    with pytest.raises((ValueError, KeyError)):
        chain_block(head, [record])
