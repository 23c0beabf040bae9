"""What comes from those who are ahead: bounded, unverified, looked at when its height is entered (PROTOCOL 6.6)."""

from consensus.messages import ConsensusMessage, Proposal
from consensus.types import PublicKey


def place_of(message: ConsensusMessage) -> tuple[int, int]:
    """Height and view of a message."""
    core = message.vote if isinstance(message, Proposal) else message
    return core.height, core.view


class NextHeight:
    """Messages of the height after the current one: per proven sender and kind the highest view.

    Keyed by who sent, not by who signed: nothing is verified yet, so each sender can only fill its own places.
    """

    def __init__(self) -> None:
        self._messages: dict[tuple[PublicKey, type[ConsensusMessage]], ConsensusMessage] = {}

    def keep(self, sender: PublicKey, message: ConsensusMessage) -> None:
        """Keep ``message`` unless this sender's of the same kind is of as high a view."""
        key = (sender, type(message))
        held = self._messages.get(key)
        if held is None or place_of(held) < place_of(message):
            self._messages[key] = message

    @property
    def senders(self) -> tuple[PublicKey, ...]:
        """Who sent something, each once, in order of arrival."""
        return tuple(dict.fromkeys(sender for sender, _kind in self._messages))

    def take(self) -> list[tuple[PublicKey, ConsensusMessage]]:
        """All that was kept, which is then forgotten; new-views before proposals before votes."""
        taken = [(sender, message) for (sender, _kind), message in self._messages.items()]
        self._messages.clear()
        return taken


class RateLimit:
    """At most one event a key and interval; the oldest of too many keys is forgotten."""

    def __init__(self, interval_ms: int, max_keys: int) -> None:
        self._interval_ms = interval_ms
        self._max_keys = max_keys
        self._last_ms: dict[bytes, int] = {}

    def allow(self, key: bytes, now_ms: int) -> bool:
        """Whether the event may happen now; if so it counts."""
        last = self._last_ms.get(key)
        if last is not None and now_ms - last < self._interval_ms:
            return False
        self._last_ms.pop(key, None)
        self._last_ms[key] = now_ms
        while len(self._last_ms) > self._max_keys:
            del self._last_ms[next(iter(self._last_ms))]
        return True
