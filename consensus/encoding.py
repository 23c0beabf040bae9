"""Canonical MessagePack: decoding then encoding gives the same bytes, or refusal (PROTOCOL 9.4)."""

from typing import Generic, TypeVar

import msgspec

from consensus.errors import MalformedInput

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """The one encoding of ``value``: positional arrays, shortest integers, no maps of our own, no floats."""
    return _encoder.encode(value)


class Codec(Generic[T]):
    """Decoder of one type with a size limit, checked before decoding.

    Depth is bounded by the type itself: no wire type is recursive.
    """

    def __init__(self, kind: type[T] | object, max_bytes: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._max_bytes = max_bytes

    def decode(self, data: bytes) -> T:
        """The value in ``data``; `MalformedInput` if too large, ill-typed, out of range or not canonical."""
        if len(data) > self._max_bytes:
            raise MalformedInput(f"{len(data)} bytes exceed the limit of {self._max_bytes}")
        try:
            value = self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedInput(f"not a valid encoding: {error}") from error
        if _encoder.encode(value) != data:
            raise MalformedInput("not the canonical encoding: encoding the decoded value gives other bytes")
        return value
