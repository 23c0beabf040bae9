"""A history read and paired: each invocation with what ended it."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

from scripts.history.records import (
    Event,
    Fail,
    FinalChain,
    Info,
    Invoke,
    Line,
    Nemesis,
    Ok,
    Problem,
    Setup,
    Subscribe,
    Vote,
)

End: TypeAlias = Ok | Fail | Info
SUBMITTING = frozenset({"submit", "resubmit"})
ENDLESS = 2**63 - 1


class Unreadable(Exception):
    """A file that is no history."""


class Operation(msgspec.Struct, frozen=True, gc=False):
    """An invocation and its end; None: the recording ended first, which is as good as `Info`."""

    invoke: Invoke
    end: End | None

    @property
    def ended_at(self) -> int:
        """For ever later than everything if it is not known to have ended."""
        return self.end.at if isinstance(self.end, Ok | Fail) else ENDLESS

    def shown(self) -> str:
        """As it stands in the history."""
        end = "no end" if self.end is None else msgspec.json.encode(self.end).decode()
        return f"{msgspec.json.encode(self.invoke).decode()} -> {end}"


class History:
    """What was recorded."""

    def __init__(self) -> None:
        self.setup: Setup | None = None
        self.operations: list[Operation] = []
        """In the order of their ends."""
        self.streams: dict[int, list[Subscribe | Event]] = {}
        """By process, in order."""
        self.nemesis: list[Nemesis] = []
        self.votes: list[Vote] = []
        self.finals: list[FinalChain] = []
        self.problems: list[Problem] = []
        self.flaws: list[str] = []
        """What is wrong with the recording itself."""

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "History":
        """Pair ``lines``."""
        history = cls()
        open_: dict[int, Invoke] = {}
        add = history.operations.append
        for line in lines:
            if isinstance(line, Invoke):
                before = open_.pop(line.process, None)
                if before is not None:
                    add(Operation(before, None))
                open_[line.process] = line
            elif isinstance(line, Ok | Fail | Info):
                begun = open_.pop(line.process, None)
                if begun is None:
                    history.flaws.append(f"an end without a beginning: {line}"[:200])
                else:
                    add(Operation(begun, line))
            else:
                history._take(line)
        for begun in open_.values():
            add(Operation(begun, None))
        return history

    def _take(self, line: Line) -> None:
        match line:
            case Setup():
                self.setup = line
            case Subscribe() | Event():
                self.streams.setdefault(line.process, []).append(line)
            case Nemesis():
                self.nemesis.append(line)
            case Vote():
                self.votes.append(line)
            case FinalChain():
                self.finals.append(line)
            case Problem():
                self.problems.append(line)
            case _:
                raise TypeError(f"{line!r} is no such line")

    def forgot(self) -> dict[str, list[tuple[int, int]]]:
        """By node, the times in which it was made to forget: it may answer older in or after them than before."""
        forgot: dict[str, list[tuple[int, int]]] = {}
        ends = {(event.fault, event.number): event.at for event in self.nemesis if not event.on}
        for event in self.nemesis:
            if event.on and event.forgets:
                until = ends.get((event.fault, event.number), ENDLESS)
                for node in event.nodes:
                    forgot.setdefault(node, []).append((event.at, max(event.at, until)))
        return forgot


@contextmanager
def without_collector() -> Iterator[None]:
    """A history has no cycles: looking for some doubles the time it takes to read."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_history(path: Path) -> History:
    """`Unreadable` names the line that is none; a last line cut off by a crash of the recorder is a flaw, not that."""
    with without_collector():
        return History.of(_lines(path))


def _lines(path: Path) -> Iterator[Line]:
    decode = msgspec.json.Decoder(Line).decode
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield decode(line)
                except msgspec.MsgspecError as error:
                    if line.endswith(b"\n"):
                        raise Unreadable(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
