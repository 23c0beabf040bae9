"""What waits to be sent to one peer: three lanes, bounded by bytes and messages, without IO."""

from collections import deque
from typing import Final

from network.wire import Lane


class Outbox:
    """Frames in the order of their lanes; when full, the oldest gossip goes first.

    A frame is the same ``bytes`` object in every peer's outbox: a broadcast costs one encoding.
    """

    def __init__(self, max_bytes: int, max_messages: int) -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._lanes: Final[tuple[deque[bytes], ...]] = tuple(deque() for _ in Lane)
        self._bytes = 0
        self._messages = 0

    def __len__(self) -> int:
        return self._messages

    @property
    def waiting_bytes(self) -> int:
        """Bytes of all waiting frames."""
        return self._bytes

    def put(self, frame: bytes, lane: Lane) -> int | None:
        """Queue ``frame``; how many older gossip frames had to go, or None if even that made no room.

        None means that the peer has passed the high-water mark. Gossip that finds no room is itself what goes.
        """
        gossip = self._lanes[Lane.GOSSIP]
        dropped = 0
        while self._full_with(frame):
            if not gossip:
                if lane is Lane.GOSSIP:
                    return dropped + 1
                return None
            self._bytes -= len(gossip.popleft())
            self._messages -= 1
            dropped += 1
        self._lanes[lane].append(frame)
        self._bytes += len(frame)
        self._messages += 1
        return dropped

    def take(self, max_bytes: int) -> list[bytes]:
        """The next frames, at least one if any waits, up to about ``max_bytes`` together."""
        taken: list[bytes] = []
        size = 0
        for lane in self._lanes:
            while lane and (not taken or size + len(lane[0]) <= max_bytes):
                frame = lane.popleft()
                taken.append(frame)
                size += len(frame)
            if lane:
                break
        self._bytes -= size
        self._messages -= len(taken)
        return taken

    def clear(self) -> int:
        """Drop everything; how many frames that was."""
        count = self._messages
        for lane in self._lanes:
            lane.clear()
        self._bytes = 0
        self._messages = 0
        return count

    def _full_with(self, frame: bytes) -> bool:
        return self._bytes + len(frame) > self._max_bytes or self._messages + 1 > self._max_messages
