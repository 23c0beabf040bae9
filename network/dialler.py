"""Dialling peers: one attempt at a time per peer, with growing delays, few attempts at once."""

import asyncio
from collections.abc import Callable

import structlog

from consensus.types import PublicKey
from network.admission import BanList
from network.connection import Connection
from network.limits import TransportLimits
from network.metrics import TransportMetrics
from network.peer import Endpoint, Peer
from network.scheduler import Scheduler

log = structlog.get_logger("network.dialler")


class Dialler:
    """Opens TCP connections; what follows on them is the `Connection`'s and the transport's business."""

    def __init__(
        self,
        scheduler: Scheduler,
        limits: TransportLimits,
        metrics: TransportMetrics,
        bans: BanList,
        new_connection: Callable[[PublicKey | None], Connection],
        gave_up: Callable[[Peer], None],
    ) -> None:
        """``gave_up`` is told of a failed attempt to a peer that nobody wants any more."""
        self._scheduler = scheduler
        self._limits = limits
        self._metrics = metrics
        self._bans = bans
        self._new_connection = new_connection
        self._gave_up = gave_up
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(limits.max_dials)
        self._stopping = False

    def schedule(self, peer: Peer, delay_ms: int) -> None:
        """Dial ``peer`` after ``delay_ms``, or when its ban ends, unless it is connected or being dialled."""
        self.cancel(peer)
        if self._stopping or peer.connection is not None or peer.dialling:
            return
        delay_ms = max(delay_ms, self._bans.remaining_ms(peer.public_key, self._scheduler.now_ms()))
        peer.redial = self._scheduler.call_later_ms(delay_ms, lambda: self._dial(peer))

    def cancel(self, peer: Peer) -> None:
        """Do not make the next attempt."""
        if peer.redial is not None:
            peer.redial.cancel()
            peer.redial = None

    async def close(self) -> None:
        """Stop all attempts."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _dial(self, peer: Peer) -> None:
        peer.redial = None
        if self._stopping or peer.connection is not None or peer.endpoint is None:
            return
        peer.dialling = True
        self._metrics.dials += 1
        task = asyncio.get_running_loop().create_task(self._connect(peer, peer.endpoint))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, peer: Peer, endpoint: Endpoint) -> None:
        try:
            async with self._slots, asyncio.timeout(self._limits.dial_timeout_ms / 1_000):
                await asyncio.get_running_loop().create_connection(
                    lambda: self._new_connection(peer.public_key), endpoint.host, endpoint.port
                )
        except (OSError, TimeoutError) as error:
            self._metrics.dial_failures += 1
            peer.dialling = False
            log.debug(
                "cannot connect", peer=peer.public_key.hex(), endpoint=endpoint.text(), error=str(error)
            )
            if peer.endpoint is not None:
                self.schedule(peer, peer.backoff.next_ms())
            self._gave_up(peer)
