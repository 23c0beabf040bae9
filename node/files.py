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


class SystemCalls(Protocol):
    """What `SystemFiles` asks of the operating system, call by call; crash tests record, cut short or fail each one."""

    def is_directory(self, path: Path) -> bool:
        """Whether a directory stands there."""

    def make_directory(self, path: Path) -> None:
        """Make it with its parents, for the owner only; no error if it is there."""

    def names(self, path: Path) -> list[str]:
        """Names in a directory, unordered."""

    def read(self, path: Path) -> bytes:
        """A whole file."""

    def open_new(self, path: Path) -> int:
        """A descriptor to write an empty file for the owner only; an older file of that name is emptied."""

    def open_existing(self, path: Path) -> int:
        """A descriptor to write a file that is there."""

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write at the descriptor's place; how many bytes were taken."""

    def cut(self, descriptor: int, length: int) -> None:
        """Shorten the file to ``length`` bytes and go to its end."""

    def sync_data(self, descriptor: int) -> None:
        """Return when the file's content and length are on the disk, its times perhaps not."""

    def sync(self, descriptor: int) -> None:
        """Return when everything about the file is on the disk."""

    def close(self, descriptor: int) -> None:
        """Release it."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or directory another name, replacing a file that has it."""

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""

    def sync_directory(self, path: Path) -> None:
        """Return when the names in a directory are on the disk."""


class OperatingSystem:
    """`SystemCalls` as they are."""

    def is_directory(self, path: Path) -> bool:
        """stat."""
        return path.is_dir()

    def make_directory(self, path: Path) -> None:
        """mkdir."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self, path: Path) -> list[str]:
        """readdir."""
        return os.listdir(path)

    def read(self, path: Path) -> bytes:
        """open, read, close."""
        return path.read_bytes()

    def open_new(self, path: Path) -> int:
        """open, mode 0600."""
        return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def open_existing(self, path: Path) -> int:
        """open."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, descriptor: int, data: memoryview) -> int:
        """write."""
        return os.write(descriptor, data)

    def cut(self, descriptor: int, length: int) -> None:
        """ftruncate and lseek."""
        os.ftruncate(descriptor, length)
        os.lseek(descriptor, 0, os.SEEK_END)

    def sync_data(self, descriptor: int) -> None:
        """fdatasync; macOS has none."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)
        else:
            os.fsync(descriptor)

    def sync(self, descriptor: int) -> None:
        """fsync."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """close."""
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """rename."""
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        """unlink."""
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        """open, fsync, close."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class SystemAppendFile:
    """`AppendFile` on a descriptor."""

    def __init__(self, descriptor: int, system: SystemCalls) -> None:
        self._descriptor = descriptor
        self._system = system

    def append(self, data: bytes) -> None:
        """Write all of ``data``; a short write is continued, so that only a failing disk stops it."""
        view = memoryview(data)
        while view:
            view = view[self._system.write(self._descriptor, view) :]

    def sync(self) -> None:
        """fdatasync: data and the file's length, not its times."""
        self._system.sync_data(self._descriptor)

    def close(self) -> None:
        """Release the descriptor."""
        self._system.close(self._descriptor)


class SystemFiles:
    """`Files` on a directory of the file system; files are readable by their owner only."""

    def __init__(self, directory: Path, system: SystemCalls | None = None) -> None:
        self._directory = directory
        self._system: SystemCalls = system or OperatingSystem()

    def names(self) -> list[str]:
        """Names of the files, sorted."""
        return sorted(self._system.names(self._directory)) if self.exists() else []

    def exists(self) -> bool:
        """Whether the directory exists."""
        return self._system.is_directory(self._directory)

    def read(self, name: str) -> bytes:
        """A whole file."""
        return self._system.read(self._directory / name)

    def create(self, name: str, content: bytes) -> SystemAppendFile:
        """Written under another name, synced, renamed, and the directory synced: whole or not at all."""
        system = self._system
        system.make_directory(self._directory)
        passing = self._directory / f"{name}.new"
        descriptor = system.open_new(passing)
        try:
            file = SystemAppendFile(descriptor, system)
            file.append(content)
            file.sync()
            system.rename(passing, self._directory / name)
            system.sync_directory(self._directory)
            system.sync_directory(self._directory.parent)
        except OSError:
            system.close(descriptor)
            raise
        return file

    def open(self, name: str, length: int) -> SystemAppendFile:
        """The cut is synced before anything is appended behind it."""
        descriptor = self._system.open_existing(self._directory / name)
        try:
            self._system.cut(descriptor, length)
            self._system.sync(descriptor)
        except OSError:
            self._system.close(descriptor)
            raise
        return SystemAppendFile(descriptor, self._system)

    def remove(self, name: str) -> None:
        """Delete a file and sync its directory."""
        self._system.unlink(self._directory / name)
        self._system.sync_directory(self._directory)

    def set_aside(self, suffix: str) -> None:
        """Rename the directory; one already set aside under that name stays, with a number behind the new one's."""
        target = self._directory.with_name(f"{self._directory.name}.{suffix}")
        number = 1
        while self._system.is_directory(target):
            number += 1
            target = self._directory.with_name(f"{self._directory.name}.{suffix}-{number}")
        self._system.rename(self._directory, target)
        self._system.sync_directory(self._directory.parent)
