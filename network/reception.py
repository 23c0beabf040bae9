"""Whom a node lets in, from the first byte to the welcome: few strangers at once, members, and some guests."""

from collections.abc import Callable, Mapping

import structlog

from consensus.types import PublicKey
from network.admission import BanList, PendingConnections
from network.connection import Connection
from network.handshake import Handshake, Hello, RefusalCode, Refused, refusal
from network.limits import TransportLimits
from network.metrics import TransportMetrics
from network.peer import Peer, keeps_existing
from network.scheduler import Scheduler
from network.wire import Role

log = structlog.get_logger("network.reception")


class Reception:
    """Judges connections that are not established; the transport keeps those that are."""

    def __init__(
        self,
        new_handshake: Callable[[PublicKey, Callable[[Hello], Role]], Handshake],
        own_key: PublicKey,
        admits: Callable[[PublicKey], bool],
        peers: Mapping[PublicKey, Peer],
        bans: BanList,
        limits: TransportLimits,
        metrics: TransportMetrics,
        scheduler: Scheduler,
    ) -> None:
        """``new_handshake`` takes the peer's key and what grants it a role.

        ``peers`` is the transport's own table, read here and never changed.
        """
        self._new_handshake = new_handshake
        self._own_key = own_key
        self._admits = admits
        self._peers = peers
        self._bans = bans
        self._limits = limits
        self._metrics = metrics
        self._scheduler = scheduler
        self._pending: PendingConnections[Connection] = PendingConnections(
            limits.max_pending, limits.max_pending_per_address
        )

    def opened(self, connection: Connection) -> None:
        """Count a stranger; the oldest goes where there are too many."""
        if connection.initiated:
            return
        evicted = self._pending.add(connection, connection.address)
        self._metrics.pending_now = len(self._pending)
        if evicted is not None:
            self._metrics.pending_evicted += 1
            evicted.abort("made room for a newer connection")

    def left(self, connection: Connection) -> None:
        """``connection`` is established or closed: no stranger any more."""
        self._pending.remove(connection)
        self._metrics.pending_now = len(self._pending)

    def handshake(self, connection: Connection, peer_key: PublicKey) -> Handshake:
        """The handshake to run with the holder of ``peer_key``."""
        return self._new_handshake(peer_key, lambda hello: self._grant(connection, peer_key, hello))

    def existing_stays(self, peer: Peer, connection: Connection, hello: Hello) -> bool:
        """Whether the peer's established connection is kept and ``connection`` is not."""
        existing = peer.connection
        if existing is None or existing.closing or hello.instance != peer.instance:
            return False  # a restarted peer's old connection is a corpse
        return keeps_existing(self._own_key, peer.public_key, existing.initiated, connection.initiated)

    def refused(self, connection: Connection, refused: Refused) -> None:
        """Tell the peer why it is refused."""
        self._metrics.handshakes_refused += 1
        level = log.debug if refused.code is RefusalCode.DUPLICATE else log.info
        level(
            "handshake refused", peer=connection.peer_key.hex(), code=refused.code.value, reason=str(refused)
        )
        connection.close(str(refused), refusal(refused.code, str(refused)))

    def late(self, connection: Connection) -> None:
        """Close what has said nothing useful in time."""
        if connection.proven_key is None:
            connection.abort("the TLS handshake was not done in time")
        else:
            connection.close("the handshake was not done in time", refusal(RefusalCode.TIMEOUT, "too slow"))

    def _grant(self, connection: Connection, key: PublicKey, hello: Hello) -> Role:
        """The role of a peer whose hello fits; `Refused` with the reason."""
        banned_ms = self._bans.remaining_ms(key, self._scheduler.now_ms())
        if banned_ms:
            raise Refused(RefusalCode.BANNED, f"misbehaved; come back in {banned_ms} ms")
        peer = self._peers.get(key)
        if peer is not None and peer.connection is not None:
            if self.existing_stays(peer, connection, hello):
                raise Refused(RefusalCode.DUPLICATE, "another connection is kept")
        elif self._metrics.peers_now >= self._limits.max_peers:
            raise Refused(
                RefusalCode.FULL, f"{self._metrics.peers_now} peers are connected; try another node"
            )
        if connection.initiated or self._admits(key):
            return Role.MEMBER
        if self._metrics.guests_now >= self._limits.max_guests:
            raise Refused(
                RefusalCode.NOT_ADMITTED, "not a member, and no place for more guests; try another node"
            )
        return Role.GUEST
