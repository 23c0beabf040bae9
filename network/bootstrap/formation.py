"""Formation: from signed registrations to a genesis that all its members have acknowledged (PROTOCOL 8.1b).

Without IO but for the log that it writes before it answers; a restart replays the log and goes on. Stages only move
forward: registering -> acknowledging -> formed.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from consensus.encoding import encode
from consensus.errors import MalformedInput, ProtocolError
from consensus.hashing import address_of
from consensus.signing import Verifier
from consensus.types import Address, Digest, PublicKey
from network.bootstrap.doors import GenesisDoor, GenesisFacts
from network.bootstrap.errors import Refused, StoreUnusable
from network.bootstrap.limits import MAX_REGISTRATION_BYTES
from network.bootstrap.records import (
    Acknowledgement,
    AcknowledgementSet,
    Announcement,
    acknowledgement_codec,
    announcement_codec,
    is_acknowledged,
)
from network.bootstrap.store import Record, RecordKind, RecordLog

OWN_KINDS: Final = (
    RecordKind.ANNOUNCEMENT,
    RecordKind.REGISTRATION,
    RecordKind.GENESIS,
    RecordKind.ACKNOWLEDGEMENT,
)
"""Records of the log that belong to formation."""


class Stage(enum.StrEnum):
    """How far formation is."""

    REGISTERING = "registering"
    ACKNOWLEDGING = "acknowledging"
    """The genesis is published; acknowledgements of some members are missing."""
    FORMED = "formed"


class Formation:
    """One chain's formation."""

    def __init__(
        self,
        *,
        announcement: Announcement,
        door: GenesisDoor,
        verifier: Verifier,
        log: RecordLog,
        on_change: Callable[[], None],
        founders: Sequence[PublicKey] = (),
    ) -> None:
        """``founders``: the only keys that may register; empty: whoever comes first. ``on_change`` wakes long polls."""
        self.announcement = announcement
        self._door = door
        self._verifier = verifier
        self._log = log
        self._on_change = on_change
        self._founders = frozenset(founders)
        self._registrations: dict[PublicKey, bytes] = {}
        self._meters: dict[PublicKey, PublicKey] = {}
        self.genesis: bytes | None = None
        self.facts: GenesisFacts | None = None
        self._acknowledgements: dict[PublicKey, Acknowledgement] = {}

    def restore(self, records: Iterable[Record]) -> None:
        """Take up what the log holds, or begin it; `StoreUnusable` if it belongs to another announcement."""
        own = [record for record in records if record[0] in OWN_KINDS]
        if not own:
            self._log.append(RecordKind.ANNOUNCEMENT, encode(self.announcement))
        for kind, content in own:
            try:
                self._restore_one(kind, content)
            except ProtocolError as error:
                raise StoreUnusable(
                    f"the formation stored in this home cannot be taken up: {error}"
                ) from error
        self._publish_when_full()

    def _restore_one(self, kind: RecordKind, content: bytes) -> None:
        if kind is RecordKind.ANNOUNCEMENT:
            stored = announcement_codec.decode(content)
            if stored != self.announcement:
                differing = different_fields(stored, self.announcement)
                raise MalformedInput(f"it was begun with other settings: {differing}; use another --home")
        elif kind is RecordKind.REGISTRATION:
            facts = self._door.read_registration(content)
            self._registrations[facts.public_key] = content
            self._meters[facts.meter_public_key] = facts.public_key
        elif kind is RecordKind.GENESIS:
            self.genesis, self.facts = content, self._door.read_genesis(content)
        else:
            acknowledgement = acknowledgement_codec.decode(content)
            self._acknowledgements[acknowledgement.public_key] = acknowledgement

    @property
    def stage(self) -> Stage:
        """How far it is."""
        if self.facts is None:
            return Stage.REGISTERING
        return Stage.FORMED if not self.missing_acknowledgements() else Stage.ACKNOWLEDGING

    @property
    def genesis_hash(self) -> Digest | None:
        """Chain id, once the genesis is published."""
        return None if self.facts is None else self.facts.hash

    @property
    def registered(self) -> int:
        """Registrations so far."""
        return len(self._registrations)

    def registered_addresses(self) -> list[Address]:
        """Who has registered, in address order."""
        return sorted(address_of(key) for key in self._registrations)

    def is_registered(self, public_key: PublicKey) -> bool:
        """Whether this key is, or will be, in the genesis."""
        return public_key in self._registrations

    def missing_acknowledgements(self) -> list[PublicKey]:
        """Members that have not acknowledged; empty before there is a genesis."""
        members = () if self.facts is None else self.facts.members
        return [key for key in members if key not in self._acknowledgements]

    @property
    def acknowledged(self) -> int:
        """Acknowledgements so far."""
        return len(self._acknowledgements)

    def missing_addresses(self) -> list[Address]:
        """Members that have not acknowledged, by address."""
        return [address_of(key) for key in self.missing_acknowledgements()]

    def register(self, raw: bytes) -> bool:
        """Take a registration, persisted; False if it is known already. `Refused` with the reason otherwise."""
        if len(raw) > MAX_REGISTRATION_BYTES:
            raise Refused(413, "too_large", f"a registration has at most {MAX_REGISTRATION_BYTES} bytes")
        try:
            facts = self._door.read_registration(raw)
        except ProtocolError as error:
            code = "malformed" if isinstance(error, MalformedInput) else "registration_invalid"
            raise Refused(400 if code == "malformed" else 422, code, str(error)) from error
        known = self._registrations.get(facts.public_key)
        if known == raw:
            self._publish_when_full()
            return False
        if known is not None:
            raise Refused(
                409, "registered_differently", "this key has registered with another meter or power"
            )
        if self._founders and facts.public_key not in self._founders:
            raise Refused(
                403, "not_a_founder", "this chain's founders are named, and this key is not among them"
            )
        if self.registered >= self.announcement.members:
            raise Refused(409, "full", f"all {self.announcement.members} founding members have registered")
        if facts.meter_public_key in self._meters:
            other = address_of(self._meters[facts.meter_public_key]).hex()
            raise Refused(
                409, "meter_in_use", f"member {other} has registered this meter: one meter, one member"
            )
        self._log.append(RecordKind.REGISTRATION, raw)
        self._registrations[facts.public_key] = raw
        self._meters[facts.meter_public_key] = facts.public_key
        self._publish_when_full()
        self._on_change()
        return True

    def _publish_when_full(self) -> None:
        """Also tried again by a repeated registration, in case the disk failed between member and genesis."""
        if self.genesis is not None or self.registered < self.announcement.members:
            return
        genesis = self._door.make_genesis(tuple(self._registrations.values()))
        facts = self._door.read_genesis(genesis)
        self._log.append(RecordKind.GENESIS, genesis)
        self.genesis, self.facts = genesis, facts

    def acknowledge(self, raw: bytes) -> bool:
        """Take a member's acknowledgement, persisted; False if it is known. `Refused` with the reason otherwise."""
        try:
            acknowledgement = acknowledgement_codec.decode(raw)
        except MalformedInput as error:
            raise Refused(400, "malformed", str(error)) from error
        if self.facts is None:
            raise Refused(409, "no_genesis", "there is no genesis to acknowledge yet")
        if acknowledgement.public_key not in self.facts.members:
            raise Refused(403, "not_a_member", "only founding members acknowledge the genesis")
        if not is_acknowledged(acknowledgement, self.facts.hash, self._verifier):
            shown = self.facts.hash.hex()
            raise Refused(
                422, "acknowledgement_invalid", f"this is no signature of its key over genesis {shown}"
            )
        if acknowledgement.public_key in self._acknowledgements:
            return False
        self._log.append(RecordKind.ACKNOWLEDGEMENT, raw)
        self._acknowledgements[acknowledgement.public_key] = acknowledgement
        self._on_change()
        return True

    def acknowledgements(self) -> AcknowledgementSet | None:
        """All so far, in key order; None before there is a genesis."""
        if self.facts is None:
            return None
        held = self._acknowledgements
        return AcknowledgementSet(self.facts.hash, tuple(held[key] for key in sorted(held)))

    def records(self) -> Iterable[Record]:
        """The content of the log, for a rewrite."""
        yield RecordKind.ANNOUNCEMENT, encode(self.announcement)
        for raw in self._registrations.values():
            yield RecordKind.REGISTRATION, raw
        if self.genesis is not None:
            yield RecordKind.GENESIS, self.genesis
        for acknowledgement in self._acknowledgements.values():
            yield RecordKind.ACKNOWLEDGEMENT, encode(acknowledgement)


def different_fields(first: Announcement, second: Announcement) -> str:
    """Names and values of what differs, parameters one by one: ``groups 4 / 5``."""
    differing = []
    for name in Announcement.__struct_fields__:
        one, other = getattr(first, name), getattr(second, name)
        if one == other:
            continue
        if name != "parameters":
            differing.append(f"{name} {_shown(one)} / {_shown(other)}")
            continue
        for parameter in type(one).__struct_fields__:
            values = getattr(one, parameter), getattr(other, parameter)
            if values[0] != values[1]:
                differing.append(f"{parameter} {values[0]} / {values[1]}")
    return ", ".join(differing)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + " ".join(key.hex()[:12] for key in value) + "]"
    return str(value)
