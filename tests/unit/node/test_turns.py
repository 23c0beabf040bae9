"""The queue of inputs and the timers: order, bounds, and nothing swallowed."""

import asyncio

import pytest

from consensus.inputs import Input, PoolChanged, SyncState, Timer
from node import turns
from node.turns import InputQueue, Timers
from tests.unit.node.fake_links import FakeClock

PEER = bytes(32)


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock(5)
        self.stepped: list[Input] = []
        self.failures: list[BaseException] = []
        self.held: list[tuple[bytes, bool]] = []
        self.queue = InputQueue(
            self.clock, self.step, self.failures.append, lambda key, held: self.held.append((key, held))
        )

    def step(self, item: Input) -> None:
        if isinstance(item, SyncState):
            raise KeyError("bug")
        self.stepped.append(item)

    def waits(self) -> list[int]:
        return [item.waiting for item in self.stepped if isinstance(item, PoolChanged)]


async def test_inputs_are_stepped_in_order_with_the_instant_of_their_step() -> None:
    bench = Bench()
    bench.queue.post(PoolChanged, 1, None)
    bench.queue.post(PoolChanged, 2, None)
    bench.queue.post_first(PoolChanged, 0, None)
    bench.clock.monotonic_ms = 9_999
    await asyncio.sleep(0)
    assert bench.waits() == [0, 1, 2]
    assert {item.at.monotonic_ms for item in bench.stepped} == {9_999}


async def test_long_queue_lets_the_loop_have_its_turn() -> None:
    bench = Bench()
    for n in range(turns.TURN_INPUTS + 1):
        bench.queue.post(PoolChanged, n, None)
    await asyncio.sleep(0)
    assert len(bench.stepped) == turns.TURN_INPUTS
    await asyncio.sleep(0)
    assert len(bench.stepped) == turns.TURN_INPUTS + 1


async def test_peer_is_held_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "QUEUE_HIGH", 3)
    monkeypatch.setattr(turns, "QUEUE_LOW", 0)
    bench = Bench()
    for n in range(6):
        bench.queue.post_from(PEER, PoolChanged, n, None)
    assert bench.held == [(PEER, True)]
    await asyncio.sleep(0)
    assert bench.held == [(PEER, True), (PEER, False)]
    assert bench.waits() == list(range(6))


async def test_what_a_step_raises_ends_the_queue() -> None:
    bench = Bench()
    bench.queue.post(PoolChanged, 1, None)
    bench.queue.post(SyncState, True)
    bench.queue.post(PoolChanged, 2, None)
    await asyncio.sleep(0)
    bench.queue.post(PoolChanged, 3, None)
    await asyncio.sleep(0)
    assert bench.waits() == [1]
    assert [type(error) for error in bench.failures] == [KeyError]


async def test_timer_of_one_kind_replaces_the_running_one() -> None:
    fired: list[Timer] = []
    done = asyncio.Event()

    def fire(timer: Timer) -> None:
        fired.append(timer)
        done.set()

    failures: list[BaseException] = []
    timers = Timers(fire, failures.append)
    timers.set(Timer("view", 1, 0, 1), 1)
    timers.set(Timer("view", 1, 0, 2), 2)
    timers.set(Timer("empty", 1, 0, 3), 1)
    timers.cancel("empty")
    timers.cancel("never set")
    await done.wait()
    await asyncio.sleep(0.01)
    timers.close()
    assert fired == [Timer("view", 1, 0, 2)]
    assert failures == []


async def test_what_repeats_goes_on_until_it_fails() -> None:
    runs: list[int] = []
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def act() -> None:
        runs.append(len(runs))
        if len(runs) == 3:
            raise KeyError("bug")

    timers = Timers(lambda _: None, failed.set_result)
    timers.every(1, act)
    assert isinstance(await failed, KeyError)
    timers.close()
    assert runs == [0, 1, 2]
