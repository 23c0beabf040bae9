"""Commands on ledgers: verify (the independent auditor), compare, export, prove."""

import sys
from pathlib import Path
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
    note,
    print_json,
    run,
)
from node.cli.tables import facts, table
from node.cli.values import digest

if TYPE_CHECKING:
    from node.client import NodeClient

app = typer.Typer(no_args_is_help=True, help="Audit, compare, export, prove.", rich_markup_mode=None)
PROGRESS_BLOCKS = 1_000


@app.command("verify", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@command
def verify(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="DIR|URL", help="A home, an export, or a node's URL.")],
) -> None:
    """Replay every block from genesis with the independent auditor; further options are the auditor's."""
    import importlib

    auditor = importlib.import_module("node.auditor.cli")
    raise typer.Exit(int(auditor.main(["verify", source, *context.args])))


@app.command("compare")
@command
def compare(
    urls: Annotated[list[str], typer.Argument(metavar="URL", help="Two nodes or more.")],
    json: JsonOption = False,
) -> None:
    """Whether nodes hold the same chain: block hash and state root at the greatest height that all have."""
    if len(urls) < 2:
        raise typer.BadParameter("give two nodes or more")

    async def look(url: str, height: int | None) -> tuple[int, str, str]:
        async with connect(url) as client:
            view = await client.block(height)
            return view.height, view.block_hash, str(view.header["state_root"])

    async def ask() -> list[tuple[str, int, str, str]]:
        tips = [await look(url, None) for url in urls]
        common = min(height for height, _, _ in tips)
        at = [await look(url, common) for url in urls]
        return [(url, tip[0], found[1], found[2]) for url, tip, found in zip(urls, tips, at, strict=True)]

    rows = run(ask())
    height = min(row[1] for row in rows)
    equal = len({row[2:] for row in rows}) == 1
    if json:
        nodes = [{"url": u, "height": h, "block_hash": b, "state_root": s} for u, h, b, s in rows]
        print_json({"compared_height": height, "equal": equal, "nodes": nodes})
    else:
        table(f"at height {height}", ("node", "its height", "block hash", "state root of the parent"), rows)
    if not equal:
        fail(f"the nodes differ at height {height}: at least one of them is not on the chain")


@app.command("export")
@command
def export(
    file: Annotated[Path, typer.Argument(help="File to write: msgpack values, genesis first, then blocks.")],
    first: Annotated[int, typer.Option(min=1)] = 1,
    last: Annotated[int | None, typer.Option(min=1, help="By default the last decided block.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
) -> None:
    """Write genesis and certified blocks, in canonical bytes, to one file that an auditor can read."""

    async def fetch(client: "NodeClient") -> int:
        end = (await client.status()).height if last is None else last
        passing = file.with_name(file.name + ".part")
        with passing.open("wb") as out:
            out.write(bytes.fromhex((await client.parameters()).genesis))
            for height in range(first, end + 1):
                out.write(await client.raw_block(height))
                if height % PROGRESS_BLOCKS == 0:
                    note(f"{height} of {end} blocks")
        passing.replace(file)
        return max(0, end - first + 1)

    async def ask() -> int:
        async with connect(node, home) as client:
            return await fetch(client)

    print(f"{run(ask())} blocks in {file}", file=sys.stdout)


@app.command("prove")
@command
def prove(
    transaction: Annotated[str, typer.Argument(metavar="ID", help="Transaction id.")],
    genesis_hash: Annotated[str | None, typer.Option(help="Genesis hash that you trust.")] = None,
    timeout_s: Annotated[float, typer.Option(help="How long to wait for the block after it.")] = 60.0,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Check a receipt against the genesis without trusting the node that gives the proof."""
    from node.verified import VerifiedReader

    transaction_id = digest(transaction)
    pinned = None if genesis_hash is None else digest(genesis_hash, "--genesis-hash")

    async def ask() -> tuple[bytes, int, int, str]:
        async with connect(node, home) as client:
            reader = await VerifiedReader.open(client, pinned)
            proven = await reader.transaction(transaction_id, timeout_s=timeout_s)
            return reader.chain_id, proven.height, proven.index, proven.receipt.code.name.lower()

    chain_id, height, index, code = run(ask())
    if json:
        print_json(
            {"id": transaction, "chain_id": chain_id.hex(), "height": height, "index": index, "code": code}
        )
        return
    trust = "" if pinned else " (as the node says: give --genesis-hash to pin it)"
    facts(
        (
            ("transaction", transaction),
            ("chain", chain_id.hex() + trust),
            ("proven", f"height {height}, index {index}, {code}"),
        )
    )
