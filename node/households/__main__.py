"""`python -m node.households URL...`: one household day of trades after the other, through running nodes' APIs."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final

import uvloop

from node.client import NodeClient
from node.client_errors import ClientError
from node.households.day import Day, DayTally
from node.households.market import SLOTS_PER_DAY

SLOTS_PER_HOUR: Final = 4
REQUEST_TIMEOUT_S: Final = 10.0
"""Of one request: a node that hangs must not hold up many slots' worth of them."""
SETTLE_TIMEOUT_S: Final = 30.0
"""How long a day's last trades are waited for; those of a member that is away are settled at the meters' deadline."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

Say = Callable[[str], None]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; exit code 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m node.households",
        description="Trade the packaged day of household load and roof solar, day after day. Each URL is the node "
        "of one household, which signs for it; a node that is away misses its trades, and the day goes on.",
    )
    parser.add_argument(
        "urls", nargs="+", metavar="URL", help="a node's API, for example http://127.0.0.1:26657"
    )
    parser.add_argument("--once", action="store_true", help="end after one day instead of trading for ever")
    parser.add_argument(
        "--from-hour", type=int, default=0, help="hour at which the first day begins, 0 to 23 (default 0)"
    )
    parser.add_argument(
        "--seed", type=int, default=2026, help="of the first day's deviations; the next day's is one more"
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("CGPBFT_API_TOKEN", ""),
        help="bearer token of nodes bound beyond loopback (default: CGPBFT_API_TOKEN)",
    )
    parser.add_argument(
        "--ready-timeout-s", type=float, default=120.0, help="how long to wait for all nodes (default 120)"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.from_hour < SLOTS_PER_DAY // SLOTS_PER_HOUR:
        parser.error(f"--from-hour is 0 to 23, not {options.from_hour}")
    if len(options.urls) < 2:
        parser.error("a trade needs two households: give at least two URLs")
    return options


def summary_of(tally: DayTally) -> str:
    """The counts so far, and the commonest reason for a refusal where there was one."""
    shortfalls = tally.seller_shortfalls + tally.buyer_shortfalls
    text = (
        f"{tally.offered} offered, {tally.settled} settled, {tally.energy_wh / 1000:.1f} kWh, "
        f"{shortfalls} shortfalls, {tally.refused} refusals"
    )
    if not tally.problems:
        return text
    reason = max(tally.problems, key=lambda known: tally.problems[known])
    return f"{text} (most often: {reason})"


async def trade_day(day: Day, number: int, first_slot: int, from_height: int, say: Say) -> None:
    """One day from ``first_slot`` to midnight, with a line at every full hour and one at the end."""

    def progress(slot: int) -> None:
        if slot % SLOTS_PER_HOUR == 0:
            say(f"day {number}, {slot // SLOTS_PER_HOUR:02d}:00  {summary_of(day.tally)}")

    follower = asyncio.create_task(day.follow(from_height))
    try:
        await day.trade(first_slot, SLOTS_PER_DAY, progress)
        in_time = await day.settle(SETTLE_TIMEOUT_S)
        say(
            f"day {number} is over: {summary_of(day.tally)}{'' if in_time else '; some trades are still open'}"
        )
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower


async def trade_days(
    nodes: Sequence[NodeClient], *, seed: int, first_slot: int, once: bool, ready_timeout_s: float, say: Say
) -> None:
    """Wait until all nodes are ready, then trade; `TimeoutError` or a `ClientError` if the first day cannot begin."""
    say(f"waiting for {len(nodes)} nodes")
    await asyncio.gather(*(node.wait_until_ready(ready_timeout_s) for node in nodes))
    day = Day(nodes, seed=seed)
    await day.prepare()
    # What the ledger held before is no work of ours, and is not counted as today's.
    from_height = (await nodes[0].status()).height + 1
    say(f"all {len(nodes)} nodes are ready; the day begins")
    number = 1
    while True:
        await trade_day(day, number, first_slot, from_height, say)
        if once:
            return
        day, number, first_slot = day.next_day(seed=seed + number), number + 1, 0


async def run(options: argparse.Namespace, say: Say) -> int:
    """Exit code: 0 done, or asked to stop by SIGTERM or SIGINT; 1 if the nodes did not become ready."""
    nodes = [NodeClient(url, token=options.token, timeout_s=REQUEST_TIMEOUT_S) for url in options.urls]
    trading = asyncio.ensure_future(
        trade_days(
            nodes,
            seed=options.seed,
            first_slot=options.from_hour * SLOTS_PER_HOUR,
            once=options.once,
            ready_timeout_s=options.ready_timeout_s,
            say=say,
        )
    )
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, trading.cancel)
    try:
        await trading
    except asyncio.CancelledError:
        say("stopped")
    except (ClientError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    finally:
        for node in nodes:
            await node.close()
    return 0


def _say(text: str) -> None:
    """One line, at once: what reads it may be a log."""
    print(text, flush=True)  # noqa: T201 - a program's output


def main() -> int:
    """Entry point."""
    return uvloop.run(run(parse(sys.argv[1:]), _say))


if __name__ == "__main__":
    sys.exit(main())
