"""The watch: who is late or down, by what the members' own APIs answer (PROTOCOL 8.1e)."""

import asyncio
import enum
from collections.abc import Callable, Sequence

from consensus.types import Address, Value
from network.bootstrap.chain import MemberStatus
from network.bootstrap.doors import ChainDoor
from network.bootstrap.errors import Refused, Unavailable
from network.bootstrap.limits import WatchLimits


class Condition(enum.StrEnum):
    """How a member looks from here."""

    OK = "ok"
    LATE = "late"
    """Blocks behind what most others have."""
    NOT_READY = "not_ready"
    """It answers, and says that it is not ready."""
    DOWN = "down"
    """No answer; seen from here only, which is no fault on the ledger (PROTOCOL 3.2)."""
    UNKNOWN = "unknown"
    """It told no API address."""


class Sighting(Value, frozen=True):
    """The last answer of one member, or the lack of it."""

    url: str
    status: MemberStatus | None
    """The last answer ever had."""
    answered_ms: int | None
    """When that was."""
    error: str
    """Why the last question was not answered; empty if it was."""


class Line(Value, frozen=True):
    """A line of the table."""

    address: Address
    condition: Condition
    height: int | None
    behind: int | None
    epoch: int | None
    view: int | None
    role: str
    seen_ago_ms: int | None
    note: str


class Watch:
    """Asks every known API for its status, round after round."""

    def __init__(
        self,
        *,
        chain: ChainDoor,
        members: Callable[[], Sequence[Address]],
        apis: Callable[[], list[tuple[Address, str]]],
        now_ms: Callable[[], int],
        limits: WatchLimits | None = None,
    ) -> None:
        self._chain = chain
        self._members = members
        self._apis = apis
        self._now_ms = now_ms
        self._limits = limits or WatchLimits()
        self._sightings: dict[Address, Sighting] = {}

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._limits.interval_ms / 1_000)

    async def look(self) -> None:
        """One round: each known API is asked once, few at a time."""
        apis = self._apis()
        gone = self._sightings.keys() - {address for address, _ in apis}
        for address in gone:
            del self._sightings[address]
        room = asyncio.Semaphore(self._limits.parallel)
        async with asyncio.TaskGroup() as tasks:
            for address, url in apis:
                tasks.create_task(self._ask(address, url, room))

    async def _ask(self, address: Address, url: str, room: asyncio.Semaphore) -> None:
        before = self._sightings.get(address)
        status = None if before is None else before.status
        answered_ms = None if before is None else before.answered_ms
        error = ""
        async with room:
            try:
                async with asyncio.timeout(self._limits.timeout_ms / 1_000):
                    answer = await self._chain.status(url)
                if answer.address == address:
                    status, answered_ms = answer, self._now_ms()
                else:
                    error = f"{url} answers as {answer.address.hex()}"
            except TimeoutError:
                error = f"no answer within {self._limits.timeout_ms} ms"
            except (Unavailable, Refused) as failure:
                error = str(failure)
        self._sightings[address] = Sighting(url, status, answered_ms, error)

    def best_height(self) -> int:
        """A height that at least a third of those who answer have reached: one liar does not make the others late."""
        heights = sorted(
            (sight.status.height for sight in self._sightings.values() if sight.status and not sight.error),
            reverse=True,
        )
        return heights[(len(heights) - 1) // 3] if heights else 0

    def lines(self) -> list[Line]:
        """One a member, in address order."""
        best = self.best_height()
        known = sorted({*self._members(), *self._sightings})
        return [self._line(address, best) for address in known]

    def _line(self, address: Address, best: int) -> Line:
        sight = self._sightings.get(address)
        if sight is None:
            return Line(address, Condition.UNKNOWN, None, None, None, None, "", None, "told no API address")
        status = sight.status
        seen = None if sight.answered_ms is None else max(0, self._now_ms() - sight.answered_ms)
        if status is None:
            return Line(address, Condition.DOWN, None, None, None, None, "", seen, sight.error)
        behind = max(0, best - status.height)
        if sight.error:
            condition, note = Condition.DOWN, sight.error
        elif behind >= self._limits.late_blocks:
            condition, note = Condition.LATE, f"{behind} blocks behind"
        elif not status.ready:
            condition, note = Condition.NOT_READY, "; ".join(status.problems)
        else:
            condition, note = Condition.OK, ""
        return Line(
            address, condition, status.height, behind, status.epoch, status.view, status.role, seen, note
        )

    def table(self) -> str:
        """The same for a terminal."""
        head = ("member", "condition", "height", "behind", "epoch", "view", "role", "seen", "note")
        rows = [head, *(_row(line) for line in self.lines())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        )
        return "".join(f"{line.rstrip()}\n" for line in lines)


def _row(line: Line) -> tuple[str, ...]:
    seen = "never" if line.seen_ago_ms is None else f"{line.seen_ago_ms // 1_000} s ago"
    numbers = (line.height, line.behind, line.epoch, line.view)
    shown = ("-" if number is None else str(number) for number in numbers)
    return (line.address.hex(), line.condition, *shown, line.role or "-", seen, line.note)
