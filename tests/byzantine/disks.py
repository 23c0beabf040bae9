"""A disk that fails to sync and a clock that is wrong, for nodes that are otherwise honest."""

import errno
from pathlib import Path

from consensus.inputs import Instant
from node.clock import SystemClock
from node.files import AppendFile, SystemFiles


class SkewedClock:
    """The system's clock, ``ahead_ms`` off (negative: behind); timers run as ever."""

    def __init__(self, ahead_ms: int) -> None:
        self._system = SystemClock()
        self._ahead_ms = ahead_ms

    def now(self) -> Instant:
        now = self._system.now()
        return Instant(max(0, now.wall_ms + self._ahead_ms), now.monotonic_ms)


class _FailingFile:
    """Appends as ever, and syncs until the count is used up."""

    def __init__(self, file: AppendFile, files: "FailingFiles") -> None:
        self._file, self._files = file, files

    def append(self, data: bytes) -> None:
        self._file.append(data)

    def sync(self) -> None:
        self._files.left -= 1
        if self._files.left < 0:
            raise OSError(errno.EIO, "fdatasync: the disk failed (injected)")
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class FailingFiles(SystemFiles):
    """`Files` whose syncs fail with EIO after ``left`` of them, for ever."""

    def __init__(self, directory: Path, left: int) -> None:
        super().__init__(directory)
        self.left = left

    def create(self, name: str, content: bytes) -> AppendFile:  # type: ignore[override]
        return _FailingFile(super().create(name, content), self)

    def open(self, name: str, length: int) -> AppendFile:  # type: ignore[override]
        return _FailingFile(super().open(name, length), self)
