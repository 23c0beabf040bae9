"""A disk in memory for the journal's tests: what was synced, what only was written, and faults on demand."""

import errno
import os


class MemoryFile:
    """An appended file with a durable and a volatile part."""

    def __init__(self, disk: "MemoryFiles", name: str) -> None:
        self.disk = disk
        self.name = name

    def append(self, data: bytes) -> None:
        limit = self.disk.step("write")
        self.disk.written[self.name] += data if limit is None else data[:limit]
        if limit is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        self.disk.step("sync")
        self.disk.durable[self.name] = self.disk.written[self.name]

    def close(self) -> None:
        pass


class MemoryFiles:
    """`node.files.Files` in memory; ``fail_at`` makes the n-th step of a kind fail."""

    def __init__(self, content: dict[str, bytes] | None = None) -> None:
        self.written: dict[str, bytes] = dict(content or {})
        self.durable: dict[str, bytes] = dict(content or {})
        self.aside: list[str] = []
        self.steps: dict[str, int] = {}
        self.fail_at: dict[str, int] = {}
        self.torn_at: int = 0
        """Bytes that a failing write still puts on the disk."""

    def step(self, kind: str) -> int | None:
        """Count a step; raise EIO, or for a write return how much of it still lands, if it is the one to fail."""
        self.steps[kind] = self.steps.get(kind, 0) + 1
        if self.fail_at.get(kind) != self.steps[kind]:
            return None
        if kind == "write":
            return self.torn_at
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def names(self) -> list[str]:
        return sorted(self.written)

    def exists(self) -> bool:
        return bool(self.written)

    def read(self, name: str) -> bytes:
        self.step("read")
        return self.written[name]

    def create(self, name: str, content: bytes) -> MemoryFile:
        self.step("create")
        self.written[name] = self.durable[name] = content
        return MemoryFile(self, name)

    def open(self, name: str, length: int) -> MemoryFile:
        self.step("open")
        self.written[name] = self.durable[name] = self.written[name][:length]
        return MemoryFile(self, name)

    def remove(self, name: str) -> None:
        self.step("remove")
        del self.written[name], self.durable[name]

    def set_aside(self, suffix: str) -> None:
        self.aside.append(suffix)
        self.written.clear()
        self.durable.clear()

    def after_power_loss(self) -> "MemoryFiles":
        """Only what was synced."""
        return MemoryFiles(self.durable)

    def after_kill(self) -> "MemoryFiles":
        """What the dead process had written, synced or not."""
        return MemoryFiles(self.written)
