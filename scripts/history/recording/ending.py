"""The end of a recording: everything is read once more from every node, and the ledger is kept."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from node.cli.localnet import Place
from node.client import NodeClient, pages
from node.client_errors import ClientError, NotFound
from scripts.history.recording.clients import Shared, account_fields, status_fields
from scripts.history.recording.log import Log, now
from scripts.history.records import FinalChain, Info, Invoke, Ok, Problem, Vote

FIRST_PROCESS: Final = 20_000
READERS: Final = 6
"""Final reads in flight at one node."""
ATTEMPTS: Final = 5
BAD_LINES: Final = (
    "Traceback (most recent call last)",
    "Task exception was never retrieved",
    "was never awaited",
)
MOST_PROBLEMS: Final = 5
"""Told of one log."""


async def read_all(shared: Shared) -> None:
    """Chain, all transactions ever submitted and all accounts, from every node."""
    processes = itertools.count(FIRST_PROCESS)
    await asyncio.gather(*(_read_node(shared, place, processes) for place in shared.places))


async def _read_node(shared: Shared, place: Place, processes: Iterator[int]) -> None:
    node = shared.clients[place.name]
    await _chain(shared.log, place, node)
    questions = iter(
        [("status", one.id) for one in shared.asked] + [("account", a) for a in shared.market.addresses]
    )
    readers = (_ask_all(shared.log, place, node, next(processes), questions) for _ in range(READERS))
    await asyncio.gather(*readers)


async def _chain(log: Log, place: Place, node: NodeClient) -> None:
    """No line at all where it cannot be read whole: the verdict is then unknown."""
    for _ in range(ATTEMPTS):
        try:
            newest_first = [block async for block in _blocks(node)]
        except (ClientError, TimeoutError):
            await asyncio.sleep(1)
            continue
        hashes = {block.height: block.hash for block in newest_first}
        if sorted(hashes) == list(range(1, len(hashes) + 1)):
            log.write(FinalChain(now(), place.name, [hashes[height] for height in sorted(hashes)]))
            return


def _blocks(node: NodeClient) -> AsyncIterator[Any]:
    return pages(lambda cursor: node.blocks(cursor, 100))


async def _ask_all(
    log: Log, place: Place, node: NodeClient, process: int, questions: Iterator[tuple[str, str]]
) -> None:
    for op, subject in questions:
        for _ in range(ATTEMPTS):
            log.write(Invoke(now(), process, op, subject, 0, place.name, False, False))
            try:
                answer = await _answer(node, op, subject)
            except (ClientError, TimeoutError) as error:
                log.write(Info(now(), process, type(error).__name__))
                await asyncio.sleep(0.5)
                continue
            height, block_hash = answer.pop("height"), answer.pop("block_hash")
            log.write(Ok(now(), process, height, block_hash, **answer))
            break


async def _answer(node: NodeClient, op: str, subject: str) -> dict[str, Any]:
    if op == "account":
        return account_fields(await node.member(subject))
    try:
        return status_fields(await node.transaction(subject))
    except NotFound as error:
        problem = error.problem
        return {"height": problem.height or 0, "block_hash": problem.block_hash or "", "state": "unknown"}


async def export(places: Sequence[Place], path: Path) -> int:
    """The longest node's genesis and certified blocks, as the auditor reads them; the height."""
    best: tuple[int, Place] | None = None
    for place in places:
        async with NodeClient(place.url, timeout_s=10) as node:
            try:
                height = (await node.status()).height
            except ClientError:
                continue
        if best is None or height > best[0]:
            best = (height, place)
    if best is None:
        raise TimeoutError("no node answers, so there is no ledger to judge")
    height, place = best
    async with NodeClient(place.url) as node:
        with path.open("wb") as file:
            file.write(bytes.fromhex((await node.parameters()).genesis))
            for number in range(1, height + 1):
                file.write(await node.raw_block(number))
    return height


# ---- what nodes wrote


def sizes(places: Sequence[Place]) -> dict[str, int]:
    """How long the logs are before a run begins."""
    return {place.name: Path(place.log).stat().st_size for place in places if Path(place.log).exists()}


def problems(log: Log, places: Sequence[Place], begun: dict[str, int]) -> None:
    """What went wrong in the nodes' logs since ``begun``."""
    for place in places:
        found = 0
        with Path(place.log).open(encoding="utf-8", errors="replace") as file:
            file.seek(begun.get(place.name, 0))
            for line in file:
                bad = next((text for text in BAD_LINES if text in line), None)
                if bad is not None and found < MOST_PROBLEMS:
                    found += 1
                    log.write(
                        Problem(now(), place.name, f"its log says {bad!r} ({place.log})", line.strip()[:300])
                    )


def votes(log: Log, path: Path) -> int:
    """Copy what a tap saw; how many votes."""
    count = 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                try:
                    log.write(msgspec.json.decode(line, type=Vote))
                except msgspec.MsgspecError:
                    continue  # the tap was killed while it wrote
                count += 1
    return count
