"""What a node asks of a bootstrap service; every answer is bounded here and checked by the caller (PROTOCOL 8.2)."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import aiohttp
import msgspec

from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from consensus.types import Address, PublicKey
from network.bootstrap.errors import Refused, Unavailable
from network.bootstrap.limits import (
    ADDRESS_PAGE,
    MAX_ACKNOWLEDGEMENTS_BYTES,
    MAX_GENESIS_BYTES,
    MAX_JSON_BYTES,
    MAX_MEMBERS,
    MAX_WAIT_MS,
)
from network.bootstrap.records import (
    Acknowledgement,
    AcknowledgementSet,
    Announcement,
    ApiRecord,
    acknowledgement_set_codec,
    announcement_from_json,
)
from network.bootstrap.server import MSGPACK
from network.wire import AddressRecord

T = TypeVar("T")

ANSWER_TIMEOUT_MS: Final = 10_000
"""For an answer beyond the time that was asked to wait; 8 MiB of genesis at 7 Mbit/s."""
MAX_ADDRESS_PAGES: Final = 2 * MAX_MEMBERS // ADDRESS_PAGE
"""A directory without end is a lie."""

_address_page_codec: Final[Codec[tuple[AddressRecord, ...]]] = Codec(
    tuple[AddressRecord, ...], 512 * ADDRESS_PAGE
)


class Reminder(msgspec.Struct, frozen=True):
    """GET /v1/reminders/{address}."""

    vote_due: bool


class Progress(msgspec.Struct, frozen=True):
    """How far formation is, as GET /v1/formation tells it; for people."""

    members: int
    stage: str
    registered: int
    acknowledged: int
    genesis_hash: str | None


class _Problem(msgspec.Struct, frozen=True):
    code: str = "unknown"
    detail: str = ""


class BootstrapClient:
    """One bootstrap service. Methods raise `Unavailable` (try later, or another) or `Refused` (with its reason)."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """``url``: http(s)://host:port; the session belongs to the caller."""
        self.url: Final = url.rstrip("/")
        self._session = session

    # ---- formation

    async def announcement(self) -> tuple[Announcement, Progress]:
        """What is announced, and how far it is."""
        data = await self._get("/v1/formation", MAX_JSON_BYTES)
        try:
            return announcement_from_json(data), msgspec.json.decode(data, type=Progress)
        except (MalformedInput, msgspec.MsgspecError) as error:
            raise Unavailable(f"{self.url}/v1/formation: {error}") from error

    async def register(self, raw: bytes) -> None:
        """Post a registration; posting it again does no harm."""
        await self._post("/v1/registrations", raw)

    async def genesis(self, wait_ms: int = 0) -> bytes | None:
        """The genesis, unchecked; None if there is none within ``wait_ms``."""
        return await self._get("/v1/genesis", MAX_GENESIS_BYTES, wait_ms=wait_ms) or None

    async def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Post an acknowledgement; posting it again does no harm."""
        await self._post("/v1/acknowledgements", encode(acknowledgement))

    async def acknowledgements(self, have: int = MAX_MEMBERS, wait_ms: int = 0) -> AcknowledgementSet | None:
        """What it has collected, unchecked: at once if complete or more than ``have``, else after ``wait_ms``."""
        path = f"/v1/acknowledgements?have={have}"
        data = await self._get(path, MAX_ACKNOWLEDGEMENTS_BYTES, wait_ms=wait_ms)
        return self._decoded(path, acknowledgement_set_codec, data) if data else None

    # ---- directory

    async def post_address(self, record: AddressRecord) -> None:
        """Tell where this node listens."""
        await self._post("/v1/addresses", encode(record))

    async def post_api(self, record: ApiRecord) -> None:
        """Tell where this node's HTTP API is."""
        await self._post("/v1/apis", encode(record))

    async def addresses(self) -> list[AddressRecord]:
        """All records of the directory, unchecked."""
        records: list[AddressRecord] = []
        for _ in range(MAX_ADDRESS_PAGES):
            after = records[-1].public_key.hex() if records else ""
            path = f"/v1/addresses?after={after}"
            page = self._decoded(path, _address_page_codec, await self._get(path, 512 * ADDRESS_PAGE))
            if not page or (records and page[0].public_key <= records[-1].public_key):
                break
            records.extend(page)
        return records

    # ---- elections

    async def reminder(self, address: Address) -> Reminder:
        """Whether the service waits for this member's ballot."""
        path = f"/v1/reminders/{address.hex()}"
        data = await self._get(path, MAX_JSON_BYTES)
        try:
            return msgspec.json.decode(data, type=Reminder)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self.url}{path}: {error}") from error

    async def post_ballots(self, ballots: list[bytes]) -> None:
        """Hand over 1..128 encoded ballots; `Refused` only for a single one that is refused."""
        await self._post("/v1/ballots", encode(ballots))

    # ---- plumbing

    def _decoded(self, path: str, codec: Codec[T], data: bytes) -> T:
        try:
            return codec.decode(data)
        except MalformedInput as error:
            raise Unavailable(f"{self.url}{path}: {error}") from error

    async def _get(self, path: str, limit: int, wait_ms: int = 0) -> bytes:
        wait_ms = min(wait_ms, MAX_WAIT_MS)
        joint = "&" if "?" in path else "?"
        place = f"{path}{joint}wait_ms={wait_ms}" if wait_ms else path
        return await self._ask("GET", place, limit, ANSWER_TIMEOUT_MS + wait_ms, None)

    async def _post(self, path: str, body: bytes) -> None:
        await self._ask("POST", path, MAX_JSON_BYTES, ANSWER_TIMEOUT_MS, body)

    async def _ask(self, method: str, path: str, limit: int, timeout_ms: int, body: bytes | None) -> bytes:
        headers = {} if body is None else {"Content-Type": MSGPACK}
        try:
            async with (
                asyncio.timeout(timeout_ms / 1_000),
                self._session.request(
                    method, self.url + path, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                data = bytearray()
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > limit:
                        raise Unavailable(f"{self.url}{path}: the answer exceeds {limit} bytes")
                status, retry = response.status, response.headers.get("Retry-After", "")
        except TimeoutError:
            raise Unavailable(f"{self.url} did not answer within {timeout_ms} ms") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{self.url} cannot be reached: {error}") from error
        if status < 300:
            return bytes(data)
        raise self._failure(path, status, bytes(data), retry)

    def _failure(self, path: str, status: int, data: bytes, retry: str) -> Refused | Unavailable:
        try:
            problem = msgspec.json.decode(data, type=_Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = _Problem(detail=f"status {status}")
        if status < 400 or status >= 500 or status in (408, 429):
            return Unavailable(f"{self.url}{path}: {problem.detail}")
        retry_after_s = int(retry) if retry.isascii() and retry.isdecimal() else None
        return Refused(status, problem.code, problem.detail, retry_after_s)


def newest_records(
    lists: list[list[AddressRecord]], is_valid: Callable[[AddressRecord], bool]
) -> tuple[AddressRecord, ...]:
    """Of several directories' records the valid one with the highest number for each key."""
    newest: dict[PublicKey, AddressRecord] = {}
    for record in (record for records in lists for record in records):
        known = newest.get(record.public_key)
        if known is not None and (record.sequence, encode(record)) <= (known.sequence, encode(known)):
            continue
        if is_valid(record):
            newest[record.public_key] = record
    return tuple(newest[key] for key in sorted(newest))
