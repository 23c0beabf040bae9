"""Signed values that members and the service exchange, and what is announced (PROTOCOL 8.1).

All travel as canonical msgpack; only the announcement and what people read are JSON.
"""

from typing import Annotated, Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from consensus.ed25519 import is_acceptable_key
from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from consensus.parameters import Parameters
from consensus.signing import ADDRESS_RECORD_DOMAIN, GENESIS_DOMAIN, Signer, Verifier
from consensus.types import Digest, PublicKey, SignatureBytes, Unsigned, Wire
from network.bootstrap.limits import (
    MAX_ACKNOWLEDGEMENTS_BYTES,
    MAX_API_URL_BYTES,
    MAX_BALLOT_BYTES,
    MAX_BALLOTS,
    MAX_BALLOTS_BYTES,
    MAX_MEMBERS,
    MAX_RECORD_BYTES,
)
from network.wire import AddressRecord


class Acknowledgement(Wire, frozen=True):
    """A founding member has checked one genesis and will start from no other: GENESIS_DOMAIN || genesis hash."""

    public_key: PublicKey
    signature: SignatureBytes


class AcknowledgementSet(Wire, frozen=True):
    """What the service has collected for one genesis; in key order."""

    genesis_hash: Digest
    acknowledgements: Annotated[tuple[Acknowledgement, ...], msgspec.Meta(max_length=MAX_MEMBERS)]


class ApiRecord(Wire, frozen=True):
    """Where a member's HTTP API answers the watch: ADDRESS_RECORD_DOMAIN || encode(["api", key, sequence, url]).

    Signed, so that nobody can send the watch to another place in a member's name.
    """

    public_key: PublicKey
    sequence: Unsigned
    """A higher number replaces a lower one."""
    url: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_API_URL_BYTES)]
    signature: SignatureBytes


class Announcement(Wire, frozen=True, kw_only=True):
    """The genesis to come, but for its members: what nodes pin at first contact and hold the genesis to."""

    chain_name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    time_ms: Unsigned
    members: Annotated[int, msgspec.Meta(ge=1, le=MAX_MEMBERS)]
    """N."""
    parameters: Parameters
    """k among them."""
    admission: Annotated[str, msgspec.Meta(pattern="^(invited|open)$")]
    operators: Annotated[tuple[PublicKey, ...], msgspec.Meta(max_length=16)]
    operator_threshold: Unsigned
    founding_balance: Unsigned
    entry_balance: Unsigned


acknowledgement_codec: Final[Codec[Acknowledgement]] = Codec(Acknowledgement, MAX_RECORD_BYTES)
acknowledgement_set_codec: Final[Codec[AcknowledgementSet]] = Codec(
    AcknowledgementSet, MAX_ACKNOWLEDGEMENTS_BYTES
)
address_record_codec: Final[Codec[AddressRecord]] = Codec(AddressRecord, MAX_RECORD_BYTES)
api_record_codec: Final[Codec[ApiRecord]] = Codec(ApiRecord, MAX_RECORD_BYTES)
announcement_codec: Final[Codec[Announcement]] = Codec(Announcement, 4 * MAX_RECORD_BYTES)
ballot_list_codec: Final[Codec[tuple[bytes, ...]]] = Codec(
    Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_BALLOT_BYTES)], ...],
        msgspec.Meta(min_length=1, max_length=MAX_BALLOTS),
    ],
    MAX_BALLOTS_BYTES,
)
"""Encoded ballots, opaque to this package."""


def acknowledge(genesis_hash: Digest, signer: Signer) -> Acknowledgement:
    """``signer``'s acknowledgement; the caller has checked the genesis and stored which one it is."""
    return Acknowledgement(signer.public_key, signer.sign(GENESIS_DOMAIN + genesis_hash))


def is_acknowledged(acknowledgement: Acknowledgement, genesis_hash: Digest, verifier: Verifier) -> bool:
    """Whether the signature is its key's over this genesis."""
    return verifier.verify(
        acknowledgement.public_key, GENESIS_DOMAIN + genesis_hash, acknowledgement.signature
    )


def _api_record_bytes(public_key: PublicKey, sequence: int, url: str) -> bytes:
    return ADDRESS_RECORD_DOMAIN + encode(("api", public_key, sequence, url))


def sign_api_record(signer: Signer, sequence: int, url: str) -> ApiRecord:
    """A record by ``signer``."""
    key = signer.public_key
    return ApiRecord(key, sequence, url, signer.sign(_api_record_bytes(key, sequence, url)))


def check_api_record(record: ApiRecord, verifier: Verifier) -> None:
    """Raise `MalformedInput` for a bad key, signature or URL."""
    if not is_acceptable_key(record.public_key):
        raise MalformedInput(f"key {record.public_key.hex()} is of small order or not canonical")
    message = _api_record_bytes(record.public_key, record.sequence, record.url)
    if not verifier.verify(record.public_key, message, record.signature):
        raise MalformedInput("the API record is not signed by its key")
    if not is_api_url(record.url):
        raise MalformedInput(f"{record.url!r} is not a plain http or https URL of a host: no path, no query")


def is_api_url(url: str) -> bool:
    """Whether ``url`` is scheme, host and port only: what is asked for there is ours to say."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port != 0


def announcement_to_json(announcement: Announcement) -> dict[str, object]:
    """As /v1/formation shows it: names, hex keys, money in decimal strings."""
    a = announcement
    return {
        "chain_name": a.chain_name,
        "genesis_time_ms": a.time_ms,
        "members": a.members,
        "groups": a.parameters.groups,
        "parameters": msgspec.structs.asdict(a.parameters),
        "admission": a.admission,
        "operators": [key.hex() for key in a.operators],
        "operator_threshold": a.operator_threshold,
        "founding_balance": str(a.founding_balance),
        "entry_balance": str(a.entry_balance),
    }


class _AnnouncementJson(msgspec.Struct, frozen=True):
    """The fields of /v1/formation that bind; others may be added and are passed over."""

    chain_name: str
    genesis_time_ms: int
    members: int
    parameters: dict[str, int | bool]
    admission: str
    operators: list[str]
    operator_threshold: int
    founding_balance: str
    entry_balance: str


def announcement_from_json(data: bytes) -> Announcement:
    """The announcement in a /v1/formation answer; `MalformedInput` for anything this version does not know."""
    try:
        shown = msgspec.json.decode(data, type=_AnnouncementJson)
        announcement = Announcement(
            chain_name=shown.chain_name,
            time_ms=shown.genesis_time_ms,
            members=shown.members,
            parameters=Parameters(**cast(dict[str, Any], shown.parameters)),
            admission=shown.admission,
            operators=tuple(bytes.fromhex(key) for key in shown.operators),
            operator_threshold=shown.operator_threshold,
            founding_balance=int(shown.founding_balance),
            entry_balance=int(shown.entry_balance),
        )
        encoded = encode(announcement)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError) as error:
        raise MalformedInput(f"the announcement cannot be read: {error}") from error
    missing = [name for name in Parameters.__struct_fields__ if name not in shown.parameters]
    if missing:
        raise MalformedInput(f"the announcement lacks parameters: {', '.join(missing)}")
    return announcement_codec.decode(encoded)
