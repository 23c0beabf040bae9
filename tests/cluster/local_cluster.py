"""Nodes of one chain in this process, on loopback TLS, from a genesis made by hand: no bootstrap, no HTTP."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from consensus.parameters import DEMO, Parameters, resolved
from consensus.types import PublicKey
from contracts.genesis import Admission, Genesis, sign_registration
from contracts.transaction import BuyerRule, Join, Meter, Payload, Terms, encode_body, sign_body
from network.address_book import sign_record
from network.peer import Endpoint
from network.wire import AddressRecord
from node.assembly import NodeParts, create_journal
from node.clock import SystemClock
from node.config import NodeConfig, PeerConfig
from node.keystore import KeyPair
from node.member import MemberNode
from node.runtime import Runtime

FOUNDING_BALANCE = 10**15


def key(number: int) -> KeyPair:
    return KeyPair(number.to_bytes(32, "big"))


def meter(number: int) -> PublicKey:
    return key(1_000 + number).public_key


def quick_parameters(groups: int, members: int, **changes: int) -> Parameters:
    """Rules for tests: long epochs, short blocks, timers with room for a loaded machine."""
    quick = {
        "run_ms": 3_600_000,
        "view_timeout_ms": 1_000,
        "request_timeout_ms": 1_500,
        "empty_block_interval_ms": 300,
    }
    chosen = msgspec.structs.replace(DEMO, groups=groups, **(quick | changes))
    return resolved(chosen, members)


class LocalNode:
    """One member: its home, its keys, and its runtime while it runs."""

    def __init__(self, cluster: "LocalCluster", number: int, founder: bool = True) -> None:
        self.founder = founder
        self.cluster = cluster
        self.number = number
        self.key = key(number)
        self.home = cluster.directory / f"node-{number}"
        self.runtime: Runtime | None = None
        self.member: MemberNode | None = None
        self.record: AddressRecord | None = None
        create_journal(self.home, self.key)

    @property
    def running(self) -> Runtime:
        assert self.runtime is not None
        return self.runtime

    @property
    def height(self) -> int:
        return self.running.ledger.height

    async def start(self) -> None:
        records = [node.record for node in self.cluster.nodes if node.record is not None and node is not self]
        parts = NodeParts(
            home=self.home,
            genesis=self.cluster.genesis,
            key=self.key,
            config=NodeConfig(peers=PeerConfig(port=0)),
            records=records,
        )
        self.runtime = parts.build()
        join = (
            None if self.founder else Join(self.key.public_key, Meter(meter(self.number), 10_000, ()), None)
        )
        self.member = MemberNode(self.runtime, self.key, parts.clock, self.runtime.book, join=join)
        port = await parts.start(self.runtime)
        self.member.start()
        self.record = sign_record(self.key, SystemClock().now().wall_ms, Endpoint("127.0.0.1", port))

    @property
    def service(self) -> MemberNode:
        assert self.member is not None
        return self.member

    async def stop(self) -> None:
        runtime, self.runtime = self.running, None
        self.service.stop()
        await runtime.close()
        if runtime.failed.done():
            runtime.failed.result()


class LocalCluster:
    """``count`` members, all founders."""

    def __init__(self, directory: Path, count: int, parameters: Parameters) -> None:
        self.directory = directory
        founders = sorted(range(1, count + 1), key=lambda n: key(n).address)
        self.genesis = Genesis(
            version=1,
            chain_name="local",
            time_ms=SystemClock().now().wall_ms - 1_000,
            parameters=parameters,
            admission=Admission.OPEN,
            founding_balance=FOUNDING_BALANCE,
            entry_balance=0,
            operators=(),
            operator_threshold=0,
            members=tuple(sign_registration("local", key(n), meter(n), 10_000) for n in founders),
        )
        self.chain_id = self.genesis.hash()
        self.nodes = [LocalNode(self, n) for n in range(1, count + 1)]
        self._nonces = itertools.count(1)

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()

    async def add(self) -> LocalNode:
        """A node that is no founder: it catches up and registers itself."""
        node = LocalNode(self, len(self.nodes) + 1, founder=False)
        self.nodes.append(node)
        await node.start()
        return node

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes if node.runtime is not None))

    @property
    def alive(self) -> list[LocalNode]:
        return [node for node in self.nodes if node.runtime is not None]

    def signed(self, payload: Payload, *signers: KeyPair) -> bytes:
        now_ms = SystemClock().now().wall_ms
        body = encode_body(
            self.chain_id, signers[0].address, now_ms - 1_000, now_ms + 60_000, next(self._nonces), payload
        )
        return sign_body(body, signers)

    def terms(self, seller: KeyPair, buyer: KeyPair, quantity_wh: int = 1_000) -> Terms:
        start_ms = (SystemClock().now().wall_ms // 1_000 + 600) * 1_000
        return Terms(
            seller.address,
            buyer.address,
            quantity_wh,
            100,
            start_ms,
            4,
            1_000,
            BuyerRule.PAY_ACTUAL,
            start_ms,
        )

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Wait for ``condition``, woken by every block of every node; a stopped node's reason ends the wait."""
        changed = asyncio.Event()
        for node in self.alive:
            node.running.on_applied.append(lambda _: changed.set())
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    for node in self.alive:
                        if node.running.failed.done():
                            node.running.failed.result()
                    changed.clear()
                    try:
                        async with asyncio.timeout(0.2):
                            await changed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            state = [
                (n.number, n.height, n.running.replica.phase, n.running.replica.view) for n in self.alive
            ]
            raise AssertionError(f"{what} did not happen in {timeout_s} s: {state}") from None

    async def level(self) -> None:
        """Wait until all running nodes stand at one height with nothing waiting."""
        await self.until(
            lambda: (
                len({node.height for node in self.alive}) == 1
                and all(len(node.running.pool) == 0 for node in self.alive)
            ),
            "an equal height",
        )
