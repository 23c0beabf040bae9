"""What breaks a network while a storm lasts: faults drawn from a seed, never more than f nodes at a time."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from node.cli.localnet import Place
from node.client import NodeClient
from scripts.faulting import processes
from scripts.faulting.__main__ import FAULTS
from scripts.faulting.errors import FaultError
from scripts.faulting.network import look, read
from scripts.faulting.recipes import KINDS, Recipe
from scripts.history.recording.log import Log, now
from scripts.history.records import Nemesis, Problem

PAUSE_S: Final = (0.5, 3.0)
READY_S: Final = 90.0
RETRIES: Final = 3

log = structlog.get_logger("storm")


class Storm:
    """Breaks and mends until its time is up."""

    def __init__(
        self,
        home: Path,
        places: Sequence[Place],
        faults: int,
        seed: int,
        record: Log,
        kinds: Sequence[Recipe] = KINDS,
    ) -> None:
        """``places``: nodes that may be broken; ``faults``: how many of them at a time."""
        self._kinds = tuple(kinds)
        self._home, self._record = home, record
        self._places = list(places)
        self._draw = random.Random(f"storm {seed}")
        self._busy: set[str] = set()
        self._dead: set[str] = set()
        self._deck: list[Recipe] = []
        self._number = 0
        self._slots = max(1, faults)
        self.done: Counter[str] = Counter()
        """Faults that took place, by kind."""
        self.refused: list[str] = []

    async def run(self, seconds: float) -> None:
        """Break for about ``seconds``; everything is whole again afterwards."""
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(self._worker(deadline) for _ in range(self._slots)))

    async def _worker(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            self._look_for_the_dead()
            recipe = self._next()
            place = self._target(recipe)
            if place is None:
                await asyncio.sleep(0.2)
                continue
            self._busy.add(place.name)
            try:
                await self._one(recipe, place, left)
            finally:
                self._busy.discard(place.name)
            await asyncio.sleep(min(self._draw.uniform(*PAUSE_S), max(0.0, deadline - time.monotonic())))

    def _look_for_the_dead(self) -> None:
        """A node that ended though nothing was done to it is a finding (R2)."""
        for place in read(self._home).nodes:
            if place.name not in self._busy | self._dead and not processes.is_running(place):
                self._dead.add(place.name)
                self._record.write(
                    Problem(now(), place.name, f"it ended, and nothing was done to it ({place.log})")
                )

    def _next(self) -> Recipe:
        """Like cards from a shuffled deck: every kind comes before one comes again."""
        if not self._deck:
            self._deck = list(self._kinds)
            self._draw.shuffle(self._deck)
        return self._deck.pop()

    def _target(self, recipe: Recipe) -> Place | None:
        if recipe.target == "bootstrap":
            place = read(self._home).bootstrap
            return None if place.name in self._busy else place
        free = [place for place in self._places if place.name not in self._busy]
        return self._draw.choice(free) if free else None

    async def _one(self, recipe: Recipe, place: Place, left: float) -> None:
        self._number += 1
        number, nodes = self._number, [] if recipe.target == "bootstrap" else [place.name]
        options = recipe.options(self._draw)
        lasts = min(self._draw.uniform(*recipe.seconds), max(left, 1.0))
        begin = Nemesis(now(), recipe.name, nodes, True, recipe.byzantine, recipe.forgets, number)
        self._record.write(begin)
        try:
            if recipe.before:
                await self._do(recipe.before, place)
                await asyncio.sleep(lasts)
            await self._do(recipe.fault, place, **options)
            self.done[recipe.name] += 1
            await asyncio.sleep(lasts)
        except FaultError as error:
            self.refused.append(f"{recipe.name} {place.name}: {error}")
        for undo in recipe.undo:
            await self._do_surely(undo, place)
        if recipe.target == "node":
            await self._whole_again(place)
        self._record.write(Nemesis(now(), recipe.name, nodes, False, number=number))

    async def _do(self, fault: str, place: Place, **options: object) -> None:
        overview = await look(read(self._home))
        log.info("fault", fault=fault, target=place.name, **options)
        await asyncio.to_thread(FAULTS[fault], self._home, overview, [place.name], **options)

    async def _do_surely(self, fault: str, place: Place) -> None:
        """A node that stops while it is being mended is mended again."""
        for attempt in range(RETRIES):
            try:
                await self._do(fault, place)
            except FaultError as error:
                if attempt == RETRIES - 1:
                    self.refused.append(f"{fault} {place.name}: {error}")
            else:
                return

    async def _whole_again(self, place: Place) -> None:
        """Ready, or started once more, or wiped as an operator would."""
        for remedy in ("", "restart", "wipe"):
            if remedy:
                self._number += 1
                number, forgets = self._number, remedy == "wipe"
                self._record.write(Nemesis(now(), remedy, [place.name], True, forgets=forgets, number=number))
                await self._do_surely(remedy, place)
                self._record.write(Nemesis(now(), remedy, [place.name], False, number=number))
            try:
                async with NodeClient(place.url, timeout_s=5) as node:
                    await node.wait_until_ready(READY_S / 3)
            except TimeoutError as error:
                log.info("not ready", node=place.name, reason=str(error), remedy=remedy)
            else:
                return
        self.refused.append(f"{place.name} did not become ready again")
