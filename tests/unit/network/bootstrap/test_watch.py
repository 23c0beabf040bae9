"""The watch: late, down, lying (PROTOCOL 8.1e)."""

from network.bootstrap.chain import ChainPhase, MemberStatus
from network.bootstrap.limits import WatchLimits
from network.bootstrap.watch import Condition, Watch
from tests.unit.network.bootstrap.fakes import FakeChain, url_of
from tests.unit.network.bootstrap.support import key

PEOPLE = sorted(key(number).address for number in range(1, 6))


class Bench:
    def __init__(self) -> None:
        self.chain = FakeChain()
        self.now_ms = 1_000
        self.watch = Watch(
            chain=self.chain,
            members=lambda: PEOPLE,
            apis=lambda: [(address, url_of(address)) for address in PEOPLE[:4]],
            now_ms=lambda: self.now_ms,
            limits=WatchLimits(late_blocks=5, timeout_ms=500),
        )

    def say(self, member: int, height: int, *, ready: bool = True, address: bytes | None = None) -> None:
        self.chain.statuses[url_of(PEOPLE[member])] = MemberStatus(
            address or PEOPLE[member],
            height,
            0,
            2,
            ChainPhase.RUNNING,
            ready,
            "member",
            () if ready else ("syncing",),
        )

    def conditions(self) -> list[Condition]:
        return [line.condition for line in self.watch.lines()]


async def test_late_down_not_ready_and_unknown_are_told_apart() -> None:
    bench = Bench()
    bench.say(0, 100)
    bench.say(1, 90)
    bench.say(2, 100, ready=False)
    bench.say(3, 100)
    bench.chain.away.add(url_of(PEOPLE[3]))
    await bench.watch.look()
    assert bench.conditions() == [
        Condition.OK,
        Condition.LATE,
        Condition.NOT_READY,
        Condition.DOWN,
        Condition.UNKNOWN,
    ]
    table = bench.watch.table()
    assert len(table.splitlines()) == 6
    assert "10 blocks behind" in table
    assert "syncing" in table


async def test_who_goes_down_keeps_its_last_answer() -> None:
    bench = Bench()
    for member in range(4):
        bench.say(member, 100)
    await bench.watch.look()
    bench.chain.away.add(url_of(PEOPLE[0]))
    bench.now_ms += 7_000
    await bench.watch.look()
    line = bench.watch.lines()[0]
    assert (line.condition, line.height, line.seen_ago_ms) == (Condition.DOWN, 100, 7_000)


async def test_one_that_boasts_does_not_make_the_others_late() -> None:
    bench = Bench()
    bench.say(0, 10**18)
    for member in (1, 2, 3):
        bench.say(member, 100)
    await bench.watch.look()
    assert bench.watch.best_height() == 100
    assert bench.conditions()[:4] == [Condition.OK] * 4


async def test_an_api_that_answers_for_another_member_is_down() -> None:
    bench = Bench()
    for member in range(4):
        bench.say(member, 100)
    bench.say(0, 100, address=PEOPLE[1])
    await bench.watch.look()
    assert bench.conditions()[0] is Condition.DOWN
