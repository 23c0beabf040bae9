"""scripts/faults/recovery: how long the chain stands still when its primary is killed, and how fast a node is back.

RELIABILITY G12: p99 from SIGKILL to the next commit at most 1.5 view timers; ready again within 3 s and the time that
catching up takes.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from node.cli.localnet import Place
from node.client import NodeClient
from node.client_errors import ClientError
from node.keystore import NODE_KEY_FILE, read_key
from scripts.faulting import commands
from scripts.faulting.errors import FaultError
from scripts.faulting.network import look, read
from scripts.faulting.own_network import add_options, own_network
from scripts.history.bench import machine
from scripts.history.recording.market import Market

LOAD_PAUSE_S: Final = 0.06
COMMIT_S: Final = 60.0
DOWN_S: Final = 3.0
"""How long a killed node stays away: what it misses it has to fetch."""
SETTLE_S: Final = 2.0
STILL_BLOCKS: Final = 5
"""More than this, and the chain goes on, though nobody was charged."""
GREATEST_SHARE: Final = 1.5
"""Of the view timer."""
RESTART_S: Final = 3.0
BLOCKS_PER_S: Final = 200
"""The least at which a node catches up."""


class Kill(NamedTuple):
    """One round."""

    commit_s: float
    ready_s: float
    missed: int
    """Blocks decided while it was away."""


class Blocks:
    """When blocks and faults were first heard of, from all nodes."""

    def __init__(self) -> None:
        self.first: dict[int, float] = {}
        self.charged: dict[str, int] = {}
        """Height at which a primary was last charged with no block."""
        self.changed = asyncio.Event()

    async def follow(self, place: Place) -> None:
        """Until cancelled, from where it was left off."""
        while True:
            with contextlib.suppress(ClientError, TimeoutError):
                async with NodeClient(place.url, timeout_s=5) as node:
                    async for event in node.events(reconnect=False):
                        self.first.setdefault(event.height, time.monotonic())
                        if event.type == "fault_recorded" and event.data["data"]["kind"] == "no_block":
                            self.charged[event.data["data"]["address"]] = event.height
                        released, self.changed = self.changed, asyncio.Event()
                        released.set()
            await asyncio.sleep(0.2)

    async def charge(self, address: str, after: int) -> int:
        """The height that charged ``address``: decided by another primary in its place."""
        async with asyncio.timeout(COMMIT_S):
            while (height := self.charged.get(address, 0)) <= after:
                await self.changed.wait()
        return height


async def _load(places: Sequence[Place], market: Market) -> None:
    """A payment every 60 ms, so that something always waits to be decided."""
    clients = [NodeClient(place.url, timeout_s=5) for place in places]
    flying: set[asyncio.Task[None]] = set()

    async def submit(client: NodeClient, raw: bytes) -> None:
        with contextlib.suppress(ClientError, TimeoutError):
            await client.submit(raw)

    try:
        while True:
            for client in clients:
                task = asyncio.create_task(submit(client, market.transaction().raw))
                flying.add(task)
                task.add_done_callback(flying.discard)
                await asyncio.sleep(LOAD_PAUSE_S)
    finally:
        for task in tuple(flying):
            task.cancel()
        for client in clients:
            await client.close()


async def _measure(home: Path, kills: int) -> tuple[list[Kill], int]:
    network = read(home)
    keys = [read_key(Path(place.home) / NODE_KEY_FILE) for place in network.nodes]
    async with NodeClient(network.nodes[0].url) as node:
        view = await node.parameters()
    rules = {name: int(value) for name, value in view.parameters.items()}
    market = Market(keys, bytes.fromhex(view.chain_id), rules["slot_ms"], rules["tx_window_ms"], 1)
    blocks = Blocks()
    tasks = [asyncio.create_task(blocks.follow(place)) for place in network.nodes]
    tasks.append(asyncio.create_task(_load(network.nodes, market)))
    done: list[Kill] = []
    try:
        while len(done) < kills:
            await asyncio.sleep(SETTLE_S)
            one = await _kill(home, blocks)
            if one is not None:
                done.append(one)
                print(
                    f"{len(done)}: {one.commit_s * 1000:.0f} ms to the next commit; ready after {one.ready_s:.1f} s"
                )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done, rules["view_timeout_ms"]


async def _kill(home: Path, blocks: Blocks) -> Kill | None:
    """One primary; None where the epoch ended meanwhile: another was primary anyway."""
    overview = await look(read(home))
    best = overview.best
    if best is None or best.primary is None or best.phase != "running":
        return None
    after = max(blocks.first, default=0)
    outcome = await asyncio.to_thread(commands.kill, home, overview, ["primary"])
    killed = time.monotonic() - (time.time() - outcome.deeds[0].at_ms / 1_000)
    try:
        height: int | None = await blocks.charge(best.primary, after)
    except TimeoutError:
        if max(blocks.first) <= after + STILL_BLOCKS:
            raise TimeoutError(f"no block came within {COMMIT_S:.0f} s of block {after}") from None
        height = None
    await asyncio.sleep(DOWN_S)
    missed = max(blocks.first) - after
    overview = await look(read(home))
    back = await asyncio.to_thread(commands.restart, home, overview, [outcome.deeds[0].name])
    if height is None:
        return None
    return Kill(blocks.first[height] - killed, back.deeds[0].ready_after_s or 0.0, missed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 within the limits, 1 not, or failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults/recovery", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=30, help="primaries, one after the other (default 30)")
    parser.add_argument("--out", type=Path, help="where logs are kept (default: a new folder)")
    add_options(parser)
    options = parser.parse_args(arguments)
    out = options.out or Path(tempfile.mkdtemp(prefix="cgpbft-recovery-"))
    out.mkdir(parents=True, exist_ok=True)
    print(machine())
    try:
        with own_network(options, out) as home:
            kills, timer_ms = asyncio.run(_measure(home, options.kills))
    except (FaultError, TimeoutError) as error:
        print(f"error: {error} (logs in {out})", file=sys.stderr)
        return 1
    commits = sorted(kill.commit_s * 1_000 for kill in kills)
    ready = sorted(kill.ready_s for kill in kills)
    high = commits[-(-99 * len(commits) // 100) - 1]
    limit_ms = GREATEST_SHARE * timer_ms
    print(
        f"{len(kills)} primaries killed: next commit p50 {statistics.median(commits):.0f} ms, p99 {high:.0f} ms, "
        f"most {commits[-1]:.0f} ms; the limit is {limit_ms:.0f} ms (view timer {timer_ms} ms)"
    )
    late = [kill for kill in kills if kill.ready_s > RESTART_S + kill.missed / BLOCKS_PER_S]
    print(
        f"restart to ready: p50 {statistics.median(ready):.1f} s, most {ready[-1]:.1f} s, with up to "
        f"{max(kill.missed for kill in kills)} blocks missed; {len(late)} later than {RESTART_S:g} s and "
        f"{BLOCKS_PER_S} blocks a second allow"
    )
    return 0 if high <= limit_ms and not late else 1


if __name__ == "__main__":
    sys.exit(main())
