"""Submitting transactions, one or many, and asking how they ended (PROTOCOL 9.2, 9.3).

The hot path hands bytes to the service: nothing is decoded, hashed or logged here for a transaction.
"""

from typing import Final

import msgspec
from aiohttp import web

from node.api import schema, views
from node.api.body import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ITEMS,
    MAX_BODY_BYTES,
    MAX_HEX_BODY_BYTES,
    decode_json,
    media_type,
    read_body,
)
from node.api.context import answer, service_of
from node.api.problems import SUBMIT_CODES, Problem, refusal
from node.api.query import Query, path_bytes
from node.service import NodeService, SubmitCode, SubmitOutcome, TransactionState, TransactionStatus

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
FINAL_STATES: Final = frozenset(
    {
        TransactionState.COMMITTED,
        TransactionState.REJECTED,
        TransactionState.DISCARDED,
        TransactionState.EXPIRED,
    }
)
_batch_decoder: Final = msgspec.msgpack.Decoder(list[bytes])
_json_encoder: Final = msgspec.json.Encoder()
_msgpack_encoder: Final = msgspec.msgpack.Encoder()


async def submit(request: web.Request) -> web.Response:
    """POST /v1/transactions: 202, or 200 with ?wait=committed once it is final."""
    kind = media_type(request, MSGPACK, JSON)
    if kind == MSGPACK:
        raw = await read_body(request, MAX_BODY_BYTES)
    else:
        raw = _from_hex(decode_json(await read_body(request, MAX_HEX_BODY_BYTES), schema.TransactionRequest))
    return await respond(request, await service_of(request).submit(raw))


def _from_hex(body: schema.TransactionRequest) -> bytes:
    try:
        raw = bytes.fromhex(body.transaction)
    except ValueError as error:
        raise Problem("invalid_body", f"not hex: {error} - at `$.transaction`") from error
    if 2 * len(raw) != len(body.transaction):
        raise Problem("invalid_body", "spaces in hex - at `$.transaction`")
    return raw


async def respond(request: web.Request, outcome: SubmitOutcome, *, opens_trade: bool = False) -> web.Response:
    """The answer to one submission, by the node's key or another's."""
    query = Query(request)
    wait = query.choice("wait", ("committed",))
    timeout_ms = query.timeout_ms()
    query.done()
    if not outcome.accepted or outcome.id is None:
        raise refusal(outcome)
    url = f"/v1/transactions/{outcome.id.hex()}"
    if wait is None:
        view = schema.Submission(
            id=outcome.id.hex(),
            state=str(outcome.state or TransactionState.PENDING),
            holders=outcome.holders,
            status_url=url,
            trade_url=f"/v1/trades/{outcome.id.hex()}" if opens_trade else None,
        )
        return answer(view, 202, {"Location": url})
    service = service_of(request)
    status = await service.wait_committed(outcome.id, timeout_ms)
    return answer(_view(service, status), 200 if status.state in FINAL_STATES else 202, {"Location": url})


def _view(service: NodeService, status: TransactionStatus) -> schema.TransactionView:
    block_hash = None
    if status.height is not None:
        block_hash = service.certificate(status.height).certified.certificate.digest
    return views.transaction(status, block_hash)


async def submit_batch(request: web.Request) -> web.Response:
    """POST /v1/transactions/batch: 200 with one answer each, in order, in the format of the request."""
    kind = media_type(request, MSGPACK, NDJSON)
    Query(request).done()
    body = await read_body(request, MAX_BATCH_BYTES)
    service = service_of(request)
    if kind == MSGPACK:
        answers = [_batch_answer(outcome) for outcome in await service.submit_many(_packed(body))]
        return web.Response(body=_msgpack_encoder.encode(answers), content_type=MSGPACK)
    answers = await _submit_lines(service, body)
    return web.Response(body=_json_encoder.encode_lines(answers), content_type=NDJSON)


def _packed(body: bytes) -> list[bytes]:
    try:
        raws = _batch_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("malformed_batch", f"expected a msgpack array of byte strings: {error}") from error
    _check_count(len(raws))
    return raws


def _check_count(count: int) -> None:
    if count > MAX_BATCH_ITEMS:
        raise Problem("body_too_large", f"{count} transactions; a batch holds at most {MAX_BATCH_ITEMS}")


async def _submit_lines(service: NodeService, body: bytes) -> list[schema.BatchAnswer]:
    """A line that is no transaction is answered in its place and does not hinder the others."""
    lines = body.split(b"\n")
    if lines and not lines[-1].strip():
        lines.pop()
    _check_count(len(lines))
    raws: list[bytes] = []
    broken: dict[int, schema.BatchAnswer] = {}
    for index, line in enumerate(lines):
        try:
            raws.append(_from_hex(decode_json(line, schema.TransactionRequest, f"line {index + 1}: ")))
        except Problem as problem:
            broken[index] = schema.BatchAnswer(id=None, state=None, code=problem.code, detail=problem.detail)
    outcomes = iter(await service.submit_many(raws))
    return [broken.get(index) or _batch_answer(next(outcomes)) for index in range(len(lines))]


def _batch_answer(outcome: SubmitOutcome) -> schema.BatchAnswer:
    code = outcome.code
    return schema.BatchAnswer(
        id=None if outcome.id is None else outcome.id.hex(),
        state=None if outcome.state is None else outcome.state.value,
        code=code.value if code in (SubmitCode.ACCEPTED, SubmitCode.KNOWN) else SUBMIT_CODES[code],
        detail=outcome.reason,
        retry_after_ms=outcome.retry_after_ms,
        holders=outcome.holders,
    )


async def transaction(request: web.Request) -> web.Response:
    """GET /v1/transactions/{id}: state, receipt and, with ?proof=1, its proof; waits with ?wait=committed."""
    transaction_id = path_bytes(request, "id", 32)
    query = Query(request)
    proof = query.flag("proof")
    wait = query.choice("wait", ("committed",))
    timeout_ms = query.timeout_ms()
    query.done()
    service = service_of(request)
    status = service.transaction_status(transaction_id, proof=proof)
    if wait is not None and status.state not in FINAL_STATES:
        await service.wait_committed(transaction_id, timeout_ms)
        status = service.transaction_status(transaction_id, proof=proof)
    if status.state is TransactionState.UNKNOWN:
        raise Problem(
            "unknown_transaction",
            f"no transaction {transaction_id.hex()} up to height {status.at.height}",
            id=transaction_id.hex(),
            state=str(status.state),
            height=status.at.height,
            block_hash=status.at.block_hash.hex(),
        )
    return answer(_view(service, status))
