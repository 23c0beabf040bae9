"""What a node remembers of its chain's formation, in HOME/formation; each file appears whole and durably.

``announced``: the first announcement met. ``registration``: the own one, once a bootstrap took it. ``genesis``: the one
this node checked; a founder writes it before it acknowledges, and acknowledges no other. ``acknowledgements``: complete
and verified; with it the chain may start.
"""

from pathlib import Path
from typing import Final, TypeVar

from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from contracts.genesis import Genesis, Registration, genesis_codec
from network.bootstrap.limits import MAX_REGISTRATION_BYTES
from network.bootstrap.records import (
    AcknowledgementSet,
    Announcement,
    acknowledgement_set_codec,
    announcement_codec,
)
from node.errors import FormationError
from node.files import Files, SystemFiles

T = TypeVar("T")

DIRECTORY: Final = "formation"
ANNOUNCED_FILE: Final = "announced"
REGISTRATION_FILE: Final = "registration"
GENESIS_FILE: Final = "genesis"
ACKNOWLEDGEMENTS_FILE: Final = "acknowledgements"

_registration_codec: Final[Codec[Registration]] = Codec(Registration, MAX_REGISTRATION_BYTES)


class FormationStore:
    """The files; `FormationError` for one that cannot be read."""

    def __init__(self, home: Path, files: Files | None = None) -> None:
        self.path = home / DIRECTORY
        self._files = files or SystemFiles(self.path)

    def announced(self) -> Announcement | None:
        """The announcement of the first contact."""
        return self._read(ANNOUNCED_FILE, announcement_codec)

    def registration(self) -> Registration | None:
        """This node's, which the genesis must hold."""
        return self._read(REGISTRATION_FILE, _registration_codec)

    def genesis(self) -> Genesis | None:
        """The genesis this node checked."""
        return self._read(GENESIS_FILE, genesis_codec)

    def acknowledgements(self) -> AcknowledgementSet | None:
        """All members' acknowledgements."""
        return self._read(ACKNOWLEDGEMENTS_FILE, acknowledgement_set_codec)

    def put_announced(self, announcement: Announcement) -> None:
        """Pin what was announced."""
        self._write(ANNOUNCED_FILE, announcement)

    def put_registration(self, registration: Registration) -> None:
        """A bootstrap has taken it."""
        self._write(REGISTRATION_FILE, registration)

    def put_genesis(self, genesis: Genesis) -> None:
        """Before it is acknowledged."""
        self._write(GENESIS_FILE, genesis)

    def put_acknowledgements(self, acknowledgements: AcknowledgementSet) -> None:
        """Formation is over."""
        self._write(ACKNOWLEDGEMENTS_FILE, acknowledgements)

    def _read(self, name: str, codec: Codec[T]) -> T | None:
        if name not in self._files.names():
            return None
        try:
            return codec.decode(self._files.read(name))
        except (MalformedInput, OSError) as error:
            raise FormationError(
                f"{self.path / name} cannot be read: {error}; restore it from a backup, or join anew with a new home"
            ) from error

    def _write(self, name: str, value: object) -> None:
        try:
            self._files.create(name, encode(value)).close()
        except OSError as error:
            raise FormationError(f"cannot write {self.path / name}: {error.strerror}") from error
