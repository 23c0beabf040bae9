"""Clients that ask all nodes at once, and those that listen to event streams."""

import asyncio
import contextlib
import random
from typing import Final

from node.api import schema
from node.cli.localnet import Place
from node.client import NodeClient
from node.client_errors import ClientError
from scripts.history.recording.clients import READ_S, Shared, account_fields
from scripts.history.recording.log import now
from scripts.history.records import Event, Info, Invoke, Ok, Subscribe

PAUSE_S: Final = 0.3
SILENT_S: Final = 4.0
"""A stream without an event for so long is left for another node's: its node may be cut off."""


async def read_everywhere(shared: Shared, process: int, pause_s: float) -> None:
    """Consistent reads until cancelled: the newest answer of all nodes is as new as what anybody was told before.

    That holds only if all answer, and none from an older state than before (a wiped home): else nothing is claimed.
    """
    draw = random.Random(f"everywhere {process}")
    newest: dict[str, int] = {}
    while True:
        subject = draw.choice(shared.market.addresses)
        shared.log.write(Invoke(now(), process, "account", subject, 0, "", True, False))
        asked = (_ask(shared, place, subject) for place in shared.places)
        answers = dict(
            zip((place.name for place in shared.places), await asyncio.gather(*asked), strict=True)
        )
        told = {name: view for name, view in answers.items() if view is not None}
        whole = len(told) == len(answers) and all(v.height >= newest.get(n, 0) for n, v in told.items())
        newest.update({name: view.height for name, view in told.items()})
        if whole:
            best = max(told.values(), key=lambda view: view.height)
            fields = account_fields(best)
            line = Ok(now(), process, best.height, best.block_hash, value=fields["value"])
            shared.log.write(line)
        else:
            shared.log.write(Info(now(), process, f"{len(told)} of {len(answers)} nodes answered"))
        await asyncio.sleep(pause_s)


async def _ask(shared: Shared, place: Place, subject: str) -> schema.MemberAnswerView | None:
    try:
        async with asyncio.timeout(READ_S):
            return await shared.clients[place.name].member(subject)
    except (ClientError, TimeoutError):
        return None


async def listen(shared: Shared, process: int, first: Place, *, stays: bool) -> None:
    """Follow a stream until cancelled; where it breaks it is resumed behind the last event.

    At another node, or with ``stays`` at the same: on one that no fault is aimed at it sees every block as it comes.
    """
    draw, place = random.Random(f"listen {process}"), first
    at: tuple[int, int] | None = None
    while True:
        with contextlib.suppress(ClientError, TimeoutError):
            async with NodeClient(place.url, timeout_s=5) as node:
                if at is None:
                    at = ((await node.status()).height + 1, -1)
                at = await _follow(shared, process, place, node, at)
        await asyncio.sleep(PAUSE_S)
        place = first if stays else draw.choice(shared.places)


async def _follow(
    shared: Shared, process: int, place: Place, node: NodeClient, at: tuple[int, int]
) -> tuple[int, int]:
    """Until the connection ends; how far it came."""
    height, sequence = at
    last = None if sequence < 0 else f"{height}.{sequence}"
    shared.log.write(Subscribe(now(), process, place.name, height, sequence))
    events = node.events(None if last else height, last, reconnect=False)
    try:
        while True:
            async with asyncio.timeout(SILENT_S):
                event = await anext(events)
            height, sequence = event.height, event.sequence
            shared.height = max(shared.height, height)
            identity = event.data.get("transaction_id") or ""
            line = Event(now(), process, height, sequence, event.type, event.data["block_hash"], identity)
            shared.log.write(line)
    except (ClientError, TimeoutError, StopAsyncIteration):
        return height, sequence
    finally:
        await events.aclose()
