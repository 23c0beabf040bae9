"""A node as a process: everything built, supervised and shut down in order."""

import asyncio
import gc
import json
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.errors import InvariantViolation
from consensus.inputs import Resume
from consensus.types import Value
from contracts.genesis import Genesis
from contracts.transaction import Ballot, Join
from network.address_book import sign_record
from network.bootstrap.client import BootstrapClient
from network.bootstrap.errors import Refused, Unavailable
from network.peer import Endpoint
from network.wire import AddressRecord
from node.api.server import ApiServer, serve
from node.assembly import NodeParts
from node.clock import SystemClock
from node.config import NodeConfig
from node.failure import ADVICE, aged, replica_state
from node.formation import exchange_records
from node.keystore import KeyPair
from node.member import MemberNode, software_version
from node.resume import Permission
from node.runtime import Runtime

EXCHANGE_S: Final = 60.0
"""How often the directories are told and asked while wanted peers are not connected."""
SETTLE_S: Final = 5.0
"""What peers get to find each other before a directory is asked."""
BALLOT_ATTEMPTS: Final = 6
BALLOT_PAUSE_S: Final = 0.25
"""Together less than a third of the shortest voting time in use: from then on the node submits its ballot itself."""

COLLECT_AFTER_OBJECTS: Final = 50_000
"""Objects that may be garbage cycles at a time: some MiB at most."""

log = structlog.get_logger("node.process")


class Started(Value, frozen=True):
    """Where a node that is up can be reached."""

    api_url: str
    peer_port: int


async def carry_ballot(clients: Sequence[BootstrapClient], raw: bytes) -> bool:
    """Whether a bootstrap took the ballot; the first is enough. If none did, the duty submits it itself (PROTOCOL 5.5).

    A bootstrap follows the chain through a member's API, so this node knows of an epoch's voting before it does: one
    that does not take ballots of the epoch yet is asked again.
    """
    left = list(clients)
    for attempt in range(BALLOT_ATTEMPTS):
        if attempt:
            await asyncio.sleep(BALLOT_PAUSE_S)
        for client in list(left):
            try:
                await client.post_ballots([raw])
            except (Refused, Unavailable) as error:
                if not (isinstance(error, Refused) and error.code == "ballot_epoch"):
                    left.remove(client)
                    log.info("ballot not taken by a bootstrap", url=client.url, reason=str(error))
            else:
                return True
        if not left:
            return False
    for client in left:
        log.info("ballot not taken by a bootstrap", url=client.url, reason="it is behind this node")
    return False


class NodeProcess:
    """One node: runtime, duties and API. `start`, then `wait`, then `stop`."""

    def __init__(  # noqa: PLR0913 - what a node is made of
        self,
        *,
        home: Path,
        config: NodeConfig,
        genesis: Genesis,
        key: KeyPair,
        records: Iterable[AddressRecord] = (),
        join: Join | None = None,
        returns: bool = False,
        meter: KeyPair | None = None,
        resume: Permission | None = None,
    ) -> None:
        """``records``: address records from a directory; ``join``: submitted while this key is no member.

        ``returns``: submit it also if this key was a member and has left.

        ``meter``: the meter's key, if readings are to be signed here (POST /v1/readings without signature).
        ``resume``: checked permission of the operators to sign again at a height (PROTOCOL 6.5).
        """
        self.home = home
        self.config = config
        self._key = key
        self._join = join
        self._returns = returns
        self._meter = meter
        self._resume = resume
        self._clock = SystemClock()
        self._parts = NodeParts(
            home=home,
            genesis=genesis,
            key=key,
            config=config,
            records=records,
            clock=self._clock,
            software=f"cgpbft/{software_version()}",
        )
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._api: ApiServer | None = None
        self._http: aiohttp.ClientSession | None = None
        self._peer_port = 0
        self.member: MemberNode

    async def start(self) -> Started:
        """Open the home, listen for peers and serve the API; a `NodeError` says what is wrong and what to do."""
        runtime = self._parts.build()
        carry = self._carry_ballot if self.config.bootstrap_urls else None
        self.member = MemberNode(
            runtime, self._key, self._clock, runtime.book, carry=carry, join=self._join, returns=self._returns
        )
        try:
            self._peer_port = await self._parts.start(runtime)
            self.member.start()
            if self._resume is not None:
                runtime.post(Resume, self._resume.height, self._resume.first_view)
            self._api = await serve(self.member, self.config.api, meter=self._meter)
        except BaseException:
            self.member.stop()
            await runtime.close()
            raise
        if self.config.bootstrap_urls:
            self._spawn(self._exchange_forever(runtime))
        api_url = f"http://{_host_in_url(self.config.api.host)}:{self._api.port}"
        log.info("node up", api=api_url, peers=self._peer_port, height=runtime.ledger.height)
        return Started(api_url, self._peer_port)

    async def wait(self) -> None:
        """Until the node fails; raises what made it fail."""
        await asyncio.shield(self.member.runtime.failed)

    async def stop(self) -> None:
        """Stop answering, say goodbye, close the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._api is not None:
            await self._api.close()
        self.member.stop()
        await self.member.runtime.close()
        if self._http is not None:
            await self._http.close()

    def dump(self, error: BaseException) -> Path | None:
        """Write what led to ``error`` into the home, for whoever looks into it; None if not even that works."""
        runtime = self.member.runtime
        now_ms = self._clock.now().monotonic_ms
        lines = {
            "error": f"{type(error).__name__}: {error}",
            "what_to_do": ADVICE,
            "height": runtime.ledger.height,
            "block_hash": runtime.ledger.block_hash.hex(),
            "journal": runtime.journal.position.sequence,
            "replica": replica_state(runtime.replica),
            "inputs": aged(runtime.inputs, now_ms),
            "traces": aged(
                (
                    (at, f"{trace.event} h={trace.height} v={trace.view} {trace.detail}")
                    for at, trace in runtime.traces
                ),
                now_ms,
            ),
        }
        path = self.home / f"failure-{int(time.time())}.json"
        try:
            path.write_text(json.dumps(lines, indent=1), encoding="utf-8")
        except OSError as problem:
            log.warning("the failure's circumstances cannot be written", path=str(path), reason=str(problem))
            return None
        log.critical("what led to the failure, and what to do now, is written down", path=str(path))
        return path

    # ---- beside the protocol: bootstrap services, none of which is needed (PROTOCOL 8.2)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.member.runtime.fail(error)

    def _clients(self) -> list[BootstrapClient]:
        if self._http is None:
            self._http = aiohttp.ClientSession()
        return [BootstrapClient(url, self._http) for url in self.config.bootstrap_urls]

    def _carry_ballot(self, ballot: Ballot) -> None:
        self._spawn(self._post_ballot(encode(ballot)))

    async def _post_ballot(self, raw: bytes) -> None:
        await carry_ballot(self._clients(), raw)

    async def _exchange_forever(self, runtime: Runtime) -> None:
        await asyncio.sleep(SETTLE_S)
        while True:
            wanted = runtime.peering.wanted_keys()
            if not all(runtime.transport.is_connected(key) for key in wanted):
                found = await exchange_records(
                    self.config.bootstrap_urls,
                    signer=self._key,
                    verifier=Ed25519Verifier(),
                    now_ms=lambda: self._clock.now().wall_ms,
                    record=self._own_record(),
                )
                runtime.take_records(found)
            await asyncio.sleep(EXCHANGE_S)

    def _own_record(self) -> AddressRecord:
        peers = self.config.peers
        endpoint = Endpoint(peers.advertise or peers.host, peers.advertise_port or self._peer_port)
        return sign_record(self._key, self._clock.now().wall_ms, endpoint)


def settle_garbage_collector() -> None:
    """Leave modules and the loaded state out of collections, and collect seldom: the hot path makes no cycles.

    By default every 700 objects start a collection, and a block of trades makes many thousands, none of them cyclic.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 20, 20)


async def run_node(  # noqa: PLR0913 - what a node is made of
    *,
    home: Path,
    config: NodeConfig,
    genesis: Genesis,
    key: KeyPair,
    records: Iterable[AddressRecord] = (),
    join: Join | None = None,
    returns: bool = False,
    meter: KeyPair | None = None,
    resume: Permission | None = None,
    on_started: Callable[[Started], None] | None = None,
) -> None:
    """Run a node until SIGTERM or SIGINT; raises what made it stop by itself.

    On a broken invariant the circumstances are written into ``home``. Use it with `uvloop.run` for speed.
    """
    process = NodeProcess(
        home=home,
        config=config,
        genesis=genesis,
        key=key,
        records=records,
        join=join,
        returns=returns,
        meter=meter,
        resume=resume,
    )
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    started = await process.start()
    settle_garbage_collector()
    loop.set_exception_handler(lambda _, context: _unexpected(process, context))
    if on_started is not None:
        on_started(started)
    failing = asyncio.ensure_future(process.wait())
    asking = asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait((failing, asking), return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
    except InvariantViolation as error:
        process.dump(error)
        raise
    finally:
        for waiting in (failing, asking):
            waiting.cancel()
        await process.stop()
        log.info("node down")


def _unexpected(process: NodeProcess, context: dict[str, Any]) -> None:
    """What no task or callback caught is our own bug, and stops the node; nothing is swallowed."""
    error = context.get("exception")
    if isinstance(error, Exception) and not isinstance(error, OSError):
        process.member.runtime.fail(error)
    else:
        log.warning("the loop reports", message=context.get("message"), error=str(error))


def _host_in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - shown, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
