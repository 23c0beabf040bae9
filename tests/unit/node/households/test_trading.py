"""The program that trades day after day: what it offers and meters, what it says, and what it does without a node."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from node.client import StreamEvent
from node.client_errors import NodeUnreachable
from node.households import day as day_module
from node.households.__main__ import parse, summary_of, trade_days
from node.households.day import DayTally, reason_of
from node.households.market import SLOTS_PER_DAY
from tests.unit.node.waiting import eventually

SLOT_MS = 20
MORNING = 24
"""06:00: the homes of the packaged day trade from here on."""
AWAY = NodeUnreachable("http://node cannot be reached")


class FakeLedger:
    """What all fake nodes share: everything submitted commits at once, and accepted trades settle."""

    def __init__(self) -> None:
        self.ids = itertools.count()
        self.offers: dict[str, Any] = {}
        self.readings: list[tuple[str, int, int, int]] = []
        self.events: list[StreamEvent] = []
        self.new_event = asyncio.Condition()

    async def settle(self, trade_id: str) -> None:
        data = {"data": {"delivered_wh": self.offers[trade_id].quantity_wh, "paid": "5"}}
        async with self.new_event:
            self.events.append(StreamEvent(1, len(self.events) + 1, "trade_settled", data))
            self.new_event.notify_all()


class FakeClient:
    """`NodeClient` of one household."""

    def __init__(self, ledger: FakeLedger, number: int) -> None:
        self._ledger = ledger
        self.url = f"http://node{number}"
        self.address = bytes((number,)) * 20
        self.away = False

    def _answer(self) -> None:
        if self.away:
            raise AWAY

    async def wait_until_ready(self, timeout_s: float) -> None:
        if self.away:
            raise TimeoutError(f"{self.url} is not ready after {timeout_s:g} s")

    async def status(self) -> Any:
        self._answer()
        return SimpleNamespace(address=self.address.hex(), height=0)

    async def parameters(self) -> Any:
        return SimpleNamespace(parameters={"slot_ms": SLOT_MS})

    async def offer_trade(self, terms: Any) -> Any:
        self._answer()
        assert terms.seller == self.address
        trade_id = f"trade-{next(self._ledger.ids)}"
        self._ledger.offers[trade_id] = terms
        return SimpleNamespace(id=trade_id)

    async def act_on_trade(self, trade_id: str, action: str) -> Any:
        self._answer()
        assert (action, self._ledger.offers[trade_id].buyer) == ("accept", self.address)
        await self._ledger.settle(trade_id)
        return SimpleNamespace(id=f"accept-{trade_id}")

    async def await_final(self, transaction_id: str, timeout_s: float) -> Any:
        assert timeout_s > 0
        self._answer()
        return SimpleNamespace(id=transaction_id, state="committed", reason="")

    async def report_registers(self, slot: int, exported_wh: int, imported_wh: int) -> Any:
        self._answer()
        self._ledger.readings.append((self.url, slot, exported_wh, imported_wh))
        return SimpleNamespace(id="reading")

    async def events(
        self, from_height: int, last_event_id: str | None, *, reconnect: bool
    ) -> AsyncIterator[StreamEvent]:
        assert from_height == 1
        assert not reconnect
        position = 0 if last_event_id is None else int(last_event_id.split(".")[1])
        while True:
            self._answer()
            async with self._ledger.new_event:
                while position == len(self._ledger.events):
                    await self._ledger.new_event.wait()
            position += 1
            yield self._ledger.events[position - 1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_module, "FOLLOW_PAUSE_S", 0.01)
    monkeypatch.setattr(day_module, "READING_MARGIN_MS", 1)


@pytest.fixture
def nodes() -> list[Any]:
    ledger = FakeLedger()
    return [FakeClient(ledger, number) for number in range(1, 5)]


def ledger_of(nodes: list[Any]) -> FakeLedger:
    found: FakeLedger = nodes[0]._ledger
    return found


async def trade(nodes: list[Any], lines: list[str], *, once: bool = True, first_slot: int = MORNING) -> None:
    await trade_days(nodes, seed=1, first_slot=first_slot, once=once, ready_timeout_s=1, say=lines.append)


async def test_one_day_is_offered_accepted_metered_and_told_by_the_hour(nodes: list[Any]) -> None:
    lines: list[str] = []
    await trade(nodes, lines)
    ledger = ledger_of(nodes)
    assert lines[:2] == ["waiting for 4 nodes", "all 4 nodes are ready; the day begins"]
    hours = [line.split("  ")[0] for line in lines[2:-1]]
    assert hours == [f"day 1, {hour:02d}:00" for hour in range(6, 24)]
    offers = len(ledger.offers)
    assert offers > 50
    assert lines[-1].startswith(f"day 1 is over: {offers} offered, {offers} settled, ")
    assert lines[-1].endswith("0 shortfalls, 0 refusals")
    assert len(ledger.readings) == 4 * (SLOTS_PER_DAY - MORNING)
    assert len({(url, slot) for url, slot, _, _ in ledger.readings}) == len(ledger.readings)


async def test_days_follow_each_other_and_each_counts_its_own(nodes: list[Any]) -> None:
    lines: list[str] = []
    trading = asyncio.create_task(trade(nodes, lines, once=False, first_slot=60))
    await eventually(lambda: any(line.startswith("day 2, 12:00") for line in lines), 20)
    trading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trading
    first = next(line for line in lines if line.startswith("day 1 is over"))
    assert f"{first.split()[4]} offered, {first.split()[4]} settled" in first
    assert "day 2, 00:00  0 offered, 0 settled, 0.0 kWh, 0 shortfalls, 0 refusals" in lines


async def test_without_a_node_the_day_goes_on_and_its_trades_are_counted_as_refused(nodes: list[Any]) -> None:
    lines: list[str] = []
    trading = asyncio.create_task(trade(nodes, lines, once=False, first_slot=SLOTS_PER_DAY // 2))
    await eventually(lambda: len(ledger_of(nodes).offers) >= 5, 10)
    # The one whose events are followed, too: the next node's take over.
    nodes[0].away = True
    await eventually(lambda: any(line.startswith("day 2, 14:00") for line in lines), 20)
    trading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await trading
    last = next(line for line in lines if line.startswith("day 2, 14:00"))
    assert int(last.split("kWh")[0].split("settled")[0].split()[-1]) > 0
    assert last.endswith("refusals (most often: node away)")
    metered = {url for url, _, _, _ in ledger_of(nodes).readings[-30:]}
    assert metered == {"http://node2", "http://node3", "http://node4"}


async def test_a_day_does_not_begin_while_a_node_is_not_ready(nodes: list[Any]) -> None:
    nodes[2].away = True
    lines: list[str] = []
    with pytest.raises(TimeoutError, match="http://node3 is not ready"):
        await trade(nodes, lines)
    assert lines == ["waiting for 4 nodes"]


def test_reasons_are_the_same_for_all_nodes() -> None:
    assert reason_of(NodeUnreachable("http://node1:26657 cannot be reached")) == "node away"
    assert reason_of(TimeoutError("transaction 3f is not final after 20 s")) == "not final in time"


def test_the_summary_names_the_commonest_reason() -> None:
    tally = DayTally(offered=9, settled=4, energy_wh=1_250, seller_shortfalls=1, buyer_shortfalls=2)
    assert summary_of(tally) == "9 offered, 4 settled, 1.2 kWh, 3 shortfalls, 0 refusals"
    for reason in ("a", "b", "b"):
        tally.problem(reason)
    assert summary_of(tally).endswith("3 refusals (most often: b)")


@pytest.mark.parametrize(
    "arguments",
    [[], ["http://a"], ["http://a", "http://b", "--from-hour", "24"], ["http://a", "--from-hour", "-1"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert "usage: python -m node.households" in capsys.readouterr().err


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CGPBFT_API_TOKEN", "from-outside")
    assert parse(["http://a", "http://b"]).token == "from-outside"
    assert parse(["http://a", "http://b", "--token", "given"]).token == "given"


async def start_program(*arguments: str) -> asyncio.subprocess.Process:
    # Port 9 of loopback: nothing answers there.
    line = [sys.executable, "-m", "node.households", "http://127.0.0.1:9", "http://127.0.0.1:9", *arguments]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *line, stdout=pipe, stderr=pipe, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )


async def test_sigterm_ends_it_with_0() -> None:
    program = await start_program()
    assert program.stdout is not None
    assert await program.stdout.readline() == b"waiting for 2 nodes\n"
    program.send_signal(signal.SIGTERM)
    output, errors = await asyncio.wait_for(program.communicate(), 20)
    assert (program.returncode, output, errors) == (0, b"stopped\n", b"")


async def test_nodes_that_do_not_become_ready_are_exit_code_1_and_one_line() -> None:
    program = await start_program("--ready-timeout-s", "0.3")
    output, errors = await asyncio.wait_for(program.communicate(), 20)
    assert (program.returncode, output) == (1, b"waiting for 2 nodes\n")
    assert errors.startswith(b"error: http://127.0.0.1:9 is not ready after 0.3 s: ")
    assert errors.count(b"\n") == 1
