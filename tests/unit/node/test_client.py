"""The typed client against a served fake: answers, refusals, waiting, resuming streams, proofs."""

import asyncio

import pytest

from contracts.receipts import HeartbeatSeen
from contracts.transaction import Reading, Transfer, decode_transaction
from node.client import NodeClient, StreamEvent, pages
from node.client_errors import (
    AccessDenied,
    BadRequest,
    Busy,
    ClientError,
    Conflict,
    NodeUnreachable,
    NotFound,
    Refused,
    RequestRefused,
    Unavailable,
    UnexpectedAnswer,
    refusal_of,
)
from node.proofs import ProofError
from node.service import Health, SubmitCode, SubmitOutcome
from node.verified import VerifiedReader
from tests.unit.node.api.conftest import Serve, Served
from tests.unit.node.fake_node import OFFER_ID, TRADE_ID
from tests.unit.node.mini_chain import key
from tests.unit.node.waiting import eventually


def client_of(served: Served, token: str = "") -> NodeClient:
    return NodeClient(served.url, token=token, timeout_s=10)


def fresh(served: Served, nonce: int) -> bytes:
    return served.node.chain.transaction(Transfer(served.node.other, 3), served.node.own, nonce)


async def test_every_answer_decodes_to_its_struct(served: Served) -> None:
    own = served.node.own.address
    async with client_of(served) as client:
        assert (await client.status()).address == own.hex()
        assert [item.address async for item in pages(lambda cursor: client.members(cursor, 3))] == sorted(
            member.address.hex() for member in served.node.chain.genesis.members
        )
        assert (await client.member(own)).member.balance == "1000000000000"
        assert (await client.credit_history(own)).items[0].reason == "delegate_reward"
        assert len((await client.groups()).groups) == 4
        assert (await client.epoch()).epoch == (await client.epoch(0)).epoch == 0
        assert (await client.delegates(1)).for_height == 1
        assert (await client.blocks(limit=1)).items[0].height == 3
        assert (await client.block()).height == 3
        assert (await client.certificate(2)).height == 2
        assert (await client.trades(own, "settled")).items[0].id == TRADE_ID.hex()
        assert (await client.trade(TRADE_ID)).settlement is not None
        assert (await client.genesis()) == served.node.chain.genesis
        assert (await client.raw_block(1))[:1] == b"\x92"
        assert (await client.quote(served.node.terms())).value == "250000000"
        assert "cgpbft_consensus_height 4.0" in await client.metrics()


async def test_submitting_waits_for_the_ledger(served: Served) -> None:
    async with client_of(served) as client:
        waiting = asyncio.ensure_future(client.submit_and_wait(fresh(served, 1), 5))
        await eventually(lambda: bool(served.node.pending))
        await served.node.decide()
        view = await waiting
        assert (view.state, view.height) == ("committed", 4)


async def test_waiting_in_vain_is_a_timeout_and_no_refusal(served: Served) -> None:
    async with client_of(served) as client:
        for raw in (fresh(served, 1), None):
            if raw is not None:
                await client.submit(raw)
            wanted = bytes(32) if raw is None else decode_transaction(raw).id
            with pytest.raises(TimeoutError):
                await client.await_final(wanted, 0.2)


async def test_a_batch_of_any_size_is_answered_in_order(served: Served) -> None:
    raws = [fresh(served, nonce) for nonce in range(4_100)]
    async with client_of(served) as client:
        answers = await client.submit_batch(raws)
    assert [answer.id for answer in answers[:2]] == [decode_transaction(raw).id.hex() for raw in raws[:2]]
    assert [answer.code for answer in answers] == ["accepted"] * 4_100


async def test_signing_endpoints(serving: Serve) -> None:
    served = await serving(beyond=True, token="secret")
    async with client_of(served) as client:
        with pytest.raises(AccessDenied):
            await client.leave()
    async with client_of(served, "secret") as client:
        other = served.node.other
        assert (await client.offer_trade(served.node.terms())).trade_url is not None
        await client.act_on_trade(OFFER_ID, "accept")
        await client.transfer(other, 10**18)
        await client.vote([other])
        await client.report_registers(5, 1, 2)
        await client.report_readings([Reading(other, 1, 2, 3, 4, key(2).public_key, bytes(64))])
        await client.leave()
        with pytest.raises(Conflict):
            await client.act_on_trade(TRADE_ID, "accept")
    assert len(served.node.payloads) == 6


async def test_refusals_have_their_class_and_say_what_to_do(served: Served) -> None:
    async with client_of(served) as client:
        with pytest.raises(NotFound, match=r"Not in the ledger: block 99"):
            await client.block(99)
        with pytest.raises(BadRequest):
            await client.members(limit=1_000)
        served.node.outcome = SubmitOutcome(SubmitCode.POOL_FULL, None, None, "full", 1_500)
        with pytest.raises(Busy) as busy:
            await client.submit(b"x")
        assert (busy.value.code, busy.value.retry_after_ms) == ("pool_full", 1_500)
        served.node.outcome = SubmitOutcome(SubmitCode.BAD_SIGNATURE, None, None, "forged")
        with pytest.raises(Refused):
            await client.submit(b"x")
        served.node.outcome = SubmitOutcome(SubmitCode.NOT_READY, None, None, "behind")
        with pytest.raises(Unavailable):
            await client.submit(b"x")
    assert issubclass(Busy, RequestRefused)
    assert issubclass(RequestRefused, ClientError)


async def test_no_node_and_no_problem_document() -> None:
    async with NodeClient("http://127.0.0.1:1", timeout_s=2) as client:
        with pytest.raises(NodeUnreachable):
            await client.status()
    assert isinstance(refusal_of(502, b"<html>", "GET x"), UnexpectedAnswer)


async def test_health_is_read_from_an_unhealthy_node(served: Served) -> None:
    served.node.healthy = Health(True, False, ("behind",))
    async with client_of(served) as client:
        assert (await client.health()).problems == ["behind"]
        with pytest.raises(TimeoutError, match="behind"):
            await client.wait_until_ready(0.3)
        served.node.healthy = Health(True, True, ())
        await client.wait_until_ready(5)


async def test_events_resume_where_a_connection_broke(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.client.RECONNECT_PAUSE_S", 0.01)
    served = await serving()
    found: list[StreamEvent] = []
    async with client_of(served) as client:
        stream = client.events(from_height=1)
        found += [await anext(stream), await anext(stream)]
        for transport in [one.transport for one in served.server._runner.server.connections]:  # type: ignore[union-attr]
            assert transport is not None
            transport.abort()
        await served.node.decide((HeartbeatSeen(served.node.other),))
        async with asyncio.timeout(10):
            while found[-1].id != "4.1":
                found.append(await anext(stream))
        await stream.aclose()
    assert [event.id for event in found] == ["1.0", "1.1", "1.2", "2.0", "3.0", "4.0", "4.1"]


async def test_a_refusal_of_the_first_stream_is_raised(served: Served) -> None:
    served.node.max_streams = 0
    async with client_of(served) as client:
        with pytest.raises(Busy):
            await anext(client.events(from_height=1))


# ---- proofs


async def test_receipts_accounts_and_trades_are_checked_against_the_genesis(served: Served) -> None:
    async with client_of(served) as client:
        reader = await VerifiedReader.open(client, served.node.chain.chain_id)
        proven = await reader.transaction(served.node.first_id, raw=served.node.raw)
        assert (proven.height, proven.index) == (1, 0)
        account = await reader.account(served.node.own.address)
        assert account.height == 2
        assert account.account is not None
        assert (await reader.trade(TRADE_ID)).trade is None


async def test_a_proof_comes_after_the_next_block(served: Served) -> None:
    raw = fresh(served, 1)
    async with client_of(served) as client:
        reader = await VerifiedReader.open(client, None)
        await client.submit(raw)
        await served.node.decide()
        with pytest.raises(TimeoutError):
            await reader.transaction(decode_transaction(raw).id, timeout_s=0.2)
        await served.node.decide()
        assert (await reader.transaction(decode_transaction(raw).id, raw=raw)).height == 4


async def test_a_lying_node_is_found_out(served: Served) -> None:
    async with client_of(served) as client:
        with pytest.raises(ProofError, match="pinned"):
            await VerifiedReader.open(client, bytes(32))
        reader = await VerifiedReader.open(client, served.node.chain.chain_id)
        receipts = served.node.chain.receipts[1]
        served.node.chain.receipts[1] = (
            receipts[0].__class__(receipts[0].transaction_id, receipts[0].code, (), ()),
            receipts[1],
        )
        with pytest.raises(ProofError, match="not among"):
            await reader.transaction(served.node.first_id)
