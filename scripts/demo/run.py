"""`scripts/run`: a local network, a day of household trades through it, and what came of it."""

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from node.cli.localnet import FILE, Network
from node.client import NodeClient
from node.households.day import Day
from scripts.demo.summary import all_members, money_total, summarise

MORNING: Final = 22
"""05:30 UTC, when the roofs of the packaged day begin to yield more than their homes need."""
QUARTERS_ONCE: Final = 46
"""`--once` trades until 17:00: enough for two elections and 200 trades in under a minute of demo slots."""
START_TIMEOUT_S: Final = 120.0
SETTLE_TIMEOUT_S: Final = 30.0
ELECTIONS_ONCE: Final = 2


def say(text: str) -> None:
    """One line of progress, on standard error so that standard output stays readable by programs."""
    print(text, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Command line of `scripts/run`."""
    parser = argparse.ArgumentParser(
        prog="scripts/run",
        description="Start a local network here and trade a day of real households through it.",
    )
    parser.add_argument("--members", type=int, default=8, help="node processes, 4 to 24 (default 8)")
    parser.add_argument(
        "--groups", type=int, default=4, help="groups, each of which elects a delegate (default 4)"
    )
    parser.add_argument("--once", action="store_true", help="stop after one day instead of staying up")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--home", type=Path, help="folder of all homes and logs (default: a temporary one)")
    parser.add_argument("--base-port", type=int, default=26_650, help="the bootstrap's port; others follow")
    parser.add_argument("--seed", type=int, default=2026, help="of the households' deviations")
    parser.add_argument(
        "--set", action="append", default=[], dest="rules", metavar="NAME=VALUE", help="a genesis parameter"
    )
    parser.add_argument(
        "--links", action="store_true", help="a proxy for every link, for scripts/faults/partition"
    )
    return parser.parse_args(arguments)


def start_network(options: argparse.Namespace, home: Path) -> subprocess.Popen[bytes]:
    """`cgpbft localnet` as a child, with proxies on its links if asked for; its notes go to our standard error."""
    program = ["scripts.faulting.localnet"] if options.links else ["node", "localnet"]
    line = [
        sys.executable, "-m", *program,
        "--members", str(options.members),
        "--groups", str(options.groups),
        "--home", str(home),
        "--base-port", str(options.base_port),
        *(part for rule in options.rules for part in ("--set", rule)),
    ]  # fmt: skip
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, start_new_session=True)


async def stop_network(process: subprocess.Popen[bytes]) -> None:
    """Ask the supervisor to stop everything, and wait for it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)


async def await_network(process: subprocess.Popen[bytes], home: Path) -> Network:
    """localnet.json once it is there and all nodes are ready."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while not (home / FILE).exists():
            if process.poll() is not None:
                raise SystemExit(f"the network did not start (exit {process.returncode}); see {home}/*/log")
            await asyncio.sleep(0.1)
        network = msgspec.json.decode((home / FILE).read_bytes(), type=Network)
        for place in network.nodes:
            async with NodeClient(place.url) as node:
                await node.wait_until_ready(START_TIMEOUT_S)
    return network


async def trade_and_settle(options: argparse.Namespace, day: Day) -> None:
    """The day's quarter-hours, their settlement and, with --once, the second election."""
    await day.trade(
        MORNING, MORNING + QUARTERS_ONCE if options.once else 96, lambda quarter: _tell(day, quarter)
    )
    if not await day.settle(SETTLE_TIMEOUT_S):
        say("some trades are not settled yet")
    if options.once and not await day.until(
        lambda tally: tally.elections >= ELECTIONS_ONCE, SETTLE_TIMEOUT_S
    ):
        say("the second election has not ended yet")


async def follow_and_trade(options: argparse.Namespace, day: Day) -> None:
    """Trade a day while its events are counted; a count that fails ends the day too."""
    follower = asyncio.create_task(day.follow())
    trading = asyncio.create_task(trade_and_settle(options, day))
    try:
        done, _ = await asyncio.wait((follower, trading), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        trading.cancel()
        follower.cancel()
        await asyncio.gather(follower, trading, return_exceptions=True)


async def trade_on(options: argparse.Namespace, day: Day) -> None:
    """Day after day, also while some of the nodes are away."""
    while True:
        options.seed += 1
        day = day.next_day(seed=options.seed)
        await follow_and_trade(options, day)


def _tell(day: Day, quarter: int) -> None:
    tally = day.tally
    if quarter % 4 == 0:
        say(
            f"{quarter // 4:02d}:00  {tally.settled} trades settled, {tally.energy_wh / 1000:.1f} kWh, "
            f"{tally.elections} elections, {tally.ballots} ballots, {tally.refused} refusals"
        )


async def tell_members(nodes: Sequence[NodeClient]) -> None:
    """Balance, credit and energy of everybody, as a table."""
    from rich.console import Console
    from rich.table import Table

    delegates = await nodes[0].delegates()
    seats = {delegate.address: rank for rank, delegate in enumerate(delegates.ranking)}
    table = Table("member", "group", "seat", "balance", "credit", "traded kWh")
    for member in await all_members(nodes[0]):
        seat = seats.get(member.address)
        role = (
            ""
            if seat is None
            else "primary"
            if member.address == delegates.primary
            else f"delegate {seat + 1}"
        )
        balance = f"{int(member.balance) / 1e9:,.4f}"
        table.add_row(
            member.address,
            str(member.group),
            role,
            balance,
            f"{member.credit / 1000:.3f}",
            f"{member.energy_wh / 1000:.2f}",
        )
    Console(stderr=True).print(table)


def how_to_look(network: Network, home: Path) -> str:
    """What to do with a network that is up."""
    url = network.nodes[0].url
    return f"""
The network is up and trades on. In another terminal, with `source .venv/bin/activate`:
  cgpbft status --node {url}            what node 1 does
  cgpbft members --node {url}           credit, balance, energy
  cgpbft trade list --node {url}        the newest trades
  cgpbft delegates --node {url}         who decides
  cgpbft join {network.bootstrap.url}   a further member: --home DIR --api 127.0.0.1:0 --listen 127.0.0.1:0
  scripts/faults/kill primary --home {home}   and watch a backup take over
Homes and logs are in {home}. Ctrl-C stops all."""


async def run(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """The whole demonstration; the summary of its first day."""
    begun = time.monotonic()
    say(f"starting a bootstrap and {options.members} nodes in {home}")
    process = start_network(options, home)
    clients: list[NodeClient] = []
    try:
        network = await await_network(process, home)
        say(f"{options.members} nodes are ready after {time.monotonic() - begun:.0f} s; the day begins")
        clients = [NodeClient(place.url) for place in network.nodes]
        day = Day(clients, seed=options.seed)
        await day.prepare()
        money_before = await money_total(clients[0])
        await follow_and_trade(options, day)
        summary = await summarise(clients, day.tally, money_before, time.monotonic() - begun)
        await tell_members(clients)
        if not options.once:
            print(json.dumps(summary) if options.json else _text(summary), flush=True)
            say(how_to_look(network, home))
            await trade_on(options, day)
        return summary
    finally:
        for client in clients:
            await client.close()
        await stop_network(process)


def _text(summary: dict[str, Any]) -> str:
    return "\n".join(f"{name:20} {value}" for name, value in summary.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if the day was traded, every node agrees and no money was made or lost."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory(prefix="cgpbft-") as temporary, contextlib.suppress(KeyboardInterrupt):
        summary = uvloop.run(run(options, Path(options.home or temporary).resolve()))
        print(json.dumps(summary) if options.json else _text(summary), flush=True)
        sound = summary["state_root_equal"] and summary["money_total_before"] == summary["money_total_after"]
        return 0 if sound and summary["trades_settled"] else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
