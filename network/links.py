"""What the parts above the transport need of it: the door that `network.transport.Transport` and the simulator open."""

from collections.abc import Iterable
from typing import Protocol

from consensus.types import PublicKey
from network.wire import ApplicationMessage, Role


class Links(Protocol):
    """Connected peers and how to speak to them; nothing here waits."""

    def send(self, public_key: PublicKey, message: ApplicationMessage) -> bool:
        """Queue ``message``; False if the peer is not connected."""

    def broadcast(self, public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        """Queue ``message`` for each; how many are connected. Encoded once."""

    def connected(self) -> tuple[PublicKey, ...]:
        """The keys now connected."""

    def role_of(self, public_key: PublicKey) -> Role | None:
        """A connected peer's role here."""

    def waiting_bytes(self, public_key: PublicKey) -> int:
        """Bytes queued for a peer."""

    def punish(self, public_key: PublicKey, reason: str) -> None:
        """Disconnect and ban for a while."""
