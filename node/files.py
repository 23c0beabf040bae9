"""The door to the disk for what must be durable: a real implementation here, faulty ones beside the tests.

Only what the journal needs. A failure is an `OSError` of the system; the callers decide that it stops the node.
"""

import os
from pathlib import Path
from typing import Protocol


class AppendFile(Protocol):
    """A file that only grows."""

    def append(self, data: bytes) -> None:
        """Write all of ``data`` at the end; `OSError` if any of it could not be written."""

    def sync(self) -> None:
        """Return only when everything appended is on the disk."""

    def close(self) -> None:
        """Release the descriptor."""


class Files(Protocol):
    """One flat directory."""

    def names(self) -> list[str]:
        """Names of the files, sorted; empty if the directory does not exist."""

    def exists(self) -> bool:
        """Whether the directory exists."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def create(self, name: str, content: bytes) -> AppendFile:
        """A new file holding ``content``, which appears under ``name`` durably and whole, or not at all."""

    def open(self, name: str, length: int) -> AppendFile:
        """An existing file, cut to ``length`` bytes, ready to append."""

    def remove(self, name: str) -> None:
        """Delete a file, durably."""

    def set_aside(self, suffix: str) -> None:
        """Rename the directory to ``<its name>.<suffix>``, durably, so that a new one can take its place."""


class SystemAppendFile:
    """`AppendFile` on a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def append(self, data: bytes) -> None:
        """Write all of ``data``; a short write is continued, so that only a failing disk stops it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """fdatasync: data and the file's length, not its times."""
        _data_sync(self._descriptor)

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._descriptor)


def _data_sync(descriptor: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS has none
        os.fsync(descriptor)


class SystemFiles:
    """`Files` on a directory of the file system; files are readable by their owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Names of the files, sorted."""
        return sorted(os.listdir(self._directory)) if self.exists() else []

    def exists(self) -> bool:
        """Whether the directory exists."""
        return self._directory.is_dir()

    def read(self, name: str) -> bytes:
        """A whole file."""
        return (self._directory / name).read_bytes()

    def create(self, name: str, content: bytes) -> SystemAppendFile:
        """Written under another name, synced, renamed, and the directory synced: whole or not at all."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        passing = self._directory / f"{name}.new"
        descriptor = os.open(passing, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            file = SystemAppendFile(descriptor)
            file.append(content)
            file.sync()
            os.rename(passing, self._directory / name)
            self._sync_directory(self._directory)
            self._sync_directory(self._directory.parent)
        except OSError:
            os.close(descriptor)
            raise
        return file

    def open(self, name: str, length: int) -> SystemAppendFile:
        """The cut is synced before anything is appended behind it."""
        descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, length)
            os.lseek(descriptor, 0, os.SEEK_END)
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return SystemAppendFile(descriptor)

    def remove(self, name: str) -> None:
        """Delete a file and sync its directory."""
        os.unlink(self._directory / name)
        self._sync_directory(self._directory)

    def set_aside(self, suffix: str) -> None:
        """Rename the directory; one already set aside under that name stays, with a number behind the new one's."""
        target = self._directory.with_name(f"{self._directory.name}.{suffix}")
        number = 1
        while target.exists():
            number += 1
            target = self._directory.with_name(f"{self._directory.name}.{suffix}-{number}")
        os.rename(self._directory, target)
        self._sync_directory(self._directory.parent)

    @staticmethod
    def _sync_directory(directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
