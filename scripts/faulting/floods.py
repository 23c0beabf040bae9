"""Floods from outside, by a client that means harm: slow sockets, more transactions than fit, garbage signatures."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from contracts.transaction import Transfer, encode_body, sign_body
from node.cli.localnet import Network, Place
from node.client import NodeClient
from node.client_errors import ClientError
from node.keystore import NODE_KEY_FILE, KeyPair, read_key
from scripts.faulting.commands import Outcome, deed_of, now_ms
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, read, resolve

DEFAULT_SECONDS: Final = 10.0
SOCKETS: Final = 200
"""Of each kind and node; the figure of 1 000 is reached with --sockets."""
BATCH: Final = 500
DRIP_S: Final = 1.0


def _run(
    fault: str,
    attack: Callable[..., Coroutine[Any, Any, dict[str, Any]]],
    watch: str,
) -> Callable[..., Outcome]:
    def do(
        home: Path,
        overview: Overview,
        targets: Sequence[str],
        *,
        seconds: float = DEFAULT_SECONDS,
        **options: Any,
    ) -> Outcome:
        network = read(home)
        places = [place for place in resolve(network, overview, targets) if place.pid and place.peer_port]
        if not places:
            raise FaultError("none of the targets runs: scripts/faults/restart starts nodes")
        at_ms = now_ms()
        details = asyncio.run(attack(network, places, seconds, **options))
        lines = [watch.format(place.url) for place in places]
        return Outcome(fault, [deed_of(place, overview, at_ms) for place in places], lines, details)

    return do


# ---- slow sockets


async def _slowloris(
    network: Network, places: Sequence[Place], seconds: float, sockets: int = SOCKETS
) -> dict[str, Any]:
    """Connections to API and peer ports that say a byte a second."""
    del network
    ends = [end for place in places for end in (urlsplit(place.url).port or 0, place.peer_port)]
    deadline = time.monotonic() + seconds
    drips = [_drip(port, deadline) for port in ends for _ in range(sockets)]
    outcomes = Counter(await asyncio.gather(*drips))
    return {"sockets": len(drips), **outcomes}


async def _drip(port: int, deadline: float) -> str:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"
    try:
        for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 10_000:
            if time.monotonic() > deadline or writer.is_closing():
                break
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(DRIP_S)
    except OSError:
        return "closed_by_node"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return "closed_by_node" if time.monotonic() < deadline else "open_to_the_end"


# ---- transactions


def _payments(keys: Sequence[KeyPair], chain_id: bytes, window_ms: int, nonce: int) -> list[bytes]:
    """Payments of one nano-unit, valid from now on."""
    now = now_ms()
    draw = random.Random(nonce)
    raws: list[bytes] = []
    for number in range(BATCH):
        payer, payee = draw.sample(keys, 2)
        window = (now - 1_000, now - 1_000 + window_ms)
        body = encode_body(chain_id, payer.address, *window, nonce + number, Transfer(payee.address, 1))
        raws.append(sign_body(body, (payer,)))
    return raws


def _spoiled(raws: Sequence[bytes]) -> list[bytes]:
    """With the last bit of the last signature flipped: canonical, and worth nothing."""
    return [raw[:-1] + bytes([raw[-1] ^ 1]) for raw in raws]


def _submitting(*, spoil: bool) -> Callable[..., Coroutine[Any, Any, dict[str, Any]]]:
    async def flood(
        network: Network, places: Sequence[Place], seconds: float, rate: int = 5_000
    ) -> dict[str, Any]:
        keys = [read_key(Path(place.home) / NODE_KEY_FILE) for place in network.nodes]
        clients = [NodeClient(place.url, timeout_s=10) for place in places]
        answers: Counter[str] = Counter()
        begun, sent, nonce = time.monotonic(), 0, time.time_ns()
        try:
            parameters = await clients[0].parameters()
            chain_id, window_ms = (
                bytes.fromhex(parameters.chain_id),
                int(parameters.parameters["tx_window_ms"]),
            )
            while (left := begun + seconds - time.monotonic()) > 0:
                due = begun + sent / rate - time.monotonic()
                if due > 0:
                    await asyncio.sleep(min(due, left))
                    continue
                raws = _payments(keys, chain_id, window_ms, nonce + sent)
                client = clients[sent // BATCH % len(clients)]
                sent += BATCH
                try:
                    told = await client.submit_batch(_spoiled(raws) if spoil else raws)
                    answers.update(answer.code for answer in told)
                except ClientError as error:
                    answers[type(error).__name__] += BATCH
        finally:
            for client in clients:
                await client.close()
        return {"sent": sent, "seconds": round(time.monotonic() - begun, 1), "answers": dict(answers)}

    return flood


slowloris = _run(
    "slowloris", _slowloris, "it goes on answering, sockets and memory stay bounded: {0}/metrics"
)
flood = _run(
    "flood", _submitting(spoil=False), "what does not fit is answered with 429; blocks go on: {0}/metrics"
)
garbage = _run(
    "garbage", _submitting(spoil=True), "every one is refused (signature), nothing is in a block: {0}/metrics"
)
