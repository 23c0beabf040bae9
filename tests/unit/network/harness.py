"""Nodes on loopback sockets, raw TLS strangers, and stand-ins for the doors of network/."""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
from nacl.signing import SigningKey

from consensus.block import Block, Certificate, CertifiedBlock, Header
from consensus.encoding import encode
from consensus.types import ZERO_DIGEST, PublicKey
from network.framing import FrameDecoder, encode_frame
from network.handshake import ChainIdentity, Hello, Refusal, Welcome, handshake_codec
from network.limits import TransportLimits
from network.peer import Endpoint
from network.tls import NodeIdentity, TlsSession
from network.transport import Transport
from network.wire import MAX_FRAME_BYTES, ApplicationMessage, Role

CHAIN = ChainIdentity(b"c" * 32, b"p" * 32)
HOST = "127.0.0.1"
PATIENCE_S = 10.0
_starts = itertools.count()


def seed(number: int) -> bytes:
    """A node key of its own per number."""
    return number.to_bytes(32, "big")


class KeySigner:
    """`Signer` by libsodium."""

    def __init__(self, number: int) -> None:
        self._key = SigningKey(seed(number))

    @property
    def public_key(self) -> PublicKey:
        return bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign(message).signature)


class Node:
    """A transport that remembers what it was told."""

    def __init__(
        self,
        number: int,
        *,
        chain: ChainIdentity = CHAIN,
        limits: TransportLimits | None = None,
        admits: Callable[[PublicKey], bool] = lambda key: True,
    ) -> None:
        self.identity = NodeIdentity(seed(number))
        self.key = self.identity.public_key
        self.received: list[tuple[PublicKey, ApplicationMessage]] = []
        self.peer_events: list[tuple[PublicKey, bool]] = []
        self.port = 0
        self.transport = Transport(
            identity=self.identity,
            chain=chain,
            software="test/1",
            admits=admits,
            on_message=lambda key, message: self.received.append((key, message)),
            on_peer=lambda key, connected: self.peer_events.append((key, connected)),
            randomness=random.Random(next(_starts)),
            limits=limits or TransportLimits(),
        )

    async def start(self) -> "Node":
        self.port = await self.transport.start(HOST, 0)
        return self

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(HOST, self.port)

    def dials(self, *others: "Node") -> None:
        self.transport.set_peers({other.key: other.endpoint for other in others})

    def messages(self) -> list[ApplicationMessage]:
        return [message for _, message in self.received]


@contextlib.asynccontextmanager
async def running_nodes() -> AsyncIterator[Callable[..., Awaitable[Node]]]:
    """Gives a function that starts a `Node` with the arguments of its constructor; all are closed in the end."""
    nodes: list[Node] = []

    async def start(number: int, **options: Any) -> Node:
        node = Node(number, **options)
        nodes.append(node)
        return await node.start()

    yield start
    for node in nodes:
        await node.transport.close()


async def until(predicate: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as ``predicate`` holds; it may depend on counters, so it is asked every few milliseconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while not predicate():
        if loop.time() > deadline:
            raise AssertionError(f"not within {patience_s} s")
        await asyncio.sleep(0.002)


class Stranger:
    """The far end of one connection, played by hand: TLS and frames without any of the transport's manners."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.identity = NodeIdentity(seed(number))
        self.key = self.identity.public_key
        self.reader = reader
        self.writer = writer
        self.tls = TlsSession(self.identity, server_side=False)
        self.decoder = FrameDecoder(MAX_FRAME_BYTES)

    @classmethod
    async def connect(cls, number: int, node: Node) -> "Stranger":
        stranger = cls(number, *await asyncio.open_connection(HOST, node.port))
        stranger._write_out()
        while stranger.tls.peer_key is None:
            stranger.tls.receive(await stranger.reader.read(65_536))
            stranger._write_out()
        return stranger

    @classmethod
    async def welcomed(cls, number: int, node: Node) -> "Stranger":
        """A stranger that has been polite up to here."""
        stranger = await cls.connect(number, node)
        stranger.say(
            encode(Hello(CHAIN.protocol_version, CHAIN.chain_id, CHAIN.parameters_hash, "x", bytes(16)))
        )
        stranger.say(encode(Welcome(Role.MEMBER)))
        assert isinstance(handshake_codec.decode(await stranger.hear()), Hello)
        assert isinstance(handshake_codec.decode(await stranger.hear()), Welcome)
        return stranger

    def _write_out(self) -> None:
        self.writer.write(self.tls.take_outgoing())

    def say_raw(self, data: bytes) -> None:
        self.tls.send(data)
        self._write_out()

    def say(self, payload: bytes) -> None:
        self.say_raw(encode_frame(payload))

    async def hear(self) -> bytes:
        """The next frame; `EOFError` at the end."""
        while (frame := self.decoder.next_frame()) is None:
            data = await asyncio.wait_for(self.reader.read(65_536), PATIENCE_S)
            if not data:
                raise EOFError
            self.decoder.feed(self.tls.receive(data))
            self._write_out()
        return frame

    async def refusal(self) -> Refusal:
        """The refusal with which the node ends the handshake."""
        while True:
            message = handshake_codec.decode(await self.hear())
            if isinstance(message, Refusal):
                return message

    async def closed(self) -> bool:
        """Wait for the node to close the connection."""
        try:
            while True:
                await self.hear()
        except (EOFError, ConnectionError):
            return True

    def leave(self) -> None:
        self.writer.transport.abort()


class FakeScheduler:
    """`Scheduler` whose time stands until a test moves it."""

    def __init__(self) -> None:
        self.time_ms = 1_000
        self._calls: list[tuple[int, int, _FakeCall]] = []
        self._count = 0

    def now_ms(self) -> int:
        return self.time_ms

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> "_FakeCall":
        call = _FakeCall(callback)
        self._count += 1
        heapq.heappush(self._calls, (self.time_ms + delay_ms, self._count, call))
        return call

    def advance(self, ms: int) -> None:
        end_ms = self.time_ms + ms
        while self._calls and self._calls[0][0] <= end_ms:
            at_ms, _, call = heapq.heappop(self._calls)
            self.time_ms = max(self.time_ms, at_ms)
            if not call.cancelled:
                call.callback()
        self.time_ms = end_ms


class _FakeCall:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLinks:
    """`Links` that notes what was sent to whom."""

    def __init__(self, *connected: PublicKey) -> None:
        self.peers: dict[PublicKey, Role] = dict.fromkeys(connected, Role.MEMBER)
        self.sent: list[tuple[PublicKey, ApplicationMessage]] = []
        self.punished: list[tuple[PublicKey, str]] = []
        self.waiting: dict[PublicKey, int] = {}

    def send(self, public_key: PublicKey, message: ApplicationMessage) -> bool:
        if public_key not in self.peers:
            return False
        self.sent.append((public_key, message))
        return True

    def broadcast(self, public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        return sum(self.send(key, message) for key in public_keys)

    def connected(self) -> tuple[PublicKey, ...]:
        return tuple(self.peers)

    def role_of(self, public_key: PublicKey) -> Role | None:
        return self.peers.get(public_key)

    def waiting_bytes(self, public_key: PublicKey) -> int:
        return self.waiting.get(public_key, 0)

    def punish(self, public_key: PublicKey, reason: str) -> None:
        self.punished.append((public_key, reason))

    def take(self, kind: type[Any]) -> list[tuple[PublicKey, Any]]:
        """What of ``kind`` was sent since the last `take` of it."""
        taken = [(key, message) for key, message in self.sent if isinstance(message, kind)]
        self.sent = [(key, message) for key, message in self.sent if not isinstance(message, kind)]
        return taken


def key(number: int) -> PublicKey:
    """A key for tests that sign nothing."""
    return bytes([number]) * 32


def chain_of(length: int, *, salt: int = 0, padding_bytes: int = 0) -> list[CertifiedBlock]:
    """Blocks 1..length that are consistent in themselves; their certificates carry no signatures."""
    blocks: list[CertifiedBlock] = []
    parent = ZERO_DIGEST
    for height in range(1, length + 1):
        header = Header(
            version=1,
            chain_id=CHAIN.chain_id,
            height=height,
            epoch=0,
            view=0,
            parent_hash=parent,
            time_ms=height * 1_000 + salt,
            proposer=bytes(20),
            transactions_root=ZERO_DIGEST,
            last_commit_hash=ZERO_DIGEST,
            discarded_root=ZERO_DIGEST,
            receipts_root=ZERO_DIGEST,
            state_root=ZERO_DIGEST,
            delegates_hash=ZERO_DIGEST,
            next_delegates_hash=ZERO_DIGEST,
        )
        parent = header.digest()
        block = Block(header, (bytes(padding_bytes),) if padding_bytes else (), None, ())
        blocks.append(CertifiedBlock(block, Certificate(0, height, 0, parent, ())))
    return blocks


def with_height(certified: CertifiedBlock, height: int) -> CertifiedBlock:
    """The block with another height in its header, certificate included."""
    header = msgspec.structs.replace(certified.block.header, height=height)
    certificate = Certificate(0, height, 0, header.digest(), ())
    return CertifiedBlock(msgspec.structs.replace(certified.block, header=header), certificate)
