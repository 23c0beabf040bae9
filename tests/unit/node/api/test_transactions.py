"""Submitting, batches, idempotence, status and proofs over HTTP (PROTOCOL 9.2, 9.3)."""

import asyncio
import io
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from contracts.transaction import Transfer, decode_transaction
from node.api.body import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, MAX_BODY_BYTES, MAX_HEX_BODY_BYTES
from node.api.problems import CATALOGUE, SUBMIT_CODES
from node.service import SubmitCode, SubmitOutcome
from tests.unit.node.api.conftest import Served
from tests.unit.node.waiting import eventually

MSGPACK = {"Content-Type": "application/msgpack"}
NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


def fresh(served: Served, nonce: int = 1) -> bytes:
    return served.node.chain.transaction(Transfer(served.node.other, 3), served.node.own, nonce)


async def test_a_transaction_is_accepted_and_its_status_url_answers(served: Served) -> None:
    raw = fresh(served)
    status, data, headers = await served.post("/v1/transactions", data=raw, headers=MSGPACK)
    transaction_id = decode_transaction(raw).id.hex()
    assert status == 202
    assert data["id"] == transaction_id
    assert data["state"] == "pending"
    assert headers["Location"] == data["status_url"] == f"/v1/transactions/{transaction_id}"
    status, data, _ = await served.get(data["status_url"])
    assert (status, data["state"], data["height"]) == (200, "pending", None)
    assert data["transaction"]["payload"] == {"recipient": served.node.other.hex(), "amount": "3"}


async def test_the_same_bytes_as_json_are_the_same_transaction(served: Served) -> None:
    raw = fresh(served)
    first = await served.post("/v1/transactions", data=raw, headers=MSGPACK)
    second = await served.post("/v1/transactions", json={"transaction": raw.hex()})
    assert first[:2] == second[:2]
    assert len(served.node.pending) == 1


async def test_wait_committed_answers_when_the_block_is_decided(served: Served) -> None:
    raw = fresh(served)
    asking = asyncio.ensure_future(
        served.post("/v1/transactions?wait=committed&timeout_ms=5000", data=raw, headers=MSGPACK)
    )
    await eventually(lambda: bool(served.node.pending))
    await served.node.decide()
    status, data, _ = await asking
    assert (status, data["state"], data["height"], data["index"]) == (200, "committed", 4, 0)
    assert data["receipt"]["code"] == "ok"
    assert data["block_hash"] == served.node.chain.blocks[3].block.header.digest().hex()


async def test_a_timeout_is_no_failure(served: Served) -> None:
    """PROTOCOL 9.3: a timeout is never reported as failure."""
    status, data, _ = await served.post(
        "/v1/transactions?wait=committed&timeout_ms=1", data=fresh(served), headers=MSGPACK
    )
    assert (status, data["state"]) == (202, "pending")


async def test_a_committed_transaction_shows_receipt_position_and_proof(served: Served) -> None:
    status, data, _ = await served.get(f"/v1/transactions/{served.node.first_id.hex()}?proof=1")
    assert (status, data["state"], data["height"], data["index"]) == (200, "committed", 1, 0)
    assert data["at"]["height"] == 3
    assert data["receipt"]["events"][0] == {
        "type": "credit_changed",
        "address": served.node.own.address.hex(),
        "reason": "delegate_reward",
        "delta": 1000,
        "credit": 51000,
    }
    assert set(data["proof"]) == {
        "header", "transaction_path", "receipt", "receipt_path", "next_header", "next_certificate"
    }  # fmt: skip


async def test_an_unknown_transaction_is_404_with_its_state(served: Served) -> None:
    status, data, _ = await served.get(f"/v1/transactions/{'00' * 32}")
    assert (status, data["code"], data["state"], data["height"]) == (404, "unknown_transaction", "unknown", 3)


@pytest.mark.parametrize("code", list(SUBMIT_CODES))
async def test_every_refusal_of_the_service_has_its_status(served: Served, code: SubmitCode) -> None:
    served.node.outcome = SubmitOutcome(code, None, None, "because", retry_after_ms=2_500)
    status, data, headers = await served.post("/v1/transactions", data=b"x", headers=MSGPACK)
    assert status == CATALOGUE[SUBMIT_CODES[code]].status
    assert (data["code"], data["detail"]) == (SUBMIT_CODES[code], "because")
    assert headers["Retry-After"] == "3"


async def test_a_full_pool_is_429_with_retry_after(served: Served) -> None:
    served.node.outcome = SubmitOutcome(SubmitCode.POOL_FULL, bytes(32), None, "full")
    status, data, headers = await served.post("/v1/transactions", data=b"x", headers=MSGPACK)
    assert (status, data["code"], headers["Retry-After"]) == (429, "pool_full", "1")
    assert data["id"] == "00" * 32


async def test_malformed_bytes_are_400(served: Served) -> None:
    assert (await served.problem("POST", "/v1/transactions", data=b"\xc1", headers=MSGPACK))[:2] == (
        400,
        "malformed_transaction",
    )


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        (b'{"transaction": "00", "transaction": "00"}', "malformed_json", "'transaction' stands twice"),
        (b'{"transaction": NaN}', "malformed_json", "invalid character"),
        (b'{"transaction": Infinity}', "malformed_json", "invalid character"),
        (b'{"transaction": 7}', "invalid_body", "$.transaction"),
        (b'{"transaction": "0"}', "invalid_body", "$.transaction"),
        (b'{"transaction": "zz"}', "invalid_body", "$.transaction"),
        (b'{"transaction": "00 00"}', "invalid_body", "$.transaction"),
        (b'{"transaction": "00", "more": 1}', "invalid_body", "more"),
        (b"{}", "invalid_body", "transaction"),
        (b"", "malformed_json", "truncated"),
        (b"[]", "invalid_body", "array"),
        (b'{"transaction": "00"} x', "malformed_json", "trailing"),
        (b'{"transaction": "\xff"}', "malformed_json", "utf-8"),
        (b"[" * 60_000, "malformed_json", ""),
    ],
)
async def test_json_is_strict(served: Served, body: bytes, code: str, place: str) -> None:
    status, found, detail = await served.problem("POST", "/v1/transactions", data=body, headers=JSON)
    if body.startswith(b"[["):
        assert status == 400
        return
    assert (status, found) == (400, code)
    assert place in detail


@pytest.mark.parametrize("path", ["/v1/transactions", "/v1/transactions/batch"])
async def test_other_content_types_are_415(served: Served, path: str) -> None:
    assert (await served.problem("POST", path, data=b"x", headers={"Content-Type": "text/plain"}))[:2] == (
        415,
        "unsupported_media_type",
    )


async def test_compressed_bodies_are_415(served: Served) -> None:
    headers = {**MSGPACK, "Content-Encoding": "gzip"}
    assert (await served.problem("POST", "/v1/transactions", data=b"x", headers=headers))[0] == 415


@pytest.mark.parametrize(
    ("path", "kind", "limit"),
    [
        ("/v1/transactions", MSGPACK, MAX_BODY_BYTES),
        ("/v1/transactions", JSON, MAX_HEX_BODY_BYTES),
        ("/v1/transactions/batch", MSGPACK, MAX_BATCH_BYTES),
        ("/v1/quotes", JSON, MAX_BODY_BYTES),
    ],
)
async def test_too_large_bodies_are_413_announced_or_not(
    served: Served, path: str, kind: dict[str, str], limit: int
) -> None:
    async def dribble() -> AsyncIterator[bytes]:
        for _ in range(limit // 65_536 + 1):
            yield b"x" * 65_536

    announced = await served.problem("POST", path, data=io.BytesIO(b"x" * (limit + 1)), headers=kind)
    chunked = await served.problem("POST", path, data=dribble(), headers=kind)
    assert announced[:2] == chunked[:2] == (413, "body_too_large")
    assert not served.node.submitted


async def test_a_largest_body_is_taken(served: Served) -> None:
    status, _, _ = await served.post("/v1/transactions", data=b"x" * MAX_BODY_BYTES, headers=MSGPACK)
    assert status == 400
    assert len(served.node.submitted[0]) == MAX_BODY_BYTES


# ---- batches


async def test_a_packed_batch_is_answered_item_by_item(served: Served) -> None:
    raws = [fresh(served, 1), b"\xc1", served.node.raw]
    async with served.session.post(
        served.url + "/v1/transactions/batch", data=msgspec.msgpack.encode(raws), headers=MSGPACK
    ) as response:
        assert response.status == 200
        answers = msgspec.msgpack.decode(await response.read())
    assert [answer["code"] for answer in answers] == ["accepted", "malformed_transaction", "known"]
    assert answers[2]["state"] == "committed"
    assert answers[0]["id"] == decode_transaction(raws[0]).id.hex()


async def test_a_line_that_is_broken_hinders_no_other(served: Served) -> None:
    good = json.dumps({"transaction": fresh(served, 1).hex()})
    lines = [good, '{"transaction": 1}', "", '{"transaction":"00","transaction":"00"}', good]
    async with served.session.post(
        served.url + "/v1/transactions/batch", data="\n".join(lines), headers=NDJSON
    ) as response:
        assert response.content_type == "application/x-ndjson"
        answers = [json.loads(line) for line in (await response.read()).splitlines()]
    assert [answer["code"] for answer in answers] == [
        "accepted",
        "invalid_body",
        "malformed_json",
        "malformed_json",
        "known",
    ]
    assert answers[1]["detail"].startswith("line 2: ")


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", msgspec.msgpack.encode(["text"]), msgspec.msgpack.encode({"a": 1})]
)
async def test_what_is_no_batch_is_400(served: Served, body: bytes) -> None:
    assert (await served.problem("POST", "/v1/transactions/batch", data=body, headers=MSGPACK))[:2] == (
        400,
        "malformed_batch",
    )


async def test_too_many_items_are_413(served: Served) -> None:
    packed = msgspec.msgpack.encode([b""] * (MAX_BATCH_ITEMS + 1))
    lines = b"{}\n" * (MAX_BATCH_ITEMS + 1)
    for data, headers in ((packed, MSGPACK), (lines, NDJSON)):
        assert (await served.problem("POST", "/v1/transactions/batch", data=data, headers=headers))[0] == 413
    assert not served.node.submitted


@pytest.mark.parametrize(
    "query",
    [
        "wait=final",
        "timeout_ms=-1",
        "timeout_ms=1e3",
        "timeout_ms=99999999",
        "waait=committed",
        "wait=committed&wait=committed",
    ],
)
async def test_wrong_query_parameters_are_400(served: Served, query: str) -> None:
    path = f"/v1/transactions/{served.node.first_id.hex()}?{query}"
    assert (await served.problem("GET", path))[:2] == (400, "invalid_parameter")
