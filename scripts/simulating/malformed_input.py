"""Malformed input at every door of a node (RELIABILITY G9): refused or canonical, in bounded time and memory.

A finding is anything that is raised and is not one of this project's own refusals, an invariant that a peer can trip,
a case that takes longer than 10 ms of processor time three times over, or one that takes more than 8 MiB.
"""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from consensus.errors import InvariantViolation, ProtocolError
from scripts.simulating.malformed_input_targets import Door, all_doors

CASES: Final = 20_000
MAX_SECONDS: Final = 0.010
MAX_BYTES: Final = 8 * 1_048_576
MEMORY_EVERY: Final = 97
"""Tracing memory makes a case some ten times slower: one in so many is traced."""
BOMB_EVERY: Final = 31
MAX_BOMB_BYTES: Final = 65_536
MAX_FINDINGS: Final = 5
"""Of one door."""
TRIES: Final = 4
"""A case is too slow only if it is so every time: the first may have met a collection, or a busy machine."""


@dataclass(frozen=True)
class DoorResult:
    """Of one door."""

    name: str
    keyed: bool
    cases: int
    refused: int
    taken: int
    slowest_seconds: float
    """Processor time."""
    largest_bytes: int
    """Peak of memory taken by a traced case."""
    findings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class MalformedResult:
    """Of `send_malformed`."""

    doors: tuple[DoorResult, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(f"{door.name}: {finding}" for door in self.doors for finding in door.findings)

    @property
    def cases(self) -> int:
        """At all doors."""
        return sum(door.cases for door in self.doors)


def send_malformed(
    cases: int = CASES,
    *,
    seed: int = 1,
    names: Iterable[str] = (),
    progress: Callable[[DoorResult], None] = lambda _: None,
) -> MalformedResult:
    """``cases`` at every door, or at those whose name holds one of ``names``."""
    wanted = tuple(names)
    results = []
    for door in all_doors():
        if not wanted or any(name in door.name for name in wanted):
            results.append(knock(door, cases, seed))
            progress(results[-1])
    return MalformedResult(tuple(results))


class _Knocking:
    def __init__(self, door: Door) -> None:
        self.door = door
        self.refused = 0
        self.slowest = 0.0
        self.largest = 0
        self.findings: list[str] = []

    def case(self, number: int, data: bytes) -> None:
        """One case."""
        traced = number % MEMORY_EVERY == 0
        if traced:
            tracemalloc.start()
        began = time.thread_time()
        self._take(number, data)
        spent = time.thread_time() - began
        if traced:
            self.largest = max(self.largest, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            if self.largest > MAX_BYTES:
                self._found(number, data, f"takes {self.largest} bytes")
        else:
            self._judge_time(number, data, spent)

    def _judge_time(self, number: int, data: bytes, spent: float) -> None:
        tries = 1
        while spent > MAX_SECONDS and tries < TRIES:
            began = time.thread_time()
            self._take(number, data, count=False)
            spent = min(spent, time.thread_time() - began)
            tries += 1
        self.slowest = max(self.slowest, spent)
        if spent > MAX_SECONDS:
            self._found(number, data, f"takes {spent * 1_000:.1f} ms")

    def _take(self, number: int, data: bytes, *, count: bool = True) -> None:
        try:
            self.door.take(data)
        except InvariantViolation as error:
            self._found(number, data, f"trips an invariant: {error}")
        except ProtocolError:
            self.refused += count
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            self._found(number, data, f"{type(error).__name__}: {error}")

    def _found(self, number: int, data: bytes, what: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(f"case {number}: {what}: {data[:200].hex()}")


def knock(door: Door, cases: int, seed: int = 1) -> DoorResult:
    """One door."""
    began = time.monotonic()
    rng = random.Random(f"{seed}/{door.name}")
    knocking = _Knocking(door)
    for number in range(cases):
        data = bomb(rng) if number % BOMB_EVERY == BOMB_EVERY - 1 else door.make(rng)
        knocking.case(number, data)
    return DoorResult(
        door.name,
        door.keyed,
        cases,
        knocking.refused,
        cases - knocking.refused,
        knocking.slowest,
        knocking.largest,
        tuple(knocking.findings),
        time.monotonic() - began,
    )


def bomb(rng: random.Random) -> bytes:
    """Small to send and dear to read: depth, claimed lengths, empty containers, numbers without end."""
    size = 1 << rng.randrange(4, 17)
    match rng.randrange(8):
        case 0:
            return b"\x91" * min(size, MAX_BOMB_BYTES)
        case 1:
            return (
                b"\xdd" + min(size, MAX_BOMB_BYTES).to_bytes(4, "big") + b"\x90" * min(size, MAX_BOMB_BYTES)
            )
        case 2:
            return b"\xdd\xff\xff\xff\xff" + b"\x80" * min(size, MAX_BOMB_BYTES)
        case 3:
            return b"\xc6\xff\xff\xff\xff" + bytes(min(size, MAX_BOMB_BYTES))
        case 4:
            return b"\x9f\x04" + b"\x9f" * min(size, MAX_BOMB_BYTES)
        case 5:
            return b"[" * min(size, MAX_BOMB_BYTES)
        case 6:
            return b"\xff" * min(size, MAX_BOMB_BYTES)
        case _:
            return b"9" * min(size, MAX_BOMB_BYTES)
