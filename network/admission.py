"""Who is kept out, and how strangers are kept few: pending connections, rate limits and temporary bans, without IO."""

from collections import OrderedDict
from typing import Generic, TypeVar

from consensus.types import PublicKey
from network.limits import RateLimit

C = TypeVar("C")

MAX_BANS = 4_096
"""Remembered bans; keys cost nothing, so the list is bounded and forgets the oldest."""


class PendingConnections(Generic[C]):
    """Connections before the end of their handshake: few in all and few per address.

    When full the *oldest* goes, not the newcomer: an honest handshake takes milliseconds, so a thousand sockets
    that say nothing cannot keep anybody out.
    """

    def __init__(self, max_total: int, max_per_address: int) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._all: OrderedDict[C, str] = OrderedDict()
        self._by_address: dict[str, OrderedDict[C, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: C, address: str) -> C | None:
        """Count ``connection``; the one that has to go for it, if any (no longer counted)."""
        own = self._by_address.setdefault(address, OrderedDict())
        evicted: C | None = None
        if len(own) >= self._max_per_address:
            evicted = next(iter(own))
        elif len(self._all) >= self._max_total:
            evicted = next(iter(self._all))
        if evicted is not None:
            self.remove(evicted)
            own = self._by_address.setdefault(address, OrderedDict())
        self._all[connection] = address
        own[connection] = None
        return evicted

    def remove(self, connection: C) -> None:
        """Forget ``connection``: established, closed, or never counted."""
        address = self._all.pop(connection, None)
        if address is None:
            return
        own = self._by_address[address]
        del own[connection]
        if not own:
            del self._by_address[address]


class RateMeter:
    """Token bucket over bytes and messages that may go into debt: the debt says how long not to read."""

    def __init__(self, limit: RateLimit, now_ms: int) -> None:
        self._limit = limit
        self._at_ms = now_ms
        # In thousandths, so that calls a millisecond apart lose nothing to rounding.
        self._milli_bytes = limit.bytes_per_second * 1_000
        self._milli_messages = limit.messages_per_second * 1_000

    def spend(self, byte_count: int, message_count: int, now_ms: int) -> int:
        """Milliseconds for which the peer must wait now; 0 within the limit. A burst of one second is free."""
        limit = self._limit
        elapsed_ms = max(0, now_ms - self._at_ms)
        self._at_ms = max(now_ms, self._at_ms)
        self._milli_bytes = min(
            limit.bytes_per_second * 1_000, self._milli_bytes + limit.bytes_per_second * elapsed_ms
        )
        self._milli_messages = min(
            limit.messages_per_second * 1_000, self._milli_messages + limit.messages_per_second * elapsed_ms
        )
        self._milli_bytes -= byte_count * 1_000
        self._milli_messages -= message_count * 1_000
        return max(
            -(self._milli_bytes // limit.bytes_per_second),
            -(self._milli_messages // limit.messages_per_second),
            0,
        )


class BanList:
    """Keys that may not connect for a while; each offence doubles the time."""

    def __init__(self, ban_ms: int, ban_max_ms: int) -> None:
        self._ban_ms = ban_ms
        self._ban_max_ms = ban_max_ms
        self._bans: OrderedDict[PublicKey, tuple[int, int]] = OrderedDict()

    def ban(self, public_key: PublicKey, now_ms: int) -> int:
        """Ban ``public_key`` from now on; the ban's length in milliseconds."""
        until_ms, length_ms = self._bans.pop(public_key, (0, 0))
        forgiven = now_ms > until_ms + self._ban_max_ms
        length_ms = self._ban_ms if forgiven or not length_ms else min(length_ms * 2, self._ban_max_ms)
        self._bans[public_key] = (now_ms + length_ms, length_ms)
        if len(self._bans) > MAX_BANS:
            self._bans.popitem(last=False)
        return length_ms

    def remaining_ms(self, public_key: PublicKey, now_ms: int) -> int:
        """How long ``public_key`` stays banned; 0 if it is not."""
        until_ms, _ = self._bans.get(public_key, (0, 0))
        return max(0, until_ms - now_ms)
