"""Connections between nodes: who may connect, what is sent first, what befalls those who misbehave (PROTOCOL 10).

The runtime hands in keys and messages and gets messages back; everything else - TLS, handshakes, dialling again, slow
and silent and flooding peers - ends here. Nothing in here waits: `send` queues, and a queue that overflows costs gossip
first and then the connection, never the caller's time. All methods belong to the event loop's thread.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from consensus.errors import MalformedInput
from consensus.types import PublicKey
from network.admission import BanList, RateMeter
from network.connection import Connection
from network.dialler import Dialler
from network.framing import PREFIX_BYTES, encode_frame
from network.handshake import ChainIdentity, Handshake, Hello, RefusalCode, Refused, refusal
from network.limits import TransportLimits
from network.metrics import TransportMetrics
from network.outbox import Outbox
from network.peer import STABLE_MS, Backoff, Endpoint, Peer
from network.reception import Reception
from network.scheduler import LoopScheduler, Scheduled, Scheduler
from network.tls import NodeIdentity
from network.wire import (
    MAX_FRAME_BYTES,
    MAX_GUEST_FRAME_BYTES,
    ApplicationMessage,
    Goodbye,
    Lane,
    PeerMessage,
    Ping,
    Pong,
    Role,
    RoleGranted,
    decode_message,
    encode_message,
    guest_may_send,
    lane_of,
)

_TICK_MS: Final = 1_000
"""One timer for all peers looks for silence and stalls; their limits are several seconds."""

log = structlog.get_logger("network.transport")


class Transport:
    """One node's connections; `network.connection.ConnectionOwner` towards its connections."""

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        chain: ChainIdentity,
        software: str,
        admits: Callable[[PublicKey], bool],
        on_message: Callable[[PublicKey, ApplicationMessage], None],
        on_peer: Callable[[PublicKey, bool], None],
        randomness: random.Random,
        limits: TransportLimits | None = None,
    ) -> None:
        """``admits`` tells members from guests; ``on_peer`` says that a key is connected, or no longer.

        Callbacks run in the loop's thread, must not block, and may call any method here. Create inside a running loop.
        """
        self.identity = identity
        self.scheduler: Scheduler = LoopScheduler()
        self.metrics = TransportMetrics()
        self._admits = admits
        self._on_message = on_message
        self._on_peer = on_peer
        self._randomness = randomness
        self._limits = limits or TransportLimits()
        self._peers: dict[PublicKey, Peer] = {}
        self._bans = BanList(self._limits.ban_ms, self._limits.ban_max_ms)
        instance = randomness.randbytes(16)
        self._reception = Reception(
            lambda key, grant: Handshake(chain, software, instance, identity.public_key, key, grant),
            self.identity.public_key,
            admits,
            self._peers,
            self._bans,
            self._limits,
            self.metrics,
            self.scheduler,
        )
        self._open: dict[Connection, None] = {}
        self._dirty: dict[Peer, None] = {}
        self._flush: Scheduled | None = None
        self._tick: Scheduled | None = None
        self._ticked_ms = 0
        self._server: asyncio.Server | None = None
        self._dialler = Dialler(
            self.scheduler, self._limits, self.metrics, self._bans, self._connection, self._forget_if_idle
        )
        self._stopping = False
        self._all_closed = asyncio.Event()

    # ------------------------------------------------------------ for the runtime

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host``:``port`` (0: any free one); the port. `OSError` if it cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._incoming, host, port, backlog=1_024)
        self._ticked_ms = self.scheduler.now_ms()
        self._tick = self.scheduler.call_later_ms(_TICK_MS, self._on_tick)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Say goodbye to everybody and stop; done when every socket is closed (a second at most)."""
        self._stopping = True
        for scheduled in (self._tick, self._flush):
            if scheduled is not None:
                scheduled.cancel()
        for peer in self._peers.values():
            self._dialler.cancel(peer)
        await self._dialler.close()
        if self._server is not None:
            self._server.close()
        self._flush_dirty()
        for connection in list(self._open):
            if connection.established:
                connection.close("stopping", encode_message(Goodbye("stopping")))
            else:
                connection.abort("stopping")
        if self._open:
            await self._all_closed.wait()
        if self._server is not None:
            await self._server.wait_closed()

    def set_peers(self, peers: Mapping[PublicKey, Endpoint]) -> None:
        """Whom to stay connected with; who is no longer named is not dialled again, and left if this node dialled."""
        for key, peer in list(self._peers.items()):
            if key not in peers and peer.endpoint is not None:
                peer.endpoint = None
                self._dialler.cancel(peer)
                if peer.connection is not None and peer.connection.initiated:
                    self._say_goodbye(peer, "not needed any more")
                self._forget_if_idle(peer)
        for key, endpoint in peers.items():
            if key == self.identity.public_key:
                continue
            peer = self._peer(key)
            if peer.endpoint != endpoint:
                peer.endpoint = endpoint
                self._dialler.cancel(peer)
                peer.backoff.reset()
                self._dialler.schedule(peer, 0)

    def send(self, public_key: PublicKey, message: ApplicationMessage) -> bool:
        """Queue ``message`` for ``public_key``; False if it is not connected (the message is gone then)."""
        return self.broadcast((public_key,), message) == 1

    def broadcast(self, public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        """Queue ``message`` for each of ``public_keys`` but this node; how many are connected. Encoded once."""
        frame: bytes | None = None
        lane = lane_of(message)
        count = 0
        for key in public_keys:
            peer = self._peers.get(key)
            if peer is None or peer.connection is None or not self._may_say(peer, message):
                self.metrics.unsent += key != self.identity.public_key
                continue
            if frame is None:
                frame = encode_frame(encode_message(message))
            self._queue(peer, frame, lane)
            count += 1
        return count

    def connected(self) -> tuple[PublicKey, ...]:
        """The keys now connected, in the order in which they came to be known."""
        return tuple(key for key, peer in self._peers.items() if peer.connection is not None)

    def is_connected(self, public_key: PublicKey) -> bool:
        """Whether ``public_key`` is connected."""
        peer = self._peers.get(public_key)
        return peer is not None and peer.connection is not None

    def role_of(self, public_key: PublicKey) -> Role | None:
        """A connected peer's role here; None if it is not connected."""
        peer = self._peers.get(public_key)
        return None if peer is None or peer.connection is None else peer.role

    def role_at(self, public_key: PublicKey) -> Role | None:
        """This node's role at a connected peer; None if it is not connected."""
        peer = self._peers.get(public_key)
        return None if peer is None or peer.connection is None else peer.granted

    def waiting_bytes(self, public_key: PublicKey) -> int:
        """Bytes queued for a peer: who serves large answers looks here before the next one."""
        peer = self._peers.get(public_key)
        return 0 if peer is None else peer.outbox.waiting_bytes

    def hold(self, public_key: PublicKey, held: bool) -> None:
        """Stop reading from a connected peer, or go on: back-pressure for a runtime whose queue is full."""
        peer = self._peers.get(public_key)
        if peer is not None and peer.connection is not None:
            peer.connection.hold(held)

    def punish(self, public_key: PublicKey, reason: str) -> None:
        """Disconnect and ban for a while: the peer sent what no honest node sends."""
        length_ms = self._bans.ban(public_key, self.scheduler.now_ms())
        self.metrics.bans += 1
        log.warning("peer banned", peer=public_key.hex(), reason=reason, ban_ms=length_ms)
        peer = self._peers.get(public_key)
        if peer is not None:
            self._say_goodbye(peer, reason)

    def refresh_roles(self) -> None:
        """Ask ``admits`` again for every connected peer: the membership has changed."""
        for peer in list(self._peers.values()):
            connection = peer.connection
            if connection is None or connection.initiated:
                continue
            role = Role.MEMBER if self._admits(peer.public_key) else Role.GUEST
            if role is not peer.role:
                self._set_role(peer, connection, role)

    # ------------------------------------------------------------ sending

    def _may_say(self, peer: Peer, message: PeerMessage) -> bool:
        return peer.granted is Role.MEMBER or guest_may_send(message) or peer.role is Role.GUEST

    def _queue(self, peer: Peer, frame: bytes, lane: Lane) -> None:
        dropped = peer.outbox.put(frame, lane)
        if dropped is None:
            self._give_up(peer, f"reads too slowly: {peer.outbox.waiting_bytes} bytes wait for it")
            return
        self.metrics.gossip_dropped += dropped
        self._dirty[peer] = None
        if self._flush is None:
            # Once per turn of the loop: what is said to one peer in one turn leaves in one write.
            self._flush = self.scheduler.call_later_ms(0, self._flush_dirty)

    def _link(self, peer: Peer, message: PeerMessage) -> None:
        self._queue(peer, encode_frame(encode_message(message)), lane_of(message))

    def _flush_dirty(self) -> None:
        self._flush = None
        dirty, self._dirty = self._dirty, {}
        for peer in dirty:
            peer.flush(self._count_sent)

    def _count_sent(self, messages: int, byte_count: int) -> None:
        self.metrics.messages_sent += messages
        self.metrics.bytes_sent += byte_count

    def _give_up(self, peer: Peer, reason: str) -> None:
        self.metrics.overflow_disconnects += 1
        log.warning("peer dropped", peer=peer.public_key.hex(), reason=reason)
        if peer.connection is not None:
            peer.connection.abort(reason)

    def _say_goodbye(self, peer: Peer, reason: str) -> None:
        if peer.connection is not None:
            peer.connection.close(reason, encode_message(Goodbye(reason[:256])))

    # ------------------------------------------------------------ ConnectionOwner: the handshake

    def _incoming(self) -> Connection:
        return self._connection(None)

    def _connection(self, expected_key: PublicKey | None) -> Connection:
        return Connection(
            self,
            expected_key=expected_key,
            handshake_timeout_ms=self._limits.handshake_timeout_ms,
            write_buffer_bytes=self._limits.write_buffer_bytes,
        )

    def connection_opened(self, connection: Connection) -> None:
        """Count a stranger; the oldest goes where there are too many."""
        self._open[connection] = None
        if self._stopping:
            connection.abort("stopping")
        else:
            self._reception.opened(connection)

    def new_handshake(self, connection: Connection, peer_key: PublicKey) -> Handshake:
        """The handshake to run with the holder of ``peer_key``."""
        return self._reception.handshake(connection, peer_key)

    def handshake_refused(self, connection: Connection, refused: Refused) -> None:
        """Tell the peer why it is refused."""
        self._reception.refused(connection, refused)

    def handshake_late(self, connection: Connection) -> None:
        """Close what has said nothing useful in time."""
        self._reception.late(connection)

    def connection_established(self, connection: Connection) -> None:
        """Keep the connection, instead of an older one if need be."""
        handshake = connection.handshake
        if handshake is None or handshake.hello is None or handshake.granted_here is None:
            return
        peer = self._peer(connection.peer_key)
        if peer.connection is not None and self._reception.existing_stays(peer, connection, handshake.hello):
            connection.close("another connection is kept", encode_message(Goodbye("duplicate")))
            return
        if handshake.granted_here is Role.GUEST and self.metrics.guests_now >= self._limits.max_guests:
            connection.close("no place for more guests", encode_message(Goodbye("no place for more guests")))
            return
        self._reception.left(connection)
        self.metrics.handshakes_accepted += 1
        self._take_over(peer, connection, handshake, handshake.hello)

    def _take_over(self, peer: Peer, connection: Connection, handshake: Handshake, hello: Hello) -> None:
        """``connection`` is the peer's from now on."""
        replaced, peer.connection = peer.connection, connection
        restarted = replaced is not None and peer.instance != hello.instance
        if replaced is not None:
            replaced.close("replaced by another connection", encode_message(Goodbye("duplicate")))
            self._uncount(peer)
        if restarted:
            self.metrics.unsent += peer.outbox.clear()
        self._dialler.cancel(peer)
        peer.dialling = False
        peer.instance = hello.instance
        peer.connected_ms = self.scheduler.now_ms()
        peer.granted = handshake.granted_there or Role.GUEST
        peer.role = handshake.granted_here or Role.GUEST
        self.metrics.peers_now += 1
        self.metrics.guests_now += peer.role is Role.GUEST
        connection.establish(*self._regard(peer.role))
        if peer.role is Role.GUEST and self._admits(peer.public_key):
            self._set_role(peer, connection, Role.MEMBER)  # admitted since its hello was judged
        log.info("peer connected", peer=peer.public_key.hex(), role=peer.role.name, software=hello.software)
        if restarted:
            self._on_peer(peer.public_key, False)
        if replaced is None or restarted:
            self._on_peer(peer.public_key, True)
        peer.flush(self._count_sent)

    def _regard(self, role: Role) -> tuple[int, RateMeter]:
        now_ms = self.scheduler.now_ms()
        if role is Role.MEMBER:
            return MAX_FRAME_BYTES, RateMeter(self._limits.member_rate, now_ms)
        return MAX_GUEST_FRAME_BYTES, RateMeter(self._limits.guest_rate, now_ms)

    def _set_role(self, peer: Peer, connection: Connection, role: Role) -> None:
        self.metrics.guests_now += 1 if role is Role.GUEST else -1
        peer.role = role
        connection.regard(*self._regard(role))
        self._link(peer, RoleGranted(role))

    def _uncount(self, peer: Peer) -> None:
        self.metrics.peers_now -= 1
        self.metrics.guests_now -= peer.role is Role.GUEST

    # ------------------------------------------------------------ ConnectionOwner: an established connection

    def frame_received(self, connection: Connection, payload: bytes) -> None:
        """Decode one message and hand it up; `MalformedInput` comes back as `connection_malformed`."""
        peer = self._peers[connection.peer_key]
        if peer.connection is not connection:
            return
        self.metrics.messages_received += 1
        self.metrics.bytes_received += PREFIX_BYTES + len(payload)
        message = decode_message(payload)
        if peer.role is Role.GUEST and not guest_may_send(message):
            if not self._admits(peer.public_key):
                raise MalformedInput(f"a guest may not send {type(message).__name__} (PROTOCOL 10.1)")
            self._set_role(peer, connection, Role.MEMBER)
        match message:
            case Ping(nonce=nonce):
                self._link(peer, Pong(nonce))
            case Pong():
                pass
            case RoleGranted(role=role):
                peer.granted = role
            case Goodbye(reason=reason):
                connection.close(f"the peer left: {reason}", None)
            case _:
                self._on_message(peer.public_key, message)

    def connection_malformed(self, connection: Connection, reason: str) -> None:
        """Disconnect and ban; before the handshake's end there is nobody to ban."""
        self.metrics.malformed += 1
        if connection.established:
            self.punish(connection.peer_key, reason)
        connection.close(reason, refusal(RefusalCode.MALFORMED, reason))

    def rate_limited(self, connection: Connection) -> None:
        """Count it; the connection waits by itself."""
        self.metrics.rate_limited += 1

    def connection_writable(self, connection: Connection) -> None:
        """Send what waits."""
        peer = self._peers.get(connection.peer_key)
        if peer is not None and peer.connection is connection:
            peer.flush(self._count_sent)

    def connection_closed(self, connection: Connection, reason: str) -> None:
        """Forget the connection; dial again if the peer is wanted."""
        self._open.pop(connection, None)
        self._reception.left(connection)
        if self._stopping and not self._open:
            self._all_closed.set()
        key = connection.proven_key if connection.expected_key is None else connection.expected_key
        if not connection.established:
            self.metrics.handshakes_failed += 1
            log.info(
                "no connection", peer=key.hex() if key else None, address=connection.address, reason=reason
            )
        peer = None if key is None else self._peers.get(key)
        if peer is None:
            return
        if connection.initiated and not connection.established:
            peer.dialling = False
        if peer.connection is connection:
            self._disconnected(peer, reason)
        if (
            peer.connection is None
            and peer.endpoint is not None
            and not peer.dialling
            and peer.redial is None
        ):
            self._dialler.schedule(peer, peer.backoff.next_ms())
        self._forget_if_idle(peer)

    def _disconnected(self, peer: Peer, reason: str) -> None:
        self._uncount(peer)
        peer.connection = None
        self.metrics.unsent += peer.outbox.clear()
        if self.scheduler.now_ms() - peer.connected_ms >= STABLE_MS:
            peer.backoff.reset()
        log.info("peer disconnected", peer=peer.public_key.hex(), reason=reason)
        self._on_peer(peer.public_key, False)

    # ------------------------------------------------------------ peers

    def _peer(self, key: PublicKey) -> Peer:
        peer = self._peers.get(key)
        if peer is None:
            limits = self._limits
            peer = Peer(
                key,
                Outbox(limits.queue_bytes, limits.queue_messages),
                Backoff(limits.reconnect_min_ms, limits.reconnect_max_ms, self._randomness),
            )
            self._peers[key] = peer
        return peer

    def _forget_if_idle(self, peer: Peer) -> None:
        if peer.connection is None and peer.endpoint is None and not peer.dialling:
            self._peers.pop(peer.public_key, None)

    # ------------------------------------------------------------ silence and stalls

    def _on_tick(self) -> None:
        now_ms = self.scheduler.now_ms()
        # After a pause of this very process everybody seems silent; read what they said before judging them.
        overslept = now_ms - self._ticked_ms > 3 * _TICK_MS
        self._ticked_ms = now_ms
        for peer in list(self._peers.values()):
            if peer.connection is not None and not peer.connection.closing:
                self._look_after(peer, peer.connection, now_ms, overslept)
        self._tick = self.scheduler.call_later_ms(_TICK_MS, self._on_tick)

    def _look_after(self, peer: Peer, connection: Connection, now_ms: int, overslept: bool) -> None:
        limits = self._limits
        if overslept or connection.reading_paused:
            connection.received_ms = now_ms
        if overslept:
            connection.progress_ms = now_ms
        silent_ms = now_ms - connection.received_ms
        if connection.stalled_ms(now_ms) > limits.stall_timeout_ms:
            self._give_up(peer, f"has read nothing for {limits.stall_timeout_ms} ms")
        elif silent_ms > limits.idle_timeout_ms or connection.frame_age_ms(now_ms) > limits.frame_timeout_ms:
            self.metrics.idle_disconnects += 1
            connection.abort(f"silent for {silent_ms} ms, or a frame that does not end")
        elif silent_ms > limits.ping_interval_ms:
            self._link(peer, Ping(now_ms))
