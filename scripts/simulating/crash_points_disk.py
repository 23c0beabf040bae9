"""A disk under `node.files.SystemFiles` that notes every call, fails one on demand, and tells what a crash may leave.

What a power failure leaves is the most that POSIX allows a journalling file system: of each file whatever was synced,
and of later writes any set of 512-byte sectors or a part of one, in any order, with or without the new length; of
names, the changes of a directory up to any point after its last sync.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECTOR_BYTES: Final = 512
ALL_SUBSETS_UP_TO: Final = 4
"""Unsynced sectors of which every subset is tried; of more, each alone, each missing, and every second one."""

Tree = dict[Path, bytes]
"""The files of a disk."""


@dataclass(frozen=True)
class Call:
    """One call that changes what is on the disk or makes it durable; ``file`` is the file's number, not its name."""

    kind: str
    """create, write, cut, sync, rename, unlink or sync-directory."""
    path: Path
    file: int = -1
    data: bytes = b""
    length: int = 0
    target: Path | None = None


@dataclass(frozen=True)
class Failing:
    """Which call of a kind fails, how, and what of its data lands all the same."""

    kind: str
    number: int
    """Counted from 1."""
    code: int = errno.EIO
    landed: int = 0
    """Bytes of a failing write that reach the file."""


class _File:
    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.content = bytearray(durable)
        self.waiting: list[Call] = []
        """Writes and cuts since the last sync."""


class RecordingDisk:
    """`node.files.SystemCalls` in memory."""

    def __init__(
        self, tree: Tree | None = None, failing: Failing | None = None, *, syncs: bool = True
    ) -> None:
        """``syncs`` False: syncs are taken for done and do nothing, as on a disk that lies."""
        self.calls: list[Call] = []
        self.failed = False
        """Whether the call that was to fail has come."""
        self._syncs = syncs
        self._failing = failing
        self._counts: dict[str, int] = {}
        self._files: list[_File] = []
        self._names: dict[Path, int] = {}
        self._durable_names: dict[Path, int] = {}
        self._name_changes: list[Call] = []
        self._open: dict[int, tuple[int, Path]] = {}
        self._next_descriptor = 3
        for path, content in (tree or {}).items():
            self._files.append(_File(content))
            self._names[path] = self._durable_names[path] = len(self._files) - 1

    # ---- calls that only look

    def is_directory(self, path: Path) -> bool:
        """A directory is there as soon as something is in it."""
        return any(_inside(name, path) for name in self._names)

    def make_directory(self, path: Path) -> None:
        """Directories come with their first file."""

    def names(self, path: Path) -> list[str]:
        """Names of files."""
        return [name.name for name in self._names if name.parent == path]

    def read(self, path: Path) -> bytes:
        """The content, synced or not."""
        self._count("read")
        return bytes(self._files[self._names[path]].content)

    # ---- calls that change

    def open_new(self, path: Path) -> int:
        """Makes a file."""
        self._count("open")
        self._files.append(_File())
        self._names[path] = len(self._files) - 1
        self._change_names(Call("create", path, len(self._files) - 1))
        return self._descriptor(path)

    def open_existing(self, path: Path) -> int:
        """Opens a file."""
        self._count("open")
        return self._descriptor(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Appends."""
        number, path = self._open[descriptor]
        failing = self._failing if self._comes("write") else None
        landed = bytes(data) if failing is None else bytes(data[: failing.landed])
        if landed:
            call = Call("write", path, number, landed, len(self._files[number].content))
            self._files[number].content += landed
            self._files[number].waiting.append(call)
            self._note(call)
        if failing is not None:
            raise OSError(failing.code, os.strerror(failing.code))
        return len(landed)

    def cut(self, descriptor: int, length: int) -> None:
        """Shortens."""
        number, path = self._open[descriptor]
        self._count("cut")
        call = Call("cut", path, number, length=length)
        del self._files[number].content[length:]
        self._files[number].waiting.append(call)
        self._note(call)

    def sync_data(self, descriptor: int) -> None:
        """As `sync`."""
        self.sync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Makes a file's content durable; a failing one drops what was waiting, as Linux does."""
        number, path = self._open[descriptor]
        file = self._files[number]
        failing = self._failing if self._comes("sync") else None
        if failing is not None:
            file.waiting.clear()
            file.content = bytearray(file.durable)
            raise OSError(failing.code, os.strerror(failing.code))
        if self._syncs:
            file.durable = bytes(file.content)
            file.waiting.clear()
        self._note(Call("sync", path, number))

    def close(self, descriptor: int) -> None:
        """Syncs nothing."""
        del self._open[descriptor]

    def rename(self, old: Path, new: Path) -> None:
        """Of a file, or of a directory with all that is in it."""
        self._count("rename")
        moved = {name: number for name, number in self._names.items() if name == old or _inside(name, old)}
        for name, number in moved.items():
            del self._names[name]
            self._names[new / name.relative_to(old)] = number
        self._change_names(Call("rename", old, target=new))

    def unlink(self, path: Path) -> None:
        """Removes a name."""
        self._count("unlink")
        del self._names[path]
        self._change_names(Call("unlink", path))

    def sync_directory(self, path: Path) -> None:
        """Makes the names in a directory durable."""
        self._count("sync-directory")
        if self._syncs:
            for change in self._name_changes:
                if change.path.parent == path:
                    _rename_in(self._durable_names, change)
            self._name_changes = [change for change in self._name_changes if change.path.parent != path]
        self._note(Call("sync-directory", path))

    def _note(self, call: Call) -> None:
        """A call was carried out; whoever looks at what a crash leaves here does so now."""
        self.calls.append(call)

    def _change_names(self, call: Call) -> None:
        self._name_changes.append(call)
        self._note(call)

    def _descriptor(self, path: Path) -> int:
        self._next_descriptor += 1
        self._open[self._next_descriptor] = (self._names[path], path)
        return self._next_descriptor

    def _comes(self, kind: str) -> bool:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        failing = self._failing
        if failing is None or failing.kind != kind or self._counts[kind] != failing.number:
            return False
        self.failed = True
        return True

    def _count(self, kind: str) -> None:
        if self._comes(kind) and self._failing is not None:
            raise OSError(self._failing.code, os.strerror(self._failing.code))

    def counts(self) -> dict[str, int]:
        """How often each kind of call came."""
        return dict(self._counts)

    # ---- what a crash leaves

    def after_kill(self) -> Tree:
        """The process dies, the system lives: everything written is there."""
        return {path: bytes(self._files[number].content) for path, number in self._names.items()}

    def after_power_loss(self) -> Tree:
        """Only what was synced is there."""
        return {path: self._files[number].durable for path, number in self._durable_names.items()}

    def crash_states(self) -> Iterator[tuple[str, Tree]]:
        """Everything a crash right after the last call may leave, by kind; states of earlier calls are not repeated."""
        yield "killed after a call", self.after_kill()
        yield "power lost, nothing unsynced kept", self.after_power_loss()
        yield from self._half_renamed()
        last = self.calls[-1]
        if last.kind == "write":
            for kind, content in _torn(self._files[last.file], last):
                yield kind, self._with(last.file, content)

    def _half_renamed(self) -> Iterator[tuple[str, Tree]]:
        """Names changed up to any point, contents synced or not."""
        for kept in range(1, len(self._name_changes) + 1):
            names = dict(self._durable_names)
            for change in self._name_changes[:kept]:
                _rename_in(names, change)
            yield (
                "names changed, unsynced content lost",
                {path: self._files[number].durable for path, number in names.items()},
            )
        if self._name_changes:
            names = self._durable_names
            yield (
                "names lost, content kept",
                {path: bytes(self._files[number].content) for path, number in names.items()},
            )

    def _with(self, number: int, content: bytes) -> Tree:
        return {
            path: content if held == number else bytes(self._files[held].content)
            for path, held in self._names.items()
        }


def _inside(path: Path, directory: Path) -> bool:
    """As text, which paths keep: their own comparison takes ten times as long."""
    return str(path).startswith(f"{directory}/")


def _rename_in(names: dict[Path, int], change: Call) -> None:
    match change.kind:
        case "create":
            names[change.path] = change.file
        case "unlink":
            names.pop(change.path, None)
        case _:
            target = change.target or change.path
            for name in [name for name in names if name == change.path or _inside(name, change.path)]:
                names[target / name.relative_to(change.path)] = names.pop(name)


def _torn(file: _File, last: Call) -> Iterator[tuple[str, bytes]]:
    """Contents of a file whose newest writes reached the disk in part."""
    full, kept = bytes(file.content), file.durable
    begin = min(len(kept), *(call.length for call in file.waiting if call.kind in ("write", "cut")))
    boundary = begin // SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES
    for cut in range(boundary, len(full), SECTOR_BYTES):
        yield "cut at a sector", full[:cut]
        yield "zeros from a sector on", full[:cut] + bytes(len(full) - cut)
    for cut in range(last.length, len(full)):
        yield "cut at a byte of the tail record", full[:cut]
    yield "zeros for all that was unsynced", full[:begin] + bytes(len(full) - begin)
    stale = (full[:begin] * (1 + (len(full) - begin) // max(1, begin)))[: len(full) - begin]
    yield "older frames of the same file in place of the unsynced", full[:begin] + stale
    for written in _sector_choices((len(full) - 1) // SECTOR_BYTES - begin // SECTOR_BYTES + 1):
        yield "some sectors written, others not", _mixed(full, begin, written)


def _sector_choices(count: int) -> Iterator[frozenset[int]]:
    if count <= ALL_SUBSETS_UP_TO:
        for bits in range(1, 2**count - 1):
            yield frozenset(place for place in range(count) if bits >> place & 1)
        return
    for place in range(count):
        yield frozenset((place,))
        yield frozenset(range(count)) - {place}
    yield frozenset(range(0, count, 2))
    yield frozenset(range(1, count, 2))


def _mixed(full: bytes, begin: int, written: frozenset[int]) -> bytes:
    """``full`` with zeros, behind ``begin``, in the sectors that are not in ``written``."""
    first = begin // SECTOR_BYTES
    pieces = [full[:begin]]
    for sector in range(first, (len(full) - 1) // SECTOR_BYTES + 1):
        low, high = max(begin, sector * SECTOR_BYTES), min(len(full), (sector + 1) * SECTOR_BYTES)
        pieces.append(full[low:high] if sector - first in written else bytes(high - low))
    return b"".join(pieces)
