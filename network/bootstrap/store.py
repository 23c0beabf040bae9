"""The service's memory across restarts: an append-only file of small records, each with its checksum.

Appended and synced before the answer leaves, so that a member that was told "registered" stays registered. A record
torn by a crash is the last one, was never answered, and is cut off; damage elsewhere stops the service.
"""

import enum
import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from network.bootstrap.errors import StoreUnusable
from network.bootstrap.limits import MAX_GENESIS_BYTES

FORMATION_FILE: Final = "formation.log"
_HEADER_BYTES: Final = 9
"""Kind (1), length (4), checksum (4), big-endian."""


class RecordKind(enum.IntEnum):
    """What a record holds."""

    ANNOUNCEMENT = 1
    REGISTRATION = 2
    GENESIS = 3
    ACKNOWLEDGEMENT = 4
    ADDRESS = 5
    API = 6


_KINDS: Final = frozenset(int(kind) for kind in RecordKind)

Record = tuple[RecordKind, bytes]


class RecordLog:
    """One file; create with `open`."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size_bytes = size
        """For the owner, who decides when to `rewrite`."""

    @classmethod
    def open(cls, path: Path) -> "tuple[RecordLog, list[Record]]":
        """The log and what it holds; a new one, readable by its owner only, where there is none."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreUnusable(f"{path} is in use: another bootstrap runs with this home") from None
        try:
            data = path.read_bytes()
            records, end = _read(path, data)
            if end < len(data):
                os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            os.fsync(descriptor)
            _sync_directory(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, end), records

    def append(self, kind: RecordKind, content: bytes, *, durable: bool = True) -> None:
        """Add a record; with ``durable`` it is on the disk on return. `OSError` leaves the log as it was."""
        data = _frame(kind, content)
        try:
            _write_all(self._descriptor, data)
            if durable:
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size_bytes)
            os.lseek(self._descriptor, self.size_bytes, os.SEEK_SET)
            raise
        self.size_bytes += len(data)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the whole content, at once or not at all."""
        data = b"".join(_frame(kind, content) for kind, content in records)
        passing = self._path.with_suffix(".new")
        descriptor = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write_all(descriptor, data)
            os.fsync(descriptor)
            os.rename(passing, self._path)
        except OSError:
            os.close(descriptor)
            raise
        _sync_directory(self._path.parent)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self.size_bytes = len(data)

    def close(self) -> None:
        """Release the file."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def _frame(kind: RecordKind, content: bytes) -> bytes:
    head = bytes((kind,)) + len(content).to_bytes(4, "big")
    return head + zlib.crc32(head + content).to_bytes(4, "big") + content


def _read(path: Path, data: bytes) -> tuple[list[Record], int]:
    """Records and the end of the last whole one."""
    records: list[Record] = []
    position = 0
    while position < len(data):
        content_start = position + _HEADER_BYTES
        length = int.from_bytes(data[position + 1 : position + 5], "big")
        end = content_start + length
        if content_start > len(data) or end > len(data):
            if _records_reach_the_end(data, position + 1):
                raise _damaged(path, position)
            break
        head = data[position : position + 5]
        content = data[content_start:end]
        if zlib.crc32(head + content) != int.from_bytes(data[position + 5 : content_start], "big"):
            if end == len(data):
                break
            raise _damaged(path, position)
        if data[position] not in tuple(RecordKind) or length > MAX_GENESIS_BYTES:
            raise StoreUnusable(f"{path} holds a record this version does not know, at byte {position}")
        records.append((RecordKind(data[position]), content))
        position = end
    return records, position


def _records_reach_the_end(data: bytes, start: int) -> bool:
    """Whether whole records stand behind ``start`` up to the very end: then what is before them was no torn tail.

    Up to the end, so that what somebody puts into a record cannot make a torn one look like damage.
    """
    for first in range(start, len(data) - _HEADER_BYTES + 1):
        position = first
        while (end := _end_of_record(data, position)) is not None:
            if end == len(data):
                return True
            position = end
    return False


def _end_of_record(data: bytes, position: int) -> int | None:
    """Where the whole, known record at ``position`` ends; None if there is none."""
    content_start = position + _HEADER_BYTES
    if content_start > len(data) or data[position] not in _KINDS:
        return None
    end = content_start + int.from_bytes(data[position + 1 : position + 5], "big")
    if end > len(data):
        return None
    head, checksum = data[position : position + 5], data[position + 5 : content_start]
    return end if zlib.crc32(head + data[content_start:end]).to_bytes(4, "big") == checksum else None


def _damaged(path: Path, position: int) -> StoreUnusable:
    return StoreUnusable(f"{path} is damaged at byte {position}: restore it, or form the chain in a new home")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
