"""The recording's clients: pinned to a node, hopping between them, or reading from all at once."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from node.api import schema
from node.cli.localnet import Place
from node.client import NodeClient
from node.client_errors import ClientError, NotFound, RequestRefused
from scripts.history.recording.log import Log, now
from scripts.history.recording.market import Asked, Market
from scripts.history.records import Fail, Info, Invoke, Ok

ATTEMPTS: Final = 3
FINAL_S: Final = 15.0
"""How long a submission is waited for; afterwards nothing is known about it."""
READ_S: Final = 4.0
READINGS_AFTER_S: Final = 1.3
REMEMBERED: Final = 400
"""Newest transactions that reads ask about."""
IMPORT_SHARE: Final = 0.85
"""Of buyers whose meters read all they bought."""


class Shared:
    """What the clients know together."""

    def __init__(self, places: Sequence[Place], market: Market, log: Log, seed: int) -> None:
        self.places = list(places)
        self.market = market
        self.log = log
        self.draw = random.Random(f"clients {seed}")
        self.asked: list[Asked] = []
        """Everything ever submitted."""
        self.trades: list[str] = []
        self.height = 1
        """Greatest seen."""
        self.clients = {place.name: NodeClient(place.url, timeout_s=20) for place in places}
        self.readings: set[asyncio.Task[None]] = set()

    def known(self) -> str:
        """A transaction that somebody submitted."""
        return self.draw.choice(self.asked[-REMEMBERED:]).id if self.asked else "00" * 32

    async def close(self) -> None:
        """Close all connections."""
        for task in tuple(self.readings):
            task.cancel()
        await asyncio.gather(*self.readings, return_exceptions=True)
        for client in self.clients.values():
            await client.close()


class Client:
    """One process of the history."""

    def __init__(self, shared: Shared, process: int, home: Place | None) -> None:
        """``home``: the node it stays with; None: another one each time, and plain reads."""
        self._shared, self._process, self._home = shared, process, home
        self._draw = random.Random(f"{process} {shared.draw.random()}")

    async def run(self, pause_s: float) -> None:
        """Until cancelled; what is in flight then ends without an answer."""
        operations: list[tuple[int, Callable[[Place], Awaitable[None]]]] = [
            (40, self._submit), (5, self._resubmit), (20, self._status), (15, self._account),
            (6, self._block), (5, self._delegates), (4, self._plan), (5, self._trade),
        ]  # fmt: skip
        weights = [weight for weight, _ in operations]
        while True:
            place = self._home or self._draw.choice(self._shared.places)
            [(_, operation)] = self._draw.choices(operations, weights)
            await operation(place)
            await asyncio.sleep(self._draw.uniform(0.5, 1.5) * pause_s)

    # ---- writing it down

    def _invoke(self, op: str, place: Place, subject: str = "", number: int = 0) -> None:
        session = self._home is not None
        self._shared.log.write(Invoke(now(), self._process, op, subject, number, place.name, False, session))

    def _ok(self, height: int, block_hash: str, **fields: Any) -> None:
        self._shared.height = max(self._shared.height, height)
        self._shared.log.write(Ok(now(), self._process, height, block_hash, **fields))

    def _info(self, error: BaseException) -> None:
        reason = error.code if isinstance(error, RequestRefused) else type(error).__name__
        self._shared.log.write(Info(now(), self._process, reason))

    async def _reading(
        self, op: str, place: Place, ask: Callable[[NodeClient], Awaitable[dict[str, Any]]], **about: Any
    ) -> None:
        """Ask, and write down the answer's fields; everything but an answer is `Info`."""
        self._invoke(op, place, **about)
        try:
            async with asyncio.timeout(READ_S):
                answer = await ask(self._shared.clients[place.name])
        except (ClientError, TimeoutError) as error:
            self._info(error)
        else:
            self._ok(**answer)

    # ---- writes

    async def _submit(self, place: Place) -> None:
        asked = self._shared.market.transaction()
        self._shared.asked.append(asked)
        if asked.terms is not None:
            self._shared.trades.append(asked.id)
            self._report_later(asked)
        op = "submit"
        for _ in range(ATTEMPTS):
            if await self._send(op, place, asked) or self._home is not None:
                return
            # Who is not bound to a node hands the same bytes in elsewhere.
            op, place = "resubmit", self._draw.choice(self._shared.places)

    async def _resubmit(self, place: Place) -> None:
        """The same bytes again, perhaps elsewhere: they commit once."""
        if self._shared.asked:
            await self._send("resubmit", place, self._draw.choice(self._shared.asked[-20:]))

    async def _send(self, op: str, place: Place, asked: Asked) -> bool:
        """Whether it is known how it ended."""
        self._invoke(op, place, asked.id)
        node = self._shared.clients[place.name]
        try:
            await node.submit(asked.raw)
            view = await node.await_final(asked.id, FINAL_S)
        except (ClientError, TimeoutError) as error:
            self._info(error)
            return False
        if view.state in ("discarded", "expired"):
            fail = Fail(now(), self._process, view.state, view.at.height, view.at.block_hash)
            self._shared.log.write(fail)
        else:
            self._ok(**status_fields(view))
        return True

    def _report_later(self, asked: Asked) -> None:
        task = asyncio.create_task(self._report(asked))
        self._shared.readings.add(task)
        task.add_done_callback(self._shared.readings.discard)

    async def _report(self, asked: Asked) -> None:
        """Have both parties' nodes report their meters once the slot is over; now and then too little was used."""
        terms, shared = asked.terms, self._shared
        if terms is None:
            return
        await asyncio.sleep(max(0.0, terms.start_ms / 1_000 + READINGS_AFTER_S - time.time()))
        slot = terms.start_ms // shared.market.slot_ms
        used = terms.quantity_wh if self._draw.random() < IMPORT_SHARE else terms.quantity_wh // 2
        for party, exported, imported in ((terms.seller, terms.quantity_wh, 0), (terms.buyer, 0, used)):
            name = shared.places[shared.market.addresses.index(party.hex())].name
            try:
                await shared.clients[name].report_registers(slot, exported, imported)
            except (ClientError, TimeoutError):
                continue  # an unread slot counts as nothing (PROTOCOL 2.4): a settlement with a penalty

    # ---- reads

    async def _status(self, place: Place) -> None:
        subject = self._shared.known()

        async def ask(node: NodeClient) -> dict[str, Any]:
            try:
                return status_fields(await node.transaction(subject))
            except NotFound as error:
                problem = error.problem
                return {
                    "height": problem.height or 0,
                    "block_hash": problem.block_hash or "",
                    "state": "unknown",
                }

        await self._reading("status", place, ask, subject=subject)

    async def _account(self, place: Place) -> None:
        subject = self._draw.choice(self._shared.market.addresses)

        async def ask(node: NodeClient) -> dict[str, Any]:
            return account_fields(await node.member(subject))

        await self._reading("account", place, ask, subject=subject)

    async def _block(self, place: Place) -> None:
        number = self._draw.randint(1, self._shared.height)

        async def ask(node: NodeClient) -> dict[str, Any]:
            view = await node.block(number)
            at = view.at
            return {"height": at.height, "block_hash": at.block_hash, "value": {"hash": view.block_hash}}

        await self._reading("block", place, ask, number=number)

    async def _delegates(self, place: Place) -> None:
        number = max(1, self._shared.height - self._draw.randint(0, 20))

        async def ask(node: NodeClient) -> dict[str, Any]:
            view = await node.delegates(number)
            ranking = [one.address for one in view.ranking]
            return {"height": view.height, "block_hash": view.block_hash, "value": ranking}

        await self._reading("delegates", place, ask, number=number)

    async def _plan(self, place: Place) -> None:
        try:
            async with asyncio.timeout(READ_S):
                number = (await self._shared.clients[place.name].epoch()).epoch
        except (ClientError, TimeoutError):
            return

        async def ask(node: NodeClient) -> dict[str, Any]:
            view = await node.epoch(number)
            plan = {"members": view.members, "assignment": view.assignment} if view.members else None
            return {"height": view.height, "block_hash": view.block_hash, "value": plan}

        await self._reading("plan", place, ask, number=number)

    async def _trade(self, place: Place) -> None:
        if not self._shared.trades:
            return
        subject = self._draw.choice(self._shared.trades[-50:])

        async def ask(node: NodeClient) -> dict[str, Any]:
            view = await node.trade(subject)
            return {"height": view.height, "block_hash": view.block_hash, "state": view.state}

        await self._reading("trade", place, ask, subject=subject)


def status_fields(view: schema.TransactionView) -> dict[str, Any]:
    """For an `Ok` of a transaction's status."""
    place = None if view.height is None or view.index is None else (view.height, view.index)
    return {"height": view.at.height, "block_hash": view.at.block_hash, "state": view.state, "place": place}


def account_fields(view: schema.MemberAnswerView) -> dict[str, Any]:
    """For an `Ok` of an account."""
    member = view.member
    value = {"balance": int(member.balance), "credit": member.credit, "energy_wh": member.energy_wh}
    return {"height": view.height, "block_hash": view.block_hash, "value": value}
