"""The coordinator follows a chain, proposes plans and carries ballots (PROTOCOL 8.1c, d)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from consensus.grouping import Score
from consensus.parameters import Parameters
from consensus.types import Address
from network.bootstrap.ballots import BallotBox
from network.bootstrap.chain import (
    BallotCounted,
    ChainPhase,
    CreditMoved,
    DelegatesSet,
    EnergyTraded,
    GroupsFixed,
    MemberEntered,
    MemberFacts,
    PhaseEntered,
    SeatTallied,
)
from network.bootstrap.coordinator import Coordinator
from network.bootstrap.doors import BallotFacts
from network.bootstrap.limits import CoordinatorLimits
from network.bootstrap.planning import FoundPlan, SearchTask
from tests.unit.network.bootstrap.fakes import FakeChain, url_of
from tests.unit.network.bootstrap.support import eventually, key

PEOPLE = sorted(key(number).address for number in range(1, 7))
ASSIGNMENT = (0, 0, 0, 1, 1, 1)
LIMITS = CoordinatorLimits(retry_ms=1, stall_ms=5_000, ballot_wait_ms=1)
STRICT = Parameters(groups=2, energy_tolerance_bp=0, credit_tolerance_bp=0)


class Readable:
    """Ballots written as ``voter epoch sequence choice`` indices."""

    def read_ballot(self, raw: bytes) -> BallotFacts:
        voter, epoch, sequence, choice = raw
        return BallotFacts(PEOPLE[voter], epoch, sequence, (PEOPLE[choice],))


class Written:
    def ballots(self, ballots: Sequence[bytes]) -> bytes:
        return b"ballots:" + b"|".join(ballots)

    def plan(self, epoch: int, assignment: Sequence[int], score: Score) -> bytes:
        return f"plan:{epoch}:{''.join(map(str, assignment))}:{score.energy_excess}".encode()


class Bench:
    def __init__(self) -> None:
        self.chain = FakeChain()
        self.tasks: list[SearchTask] = []
        self.found: FoundPlan | None = None
        self.coordinator = Coordinator(
            chain=self.chain,
            transactions=Written(),
            box=BallotBox(Readable(), LIMITS),
            parameters=STRICT,
            apis=lambda: [(address, url_of(address)) for address in PEOPLE],
            searcher=self._search,
            limits=LIMITS,
        )

    async def _search(self, wanted: SearchTask, budget_ms: int) -> FoundPlan | None:
        self.tasks.append(wanted)
        return self.found

    async def reach(self) -> None:
        await eventually(lambda: self.coordinator.view.height == self.chain.height)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.chain.grow()
    task = asyncio.create_task(bench.coordinator.run())
    await eventually(lambda: bench.coordinator.following is not None)
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def groups(epoch: int) -> GroupsFixed:
    return GroupsFixed(epoch, tuple(PEOPLE), ASSIGNMENT, 0, 0, False)


def facts(address: Address, energy_wh: int, height: int, credit: int = 50_000) -> MemberFacts:
    return MemberFacts(address, energy_wh, credit, 0, None, height)


async def test_an_election_is_followed_from_snapshot_to_result() -> None:
    async with running() as bench:
        chain, view = bench.chain, bench.coordinator.view
        await chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
        await chain.grow(groups(1), PhaseEntered(0, ChainPhase.VOTING))
        await chain.grow(BallotCounted(PEOPLE[0], 1, 1), BallotCounted(PEOPLE[4], 1, 3))
        await bench.reach()
        assert view.phase is ChainPhase.VOTING
        assert view.snapshot is not None
        assert (view.snapshot.height, view.snapshot.epoch) == (2, 1)
        assert view.not_voted(1) == [PEOPLE[1], PEOPLE[2], PEOPLE[3], PEOPLE[5]]
        await chain.grow(SeatTallied(1, 0, PEOPLE[0], 5, 1, False), PhaseEntered(0, ChainPhase.CLOSING))
        await chain.grow(PhaseEntered(1, ChainPhase.RUNNING), DelegatesSet(6, (PEOPLE[0], PEOPLE[4])))
        await bench.reach()
        assert view.epoch == 1
        assert view.delegates == (PEOPLE[0], PEOPLE[4])
        assert [tally.delegate for tally in view.tallies] == [PEOPLE[0]]


async def test_the_search_sees_the_snapshot_whatever_was_traded_since() -> None:
    """Figures read late are taken back to the snapshot: trades, credit, joins and leaves after it do not count."""
    async with running() as bench:
        chain = bench.chain
        newcomer = key(50).address
        chain.people = (
            facts(PEOPLE[0], 700, 4),
            facts(PEOPLE[1], 900, 3),
            facts(PEOPLE[2], 5, 4, credit=49_000),
            MemberFacts(PEOPLE[3], 6, 50_000, 0, 4, 4),
            MemberFacts(PEOPLE[4], 7, 50_000, 0, 2, 4),
            facts(PEOPLE[5], 8, 4),
            facts(newcomer, 0, 4),
        )
        await chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
        await chain.grow(EnergyTraded((PEOPLE[0], PEOPLE[1]), 100), CreditMoved(PEOPLE[2], -1_000))
        await chain.grow(EnergyTraded((PEOPLE[0], PEOPLE[1]), 50), MemberEntered(newcomer))
        await eventually(lambda: bool(bench.tasks))
        seen = {member.address: (member.energy_wh, member.credit) for member in bench.tasks[0].members}
        assert seen == {
            PEOPLE[0]: (550, 50_000),
            PEOPLE[1]: (800, 50_000),  # read before the second trade
            PEOPLE[2]: (5, 50_000),
            PEOPLE[3]: (6, 50_000),  # left after the snapshot
            PEOPLE[5]: (8, 50_000),
        }


async def test_a_better_plan_is_submitted_to_delegates_first() -> None:
    async with running() as bench:
        bench.coordinator.view.delegates = (PEOPLE[5], PEOPLE[2])
        bench.found = FoundPlan(1, ASSIGNMENT, Score(3, 0), Score(9, 0))
        bench.chain.people = tuple(facts(address, 1, 1) for address in PEOPLE)
        await bench.chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
        await eventually(lambda: bench.coordinator.plans_submitted == 1)
        assert bench.chain.submitted[0] == (url_of(PEOPLE[5]), b"plan:1:000111:3")
        assert bench.chain.submitted[1][0] == url_of(PEOPLE[2])
        assert len(bench.chain.submitted) == LIMITS.submit_to
        assert bench.coordinator.plan is not None
        assert bench.coordinator.plan.state == "submitted"


async def test_a_kept_built_in_plan_submits_nothing() -> None:
    async with running() as bench:
        bench.chain.people = tuple(facts(address, 1, 1) for address in PEOPLE)
        await bench.chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
        await eventually(
            lambda: bench.coordinator.plan is not None and bench.coordinator.plan.state != "searching"
        )
        assert bench.coordinator.plan is not None
        assert bench.coordinator.plan.state == "built_in_kept"
        assert not bench.chain.submitted


async def test_ballots_go_out_in_one_batch_and_again_when_nobody_took_them() -> None:
    async with running() as bench:
        chain = bench.chain
        await chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
        await chain.grow(groups(1), PhaseEntered(0, ChainPhase.VOTING))
        await bench.reach()
        following = bench.coordinator.following
        chain.away = {url_of(address) for address in PEOPLE}
        assert bench.coordinator.take_ballot(bytes((0, 1, 1, 2)))
        assert bench.coordinator.take_ballot(bytes((3, 1, 1, 4)))
        await asyncio.sleep(0.02)
        assert bench.coordinator.box.waiting == 2
        chain.away = set()
        await eventually(lambda: bench.coordinator.ballots_submitted == 2)
        assert chain.submitted[0][1] == b"ballots:" + bytes((0, 1, 1, 2)) + b"|" + bytes((3, 1, 1, 4))
        assert bench.coordinator.box.waiting == 0
        assert following is not None


async def test_another_member_is_followed_when_one_goes_away() -> None:
    async with running() as bench:
        first = bench.coordinator.following
        assert first is not None
        await bench.chain.grow()
        await bench.reach()
        await bench.chain.lose(first)
        await eventually(lambda: bench.coordinator.following not in (None, first))
        await bench.chain.grow(MemberEntered(PEOPLE[0]))
        await bench.reach()
        assert PEOPLE[0] in bench.coordinator.view.joined


async def test_heights_that_nobody_else_has_are_forgotten() -> None:
    """A member that lied about the chain's height cannot keep the coordinator from following the others."""
    async with running() as bench:
        bench.coordinator.view.height = 10**6
        first = bench.coordinator.following
        assert first is not None
        await bench.chain.lose(first)
        await eventually(
            lambda: bench.coordinator.view.height < 10**6 and bench.coordinator.following is not None
        )
        await bench.chain.grow()
        await bench.reach()


async def test_a_start_in_the_middle_of_voting_knows_groups_and_votes() -> None:
    bench = Bench()
    chain = bench.chain
    await chain.grow()
    await chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
    await chain.grow(groups(1), PhaseEntered(0, ChainPhase.VOTING))
    await chain.grow(BallotCounted(PEOPLE[0], 1, 1))
    chain.facts = chain.facts.__class__(0, ChainPhase.VOTING, 2, tuple(PEOPLE), ASSIGNMENT, ())
    task = asyncio.create_task(bench.coordinator.run())
    try:
        await bench.reach()
        assert bench.coordinator.view.not_voted(1) == PEOPLE[1:]
        assert bench.coordinator.take_ballot(bytes((3, 1, 1, 4)))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
