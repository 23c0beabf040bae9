"""What operators decide together: each signs in turn in a file that goes round; the last one's command submits it."""

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from node.cli.common import (
    HOME_DEFAULT,
    HomeOption,
    JsonOption,
    NodeOption,
    PassphraseOption,
    command,
    connect,
    fail,
    note,
    own_key,
    passphrase_from,
    print_json,
    run,
    write_atomically,
)
from node.cli.submitting import now_ms, tell
from node.cli.tables import facts
from node.cli.values import address, amount, digest, hex_value

if TYPE_CHECKING:
    from contracts.transaction import Payload, Transaction
    from node.api import schema
    from node.client import NodeClient
    from node.keystore import KeyPair

app = typer.Typer(no_args_is_help=True, help="Decisions that operators sign together.", rich_markup_mode=None)
FileOption = Annotated[
    Path, typer.Option("--file", help="The file that goes round; made if it is not there.")
]
KeyOption = Annotated[Path | None, typer.Option("--key", help="Your operator key file.")]
StartsIn = Annotated[
    int, typer.Option(min=0, help="Seconds until it becomes valid: time to collect signatures.")
]
SubmitOption = Annotated[bool, typer.Option("--submit/--no-submit", help="Submit once enough have signed.")]
HOUR_MS = 3_600_000
MAX_FILE_BYTES = 262_144


class SignedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transaction that collects signatures: full bytes with those made so far."""

    kind: str
    transaction: str


def _operator(path: Path | None, passphrase_file: Path | None) -> "KeyPair":
    from node.keystore import read_key

    if path is None:
        raise typer.BadParameter("name your operator key file", param_hint="--key")
    return read_key(path.expanduser(), passphrase_from(passphrase_file))


# ---- transactions


def _read(path: Path, kind: str) -> "Transaction":
    from consensus.errors import MalformedInput
    from contracts.transaction import decode_transaction

    data = path.read_bytes()
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        file = msgspec.json.decode(data, type=SignedFile)
        transaction = decode_transaction(bytes.fromhex(file.transaction))
    except (msgspec.MsgspecError, MalformedInput, ValueError) as error:
        fail(f"{path} is no file of `cgpbft operator {kind}`: {error}")
    if file.kind != kind or transaction.type.name.lower() != kind:
        fail(f"{path} holds the decision {transaction.type.name.lower()}, not {kind}")
    return transaction


def _write(path: Path, kind: str, raw: bytes) -> None:
    write_atomically(
        path, msgspec.json.format(msgspec.json.encode(SignedFile(kind, raw.hex())), indent=2) + b"\n"
    )


def _with_signature(transaction: "Transaction", key: "KeyPair") -> bytes:
    from consensus.signing import TRANSACTION_DOMAIN
    from contracts.transaction import Signature, join_signatures

    if any(one.public_key == key.public_key for one in transaction.signatures):
        return transaction.raw
    added = Signature(key.public_key, key.sign(transaction.signed_bytes))
    signatures: tuple[Signature, ...] = (*transaction.signatures, added)
    return join_signatures(transaction.signed_bytes[len(TRANSACTION_DOMAIN) :], signatures)


async def _begin(client: "NodeClient", payload: "Payload", signer: "KeyPair", starts_in_s: int) -> bytes:
    from contracts.transaction import encode_body, sign_body

    rules = await client.parameters()
    status = await client.status()
    window_ms = int(rules.parameters["tx_window_ms"])
    start = now_ms() + 1_000 * starts_in_s if starts_in_s else min(now_ms(), status.block_time_ms)
    body = encode_body(
        bytes.fromhex(rules.chain_id), signer.address, start, start + window_ms, secrets.randbits(63), payload
    )
    return sign_body(body, (signer,))


async def _finish(
    client: "NodeClient", transaction: "Transaction", submit: bool, file: Path
) -> "tuple[schema.Submission, schema.TransactionView | None] | None":
    """Submit, if enough operators signed; else say how many miss."""
    rules = await client.parameters()
    if transaction.chain_id.hex() != rules.chain_id:
        fail(f"{file} is for chain {transaction.chain_id.hex()}, the node is on {rules.chain_id}")
    keys = {one.public_key.hex() for one in transaction.signatures}
    signed = sum(1 for operator in rules.operators if operator in keys)
    if signed < rules.operator_threshold:
        note(f"{signed} of {rules.operator_threshold} operators have signed {file}: pass it on")
        return None
    if not submit:
        note(f"{file} is complete: run the command again with --submit")
        return None
    while now_ms() < transaction.valid_from_ms + 500:
        left_s = (transaction.valid_from_ms + 500 - now_ms()) / 1_000
        note(f"valid in {left_s:.0f} s")
        await asyncio.sleep(min(left_s, 10.0))
    submission = await client.submit(transaction.raw)
    return submission, await client.await_final(submission.id)


def _decide(
    kind: str,
    payload: "Payload | None",
    signer: "KeyPair",
    file: Path,
    *,
    node: str | None,
    home: Path,
    starts_in_s: int,
    submit: bool,
    json: bool,
) -> None:
    """Begin the file with ``payload``, or add a signature to it; then submit it if it is complete."""
    from contracts.transaction import decode_transaction

    async def work() -> "tuple[schema.Submission, schema.TransactionView | None] | None":
        async with connect(node, home) as client:
            if payload is not None:
                raw = await _begin(client, payload, signer, starts_in_s)
            else:
                raw = _with_signature(_read(file, kind), signer)
            _write(file, kind, raw)
            return await _finish(client, decode_transaction(raw), submit, file)

    if payload is not None and file.exists():
        fail(f"{file} exists already: to sign it too, give no more than --file and --key")
    if payload is None and not file.exists():
        fail(f"no file {file}: to begin it, say what is decided (see --help)")
    outcome = run(work())
    if outcome is not None:
        tell(*outcome, json=json, what=kind)


@app.command("issue")
@command
def issue(
    file: FileOption,
    member: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="Who gets it; begins the file.")
    ] = None,
    value: Annotated[str | None, typer.Argument(metavar="AMOUNT", help="Currency.")] = None,
    key: KeyOption = None,
    starts_in: StartsIn = 0,
    submit: SubmitOption = True,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Create money for a member."""
    from contracts.transaction import Issue

    if (member is None) != (value is None):
        raise typer.BadParameter("ADDRESS and AMOUNT belong together")
    payload = None if member is None or value is None else Issue(address(member), amount(value))
    signer = _operator(key, passphrase_file)
    _decide(
        "issue", payload, signer, file, node=node, home=home, starts_in_s=starts_in, submit=submit, json=json
    )


@app.command("redeem")
@command
def redeem(
    file: FileOption,
    value: Annotated[
        str | None, typer.Argument(metavar="AMOUNT", help="The member begins the file with it.")
    ] = None,
    key: KeyOption = None,
    starts_in: StartsIn = 0,
    submit: SubmitOption = True,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Destroy money of a member: the member begins with its home's key, the operators sign after it."""
    from contracts.transaction import Redeem

    payload, signer = None, None
    if value is not None:
        payload = Redeem(amount(value))
        signer = own_key(home, passphrase_file)
        if signer is None:
            fail("the member begins, with the node key of its home: see --home")
    else:
        signer = _operator(key, passphrase_file)
    _decide(
        "redeem", payload, signer, file, node=node, home=home, starts_in_s=starts_in, submit=submit, json=json
    )


@app.command("excuse")
@command
def excuse(
    file: FileOption,
    trade: Annotated[str | None, typer.Argument(metavar="TRADE", help="Trade id; begins the file.")] = None,
    key: KeyOption = None,
    starts_in: StartsIn = 0,
    submit: SubmitOption = True,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Let a trade settle without penalties and without credit change."""
    from contracts.transaction import Excuse

    payload = None if trade is None else Excuse(digest(trade, "TRADE"))
    signer = _operator(key, passphrase_file)
    _decide(
        "excuse", payload, signer, file, node=node, home=home, starts_in_s=starts_in, submit=submit, json=json
    )


# ---- files that members hold


@app.command("invite")
@command
def invite(
    file: FileOption,
    member_key: Annotated[
        str | None, typer.Option(help="Public key of who may join; begins the file.")
    ] = None,
    meter_public_key: Annotated[str | None, typer.Option(help="By default the member's key.")] = None,
    max_power_w: Annotated[
        int, typer.Option(min=1, max=100_000_000, help="Greatest power of the meter.")
    ] = 30_000,
    hours: Annotated[int, typer.Option(min=1, max=8_760, help="How long the invite is good.")] = 168,
    key: KeyOption = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Invite a member and approve its meter; the finished file goes to `cgpbft join --invite`."""
    from consensus.hashing import address_of
    from contracts.signatures import invite_bytes, meter_bytes
    from contracts.transaction import Invite, Meter, Signature
    from node.invites import InviteFile, read_invite, write_invite

    signer = _operator(key, passphrase_file)

    async def ask() -> "schema.ParametersView":
        async with connect(node, home) as client:
            return await client.parameters()

    rules = run(ask())
    if member_key is not None:
        if file.exists():
            fail(f"{file} exists already: to sign it too, give no more than --file and --key")
        member = hex_value(member_key, 32, "--member-key")
        meter = member if meter_public_key is None else hex_value(meter_public_key, 32, "--meter-public-key")
        held = InviteFile(
            bytes.fromhex(rules.chain_id),
            Invite(member, now_ms() + hours * HOUR_MS, ()),
            Meter(meter, max_power_w, ()),
        )
    else:
        held = read_invite(file)
    if held.chain_id.hex() != rules.chain_id:
        fail(f"{file} is for chain {held.chain_id.hex()}, the node is on {rules.chain_id}")
    person, device = held.invite, held.meter
    if all(one.public_key != signer.public_key for one in person.approvals):
        first = invite_bytes(person.public_key, person.last_time_ms, held.chain_id)
        owner = address_of(person.public_key)
        second = meter_bytes(device.public_key, device.max_power_w, owner, held.chain_id)
        approval = Signature(signer.public_key, signer.sign(first))
        meter_approval = Signature(signer.public_key, signer.sign(second))
        person = msgspec.structs.replace(person, approvals=(*person.approvals, approval))
        device = msgspec.structs.replace(device, approvals=(*device.approvals, meter_approval))
    write_invite(file, InviteFile(held.chain_id, person, device))
    _count([one.public_key.hex() for one in person.approvals], rules, file, json, "hand it to the member")


def _count(
    signers: list[str], rules: "schema.ParametersView", file: Path, json: bool, when_done: str
) -> None:
    signed = sum(1 for operator in rules.operators if operator in signers)
    complete = 0 < rules.operator_threshold <= signed
    if json:
        print_json(
            {"file": str(file), "signed": signed, "needed": rules.operator_threshold, "complete": complete}
        )
        return
    next_step = when_done if complete else "pass it to the next operator"
    facts(
        (("file", file), ("signed", f"{signed} of {rules.operator_threshold} operators"), ("next", next_step))
    )


@app.command("resume")
@command
def resume(
    file: FileOption,
    height: Annotated[int | None, typer.Option(min=1, help="Undecided height; begins the file.")] = None,
    first_view: Annotated[
        int | None, typer.Option(min=0, help="Above every view anyone signed there.")
    ] = None,
    key: KeyOption = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Let a chain go on after more than f journals were lost (PROTOCOL 6.5); for `cgpbft start --resume FILE`."""
    from node.resume import ResumeFile, approve, read_resume

    if (height is None) != (first_view is None):
        raise typer.BadParameter("--height and --first-view belong together")
    signer = _operator(key, passphrase_file)

    async def ask() -> "schema.ParametersView":
        async with connect(node, home) as client:
            return await client.parameters()

    rules = run(ask())
    if height is not None and first_view is not None:
        if file.exists():
            fail(f"{file} exists already: to sign it too, give no more than --file and --key")
        held = ResumeFile(rules.chain_id, height, first_view)
    else:
        held = read_resume(file)
    if held.chain_id != rules.chain_id:
        fail(f"{file} is for chain {held.chain_id}, the node is on {rules.chain_id}")
    held = approve(held, signer)
    write_atomically(file, msgspec.json.format(msgspec.json.encode(held), indent=2) + b"\n")
    done = "start every delegate with --resume"
    _count([one.public_key for one in held.approvals], rules, file, json, done)
