"""Commands that look: status, members, groups, epoch, delegates, block, tx."""

from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.common import (
    HOME_DEFAULT,
    HomeOption,
    JsonOption,
    NodeOption,
    command,
    connect,
    fail,
    print_json,
    run,
)
from node.cli.tables import facts, table
from node.cli.values import address, credits_of, digest, money, utc

if TYPE_CHECKING:
    from node.api import schema

MAX_LISTED = 10_000
"""Rows that a table shows; who wants more asks the API page by page."""


@command
def status(node: NodeOption = None, home: HomeOption = HOME_DEFAULT, json: JsonOption = False) -> None:
    """What a node does and, if it does not decide, why."""

    async def ask() -> "schema.StatusView":
        async with connect(node, home) as client:
            return await client.status()

    view = run(ask())
    if json:
        print_json(view)
        return
    consensus = view.consensus
    facts(
        (
            ("chain", f"{view.chain_name} {view.chain_id}"),
            ("node", f"{view.address}, {view.role}, group {'-' if view.group is None else view.group}"),
            ("last block", f"{view.height}, decided {view.last_commit_age_ms / 1000:.1f} s ago"),
            ("epoch", f"{view.epoch}, {view.epoch_phase}"),
            ("undecided", f"height {consensus.height}, view {consensus.view}, {consensus.phase}"),
            ("primary", view.primary),
            ("members", view.members),
            ("ready", "yes" if view.ready else "no: " + "; ".join(view.not_ready_because)),
            ("caught up", "yes" if view.caught_up else f"no: others are at {view.best_known_height}"),
            ("signs", signs_of(view.abstaining_until)),
            ("fault tolerance", "yes" if view.bft else "none: fewer than 4 delegates"),
            ("peers", f"{sum(peer.connected for peer in view.peers)} of {len(view.peers)} connected"),
            ("pool", f"{view.pool.transactions} transactions, {view.pool.bytes} bytes"),
        )
    )
    table(
        "\nlast votes of the delegates",
        ("rank", "address", "primary", "height", "view", "phase", "ms ago"),
        (
            (vote.rank, vote.address, vote.primary, vote.height, vote.view, vote.phase, vote.age_ms)
            for vote in consensus.delegates
        ),
    )


def signs_of(abstaining_until: int | None) -> str:
    """PROTOCOL 6.5: who may have forgotten what it signed signs nothing that could conflict."""
    if abstaining_until is None:
        return "yes"
    why = "its journal was lost, damaged or restored, so it may have signed more than it knows of"
    if abstaining_until < 0:
        return f"no: {why}; it is asking the other delegates how far"
    return f"no, up to height {abstaining_until}: {why}"


@command
def members(
    member: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="One member, with its credit.")
    ] = None,
    proof: Annotated[bool, typer.Option("--prove", help="Check the account against the genesis.")] = False,
    genesis_hash: Annotated[str | None, typer.Option(help="Genesis hash you trust, for --prove.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Members with balance, credit and traded energy; one member's credit history with reasons."""
    if member is None:
        _all_members(node, home, json)
    elif proof:
        pinned = None if genesis_hash is None else digest(genesis_hash, "--genesis-hash")
        _proven_member(address(member), pinned, node, home, json)
    else:
        _one_member(address(member), node, home, json)


def _all_members(node: NodeOption, home: HomeOption, json: bool) -> None:
    from node.client import pages

    async def ask() -> "list[schema.MemberInfo]":
        async with connect(node, home) as client:
            found: list[schema.MemberInfo] = []
            async for item in pages(lambda cursor: client.members(cursor, 100)):
                found.append(item)
                if len(found) >= MAX_LISTED:
                    break
            return found

    found = run(ask())
    if json:
        print_json(found)
        return
    table(
        "",
        ("address", "group", "seat", "credit", "balance", "traded Wh", "open", "left"),
        (
            (
                one.address,
                one.group,
                one.seat,
                credits_of(one.credit),
                money(one.balance),
                one.energy_wh,
                one.open_contracts,
                one.left_height,
            )
            for one in found
        ),
    )


def _one_member(member: bytes, node: NodeOption, home: HomeOption, json: bool) -> None:
    async def ask() -> "tuple[schema.MemberAnswerView, schema.Listing[schema.CreditEntryInfo]]":
        async with connect(node, home) as client:
            return await client.member(member), await client.credit_history(member, limit=100)

    answer, history = run(ask())
    if json:
        print_json({"member": answer.member, "credit_history": history.items})
        return
    m = answer.member
    facts(
        (
            ("address", m.address),
            ("public key", m.public_key),
            ("group", m.group),
            ("seat", m.seat),
            ("balance", money(m.balance)),
            ("credit", credits_of(m.credit)),
            ("traded energy", f"{m.energy_wh} Wh"),
            ("open contracts", m.open_contracts),
            ("left at height", m.left_height),
        )
    )
    table(
        "\ncredit, newest first",
        ("height", "time (UTC)", "reason", "change", "credit"),
        (
            (e.height, utc(e.time_ms), e.reason, credits_of(e.delta), credits_of(e.credit))
            for e in history.items
        ),
    )


def _proven_member(
    member: bytes, pinned: bytes | None, node: NodeOption, home: HomeOption, json: bool
) -> None:
    async def ask() -> "tuple[bytes, ProvenAccount]":
        async with connect(node, home) as client:
            reader = await VerifiedReader.open(client, pinned)
            return reader.chain_id, await reader.account(member)

    from node.verified import ProvenAccount, VerifiedReader

    chain_id, proven = run(ask())
    account = proven.account
    if account is None:
        fail(f"proven at height {proven.height}: {member.hex()} has no account")
    if json:
        print_json(
            {
                "chain_id": chain_id.hex(),
                "height": proven.height,
                "balance": str(account.balance),
                "credit": account.credit,
                "energy_wh": account.energy_wh,
            }
        )
        return
    facts(
        (
            ("proven at height", proven.height),
            ("chain", chain_id.hex() + ("" if pinned else " (as the node says: give --genesis-hash)")),
            ("balance", money(account.balance)),
            ("credit", credits_of(account.credit)),
            ("traded energy", f"{account.energy_wh} Wh"),
        )
    )


@command
def groups(node: NodeOption = None, home: HomeOption = HOME_DEFAULT, json: JsonOption = False) -> None:
    """Groups of the current epoch with their delegates and sums."""

    async def ask() -> "schema.GroupsView":
        async with connect(node, home) as client:
            return await client.groups()

    view = run(ask())
    if json:
        print_json(view)
        return
    table(
        f"epoch {view.epoch}",
        ("group", "delegate", "members", "traded Wh", "credit"),
        (
            (group.number, group.delegate, len(group.members), group.energy_wh, credits_of(group.credit))
            for group in view.groups
        ),
    )


@command
def epoch(
    number: Annotated[
        int | None, typer.Argument(metavar="E", min=0, help="By default the current one.")
    ] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """An epoch: phase, heights, delegates, elections."""

    async def ask() -> "schema.EpochView":
        async with connect(node, home) as client:
            return await client.epoch(number)

    view = run(ask())
    if json:
        print_json(view)
        return
    facts(
        (
            ("epoch", view.epoch),
            ("phase", view.phase),
            ("first height", view.first_height),
            ("snapshot height", view.snapshot_height),
            ("closing height", view.closing_height),
            ("members", len(view.members)),
            ("groups by", "a submitted plan" if view.submitted_plan else "the built-in planner"),
            ("balance missed by", f"{view.energy_excess_wh} Wh, {credits_of(view.credit_excess)} credits"),
        )
    )
    table("\nranking at the first height", ("rank", "delegate"), enumerate(view.delegates))
    table(
        "\nelections",
        ("group", "delegate", "votes", "ballots", "recount"),
        ((t.group, t.delegate, credits_of(t.votes), t.ballots, t.recount) for t in view.tallies),
    )


@command
def delegates(
    height: Annotated[int | None, typer.Option(min=1, help="By default the undecided height.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Who decides a height, in ranking order."""

    async def ask() -> "schema.DelegatesView":
        async with connect(node, home) as client:
            return await client.delegates(height)

    view = run(ask())
    if json:
        print_json(view)
        return
    table(
        f"height {view.for_height}, epoch {view.epoch}, quorum {view.quorum} of {len(view.ranking)}",
        ("rank", "address", "primary"),
        ((rank, one.address, one.address == view.primary) for rank, one in enumerate(view.ranking)),
    )


@command
def block(
    height: Annotated[int | None, typer.Argument(metavar="H", min=1, help="By default the last one.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """A block: header, transactions and how they ended, what no transaction caused."""

    async def ask() -> "schema.BlockView":
        async with connect(node, home) as client:
            return await client.block(height)

    view = run(ask())
    if json:
        print_json(view)
        return
    names = ("height", "epoch", "view", "proposer", "parent_hash", "state_root", "receipts_root")
    facts(
        (
            ("hash", view.block_hash),
            ("time (UTC)", utc(view.header["time_ms"])),
            *((name.replace("_", " "), view.header[name]) for name in names),
            ("discarded", ", ".join(view.discarded) or None),
        )
    )
    table("\ntransactions", ("id", "result"), ((one.id, one.code) for one in view.transactions))
    table("\nevents of the block itself", ("type", "data"), ((e["type"], _short(e)) for e in view.events))


def _short(event: dict[str, object]) -> str:
    text = ", ".join(f"{name} {value}" for name, value in event.items() if name != "type")
    return text if len(text) <= 160 else text[:157] + "..."


@command
def tx(
    transaction: Annotated[str, typer.Argument(metavar="ID", help="Transaction id.")],
    proof: Annotated[bool, typer.Option("--prove", help="Check the receipt against the genesis.")] = False,
    genesis_hash: Annotated[str | None, typer.Option(help="Genesis hash you trust, for --prove.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """How a transaction ended; with --prove checked against the genesis without trusting the node."""
    transaction_id = digest(transaction)
    pinned = None if genesis_hash is None else digest(genesis_hash, "--genesis-hash")

    async def ask() -> "tuple[schema.TransactionView, str]":
        async with connect(node, home) as client:
            view = await client.transaction(transaction_id)
            if not proof:
                return view, ""
            reader = await VerifiedReader.open(client, pinned)
            raw = None if view.raw is None else bytes.fromhex(view.raw)
            proven = await reader.transaction(transaction_id, raw=raw)
            return view, f"height {proven.height}, index {proven.index}, {proven.receipt.code.name.lower()}"

    from node.verified import VerifiedReader

    view, proven = run(ask())
    if json:
        print_json({"transaction": view, "proven": proven or None})
        return
    body = view.transaction or {}
    facts(
        (
            ("id", view.id),
            ("state", view.state),
            ("type", body.get("type")),
            ("sender", body.get("sender")),
            ("height", view.height),
            ("index", view.index),
            ("reason", view.reason or None),
            ("held by", f"{view.holders} delegates"),
            ("proven", proven or "not asked for (--prove)"),
        )
    )
    if view.receipt is not None:
        table("\nevents", ("type", "data"), ((e["type"], _short(e)) for e in view.receipt.events))
