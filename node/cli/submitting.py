"""Signing with the home's key and submitting, or asking the node to sign with its own; then waiting for the ledger."""

import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from node.cli.common import connect, fail, own_key, print_json, run
from node.cli.tables import facts

if TYPE_CHECKING:
    from consensus.signing import Signer
    from contracts.transaction import Payload
    from node.api import schema
    from node.client import NodeClient

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the ledger has it.")]
MakePayload = Callable[["NodeClient", "Signer"], Awaitable["Payload"]]
AskNode = Callable[["NodeClient"], Awaitable["schema.Submission"]]


def now_ms() -> int:
    """This machine's clock, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def window(block_time_ms: int, window_ms: int) -> tuple[int, int]:
    """valid_from and valid_until around now: from the last block's time, unless that lies too far back (9.2)."""
    now = now_ms()
    start = min(now, max(block_time_ms, now - window_ms // 2))
    return start, start + window_ms


async def sign_locally(client: "NodeClient", payload: "Payload", signers: "tuple[Signer, ...]") -> bytes:
    """A transaction of the first of ``signers``, for the chain of the node asked, valid from now."""
    from consensus.hashing import address_of
    from contracts.transaction import encode_body, sign_body

    rules = await client.parameters()
    status = await client.status()
    start, end = window(status.block_time_ms, int(rules.parameters["tx_window_ms"]))
    sender = address_of(signers[0].public_key)
    body = encode_body(bytes.fromhex(rules.chain_id), sender, start, end, secrets.randbits(63), payload)
    return sign_body(body, signers)


class Signing(NamedTuple):
    """Options of every signing command."""

    node: str | None
    home: Path
    token: str
    passphrase_file: Path | None
    wait: bool
    json: bool


def sign_and_send(make: MakePayload, ask_node: AskNode, options: Signing, what: str) -> None:
    """Sign with the home's key, or without one let the node sign; tell how it ended (exit code 1 if rejected)."""
    key = own_key(options.home, options.passphrase_file)

    async def send() -> "tuple[schema.Submission, schema.TransactionView | None]":
        async with connect(options.node, options.home, options.token) as client:
            if key is None:
                submission = await ask_node(client)
            else:
                raw = await sign_locally(client, await make(client, key), (key,))
                submission = await client.submit(raw)
            return submission, await client.await_final(submission.id) if options.wait else None

    tell(*run(send()), json=options.json, what=what)


def tell(
    submission: "schema.Submission", view: "schema.TransactionView | None", *, json: bool, what: str
) -> None:
    """Print how a submission stands; end with 1 if the ledger rejected it."""
    if json:
        print_json(submission if view is None else view)
    else:
        facts(
            (
                (what, submission.id),
                ("state", submission.state if view is None else view.state),
                *(() if view is None else (("height", view.height), ("index", view.index))),
            )
        )
    if view is not None and view.state != "committed":
        fail(f"{what} {submission.id} is {view.state}: {view.reason or 'see cgpbft tx'}")
