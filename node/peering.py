"""Whom this node stays connected with, and where they listen (PROTOCOL 6.12, 8.1, 10.1).

Small networks are fully meshed. In large ones a node keeps the delegates of the next heights and its own group, so
that its connections do not grow with the membership. Address records are kept in the home, so that a restart needs no
bootstrap.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog

from consensus.encoding import Codec, encode
from consensus.errors import InvalidMessage, MalformedInput
from consensus.hashing import address_of
from consensus.types import PublicKey
from contracts.epoch_queries import group_of
from contracts.epoch_state import chain_of
from network.address_book import MIN_CHANGE_INTERVAL_MS, AddressBook
from network.peer import Endpoint
from network.wire import AddressRecord
from node.errors import ConfigurationError
from node.ledger import Ledger

FULL_MESH_MEMBERS: Final = 64
"""Up to so many members everybody is connected with everybody: 63 idle connections cost little."""
MAX_FILE_BYTES: Final = 16 * 1_048_576
"""All records that an `AddressBook` may hold, with room."""

log = structlog.get_logger("node.peering")
_records_codec: Final[Codec[tuple[AddressRecord, ...]]] = Codec(tuple[AddressRecord, ...], MAX_FILE_BYTES)


def parse_endpoint(text: str) -> Endpoint:
    """ "host:port" or "[v6]:port" as an endpoint; `ConfigurationError` for anything else."""
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigurationError(f"peers.via: {text!r} is not host:port")
    return Endpoint(host, int(port))


class Dials(Protocol):
    """The part of `network.transport.Transport` that is used here."""

    def set_peers(self, peers: dict[PublicKey, Endpoint]) -> None:
        """Whom to stay connected with."""


class Peering:
    """Turns the ledger's sets and the address book into the transport's list of peers."""

    def __init__(
        self,
        ledger: Ledger,
        book: AddressBook,
        own_key: PublicKey,
        path: Path | None,
        via: Mapping[str, str] | None = None,
    ) -> None:
        """``path``: where records are kept between starts; None keeps none. ``via``: `node.config.PeerConfig.via`."""
        self._ledger = ledger
        self._book = book
        self._own_key = own_key
        self._path = path
        self._via = (
            {} if via is None else {announced: parse_endpoint(dialled) for announced, dialled in via.items()}
        )
        self._wanted: dict[PublicKey, Endpoint] | None = None

    def load(self, records: Iterable[AddressRecord], now_ms: int) -> None:
        """Fill the book from the home and from ``records`` (a directory's); what is wrong is left out.

        As of a while ago: the book's limit on frequent changes must not keep out what a peer tells at once.
        """
        newest: dict[PublicKey, AddressRecord] = {}
        for record in (*self._stored(), *records):
            known = newest.get(record.public_key)
            if known is None or record.sequence > known.sequence:
                newest[record.public_key] = record
        for record in newest.values():
            try:
                self._book.add(record, now_ms - MIN_CHANGE_INTERVAL_MS)
            except InvalidMessage as error:
                log.warning("address record left out", key=record.public_key.hex(), reason=str(error))

    def take(
        self, records: Iterable[AddressRecord], own_key: PublicKey, now_ms: int
    ) -> tuple[AddressRecord, ...]:
        """Those of ``records``, from a directory, that are news; what is wrong is left out."""
        news: list[AddressRecord] = []
        for record in records:
            try:
                if record.public_key != own_key and self._book.add(record, now_ms):
                    news.append(record)
            except InvalidMessage as error:
                log.warning("address record left out", key=record.public_key.hex(), reason=str(error))
        return tuple(news)

    def _stored(self) -> tuple[AddressRecord, ...]:
        if self._path is None or not self._path.exists():
            return ()
        try:
            return _records_codec.decode(self._path.read_bytes())
        except (MalformedInput, OSError) as error:
            log.warning("stored address records cannot be read", path=str(self._path), reason=str(error))
            return ()

    def save(self) -> None:
        """Keep the records for the next start; a failure costs only a question to a bootstrap."""
        if self._path is None:
            return
        passing = self._path.with_suffix(".new")
        try:
            passing.write_bytes(encode(self._book.records()))
            os.replace(passing, self._path)
        except OSError as error:
            log.warning("address records cannot be stored", path=str(self._path), reason=str(error))

    def own_group(self) -> tuple[PublicKey, ...]:
        """Members of this node's group in the current epoch, itself included; empty if it is in none."""
        state = self._ledger.state
        epoch = chain_of(state).epoch
        number = group_of(state, epoch, address_of(self._own_key))
        if number is None:
            return ()
        members = state.epoch.grouping(epoch).groups[number]
        return tuple(state.accounts.require(member.address).public_key for member in members)

    def wanted_keys(self) -> tuple[PublicKey, ...]:
        """Whom to be connected with, each once."""
        ledger = self._ledger
        context = ledger.context
        keys: dict[PublicKey, None] = {}
        if len(ledger.state.accounts) <= FULL_MESH_MEMBERS:
            members = (account for _, account in ledger.state.accounts.items())
            keys.update((account.public_key, None) for account in members if account.left_height is None)
        for delegates in (context.delegates, context.next_delegates):
            keys.update((delegate.public_key, None) for delegate in delegates)
        keys.update((key, None) for key in self.own_group())
        keys.pop(self._own_key, None)
        return tuple(keys)

    def unknown_keys(self) -> tuple[PublicKey, ...]:
        """Wanted keys without a record."""
        return tuple(key for key in self.wanted_keys() if self._book.record(key) is None)

    def update(self, transport: Dials) -> None:
        """Tell the transport if anything changed."""
        wanted: dict[PublicKey, Endpoint] = {}
        for key in self.wanted_keys():
            endpoint = self._book.endpoint(key)
            if endpoint is not None:
                wanted[key] = self._via.get(endpoint.text(), endpoint)
        if not wanted and not self._ledger.is_member(address_of(self._own_key)):
            # A newcomer knows nobody of the ledger yet: it asks whoever a directory named.
            known = {r.public_key: Endpoint(r.host, r.port) for r in self._book.records()}
            wanted = {key: self._via.get(endpoint.text(), endpoint) for key, endpoint in known.items()}
        if wanted != self._wanted:
            self._wanted = wanted
            transport.set_peers(wanted)
