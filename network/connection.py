# mypy: disable-error-code="explicit-override"
"""One TCP connection: TLS, frames and handshake wired to an `asyncio.Protocol` (no streams, no task per connection).

What is decided here ends at this connection; which connection of a peer is kept, and what its messages mean, is the
`ConnectionOwner`'s business.
"""

import asyncio
from typing import Protocol, cast

from consensus.errors import MalformedInput
from consensus.types import PublicKey
from network.admission import RateMeter
from network.framing import FrameDecoder, encode_frame
from network.handshake import (
    MAX_HANDSHAKE_BYTES,
    Handshake,
    Refused,
    RefusedByPeer,
)
from network.scheduler import Scheduled, Scheduler
from network.tls import NodeIdentity, TlsFailure, TlsSession

_LINGER_MS = 1_000
"""Time for the last words to leave before a closing connection is cut."""


class ConnectionOwner(Protocol):
    """What a connection needs from the transport that owns it."""

    identity: NodeIdentity
    scheduler: Scheduler

    def new_handshake(self, connection: "Connection", peer_key: PublicKey) -> Handshake:
        """The handshake to run with the holder of ``peer_key``."""

    def connection_opened(self, connection: "Connection") -> None:
        """The TCP connection is there; the handshake starts."""

    def connection_established(self, connection: "Connection") -> None:
        """Both sides have welcomed each other; from now on frames are peer messages."""

    def frame_received(self, connection: "Connection", payload: bytes) -> None:
        """One peer message of an established connection."""

    def connection_malformed(self, connection: "Connection", reason: str) -> None:
        """The peer sent what no honest node sends; the owner closes the connection."""

    def handshake_refused(self, connection: "Connection", refused: Refused) -> None:
        """This side refuses the peer; the owner closes the connection."""

    def handshake_late(self, connection: "Connection") -> None:
        """The handshake has not ended in time; the owner closes the connection."""

    def rate_limited(self, connection: "Connection") -> None:
        """The peer says too much and is not read from for a while."""

    def connection_writable(self, connection: "Connection") -> None:
        """The write buffer has drained: more may be sent."""

    def connection_closed(self, connection: "Connection", reason: str) -> None:
        """The end; called exactly once for an opened connection."""


class Connection(asyncio.Protocol):
    """A connection from its start to its end."""

    def __init__(
        self,
        owner: ConnectionOwner,
        *,
        expected_key: PublicKey | None,
        handshake_timeout_ms: int,
        write_buffer_bytes: int,
    ) -> None:
        """``expected_key`` is the key that was dialled, None for an incoming connection."""
        self._owner = owner
        self.expected_key = expected_key
        self._handshake_timeout_ms = handshake_timeout_ms
        self._write_buffer_bytes = write_buffer_bytes
        self._tls = TlsSession(owner.identity, server_side=expected_key is None)
        self._decoder = FrameDecoder(MAX_HANDSHAKE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._deadline: Scheduled | None = None
        self._meter: RateMeter | None = None
        self._waiting: Scheduled | None = None
        """Runs until the peer's debt to its rate limit is paid."""
        self._held = False
        self._close_reason: str | None = None
        self.address = "unknown"
        """The peer's IP address."""
        self.handshake: Handshake | None = None
        self.established = False
        self.writable = True
        """False while the write buffer is above its mark."""
        now_ms = owner.scheduler.now_ms()
        self.received_ms = now_ms
        """When the peer was last heard."""
        self.progress_ms = now_ms
        """When the write buffer was last seen to shrink or to be empty."""
        self._buffered_before = 0
        self._frame_since_ms: int | None = None

    @property
    def initiated(self) -> bool:
        """Whether this node dialled."""
        return self.expected_key is not None

    @property
    def peer_key(self) -> PublicKey:
        """The key that the peer has proven; `RuntimeError` before TLS is done."""
        if self._tls.peer_key is None:
            raise RuntimeError("the peer's key is not known before the TLS handshake is done")
        return self._tls.peer_key

    @property
    def proven_key(self) -> PublicKey | None:
        """As `peer_key`, None before TLS is done."""
        return self._tls.peer_key

    @property
    def closing(self) -> bool:
        """Whether the end has begun."""
        return self._close_reason is not None or self._transport is None

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports have the methods of `asyncio.Transport` but not its type.
        self._transport = stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(high=self._write_buffer_bytes)
        peer_name = stream.get_extra_info("peername")
        if peer_name:
            self.address = str(peer_name[0])
        self._deadline = self._owner.scheduler.call_later_ms(self._handshake_timeout_ms, self._handshake_late)
        self._owner.connection_opened(self)
        self._write_out()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.received_ms = self._owner.scheduler.now_ms()
        try:
            plaintext = self._tls.receive(data)
        except TlsFailure as failure:
            self._write_out()  # the alert
            self.close(str(failure), None)
            return
        if self.handshake is None and self._tls.peer_key is not None:
            self._begin_handshake(self._tls.peer_key)
        self._write_out()
        if plaintext:
            self._take_frames(plaintext)

    def eof_received(self) -> None:
        try:
            self._decoder.finish()
        except MalformedInput as error:
            self._close_reason = self._close_reason or str(error)

    def connection_lost(self, exc: Exception | None) -> None:
        for scheduled in (self._deadline, self._waiting):
            if scheduled is not None:
                scheduled.cancel()
        self._transport = None
        self._owner.connection_closed(self, self._close_reason or (str(exc) if exc else "closed by the peer"))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.progress_ms = self._owner.scheduler.now_ms()
        if self.established and not self.closing:
            self._owner.connection_writable(self)

    # ------------------------------------------------------------ for the owner

    def establish(self, max_frame_bytes: int, meter: RateMeter) -> None:
        """Peer messages from now on, up to ``max_frame_bytes`` each, at the rate of ``meter``."""
        self.established = True
        self._decoder.set_limit(max_frame_bytes)
        self._meter = meter
        if self._deadline is not None:
            self._deadline.cancel()

    def regard(self, max_frame_bytes: int, meter: RateMeter) -> None:
        """The peer's role has changed: other limits."""
        self._decoder.set_limit(max_frame_bytes)
        self._meter = meter

    def send_frames(self, frames: list[bytes]) -> None:
        """Encrypt and write frames; the caller watches `writable`."""
        if self.closing or not frames:
            return
        self._tls.send(b"".join(frames))
        self._write_out()

    def hold(self, held: bool) -> None:
        """Do not read from the peer while ``held``: TCP makes it wait."""
        self._held = held
        self._apply_reading()

    def close(self, reason: str, last_words: bytes | None) -> None:
        """End the connection after sending the payload ``last_words``, if TLS is up; cut it after a second."""
        if self.closing or self._transport is None:
            return
        self._close_reason = reason
        if last_words is not None and self._tls.peer_key is not None:
            self._tls.send(encode_frame(last_words))
            self._transport.write(self._tls.take_outgoing())
        try:
            # Half-close and wait for the peer's end: closing with unread data would reset the last words away.
            self._transport.write_eof()
        except OSError:
            self._transport.abort()  # the peer has cut it already
            return
        self._owner.scheduler.call_later_ms(_LINGER_MS, self._cut)

    def abort(self, reason: str) -> None:
        """Cut the connection at once."""
        if self._transport is not None:
            self._close_reason = self._close_reason or reason
            self._transport.abort()

    def stalled_ms(self, now_ms: int) -> int:
        """For how long no byte of a non-empty write buffer has left."""
        buffered = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if buffered == 0 or buffered < self._buffered_before:
            self.progress_ms = now_ms
        self._buffered_before = buffered
        return now_ms - self.progress_ms

    def frame_age_ms(self, now_ms: int) -> int:
        """For how long the unfinished incoming frame, if any, has been coming."""
        return 0 if self._frame_since_ms is None else now_ms - self._frame_since_ms

    @property
    def reading_paused(self) -> bool:
        """Whether this side has stopped reading, so that silence is not the peer's."""
        return self._held or self._waiting is not None

    # ------------------------------------------------------------ inside

    def _begin_handshake(self, peer_key: PublicKey) -> None:
        if self.expected_key is not None and peer_key != self.expected_key:
            self.close(f"dialled {self.expected_key.hex()}, but {peer_key.hex()} answered", None)
            return
        self.handshake = self._owner.new_handshake(self, peer_key)
        self._tls.send(encode_frame(self.handshake.start()))

    def _take_frames(self, plaintext: bytes) -> None:
        self._decoder.feed(plaintext)
        count = 0
        try:
            while not self.closing and (payload := self._decoder.next_frame()) is not None:
                count += 1
                if self.established:
                    self._owner.frame_received(self, payload)
                else:
                    self._shake(payload)
        except MalformedInput as error:
            self._owner.connection_malformed(self, str(error))
            return
        if not self._decoder.pending_bytes:
            self._frame_since_ms = None
        elif count or self._frame_since_ms is None:
            self._frame_since_ms = self.received_ms
        self._spend(len(plaintext), count)

    def _shake(self, payload: bytes) -> None:
        if self.handshake is None:
            return
        try:
            answer = self.handshake.receive(payload)
        except Refused as refused:
            self._owner.handshake_refused(self, refused)
            return
        except RefusedByPeer as refused:
            self.close(str(refused), None)
            return
        if answer is not None:
            self._tls.send(encode_frame(answer))
            self._write_out()
        if self.handshake.complete:
            self._owner.connection_established(self)

    def _spend(self, byte_count: int, message_count: int) -> None:
        if self._meter is None or self.closing:
            return
        wait_ms = self._meter.spend(byte_count, message_count, self.received_ms)
        if wait_ms and self._waiting is None:
            self._owner.rate_limited(self)
            self._waiting = self._owner.scheduler.call_later_ms(wait_ms, self._end_wait)
            self._apply_reading()

    def _end_wait(self) -> None:
        self._waiting = None
        self._apply_reading()

    def _apply_reading(self) -> None:
        if self.closing or self._transport is None:
            return
        if self.reading_paused:
            self._transport.pause_reading()
        else:
            self.received_ms = self._owner.scheduler.now_ms()
            self._transport.resume_reading()

    def _write_out(self) -> None:
        data = self._tls.take_outgoing()
        if data and self._transport is not None and self._close_reason is None:
            self._transport.write(data)

    def _handshake_late(self) -> None:
        self._owner.handshake_late(self)

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
