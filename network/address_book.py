"""Numbered, signed address records: where each node listens (PROTOCOL 8.1a).

The bootstrap directory serves them, and nodes pass them on among themselves, so that a running chain finds a member
that has moved without any bootstrap (PROTOCOL 8.2). A record proves itself; who handed it over does not matter.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Final

from consensus.encoding import Codec, encode
from consensus.errors import InvalidMessage
from consensus.signing import ADDRESS_RECORD_DOMAIN, Signer, Verifier
from consensus.types import PublicKey
from network.links import Links
from network.peer import Endpoint
from network.wire import (
    MAX_ADDRESS_RECORDS,
    MAX_HOST_BYTES,
    AddressRecord,
    AddressRecords,
    AddressRecordsRequest,
    Role,
)

MAX_RECORDS: Final = 16_384
"""Kept records: more members than a chain is built for (PROTOCOL 4.3 speaks of 10 000)."""
MIN_CHANGE_INTERVAL_MS: Final = 1_000
"""A key's records that follow faster are not taken: one member cannot keep everybody busy passing on its moves."""

_HOST_LABELS: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")

record_codec: Final[Codec[AddressRecord]] = Codec(AddressRecord, 512)
"""One record on its own, as the bootstrap directory exchanges it."""


def record_bytes(public_key: PublicKey, sequence: int, host: str, port: int) -> bytes:
    """What an address record signs. No chain id: the directory needs records before a chain exists."""
    return ADDRESS_RECORD_DOMAIN + encode((public_key, sequence, host, port))


def sign_record(signer: Signer, sequence: int, endpoint: Endpoint) -> AddressRecord:
    """The record of ``signer``'s node; ``sequence`` must exceed that of its last one, UTC milliseconds will do."""
    message = record_bytes(signer.public_key, sequence, endpoint.host, endpoint.port)
    return AddressRecord(signer.public_key, sequence, endpoint.host, endpoint.port, signer.sign(message))


def check_record(record: AddressRecord, verifier: Verifier) -> None:
    """`InvalidMessage` unless the record names a possible host and is signed by its own key."""
    if not is_host(record.host):
        raise InvalidMessage(f"address record: {record.host!r} is neither a host name nor an IP address")
    message = record_bytes(record.public_key, record.sequence, record.host, record.port)
    if not verifier.verify(record.public_key, message, record.signature):
        raise InvalidMessage("address record: not signed by the key that it names")


def is_host(host: str) -> bool:
    """Whether ``host`` is an IP address or a host name by its form."""
    if len(host) > MAX_HOST_BYTES or not host.isascii():
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST_LABELS.fullmatch(host) is not None
    return "%" not in host


class AddressBook:
    """The newest record of each admitted key; the highest sequence wins, whatever the order of arrival."""

    def __init__(self, verifier: Verifier, admits: Callable[[PublicKey], bool]) -> None:
        self._verifier = verifier
        self._admits = admits
        self._records: dict[PublicKey, AddressRecord] = {}
        self._changed_ms: dict[PublicKey, int] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: AddressRecord, now_ms: int) -> bool:
        """Whether ``record`` was taken as news. `InvalidMessage` for a forged one: no honest node passes it on.

        Of two records with one number, which only their own signer can make, all nodes keep the same.
        """
        key = record.public_key
        known = self._records.get(key)
        if known is not None and (record.sequence, encode(record)) <= (known.sequence, encode(known)):
            return False
        if not self._admits(key) or (known is None and len(self._records) >= MAX_RECORDS):
            return False
        if known is not None and now_ms - self._changed_ms[key] < MIN_CHANGE_INTERVAL_MS:
            return False
        check_record(record, self._verifier)
        self._records[key] = record
        self._changed_ms[key] = now_ms
        return True

    def record(self, public_key: PublicKey) -> AddressRecord | None:
        """The newest record of ``public_key``."""
        return self._records.get(public_key)

    def endpoint(self, public_key: PublicKey) -> Endpoint | None:
        """Where ``public_key`` listens, if known."""
        record = self._records.get(public_key)
        return None if record is None else Endpoint(record.host, record.port)

    def records(self, public_keys: Iterable[PublicKey] | None = None) -> tuple[AddressRecord, ...]:
        """The known records of ``public_keys``, or all, for storing and serving."""
        if public_keys is None:
            return tuple(self._records.values())
        found = (self._records.get(key) for key in public_keys)
        return tuple(record for record in found if record is not None)

    def retain(self, public_keys: Iterable[PublicKey]) -> None:
        """Forget everybody else: they are not members any more."""
        kept = set(public_keys)
        for key in [key for key in self._records if key not in kept]:
            del self._records[key]
            del self._changed_ms[key]


class AddressGossip:
    """Passes records on: the own one to each new peer, news to all members, asked-for ones to who asks."""

    def __init__(
        self, links: Links, book: AddressBook, on_change: Callable[[PublicKey, Endpoint], None]
    ) -> None:
        """``on_change`` tells that a key is now known to listen elsewhere."""
        self._links = links
        self._book = book
        self._on_change = on_change
        self._own: AddressRecord | None = None

    def announce(self, own: AddressRecord) -> None:
        """Tell everybody, now and on every connection to come, where this node listens."""
        self._own = own
        self._links.broadcast(self._links.connected(), AddressRecords((own,)))

    def peer_connected(self, public_key: PublicKey) -> None:
        """Tell a new peer where this node listens."""
        if self._own is not None:
            self._links.send(public_key, AddressRecords((self._own,)))

    def ask(self, public_keys: Iterable[PublicKey], of: PublicKey) -> None:
        """Ask the connected peer ``of`` for the records of ``public_keys`` that are not in the book."""
        unknown = tuple(key for key in public_keys if self._book.record(key) is None)
        for start in range(0, len(unknown), MAX_ADDRESS_RECORDS):
            self._links.send(of, AddressRecordsRequest(unknown[start : start + MAX_ADDRESS_RECORDS]))

    def on_request(self, sender: PublicKey, message: AddressRecordsRequest) -> None:
        """Answer with what is known of the asked-for keys."""
        own = () if self._own is None or self._own.public_key not in message.public_keys else (self._own,)
        found = tuple(record for record in self._book.records(message.public_keys) if record not in own)
        if own or found:
            self._links.send(sender, AddressRecords(own + found))

    def on_records(self, sender: PublicKey, message: AddressRecords, now_ms: int) -> None:
        """Take in records; news go on to all members but the sender, each once. A forged one costs the sender."""
        news: list[AddressRecord] = []
        for record in message.records:
            if self._own is not None and record.public_key == self._own.public_key:
                continue
            try:
                if self._book.add(record, now_ms):
                    news.append(record)
            except InvalidMessage as error:
                self._links.punish(sender, str(error))
                break
        for record in news:
            self._on_change(record.public_key, Endpoint(record.host, record.port))
        if news:
            others = [
                key
                for key in self._links.connected()
                if key != sender and self._links.role_of(key) is Role.MEMBER
            ]
            self._links.broadcast(others, AddressRecords(tuple(news)))
