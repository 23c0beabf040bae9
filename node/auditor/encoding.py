"""Bytes: canonical MessagePack, tagged hashes, Merkle roots, signatures (annex on transactions, 1 and 4)."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgpack  # type: ignore[import-untyped]
from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import CryptoError

MAX_INTEGER = 2**63 - 1
FIELD_PRIME = 2**255 - 19
MAX_SIBLINGS = 64
"""A path longer than this belongs to no list that fits a block."""


class Malformed(Exception):
    """Bytes that are no canonical encoding of the shape they should have (PROTOCOL 9.4)."""


Shape = Callable[[Any], Any]
"""Checks a decoded value and gives it back, made into its record; raises `Malformed`."""


_pack = msgpack.Packer(use_bin_type=True).pack


def encode(value: Any) -> bytes:
    """The one encoding of ``value``."""
    packed: bytes = _pack(value)
    return packed


def decode(data: bytes, shape: Shape, max_bytes: int) -> Any:
    """The record in ``data``; `Malformed` if it is too large, of another shape or not canonical."""
    if len(data) > max_bytes:
        raise Malformed(f"{len(data)} bytes, at most {max_bytes} are allowed")
    try:
        plain = msgpack.unpackb(data, raw=False, use_list=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"not MessagePack: {error}") from error
    value = shape(plain)
    if encode(value) != data:
        raise Malformed("not the canonical encoding")
    return value


# ---- shapes


def integer(low: int = 0, high: int = MAX_INTEGER) -> Shape:
    """An integer in low..high; a boolean is none."""

    def check(value: Any) -> Any:
        if type(value) is not int or not low <= value <= high:
            raise Malformed(f"an integer in {low}..{high} is expected, not {value!r:.40}")
        return value

    return check


def binary(length: int | None = None) -> Shape:
    """Bytes, of ``length`` if given."""

    def check(value: Any) -> Any:
        if type(value) is not bytes or (length is not None and len(value) != length):
            raise Malformed(f"{'' if length is None else length} bytes are expected, not {value!r:.40}")
        return value

    return check


def text(low: int, high: int) -> Shape:
    """A string of low..high characters."""

    def check(value: Any) -> Any:
        if type(value) is not str or not low <= len(value) <= high:
            raise Malformed(f"a text of {low}..{high} characters is expected")
        return value

    return check


def boolean(value: Any) -> Any:
    """True or False."""
    if type(value) is not bool:
        raise Malformed("a boolean is expected")
    return value


def optional(shape: Shape) -> Shape:
    """Nil or ``shape``."""
    return lambda value: None if value is None else shape(value)


def many(shape: Shape, low: int = 0, high: int = MAX_INTEGER) -> Shape:
    """An array of low..high items."""

    def check(value: Any) -> Any:
        if type(value) is not tuple or not low <= len(value) <= high:
            raise Malformed(f"an array of {low}..{high} items is expected")
        return tuple([shape(item) for item in value])

    return check


def record(make: Callable[..., Any], *fields: Shape, tag: int | None = None) -> Shape:
    """An array of exactly these fields, made into ``make``; with ``tag`` that number is its first element."""
    shapes = fields if tag is None else (integer(tag, tag), *fields)
    length = len(shapes)

    def check(value: Any) -> Any:
        if type(value) is not tuple or len(value) != length:
            raise Malformed(f"an array of {length} elements is expected")
        return make(*[shape(item) for shape, item in zip(shapes, value, strict=True)])

    return check


def union(members: dict[int, Shape]) -> Shape:
    """One of several tagged records."""

    def check(value: Any) -> Any:
        if type(value) is not tuple or not value or type(value[0]) is not int or value[0] not in members:
            raise Malformed("no known member of a union")
        return members[value[0]](value)

    return check


# ---- hashes

_PREFIXES: dict[str, bytes] = {}


def tagged(tag: str, data: bytes) -> bytes:
    """H(tag, data) = SHA-256(length of tag || tag || data)."""
    prefix = _PREFIXES.get(tag)
    if prefix is None:
        prefix = _PREFIXES[tag] = bytes([len(tag)]) + tag.encode()
    return sha256(prefix + data).digest()


def address_of(public_key: bytes) -> bytes:
    """The first 20 bytes of H(public key), PROTOCOL 1.3."""
    return tagged("address", public_key)[:20]


def u64(value: int) -> bytes:
    """8 bytes, big-endian."""
    return value.to_bytes(8, "big")


def merkle_root(items: Sequence[bytes]) -> bytes:
    """Root over the leaves H("merkle.leaf", item), binding their number."""
    level = [tagged("merkle.leaf", item) for item in items] or [tagged("merkle.empty", b"")]
    while len(level) > 1:
        above = [tagged("merkle.node", level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = above + ([level[-1]] if len(level) % 2 else [])
    return tagged("list", u64(len(items)) + level[0])


def path_holds(root: bytes, item: bytes, index: int, count: int, siblings: Sequence[bytes]) -> bool:
    """Whether ``item`` is number ``index`` of the ``count`` items under ``root``."""
    if index >= count or len(siblings) > MAX_SIBLINGS:
        return False
    node, used = tagged("merkle.leaf", item), 0
    position, width = index, count
    while width > 1:
        if position ^ 1 < width:
            if used == len(siblings):
                return False
            sibling = siblings[used]
            used += 1
            node = tagged("merkle.node", sibling + node if position % 2 else node + sibling)
        position, width = position // 2, (width + 1) // 2
    return used == len(siblings) and tagged("list", u64(count) + node) == root


# ---- keys


def signature_holds(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519 as libsodium verifies it (PROTOCOL 1.3)."""
    try:
        crypto_sign_open(signature + message, public_key)
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def key_is_acceptable(public_key: bytes) -> bool:
    """False for a key of small order, off the prime-order group or not in canonical encoding (PROTOCOL 1.3)."""
    number = int.from_bytes(public_key, "little") & (2**255 - 1)
    return number < FIELD_PRIME and bool(crypto_core_ed25519_is_valid_point(public_key))
