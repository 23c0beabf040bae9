"""A network of real processes for the tests of faults: what happens in it, trades through it, the fault commands."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts.transaction import BuyerRule, Terms
from node.api import schema
from node.cli.localnet import FILE, Network, Place
from node.client import NodeClient, StreamEvent
from node.client_errors import ClientError, NotFound

MEMBERS: Final = 8
GROUPS: Final = 4
BASE_PORT: Final = 28_100
VIEW_TIMEOUT_MS: Final = 500
PARAMETERS: Final = {"run_ms": 7_000, "planning_ms": 2_700, "voting_ms": 4_000}
"""The demo's, with the shortest epochs in which a delegate that is down from an epoch's start is found down (4 s)."""
START_TIMEOUT_S: Final = 100.0
STOP_TIMEOUT_S: Final = 30.0
REPOSITORY: Final = Path(__file__).resolve().parents[2]
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
PAUSE_BETWEEN_S: Final = 0.06
"""A transfer every 60 ms: some transaction always waits, as in a network that is used."""
TRADE_EVERY: Final = 15
TRADE_LEAD_MS: Final = 3_000
TRADE_WH: Final = 10


@dataclass
class SeenBlock:
    """A block as the nodes' event streams told of it."""

    height: int
    block_hash: str
    first_seen_ms: int
    """Wall clock, at the first of them."""
    told_by: str
    events: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """By their sequence: every node tells the same."""


class Happenings:
    """Every block and event of the chain, heard from all nodes; two blocks of one height fail the test."""

    def __init__(self, network: Network) -> None:
        self.blocks: dict[int, SeenBlock] = {}
        self.forks: list[str] = []
        self.changed = asyncio.Event()
        self._places = network.nodes

    async def follow(self) -> None:
        """Listen to every node until cancelled, from where an earlier call left off."""
        self.changed = asyncio.Event()
        await asyncio.gather(*(self._listen(place) for place in self._places))

    async def _listen(self, place: Place) -> None:
        from_height = max(self.blocks, default=1)
        while True:
            with contextlib.suppress(ClientError, TimeoutError):
                async with NodeClient(place.url) as node:
                    async for event in node.events(from_height=from_height):
                        from_height = max(from_height, event.height)
                        self._note(place, event)
            await asyncio.sleep(0.3)

    def _note(self, place: Place, event: StreamEvent) -> None:
        block_hash = event.data["block_hash"]
        seen = SeenBlock(event.height, block_hash, time.time_ns() // 1_000_000, place.name)
        known = self.blocks.setdefault(event.height, seen)
        if known.block_hash != block_hash:
            self.forks.append(
                f"{event.height}: {known.told_by} has {known.block_hash}, {place.name} {block_hash}"
            )
        if event.sequence:
            known.events[event.sequence] = (event.type, event.data["data"])
        released, self.changed = self.changed, asyncio.Event()
        released.set()

    @property
    def height(self) -> int:
        """The highest block seen."""
        return max(self.blocks, default=0)

    def events(
        self, event_type: str, from_height: int = 0, /, **wanted: object
    ) -> list[tuple[int, dict[str, Any]]]:
        """(height, data) of events of ``event_type`` with these fields, in order."""
        return [
            (height, data)
            for height, block in sorted(self.blocks.items())
            if height >= from_height
            for _, (name, data) in sorted(block.events.items())
            if name == event_type and all(data[key] == value for key, value in wanted.items())
        ]

    async def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 40.0) -> Any:
        """What ``condition`` gives once it is true, looked at after every event."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"{what} did not happen in {timeout_s:g} s; the chain is at height {self.height}"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.5)):
                    await self.changed.wait()
        return found

    async def event(
        self, event_type: str, from_height: int = 0, /, *, timeout_s: float = 40.0, **wanted: object
    ) -> tuple[int, dict[str, Any]]:
        """The first such event, waited for."""
        found: list[tuple[int, dict[str, Any]]] = await self.until(
            lambda: self.events(event_type, from_height, **wanted), f"{event_type} {wanted}", timeout_s
        )
        return found[0]


@dataclass
class Traffic:
    """Transfers and trades through the nodes that answer, each of which signs for its own member."""

    network: Network
    addresses: dict[str, str]
    avoid: set[str] = field(default_factory=set)
    """Names of nodes that are about to break: nothing is submitted there."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Id -> height of every transaction that a node said is committed."""
    opened: list[str] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Until cancelled."""
        source, count = random.Random(2026), 0
        clients = {place.name: NodeClient(place.url, timeout_s=15) for place in self.network.nodes}
        try:
            while True:
                names = [place.name for place in self.network.nodes if place.name not in self.avoid]
                seller, buyer = source.sample(names, 2)
                work = self._trade if count % TRADE_EVERY == 0 else self._transfer
                task = asyncio.create_task(work(clients, seller, buyer))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                count += 1
                await asyncio.sleep(PAUSE_BETWEEN_S)
        finally:
            for task in tuple(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            for client in clients.values():
                await client.close()

    async def _transfer(self, clients: dict[str, NodeClient], payer: str, payee: str) -> None:
        with contextlib.suppress(ClientError, TimeoutError):
            sent = await clients[payer].transfer(self.addresses[payee], 1)
            await self._final(clients[payer], sent.id)

    async def _trade(self, clients: dict[str, NodeClient], seller: str, buyer: str) -> None:
        start_ms = (time.time_ns() // 1_000_000 + TRADE_LEAD_MS) // 1_000 * 1_000
        terms = Terms(
            seller=bytes.fromhex(self.addresses[seller]),
            buyer=bytes.fromhex(self.addresses[buyer]),
            quantity_wh=TRADE_WH,
            price=200_000,
            start_ms=start_ms,
            slots=1,
            penalty_bp=1_000,
            buyer_rule=BuyerRule.PAY_ACTUAL,
            expiry_ms=start_ms,
        )
        with contextlib.suppress(ClientError, TimeoutError):
            offer = await clients[seller].offer_trade(terms)
            if not await self._final(clients[seller], offer.id):
                return
            await clients[buyer].await_final(offer.id, 10)
            acceptance = await clients[buyer].act_on_trade(offer.id, "accept")
            if await self._final(clients[buyer], acceptance.id):
                self.opened.append(offer.id)
            await asyncio.sleep(max(0.0, (start_ms + 1_500) / 1_000 - time.time()))
            slot = start_ms // 1_000
            for name, exported, imported in ((seller, TRADE_WH, 0), (buyer, 0, TRADE_WH)):
                await clients[name].report_registers(slot, exported, imported)

    async def _final(self, node: NodeClient, transaction_id: str) -> bool:
        view = await node.await_final(transaction_id, 10)
        if view.state == "committed" and view.height is not None:
            self.acknowledged[view.id] = view.height
        return view.state == "committed"


class FaultyNetwork:
    """One network, what happens in it while a test runs, and the fault commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.network = self.read()
        self.addresses: dict[str, str] = {}
        self.happenings = Happenings(self.network)
        self.traffic = Traffic(self.network, self.addresses)

    def read(self) -> Network:
        """localnet.json as it is now."""
        return msgspec.json.decode((self.home / FILE).read_bytes(), type=Network)

    def node(self, name: str) -> NodeClient:
        """A client; use it as a context manager."""
        return NodeClient(next(place.url for place in self.network.nodes if place.name == name))

    def name_of(self, address: str) -> str:
        """The node of a member."""
        return next(name for name, known in self.addresses.items() if known == address)

    def others(self, *names: str) -> list[str]:
        """The nodes that are not named."""
        return [place.name for place in self.network.nodes if place.name not in names]

    async def fault(self, *arguments: str) -> dict[str, Any]:
        """Run a fault command; its JSON."""
        line = [sys.executable, "-m", "scripts.faulting", *arguments, "--home", str(self.home), "--json"]
        process = await asyncio.create_subprocess_exec(
            *line, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, f"{' '.join(arguments)}: {errors.decode()}"
        answer: dict[str, Any] = json.loads(output)
        return answer

    async def calm(self) -> None:
        """Everybody honest and ready, every link whole, whatever the test before left."""
        network = self.read()
        broken = [place.name for place in network.nodes if not place.pid or place.behaviour != "honest"]
        if broken:
            await self.fault("restart", *broken)
        await self.fault("heal")
        for place in self.network.nodes:
            async with NodeClient(place.url) as node:
                await node.wait_until_ready(60)
                self.addresses[place.name] = (await node.status()).address

    async def ranking(self) -> list[str]:
        """C of the undecided height with the primary first, from the node that is furthest."""
        best: tuple[int, list[str]] = (-1, [])
        for name in self.others(*self.traffic.avoid):
            with contextlib.suppress(ClientError):
                async with self.node(name) as node:
                    status = await node.status()
                order = [item.address for item in status.consensus.delegates]
                if status.height > best[0] and status.primary in order:
                    first = order.index(status.primary)
                    best = (status.height, order[first:] + order[:first])
        return best[1]

    async def epoch_begins(self) -> tuple[int, int]:
        """Wait for the next epoch; its number and first height."""
        after = self.happenings.height
        height, data = await self.happenings.event("phase_changed", after + 1, phase="running")
        return int(data["epoch"]), height + 1

    async def ranking_that_lasts(self) -> list[str]:
        """`ranking` with an epoch's planning and voting still ahead: no election changes it in the next seconds."""

        def is_running() -> bool:
            phases = self.happenings.events("phase_changed")
            return bool(phases) and phases[-1][1]["phase"] == "running"

        await self.happenings.until(is_running, "the running phase of an epoch")
        return await self.ranking()

    async def block(self, name: str, height: int) -> schema.BlockView:
        """A block from one node, which may hear of it a little later than others."""
        async with asyncio.timeout(20):
            while True:
                try:
                    async with self.node(name) as node:
                        return await node.block(height)
                except NotFound:
                    await asyncio.sleep(0.1)

    async def same_everywhere(self, *, without: Sequence[str] = ()) -> int:
        """The height up to which all nodes but ``without`` have the same blocks: hash and state root."""
        heights: list[int] = []
        for name in self.others(*without):
            async with self.node(name) as node:
                heights.append((await node.status()).height)
        common = min(heights)
        found: set[tuple[str, str]] = set()
        for name in self.others(*without):
            async with self.node(name) as node:
                block = await node.block(common)
                found.add((block.block_hash, str(block.header["state_root"])))
        assert len(found) == 1, f"nodes differ at height {common}: {found}"
        assert not self.happenings.forks, self.happenings.forks
        return common


@contextlib.contextmanager
def running_network(home: Path) -> Iterator[Path]:
    """A network with proxies on its links; all of its processes end with it."""
    line = [
        sys.executable, "-m", "scripts.faulting.localnet",
        "--members", str(MEMBERS),
        "--groups", str(GROUPS),
        "--home", str(home),
        "--base-port", str(BASE_PORT),
        *(part for name, value in PARAMETERS.items() for part in ("--set", f"{name}={value}")),
        "--json",
    ]  # fmt: skip
    with (home.parent / "localnet.log").open("wb") as log:
        process = subprocess.Popen(
            line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert process.stdout is not None
    try:
        # The line comes when every node is ready, or, empty, when it ended.
        assert process.stdout.readline(), (home.parent / "localnet.log").read_text()
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
        process.stdout.close()


@contextlib.asynccontextmanager
async def trading_through(net: FaultyNetwork) -> AsyncIterator[FaultyNetwork]:
    """The network, calm, with trades running and every block listened to."""
    await net.calm()
    net.traffic = Traffic(net.network, net.addresses)
    following = asyncio.create_task(net.happenings.follow())
    trading = asyncio.create_task(net.traffic.run())
    try:
        await net.happenings.until(lambda: len(net.traffic.acknowledged) > 10, "traffic")
        yield net
    finally:
        for task in (trading, following):
            task.cancel()
        await asyncio.gather(trading, following, return_exceptions=True)
