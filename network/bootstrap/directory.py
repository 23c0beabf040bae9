"""The directory: numbered address records signed by the members, and where their APIs are (PROTOCOL 8.1a).

A record proves itself, so the directory needs no trust: a stale one loses to the higher number that nodes pass on among
themselves, a forged one to its signature.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from consensus.ed25519 import is_acceptable_key
from consensus.encoding import encode
from consensus.errors import InvalidMessage, MalformedInput
from consensus.hashing import address_of
from consensus.signing import Verifier
from consensus.types import Address, PublicKey
from network.address_book import check_record
from network.bootstrap.errors import Refused
from network.bootstrap.limits import ADDRESS_PAGE, DirectoryLimits
from network.bootstrap.records import (
    ApiRecord,
    address_record_codec,
    api_record_codec,
    check_api_record,
)
from network.bootstrap.store import Record, RecordKind, RecordLog
from network.wire import AddressRecord

_REWRITE_BYTES: Final = 8 * 1_048_576
"""Log size from which superseded records are dropped: 10 000 members' records are 4 MiB."""


class Directory:
    """The newest records of members, and of a bounded number of others."""

    def __init__(
        self,
        *,
        verifier: Verifier,
        log: RecordLog,
        is_member: Callable[[PublicKey], bool],
        limits: DirectoryLimits | None = None,
    ) -> None:
        self._verifier = verifier
        self._log = log
        self._is_member = is_member
        self._limits = limits or DirectoryLimits()
        self._addresses: dict[PublicKey, AddressRecord] = {}
        self._apis: dict[PublicKey, ApiRecord] = {}
        self._strangers: OrderedDict[PublicKey, None] = OrderedDict()

    def restore(self, records: Iterable[Record]) -> None:
        """Take up what the log holds; what this version does not take is left behind."""
        for kind, content in records:
            if kind is RecordKind.ADDRESS:
                record = address_record_codec.decode(content)
                self._addresses[record.public_key] = record
                self._count_stranger(record.public_key)
            elif kind is RecordKind.API:
                api = api_record_codec.decode(content)
                self._apis[api.public_key] = api
                self._count_stranger(api.public_key)

    def post_address(self, raw: bytes) -> bool:
        """Take an address record; False if it is known or older than the known one. `Refused` if it is forged."""
        try:
            record = address_record_codec.decode(raw)
            self._check_key(record.public_key)
            check_record(record, self._verifier)
        except (MalformedInput, InvalidMessage) as error:
            raise _refusal(error) from error
        known = self._addresses.get(record.public_key)
        if known is not None and (record.sequence, raw) <= (known.sequence, encode(known)):
            return False
        self._addresses[record.public_key] = record
        self._keep(RecordKind.ADDRESS, raw, record.public_key)
        return True

    def post_api(self, raw: bytes) -> bool:
        """Take an API record; False if it is known or older. `Refused` if it is forged or no plain URL."""
        try:
            record = api_record_codec.decode(raw)
            check_api_record(record, self._verifier)
        except MalformedInput as error:
            raise _refusal(error) from error
        known = self._apis.get(record.public_key)
        if known is not None and (record.sequence, raw) <= (known.sequence, encode(known)):
            return False
        self._apis[record.public_key] = record
        self._keep(RecordKind.API, raw, record.public_key)
        return True

    def addresses(self, after: PublicKey | None = None) -> tuple[AddressRecord, ...]:
        """Up to `ADDRESS_PAGE` records in key order, behind ``after``."""
        keys = sorted(key for key in self._addresses if after is None or key > after)
        return tuple(self._addresses[key] for key in keys[:ADDRESS_PAGE])

    def __len__(self) -> int:
        return len(self._addresses)

    def apis(self) -> list[tuple[Address, str]]:
        """(address, URL) of the members whose API is known, in address order.

        Of members only: what is asked over these URLs is our own doing, and a stranger shall not choose where.
        """
        return sorted((address_of(key), api.url) for key, api in self._apis.items() if self._is_member(key))

    def records(self) -> Iterable[Record]:
        """The content of the log, for a rewrite."""
        for address in self._addresses.values():
            yield RecordKind.ADDRESS, encode(address)
        for api in self._apis.values():
            yield RecordKind.API, encode(api)

    def wants_rewrite(self) -> bool:
        """Whether the log is mostly superseded records."""
        live = 400 * (len(self._addresses) + len(self._apis))
        return self._log.size_bytes > _REWRITE_BYTES + 2 * live

    def _check_key(self, key: PublicKey) -> None:
        if not is_acceptable_key(key):
            raise MalformedInput(f"key {key.hex()} is of small order or not canonical")

    def _keep(self, kind: RecordKind, raw: bytes, key: PublicKey) -> None:
        # Not durable: a record lost in a crash is sent again, or is served by the members themselves.
        self._log.append(kind, raw, durable=False)
        self._count_stranger(key)

    def _count_stranger(self, key: PublicKey) -> None:
        """Keep who is no member only while there is room; the one heard of longest ago goes."""
        self._strangers.pop(key, None)
        if self._is_member(key):
            return
        self._strangers[key] = None
        while len(self._strangers) > self._limits.max_strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            if not self._is_member(oldest):
                self._addresses.pop(oldest, None)
                self._apis.pop(oldest, None)


def _refusal(error: MalformedInput | InvalidMessage) -> Refused:
    if isinstance(error, InvalidMessage):
        return Refused(422, "record_invalid", str(error))
    return Refused(400, "malformed", str(error))
