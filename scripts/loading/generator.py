"""Open-loop load: batches leave on schedule, answered or not; latency runs from sending to certified commit."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from node.client import NodeClient
from node.client_errors import ClientError
from scripts.loading.transactions import PreparedTrade

TICK_S: Final = 0.02
"""A batch leaves this often, to the nodes in turn."""
MAX_IN_FLIGHT: Final = 256
"""Requests without an answer; beyond it the generator could not call itself open-loop and says so."""


class Outcome:
    """What a load run saw."""

    def __init__(self) -> None:
        self.sent_at: dict[str, float] = {}
        """Transaction id -> seconds of the monotonic clock."""
        self.latencies_s: list[float] = []
        self.accepted = 0
        self.refused: dict[str, int] = {}
        self.blocked_ticks = 0
        self.begun_at = 0.0
        self.last_commit_at = 0.0
        self.blocks: set[int] = set()


class Load:
    """Sends ``trades`` to ``nodes`` and watches the first node's events for them."""

    def __init__(self, nodes: Sequence[NodeClient], trades: Sequence[PreparedTrade]) -> None:
        self._nodes = tuple(nodes)
        self._trades = tuple(trades)
        self.outcome: Final = Outcome()
        self._all_answered = False

    async def run(self, rate: int, drain_s: float) -> Outcome:
        """Offer ``rate`` trades a second until all are sent, then wait up to ``drain_s`` for the rest to commit."""
        start_height = (await self._nodes[0].status()).height + 1
        watcher = asyncio.create_task(self._watch(start_height))
        sender = asyncio.create_task(self._send(rate))
        try:
            done, _ = await asyncio.wait((watcher, sender), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watcher, drain_s)
        finally:
            sender.cancel()
            watcher.cancel()
        return self.outcome

    async def _send(self, rate: int) -> None:
        outcome, position, turn = self.outcome, 0, 0
        flying: set[asyncio.Task[None]] = set()
        outcome.begun_at = time.monotonic()
        while position < len(self._trades):
            due = min(len(self._trades), int((time.monotonic() - outcome.begun_at) * rate) + 1)
            if due > position and len(flying) >= MAX_IN_FLIGHT:
                outcome.blocked_ticks += 1
            elif due > position:
                batch = self._trades[position:due]
                task = asyncio.create_task(self._post(self._nodes[turn % len(self._nodes)], batch))
                flying.add(task)
                task.add_done_callback(flying.discard)
                position, turn = due, turn + 1
            await asyncio.sleep(TICK_S)
        await asyncio.gather(*flying)
        self._all_answered = True

    async def _post(self, node: NodeClient, batch: Sequence[PreparedTrade]) -> None:
        outcome, now = self.outcome, time.monotonic()
        for trade in batch:
            outcome.sent_at[trade.id.hex()] = now
        try:
            answers = await node.submit_batch([trade.raw for trade in batch])
        except ClientError as error:
            name = type(error).__name__
            outcome.refused[name] = outcome.refused.get(name, 0) + len(batch)
            return
        for answer in answers:
            if answer.code in ("accepted", "known"):
                outcome.accepted += 1
            else:
                outcome.refused[answer.code] = outcome.refused.get(answer.code, 0) + 1

    async def _watch(self, from_height: int) -> None:
        """Take the time of every commit, until all that was accepted has committed."""
        outcome = self.outcome
        async for event in self._nodes[0].events(from_height=from_height):
            detail = event.data.get("data", {})
            if event.type == "trade_changed" and detail["state"] == "active":
                sent = outcome.sent_at.get(detail["contract_id"])
                if sent is not None:
                    now = time.monotonic()
                    outcome.latencies_s.append(now - sent)
                    outcome.last_commit_at = now
                    outcome.blocks.add(event.height)
            if self._all_answered and len(outcome.latencies_s) >= outcome.accepted:
                return


async def idle_latencies(node: NodeClient, trades: Sequence[PreparedTrade], pause_s: float) -> list[float]:
    """Seconds from submission to certified commit of one trade after another on a network with nothing else to do."""
    latencies: list[float] = []
    for trade in trades:
        begun = time.monotonic()
        await node.submit(trade.raw)
        view = await node.await_final(trade.id)
        if view.state == "committed":
            latencies.append(time.monotonic() - begun)
        await asyncio.sleep(pause_s)
    return latencies
