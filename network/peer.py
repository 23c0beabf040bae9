"""What the transport keeps of one peer: where to reach it, what waits for it, which connection is kept."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec

from consensus.types import PublicKey, Value
from network.outbox import Outbox
from network.scheduler import Scheduled
from network.wire import MAX_HOST_BYTES, Role

if TYPE_CHECKING:
    from network.connection import Connection

_BATCH_BYTES = 65_536
"""Frames joined into one write: enough to fill TLS records, little enough for a vote to overtake what is left."""
STABLE_MS = 5_000
"""A connection that lived this long was a success: the next failure starts at the shortest delay again."""


class Endpoint(Value, frozen=True):
    """Where a node listens."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOST_BYTES)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]

    def text(self) -> str:
        """As people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Backoff:
    """Delays between attempts: doubling up to a cap, each shortened by chance so that a crowd does not move as one."""

    def __init__(self, min_ms: int, max_ms: int, randomness: random.Random) -> None:
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._randomness = randomness
        self.failures = 0

    def next_ms(self) -> int:
        """The delay before the next attempt: half to all of ``min_ms * 2^failures``, at most ``max_ms``."""
        # The exponent is capped: no sum of failures makes a number worth computing.
        full_ms = min(self._max_ms, self._min_ms << min(self.failures, 32))
        self.failures += 1
        return self._randomness.randint((full_ms + 1) // 2, full_ms)

    def reset(self) -> None:
        """The last attempt was a success."""
        self.failures = 0


class Peer:
    """One key's state at this node; exists while it is connected or has an endpoint to be dialled."""

    def __init__(self, public_key: PublicKey, outbox: Outbox, backoff: Backoff) -> None:
        self.public_key = public_key
        self.outbox = outbox
        self.backoff = backoff
        self.endpoint: Endpoint | None = None
        """Where to dial; None for a peer that only came by itself."""
        self.connection: Connection | None = None
        self.role = Role.GUEST
        """The peer's role here."""
        self.granted = Role.GUEST
        """This node's role there."""
        self.instance = b""
        self.connected_ms = 0
        self.redial: Scheduled | None = None
        """The next attempt, waiting for its time."""
        self.dialling = False
        """Whether an attempt is under way, up to the end of its handshake."""

    def flush(self, sent: Callable[[int, int], None]) -> None:
        """Write what waits until the connection's buffer is full; ``sent`` counts messages and bytes."""
        connection = self.connection
        while connection is not None and connection.writable and not connection.closing and len(self.outbox):
            frames = self.outbox.take(_BATCH_BYTES)
            connection.send_frames(frames)
            sent(len(frames), sum(map(len, frames)))


def keeps_existing(
    own_key: PublicKey, peer_key: PublicKey, existing_initiated: bool, new_initiated: bool
) -> bool:
    """Of two connections with one running peer, whether the existing one stays.

    Both ends keep the one that the smaller key dialled; of two dialled by the same side the newer, since a node
    dials again only when it has lost the first.
    """
    if existing_initiated == new_initiated:
        return False
    smaller_is_own = own_key < peer_key
    return existing_initiated == smaller_is_own
