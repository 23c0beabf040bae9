"""The thin shell around catching up and dissemination: messages in, messages out, time from a `Scheduler`.

It drives `network.sync.SyncSession` and `network.dissemination.Dissemination`, announces this node's height and answers
requests for blocks. It runs under asyncio, uvloop and the simulator alike.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from consensus.types import PublicKey
from network.dissemination import Dissemination
from network.links import Links
from network.scheduler import Scheduled, Scheduler
from network.serving import BlockServer
from network.sync import SyncSession
from network.sync_effects import CaughtUpChanged, DeliverBlock, LeaveOut, RequestBlocks, SyncEffect
from network.wire import (
    BlocksRequest,
    BlocksResponse,
    Decided,
    StatusAnnouncement,
)

TICK_MS: Final = 250
ANNOUNCE_MS: Final = 500
"""A new height is announced at most so often; who follows the chain hears of it by the block itself."""
REPEAT_MS: Final = 5_000
"""An unchanged height is announced again after so long: a peer that was left out may come back to the session."""
SyncMessage: TypeAlias = BlocksRequest | BlocksResponse | Decided | StatusAnnouncement


class Synchronizer:
    """One node's following of the chain (PROTOCOL 6.12, 10.1, 10.2)."""

    def __init__(  # noqa: PLR0913 - its doors are tied together here
        self,
        *,
        links: Links,
        scheduler: Scheduler,
        session: SyncSession,
        dissemination: Dissemination,
        load_block: Callable[[int], bytes | None],
        tip: Callable[[], StatusAnnouncement],
        deliver: Callable[[DeliverBlock], None],
        on_caught_up: Callable[[bool], None],
        tick_ms: int = TICK_MS,
    ) -> None:
        """``load_block`` gives a stored `CertifiedBlock`'s bytes by height, ``tip`` what to announce.

        ``deliver`` gets the blocks in order and answers, then or later, by `decided` or `invalid`. The simulator
        sets ``tick_ms``: with the protocol's usual timers of seconds it looks less often.
        """
        self._links = links
        self._scheduler = scheduler
        self._session = session
        self._dissemination = dissemination
        self._server = BlockServer(links, scheduler, load_block)
        self._tip = tip
        self._deliver = deliver
        self._on_caught_up = on_caught_up
        self._tick_ms = tick_ms
        self._announced: StatusAnnouncement | None = None
        self._announced_ms = 0
        self._tick: Scheduled | None = None
        self._queue: list[SyncEffect] = []
        self._running = False

    @property
    def session(self) -> SyncSession:
        """For status pages: heights and `caught_up`."""
        return self._session

    def start(self) -> None:
        """Begin to announce, ask and watch."""
        self._on_tick()

    def stop(self) -> None:
        """Do nothing more by itself."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._server.stop()

    # ------------------------------------------------------------ from the runtime

    def set_delegates(
        self, delegates: Sequence[PublicKey], own_group: Sequence[PublicKey], own_key: PublicKey, quorum: int
    ) -> None:
        """The delegates of the next height in ranking order, this node's group, and q (PROTOCOL 6.2)."""
        self._dissemination.set_groups(delegates, own_group)
        others = [key for key in delegates if key != own_key]
        now_ms = self._scheduler.now_ms()
        faults = len(delegates) - quorum
        self._run(self._session.set_delegates(others, quorum, faults, own_key in delegates, now_ms))

    def decided(self, height: int, certified: bytes) -> None:
        """The ledger holds the block of ``height`` durably: hand it to the own group, go on asking and announcing."""
        now_ms = self._scheduler.now_ms()
        recipients = self._dissemination.decided(height, now_ms)
        if recipients and self._session.caught_up:
            self._links.broadcast(recipients, Decided(height, certified))
        self._run(self._session.applied(height, now_ms))

    def invalid(self, height: int, reason: str) -> None:
        """The block delivered for ``height`` failed its check; its sender pays, another is asked."""
        self._run(self._session.invalid(height, reason, self._scheduler.now_ms()))

    def fetch(self, height: int, holders: Sequence[PublicKey]) -> None:
        """`consensus.effects.FetchDecided`: somebody is ahead."""
        self._run(self._session.fetch(height, holders, self._scheduler.now_ms()))

    # ------------------------------------------------------------ from the transport

    def on_peer(self, public_key: PublicKey, connected: bool) -> None:
        """A peer came or went."""
        if connected:
            self._links.send(public_key, self._tip())
        else:
            self._server.gone(public_key)
            self._run(self._session.gone(public_key, self._scheduler.now_ms()))

    def on_message(self, sender: PublicKey, message: SyncMessage) -> None:
        """One of the four messages of following the chain."""
        now_ms = self._scheduler.now_ms()
        match message:
            case BlocksRequest():
                self._server.request(sender, message)
            case BlocksResponse(from_height=from_height, blocks=blocks):
                self._run(self._session.response(sender, from_height, blocks, now_ms))
            case Decided(height=height, certified=certified):
                self._run(self._session.offer(sender, height, certified, now_ms))
            case StatusAnnouncement(height=height, oldest_height=oldest_height):
                self._run(self._session.status(sender, height, oldest_height, now_ms))

    # ------------------------------------------------------------ inside

    def _run(self, effects: list[SyncEffect]) -> None:
        """Run effects in order; those that come up meanwhile (a delivery that is applied at once) come after."""
        self._queue.extend(effects)
        if self._running:
            return
        self._running = True
        try:
            while self._queue:
                self._apply(self._queue.pop(0))
        finally:
            self._running = False

    def _apply(self, effect: SyncEffect) -> None:
        match effect:
            case RequestBlocks(peer=peer, from_height=from_height, count=count):
                self._links.send(peer, BlocksRequest(from_height, count))
            case DeliverBlock(height=height):
                self._dissemination.heard(height, self._scheduler.now_ms())
                self._deliver(effect)
            case LeaveOut(peer=peer, reason=reason, punish=punish):
                if punish:
                    self._links.punish(peer, reason)
            case CaughtUpChanged(caught_up=caught_up):
                self._on_caught_up(caught_up)

    def _on_tick(self) -> None:
        now_ms = self._scheduler.now_ms()
        self._run(self._session.tick(now_ms))
        asked = self._dissemination.to_ask(now_ms, self._links.connected())
        if asked is not None:
            self._run(self._session.probe(asked, now_ms))
        self._announce(now_ms)
        self._tick = self._scheduler.call_later_ms(self._tick_ms, self._on_tick)

    def _announce(self, now_ms: int) -> None:
        status = self._tip()
        since_ms = now_ms - self._announced_ms
        changed = self._announced is None or status != self._announced
        if since_ms >= REPEAT_MS or (changed and since_ms >= ANNOUNCE_MS):
            self._announced = status
            self._announced_ms = now_ms
            self._links.broadcast(self._links.connected(), status)
