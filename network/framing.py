"""Length-prefixed frames without IO: 4 bytes big-endian length, then the payload.

A prefix is judged as soon as it is there and before more is taken in, so a peer that claims 4 GiB costs one read.
"""

from typing import Final

from consensus.errors import MalformedInput

PREFIX_BYTES: Final = 4


def encode_frame(payload: bytes) -> bytes:
    """``payload`` as one frame; `ValueError` if it is empty or too long for the prefix (our own mistake)."""
    if not 0 < len(payload) < 2**32:
        raise ValueError(f"a frame carries 1..2^32 - 1 bytes, not {len(payload)}")
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


class FrameDecoder:
    """Cuts a byte stream into payloads: after each `feed` call `next_frame` until it gives None.

    One frame at a time, because what a frame says may raise the limit for the next one. Between two reads at most
    one unfinished frame is kept. After the first `MalformedInput` the stream has lost its rhythm and stays refused.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._offset = 0
        self._failure: str | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes kept and not handed out; below ``PREFIX_BYTES + max_frame_bytes`` once `next_frame` gave None."""
        return len(self._buffer) - self._offset

    def set_limit(self, max_frame_bytes: int) -> None:
        """Judge the next frames by another cap: a peer that has proven itself may say more than a stranger."""
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        if self._failure is None:
            self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next complete payload; None while more bytes are needed.

        Raises `MalformedInput` for an empty frame or one above the cap.
        """
        if self._failure is not None:
            raise MalformedInput(self._failure)
        start = self._offset + PREFIX_BYTES
        if len(self._buffer) >= start:
            end = start + self._judge(int.from_bytes(self._buffer[self._offset : start], "big"))
            if len(self._buffer) >= end:
                self._offset = end
                return bytes(memoryview(self._buffer)[start:end])
        del self._buffer[: self._offset]
        self._offset = 0
        return None

    def finish(self) -> None:
        """The stream has ended: `MalformedInput` if it ended inside a frame."""
        if self.pending_bytes:
            raise MalformedInput(f"the stream ended after {self.pending_bytes} bytes of an unfinished frame")

    def _judge(self, length: int) -> int:
        if 0 < length <= self._max_frame_bytes:
            return length
        if length == 0:
            self._failure = "a frame without payload"
        else:
            self._failure = f"a frame of {length} bytes exceeds the limit of {self._max_frame_bytes}"
        self._buffer = bytearray()
        self._offset = 0
        raise MalformedInput(self._failure)
