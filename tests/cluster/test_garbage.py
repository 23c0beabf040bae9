"""A running node under fire: HTTP- and frame-level garbage all at once, while it commits (issue 2, point 6)."""

import asyncio
import contextlib
import hashlib
import itertools
import re
import resource
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Final, Self

import pytest

from consensus.block import PROTOCOL_VERSION
from consensus.encoding import encode
from consensus.messages import Prepare
from contracts.genesis import genesis_codec
from network.framing import encode_frame
from network.handshake import Hello, parameters_hash
from network.tls import NodeIdentity
from network.wire import Ping, Transactions, encode_message
from node.cli.localnet import Place
from tests.cluster.process_network import Running, get, http, is_ready, open_network, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

IDLE_SOCKETS: Final = 1_000
TRANSFERS: Final = 12
"""At least; they go on as long as the fire does."""
GROWTH_BYTES: Final = 16 << 20
"""Three times what a run was seen to grow by, with its blocks; of what is thrown, four times as much, nothing stays."""
ROUNDS: Final = 30
"""Of all garbage, at least."""
SPOKEN: Final = Prepare(0, 1, 0, bytes(32), bytes(32), bytes(64))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with open_network(tmp_path_factory.mktemp("garbage"), "run_ms=3600000") as running:
        yield running


@pytest.fixture(autouse=True)
def many_files() -> None:
    """Twice a thousand sockets are more than some shells allow a process to begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * IDLE_SOCKETS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def resident_bytes(place: Place) -> int:
    with urllib.request.urlopen(f"{place.url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return int(float(re.findall(r"^cgpbft_process_resident_bytes ([0-9.e+]+)$", text, re.MULTILINE)[0]))


def hello(place: Place) -> bytes:
    """A good first word of a stranger, so that what follows reaches what speaks with welcomed peers."""
    rules = get(f"{place.url}/v1/parameters")
    genesis = genesis_codec.decode(bytes.fromhex(rules["genesis"]))
    return encode(
        Hello(PROTOCOL_VERSION, genesis.hash(), parameters_hash(genesis.parameters), "x", bytes(16))
    )


FRAMES: Final = {
    "4 GiB": b"\xff\xff\xff\xff" + b"x" * 65_536,
    "zero": b"\x00\x00\x00\x00",
    "half": encode_frame(encode_message(Transactions((b"t" * 1_000,))))[:500],
    "noise": encode_frame(b"\xc1" * 100),
    "non-canonical": encode_frame(b"\x92\x1f\xcc\x01"),
    "oversize ping": encode_frame(encode(Ping(1)) + bytes(100)),
    "rubbish transactions": encode_frame(encode_message(Transactions((b"\xc1", b"t" * 1_000)))),
    "a stranger's vote": encode_frame(encode_message(SPOKEN)),
}
REQUESTS: Final = (
    b"\x16\x03\x01\x02\x00\x01\x00" + b"\xff" * 500,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /v1/status HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    b"POST /v1/transactions HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/transactions HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n" + b"z" * 10_000,
    b"POST /v1/transactions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX",
    b"GET /v1/blocks/" + b"9" * 4_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /v1/members?cursor=%00%ff&limit=1e9 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /v1/events?from=-5 HTTP/1.1\r\nHost: h\r\nLast-Event-ID: no\r\n\r\n",
)
BODIES: Final = (
    ("/v1/transactions", b"\xc1" * 1_000, "application/msgpack", 400),
    ("/v1/transactions", b"\x00" * 70_000, "application/msgpack", 413),
    ("/v1/transactions", b"[" * 60_000, "application/json", 400),
    ("/v1/transactions/batch", b"\xdd\xff\xff\xff\xff", "application/msgpack", 400),
    ("/v1/transactions", b'{"transaction":"00","transaction":"00"}', "application/json", 400),
    ("/v1/transactions/batch", b"\xc1" * 2_000_000, "application/msgpack", 400),
    ("/v1/transfers", b'{"recipient":"zz","amount":"1"}', "application/json", 400),
    ("/v1/trades", b'{"buyer":1e999}', "application/json", 400),
    ("/v1/readings", b'{"readings":' + b"[" * 50_000, "application/json", 400),
    ("/v1/ballots", b'{"choices":[]}', "application/json", 400),
)


FIRES: Final = itertools.count()
"""Strangers of one fire are banned when the next begins: each has keys of its own."""


class Fire:
    """Everything at once at one node, from a thread of its own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.told: Counter[str] = Counter()
        self.rounds = 0
        self.wrong: list[str] = []
        self._hello = hello(place)
        self._api_port = int(place.url.rsplit(":", 1)[1])
        self._fire = next(FIRES)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._burn()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _burn(self) -> None:
        for number in itertools.count():
            if self._over.is_set() and self.rounds >= ROUNDS:
                return
            await asyncio.gather(
                *(self._frame(number, name, data) for name, data in FRAMES.items()),
                *(self._request(data) for data in REQUESTS),
                *(asyncio.to_thread(self._body, *row) for row in BODIES),
            )
            self.rounds += 1

    async def _frame(self, number: int, name: str, data: bytes) -> None:
        """As a stranger of a new key: handshake, then the garbage, then the end of the connection by the node."""
        seed = hashlib.sha256(f"{self._fire} {number} {name}".encode()).digest()
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.place.peer_port, ssl=NodeIdentity(seed).client_context, server_hostname=""
            )
        except (OSError, asyncio.IncompleteReadError):
            self.told["connection refused"] += 1
            return
        writer.write(encode_frame(self._hello) + data)
        if name == "half":
            writer.transport.abort()
            return
        with contextlib.suppress(OSError, TimeoutError):
            heard = await asyncio.wait_for(reader.read(), 10)
            self.told[f"{name}: {'an answer and ' if heard else ''}the end"] += 1
        writer.transport.abort()

    async def _request(self, data: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._api_port)
            writer.write(data)
            answer = await asyncio.wait_for(reader.read(2_000), 15)
            writer.transport.abort()
            if answer[9:10] not in {b"4", b""}:
                self.wrong.append(f"{data[:60]!r} was answered {answer[:60]!r}")

    def _body(self, path: str, body: bytes, kind: str, expected: int) -> None:
        with contextlib.suppress(OSError):
            status, problem = http(f"{self.place.url}{path}", body, content_type=kind)
            self.told[str(problem.get("code"))] += 1
            if status not in (expected, 503):
                self.wrong.append(f"{path} {body[:30]!r} was answered {status} {problem}")


@contextlib.contextmanager
def idle_sockets(port: int) -> Iterator[None]:
    """A thousand connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE_SOCKETS):
            one = stack.enter_context(contextlib.closing(socket.socket()))
            with contextlib.suppress(OSError):
                one.settimeout(5)
                one.connect(("127.0.0.1", port))
        yield


def pay(place: Place, recipient: str) -> str:
    """A transfer of the node under fire; how it ended."""
    body = f'{{"recipient":"{recipient}","amount":"7"}}'.encode()
    _, answer = http(f"{place.url}/v1/transfers?wait=committed&timeout_ms=20000", body)
    return str(answer.get("state"))


def test_a_node_under_fire_stays_ready_bounded_and_useful(network: Running) -> None:
    """Clear refusals, no crash, no growth of memory, and every valid transaction still commits everywhere."""
    place, recipient = network.places[0], network.address(2)
    other = network.places[1]
    with Fire(place):
        pass  # one helping first: what is allocated once is no growth
    before_bytes = resident_bytes(place)
    balance = int(get(f"{other.url}/v1/members/{recipient}")["member"]["balance"])
    with Fire(place) as fire, idle_sockets(place.peer_port), idle_sockets(int(place.url.rsplit(":", 1)[1])):
        ended: list[str] = []
        while fire.rounds < ROUNDS or len(ended) < TRANSFERS:
            ended.append(pay(place, recipient))
    assert frozenset(ended) == {"committed"}
    assert fire.wrong == []
    assert fire.rounds >= ROUNDS
    for code in (
        "malformed_transaction",
        "body_too_large",
        "malformed_json",
        "invalid_body",
        "malformed_batch",
    ):
        assert fire.told[code] > 0, fire.told
    for name in ("4 GiB", "zero", "noise", "non-canonical"):
        assert any(told.startswith(name) for told in fire.told), fire.told
    until(lambda: is_ready(place.url), "readiness after the fire", 30)
    assert resident_bytes(place) - before_bytes < GROWTH_BYTES
    until(
        lambda: (
            int(get(f"{other.url}/v1/members/{recipient}")["member"]["balance"]) == balance + 7 * len(ended)
        ),
        "the transfers at another node",
    )


def test_after_the_fire_no_honest_peer_is_shut_out(network: Running) -> None:
    """Bans hit keys, not addresses: all members here have one address."""
    for place in network.places:
        status = get(f"{place.url}/v1/status")
        assert status["ready"], status["not_ready_because"]
        assert [peer["address"] for peer in status["peers"] if not peer["connected"]] == []
