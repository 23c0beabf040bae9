"""Bodies and strict JSON: size checked before reading, time bounded while reading, then one strict decode."""

import asyncio
import json
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from node.api.problems import Problem
from node.api.schema import EmptyRequest

T = TypeVar("T")

MAX_BODY_BYTES: Final = 65_536
"""One JSON request; a transaction of the greatest size goes as msgpack, or twice as long in hex (below)."""
MAX_HEX_BODY_BYTES: Final = 2 * 65_536 + 64
"""POST /v1/transactions as JSON: 65 536 bytes in hex and the object around them."""
MAX_BATCH_BYTES: Final = 4 * 1_048_576
MAX_BATCH_ITEMS: Final = 4_096
"""A block's worth."""
BODY_TIMEOUT_S: Final = 10.0
"""4 MiB take 10 s at 3.4 Mbit/s; a slower client sends smaller batches."""


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body; 413 from the announced length before a byte is read, 408 if it dribbles in."""
    announced = request.content_length
    if announced is not None and announced > limit:
        raise Problem("body_too_large", f"the body has {announced} bytes; the limit here is {limit}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem("unsupported_media_type", "Content-Encoding: only identity is served")
    if not request.body_exists:
        return b""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise Problem("body_too_large", f"the body exceeds the limit of {limit} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Problem("body_timeout", f"{size} bytes came within {BODY_TIMEOUT_S:g} s") from None
    except web.RequestPayloadError as error:
        raise Problem("malformed_http", f"the body is broken off or wrongly framed: {error}") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def media_type(request: web.Request, *served: str) -> str:
    """The request's content type, one of ``served``; else 415."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in served:
        raise Problem("unsupported_media_type", f"{kind or 'no content type'}: send {' or '.join(served)}")
    return kind


def decode_json(data: bytes, kind: type[T], place: str = "") -> T:
    """Strict JSON of ``kind``; ``place`` goes before the text of the problem."""
    try:
        value = msgspec.json.decode(data, type=kind)
        json.loads(data, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except msgspec.ValidationError as error:
        raise Problem("invalid_body", f"{place}{error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Problem("malformed_json", f"{place}{error}") from error
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


async def read_json(request: web.Request, kind: type[T]) -> T:
    """The body as strict JSON of ``kind``."""
    media_type(request, "application/json")
    return decode_json(await read_body(request, MAX_BODY_BYTES), kind)


async def read_nothing(request: web.Request) -> None:
    """The body of an action that takes none: nothing, or ``{}``."""
    data = await read_body(request, MAX_BODY_BYTES)
    if data:
        media_type(request, "application/json")
        decode_json(data, EmptyRequest)
