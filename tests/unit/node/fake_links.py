"""`network.links.Links` that only remembers, and a clock that a test turns."""

from collections.abc import Iterable

from consensus.inputs import Instant
from consensus.types import PublicKey
from network.wire import ApplicationMessage, Role


class FakeLinks:
    """Every key in ``peers`` is connected."""

    def __init__(self, *peers: PublicKey) -> None:
        self.peers = list(peers)
        self.roles: dict[PublicKey, Role] = {}
        self.sent: list[tuple[PublicKey, ApplicationMessage]] = []
        self.punished: list[tuple[PublicKey, str]] = []
        self.unread: dict[PublicKey, int] = {}

    def send(self, public_key: PublicKey, message: ApplicationMessage) -> bool:
        if public_key not in self.peers:
            return False
        self.sent.append((public_key, message))
        return True

    def broadcast(self, public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        return sum(self.send(key, message) for key in public_keys)

    def connected(self) -> tuple[PublicKey, ...]:
        return tuple(self.peers)

    def role_of(self, public_key: PublicKey) -> Role | None:
        return self.roles.get(public_key, Role.MEMBER) if public_key in self.peers else None

    def waiting_bytes(self, public_key: PublicKey) -> int:
        return self.unread.get(public_key, 0)

    def punish(self, public_key: PublicKey, reason: str) -> None:
        self.punished.append((public_key, reason))

    def take(self) -> list[tuple[PublicKey, ApplicationMessage]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


class FakeClock:
    """`node.clock.Clock` in a test's hands."""

    def __init__(self, wall_ms: int) -> None:
        self.wall_ms = wall_ms
        self.monotonic_ms = 1_000

    def now(self) -> Instant:
        return Instant(self.wall_ms, self.monotonic_ms)
