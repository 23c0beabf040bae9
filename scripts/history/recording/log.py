"""The file that a recording grows into."""

import time
from pathlib import Path

import msgspec

from scripts.history.records import Line


class Log:
    """JSON lines, written through at once: a recorder that dies leaves all but its last line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._encode = msgspec.json.Encoder().encode
        self.lines = 0

    def write(self, line: Line) -> None:
        """Append a line."""
        self._file.write(self._encode(line) + b"\n")
        self.lines += 1

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def now() -> int:
    """Monotonic nanoseconds: the same clock for every process of this machine."""
    return time.monotonic_ns()
