"""Grouping and elections: follows the chain at any member's API, searches plans, carries ballots (PROTOCOL 8.1c, d).

What it reads it does not verify, since what it writes is verified by everybody: a plan with a wrong claim and a ballot
without its voter's signature are refused by the ledger. A member that tells it lies wastes its time, not more; so it
goes on to the next one whenever a stream stalls, breaks or contradicts itself.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog

from consensus.errors import ProtocolError
from consensus.parameters import Parameters
from consensus.types import Address, Value
from network.bootstrap.ballots import BallotBox
from network.bootstrap.chain import BallotCounted, ChainBlock, ChainPhase, GroupsFixed, PhaseEntered
from network.bootstrap.doors import ChainDoor, TransactionDoor
from network.bootstrap.election import ElectionView, SnapshotTaken
from network.bootstrap.errors import Refused, Unavailable
from network.bootstrap.limits import CoordinatorLimits
from network.bootstrap.planning import FoundPlan, SearchTask, search, search_task

log = structlog.get_logger("network.bootstrap.coordinator")

SEARCH_SHARE: Final = (3, 5)
"""Part of planning_ms given to the search; the rest is for the plan to be committed before planning ends."""
FAILURES_BEFORE_ANEW: Final = 3
"""Rounds over all members without one that has the blocks known here, after which these are taken for lies."""

Searcher = Callable[[SearchTask, int], Awaitable[FoundPlan | None]]
"""Runs `planning.search` for so many milliseconds, beside the event loop."""


async def search_beside(task: SearchTask, budget_ms: int) -> FoundPlan | None:
    """`search` in a thread; cancelling this ends the thread's work within a millisecond or so, too."""
    stopped = threading.Event()
    deadline_ms = time.monotonic_ns() // 1_000_000 + budget_ms

    def now_ms() -> int:
        return deadline_ms if stopped.is_set() else time.monotonic_ns() // 1_000_000

    try:
        return await asyncio.to_thread(search, task, now_ms, deadline_ms)
    finally:
        stopped.set()


class PlanReport(Value, frozen=True):
    """What became of the search for the plan of ``epoch``."""

    epoch: int
    state: str
    """searching, built_in_kept, submitted, not_submitted."""
    detail: str = ""


class Coordinator:
    """Follows one chain; `run` never ends but by cancellation."""

    def __init__(
        self,
        *,
        chain: ChainDoor,
        transactions: TransactionDoor,
        box: BallotBox,
        parameters: Parameters,
        apis: Callable[[], list[tuple[Address, str]]],
        searcher: Searcher = search_beside,
        limits: CoordinatorLimits | None = None,
    ) -> None:
        """``apis``: (address, URL) of members, best first."""
        self.view = ElectionView()
        self.plan: PlanReport | None = None
        self.box = box
        self.following: str | None = None
        """URL of the API that is followed now."""
        self.plans_submitted = 0
        self.ballots_submitted = 0
        self._chain = chain
        self._transactions = transactions
        self._parameters = parameters
        self._apis = apis
        self._searcher = searcher
        self._limits = limits or CoordinatorLimits()
        self._next_api = 0
        self._failures = 0
        self._ballot_came = asyncio.Event()
        self._advanced = asyncio.Condition()
        self._planning: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow and carry, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_forever())
                tasks.create_task(self._carry_forever())
        finally:
            self._stop_planning()

    def take_ballot(self, raw: bytes) -> bool:
        """A ballot for the next batch (`BallotBox.take`)."""
        taken = self.box.take(raw)
        if taken:
            self._ballot_came.set()
        return taken

    # ---- following

    async def _follow_forever(self) -> None:
        while True:
            urls = [url for _, url in self._apis()]
            if urls:
                url = urls[self._next_api % len(urls)]
                self._next_api += 1
                try:
                    await self._follow(url)
                except (Unavailable, Refused, ProtocolError) as error:
                    self._failures += 1
                    log.info("member not followed any longer", url=url, reason=str(error))
                self.following = None
                if self._failures >= FAILURES_BEFORE_ANEW * len(urls):
                    self._failures = 0
                    self.view = ElectionView()
            await asyncio.sleep(self._limits.retry_ms / 1_000)

    async def _follow(self, url: str) -> None:
        status = await self._chain.status(url)
        if status.height < self.view.height:
            raise Unavailable(f"it is at height {status.height}, {self.view.height} is known")
        if not self.view.height:
            await self._begin(url, status.epoch, status.height)
        self.following = url
        blocks = self._chain.follow(url, self.view.height + 1)
        while True:
            block = await self._next_block(blocks)
            if block.height != self.view.height + 1:
                raise Unavailable(f"block {block.height} after {self.view.height}")
            await self._take(block, url)
            self._failures = 0

    async def _next_block(self, blocks: AsyncIterator[ChainBlock]) -> ChainBlock:
        try:
            async with asyncio.timeout(self._limits.stall_ms / 1_000):
                return await anext(blocks)
        except (TimeoutError, StopAsyncIteration):
            raise Unavailable(f"no block for {self._limits.stall_ms} ms, or the stream ended") from None

    async def _begin(self, url: str, epoch: int, height: int) -> None:
        """Enter the epoch at its snapshot if that is taken, so that plan and votes are seen; else here and now."""
        facts = await self._chain.epoch(url, epoch)
        start = facts.snapshot_height - 1 if facts.snapshot_height else height
        self.view = ElectionView()
        self.view.begin(facts, start)
        if facts.members:
            self.box.open(epoch, self.view.group_of(epoch))

    async def _take(self, block: ChainBlock, url: str) -> None:
        self.view.apply(block)
        for event in block.events:
            match event:
                case PhaseEntered(phase=ChainPhase.PLANNING):
                    self._start_planning(url)
                case PhaseEntered():
                    self._stop_planning()
                    self._ballot_came.set()
                case GroupsFixed():
                    self.box.open(event.epoch, self.view.group_of(event.epoch))
                case BallotCounted():
                    self.box.note_counted(event.epoch, event.voter, event.sequence)
                case _:
                    pass
        async with self._advanced:
            self._advanced.notify_all()

    # ---- grouping

    def _start_planning(self, url: str) -> None:
        self._stop_planning()
        if self.view.snapshot is not None:
            self._planning = asyncio.create_task(self._plan(self.view.snapshot, url))

    def _stop_planning(self) -> None:
        if self._planning is not None:
            self._planning.cancel()
            self._planning = None

    async def _plan(self, snapshot: SnapshotTaken, url: str) -> None:
        """Search where the built-in plan misses a limit, and submit what is better (PROTOCOL 4.5)."""
        self.plan = PlanReport(snapshot.epoch, "searching")
        try:
            async with asyncio.timeout(self._parameters.planning_ms / 1_000):
                task = await self._task(snapshot, url)
                found = await self._searcher(task, self._search_ms())
                if found is None:
                    self.plan = PlanReport(snapshot.epoch, "built_in_kept")
                    return
                await self._submit_plan(found)
        except (Unavailable, Refused, TimeoutError) as error:
            self.plan = PlanReport(snapshot.epoch, "not_submitted", str(error) or "planning ended first")
        except ProtocolError as error:
            log.warning("no plan could be made", epoch=snapshot.epoch, reason=str(error))
            self.plan = PlanReport(snapshot.epoch, "not_submitted", str(error))

    def _search_ms(self) -> int:
        numerator, denominator = SEARCH_SHARE
        return min(self._limits.max_search_ms, self._parameters.planning_ms * numerator // denominator)

    async def _task(self, snapshot: SnapshotTaken, url: str) -> SearchTask:
        members = await self._chain.members(url)
        read_at = max((member.height for member in members), default=0)
        async with self._advanced:
            await self._advanced.wait_for(lambda: self.view.height >= read_at)
        present = self.view.at_snapshot(members)
        if not present or any(member.energy_wh < 0 or member.credit < 0 for member, _ in present):
            raise Unavailable("the members' figures do not add up")
        return search_task(snapshot.epoch, present, snapshot.hash, self._parameters)

    async def _submit_plan(self, found: FoundPlan) -> None:
        raw = self._transactions.plan(found.epoch, found.assignment, found.score)
        await self._submit(raw)
        self.plans_submitted += 1
        shown = f"{found.score.energy_excess}/{found.score.credit_excess}"
        built_in = f"{found.built_in.energy_excess}/{found.built_in.credit_excess}"
        self.plan = PlanReport(found.epoch, "submitted", f"excess {shown} instead of {built_in}")

    # ---- ballots

    async def _carry_forever(self) -> None:
        while True:
            await self._ballot_came.wait()
            await asyncio.sleep(self._limits.ballot_wait_ms / 1_000)
            self._ballot_came.clear()
            while self.view.phase is not ChainPhase.CLOSING and (batch := self.box.next_batch()):
                try:
                    await self._submit(self._transactions.ballots(batch))
                except (Unavailable, Refused) as error:
                    log.info("ballots not submitted, trying again", ballots=len(batch), reason=str(error))
                    await asyncio.sleep(self._limits.retry_ms / 1_000)
                    self._ballot_came.set()
                    break
                self.box.mark_sent(batch)
                self.ballots_submitted += len(batch)

    async def _submit(self, raw: bytes) -> None:
        """Hand a transaction to delegates first, others after; enough when ``submit_to`` took it, one at least."""
        rank = {address: place for place, address in enumerate(self.view.delegates)}
        apis = sorted(self._apis(), key=lambda api: rank.get(api[0], len(rank)))
        taken, last = 0, Unavailable("no member's API is known")
        for _, url in apis:
            try:
                await self._chain.submit(url, raw)
            except Unavailable as error:
                last = error
                continue
            taken += 1
            if taken >= self._limits.submit_to:
                break
        if not taken:
            raise last
