"""Drive running nodes through a day: offers before each slot, acceptances, and the meters' readings after it.

Every node signs for its own household; this driver only decides who trades what. One chain slot stands for one
quarter-hour of the day, whatever its length (PROTOCOL 1.4).
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.transaction import BuyerRule, Terms
from node.api import schema
from node.client import NodeClient
from node.client_errors import ClientError, NodeUnreachable
from node.households.market import Deal, SlotPlan, load_homes, plan_day

PENALTY_BP: Final = 1_000
"""A tenth of what was not delivered or taken, for members that can pay the deposit."""
LEAD_SLOTS: Final = 3
"""Slots between a deal and its delivery: time for an offer and an acceptance to commit."""
READING_MARGIN_MS: Final = 250
"""How long after a slot's end its reading is sent, so that the next header's time lies behind the end."""
FINAL_TIMEOUT_S: Final = 20.0
FOLLOW_PAUSE_S: Final = 0.5
"""Before the next node is asked for events, so that a network that is away is not asked in a tight loop."""


@dataclass
class DayTally:
    """What the ledger said about the day so far, counted from the event stream."""

    offered: int = 0
    refused: int = 0
    settled: int = 0
    energy_wh: int = 0
    paid: int = 0
    seller_shortfalls: int = 0
    buyer_shortfalls: int = 0
    elections: int = 0
    ballots: int = 0
    delegate_changes: int = 0
    problems: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Count one event of /v1/events."""
        match kind:
            case "trade_settled":
                self.settled += 1
                self.energy_wh += int(data["delivered_wh"])
                self.paid += int(data["paid"])
            case "credit_changed" if data["reason"] == "seller_shortfall":
                self.seller_shortfalls += 1
            case "credit_changed" if data["reason"] == "buyer_shortfall":
                self.buyer_shortfalls += 1
            case "ballot_accepted":
                self.ballots += 1
            case "phase_changed" if data["phase"] == "closing":
                self.elections += 1
            case "delegates_changed":
                self.delegate_changes += 1
            case _:
                pass

    def problem(self, text: str) -> None:
        """Count a refusal by its reason, so that a day with trouble says which."""
        self.refused += 1
        self.problems[text] = self.problems.get(text, 0) + 1


def reason_of(error: ClientError | TimeoutError) -> str:
    """What a refusal is counted under: the same for all nodes and trades."""
    match error:
        case NodeUnreachable():
            return "node away"
        case TimeoutError():
            return "not final in time"
        case _:
            return str(error).split(":", maxsplit=1)[0]


class Day:
    """One day for the households behind ``nodes``, in their order."""

    def __init__(self, nodes: Sequence[NodeClient], *, seed: int) -> None:
        self.nodes: Final = tuple(nodes)
        self.tally: Final = DayTally()
        self._plans: Final = plan_day(load_homes(len(nodes)), seed)
        self._slot_ms = 0
        self._addresses: list[bytes] = []
        self._opened: set[str] = set()
        self._noted = asyncio.Event()
        self._last_event: str | None = None

    async def prepare(self) -> None:
        """Ask the nodes who they are and how long a slot is."""
        statuses = await asyncio.gather(*(node.status() for node in self.nodes))
        self._addresses = [bytes.fromhex(status.address) for status in statuses]
        parameters = (await self.nodes[0].parameters()).parameters
        self._slot_ms = int(parameters["slot_ms"])

    def next_day(self, *, seed: int) -> "Day":
        """The day after, for the same households; it needs no `prepare`, so a node may be away, and counts from zero.

        Its `follow` goes on behind the last event that this day's counted: stop that one first.
        """
        day = Day(self.nodes, seed=seed)
        day._slot_ms, day._addresses, day._last_event = self._slot_ms, self._addresses, self._last_event
        return day

    async def follow(self, from_height: int = 1) -> None:
        """Count events until cancelled, from whichever node answers: an event has the same id at all of them."""
        for node in itertools.cycle(self.nodes):
            # What was counted is not asked for again: the next node resumes behind the last event.
            with contextlib.suppress(ClientError):
                async for event in node.events(from_height, self._last_event, reconnect=False):
                    self._last_event = event.id
                    self.tally.note(event.type, event.data.get("data", {}))
            self._noted.set()
            await asyncio.sleep(FOLLOW_PAUSE_S)

    async def trade(self, first: int, last: int, progress: Callable[[int], None]) -> None:
        """Trade the quarter-hours ``first``..``last - 1`` of the day; ``progress`` hears of each one that ended."""
        base = self._now_ms() // self._slot_ms + LEAD_SLOTS + 1
        async with asyncio.TaskGroup() as work:
            for plan in self._plans[first:last]:
                slot = base + plan.slot_of_day - first
                await self._sleep_until((slot - LEAD_SLOTS) * self._slot_ms)
                work.create_task(self._slot(plan, slot))
                progress(plan.slot_of_day)

    async def settle(self, timeout_s: float) -> bool:
        """Wait until every trade that was opened is settled; whether that came in time."""
        return await self.until(lambda tally: tally.settled >= len(self._opened), timeout_s)

    async def until(self, reached: Callable[[DayTally], bool], timeout_s: float) -> bool:
        """Wait, while `follow` runs, until the tally says so; whether that came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not reached(self.tally):
                    self._noted.clear()
                    await self._noted.wait()
        except TimeoutError:
            return False
        return True

    async def _slot(self, plan: SlotPlan, slot: int) -> None:
        """Deals, delivery, readings of one quarter-hour."""
        await asyncio.gather(*(self._deal(deal, slot) for deal in plan.deals))
        await self._sleep_until((slot + 1) * self._slot_ms + READING_MARGIN_MS)
        await asyncio.gather(
            *(
                self._report(node, slot, reading.exported_wh, reading.imported_wh)
                for node, reading in zip(self.nodes, plan.readings, strict=True)
            )
        )

    async def _deal(self, deal: Deal, slot: int) -> None:
        """The seller offers, the buyer accepts; what a node refuses is counted with its reason."""
        seller, buyer = self.nodes[deal.seller], self.nodes[deal.buyer]
        start_ms = slot * self._slot_ms
        terms = Terms(
            seller=self._addresses[deal.seller],
            buyer=self._addresses[deal.buyer],
            quantity_wh=deal.quantity_wh,
            price=deal.price,
            start_ms=start_ms,
            slots=1,
            penalty_bp=PENALTY_BP,
            buyer_rule=BuyerRule.PAY_ACTUAL,
            expiry_ms=start_ms,
        )
        try:
            self.tally.offered += 1
            offer = await seller.offer_trade(terms)
            if not self._went_through(await seller.await_final(offer.id, FINAL_TIMEOUT_S)):
                return
            await self._known_at(buyer, offer.id)
            acceptance = await buyer.act_on_trade(offer.id, "accept")
            if self._went_through(await buyer.await_final(acceptance.id, FINAL_TIMEOUT_S)):
                self._opened.add(offer.id)
        except (ClientError, TimeoutError) as error:
            self.tally.problem(reason_of(error))

    async def _known_at(self, node: NodeClient, trade_id: str) -> None:
        """Until ``node`` too has the block that holds the offer."""
        await node.await_final(trade_id, FINAL_TIMEOUT_S)

    def _went_through(self, view: schema.TransactionView) -> bool:
        if view.state == "committed":
            return True
        self.tally.problem(f"{view.state}: {view.reason}")
        return False

    async def _report(self, node: NodeClient, slot: int, exported_wh: int, imported_wh: int) -> None:
        """One register pair; sent again if the block that took it still lay before the slot's end."""
        for _ in range(3):
            try:
                sent = await node.report_registers(slot, exported_wh, imported_wh)
                view = await node.await_final(sent.id, FINAL_TIMEOUT_S)
            except (ClientError, TimeoutError) as error:
                self.tally.problem(reason_of(error))
                await asyncio.sleep(self._slot_ms / 1000)
                continue
            if view.state == "committed" or view.reason != "reading_slot_not_ended":
                return

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def _sleep_until(self, wall_ms: int) -> None:
        await asyncio.sleep(max(0, wall_ms - self._now_ms()) / 1000)
