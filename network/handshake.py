"""The first words on a connection, after TLS has proven both node keys: same protocol, chain and rules?

Both sides send `Hello`; each judges the other's and answers `Welcome` with the role it grants, or `Refusal` with the
reason. A connection is established for a side that has welcomed and been welcomed. The chain id is the genesis hash
and binds the parameters already; their hash is sent beside it so that a refusal can say which of the two differs.
"""

import enum
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

import msgspec

from consensus.block import PROTOCOL_VERSION
from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput, ProtocolError
from consensus.hashing import tagged_hash
from consensus.parameters import Parameters
from consensus.types import Digest, PublicKey, Unsigned, Value, Wire
from network.wire import Role

MAX_HANDSHAKE_BYTES: Final = 1_024
"""A `Hello` is about 160 bytes, a `Refusal` at most 320."""
MAX_REASON_CHARACTERS: Final = 256


class RefusalCode(enum.StrEnum):
    """Why a connection is refused; stable names for logs and tests."""

    PROTOCOL_VERSION = "protocol_version"
    CHAIN_ID = "chain_id"
    PARAMETERS = "parameters"
    SELF = "self"
    """The peer holds this node's own key: a second process with one key, or a connection to oneself."""
    NOT_ADMITTED = "not_admitted"
    DUPLICATE = "duplicate"
    """Another connection with the same peer is kept; no fault of anybody."""
    BANNED = "banned"
    FULL = "full"
    MALFORMED = "malformed"
    TIMEOUT = "timeout"


class Hello(Wire, frozen=True, tag=1):
    """Who I am beyond my key. Version and chain stay the first two fields in every version to come."""

    protocol_version: Unsigned
    chain_id: Digest
    parameters_hash: Digest
    software: Annotated[str, msgspec.Meta(max_length=64)]
    """Name and version of the node's software; shown to people, never judged."""
    instance: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    """Random per process start: tells a restarted peer's connection from a second one."""


class Welcome(Wire, frozen=True, tag=2):
    """The sender accepts the connection; ``role`` is the receiver's at the sender."""

    role: Role


class Refusal(Wire, frozen=True, tag=3):
    """The sender closes the connection and says why."""

    code: Annotated[str, msgspec.Meta(max_length=32)]
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARACTERS)]


HandshakeMessage: TypeAlias = Hello | Welcome | Refusal

handshake_codec: Final[Codec[HandshakeMessage]] = Codec(HandshakeMessage, MAX_HANDSHAKE_BYTES)


class Refused(ProtocolError):
    """This side refuses the connection; ``code`` and text go to the peer."""

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.code: Final = code


class RefusedByPeer(ProtocolError):
    """The peer refused; ``code`` and text are what it said, unverified."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"refused by the peer ({code}): {reason}")
        self.code: Final = code


class ChainIdentity(Value, frozen=True):
    """Which chain this node is on."""

    chain_id: Digest
    """The genesis hash."""
    parameters_hash: Digest
    """`parameters_hash` of the genesis parameters."""
    protocol_version: int = PROTOCOL_VERSION


def parameters_hash(parameters: Parameters) -> Digest:
    """What nodes compare when they meet: one rule set for all (PROTOCOL 11)."""
    return tagged_hash("parameters", encode(parameters))


class Handshake:
    """One side's state of the exchange, without IO; feed it messages, send what it returns."""

    def __init__(
        self,
        chain: ChainIdentity,
        software: str,
        instance: bytes,
        own_key: PublicKey,
        peer_key: PublicKey,
        grant: Callable[[Hello], Role],
    ) -> None:
        """``grant`` names the peer's role here once its `Hello` fits, or raises `Refused`."""
        self._chain = chain
        self._own = Hello(chain.protocol_version, chain.chain_id, chain.parameters_hash, software, instance)
        self._own_key = own_key
        self._peer_key = peer_key
        self._grant = grant
        self.hello: Hello | None = None
        """The peer's, once judged and found fitting."""
        self.granted_here: Role | None = None
        """The peer's role at this node."""
        self.granted_there: Role | None = None
        """This node's role at the peer."""

    @property
    def complete(self) -> bool:
        """Whether this side has welcomed and been welcomed."""
        return self.granted_here is not None and self.granted_there is not None

    def start(self) -> bytes:
        """The first message of this side."""
        return encode(self._own)

    def receive(self, payload: bytes) -> bytes | None:
        """The answer to one message, if it has one.

        Raises `Refused` (tell the peer with `refusal`), `RefusedByPeer`, or `MalformedInput`.
        """
        match handshake_codec.decode(payload):
            case Hello() as hello:
                if self.hello is not None:
                    raise MalformedInput("a second hello")
                self._judge(hello)
                self.granted_here = self._grant(hello)
                self.hello = hello
                return encode(Welcome(self.granted_here))
            case Welcome(role=role):
                if self.granted_there is not None:
                    raise MalformedInput("a second welcome")
                self.granted_there = role
                return None
            case Refusal(code=code, reason=reason):
                raise RefusedByPeer(code, reason)

    def _judge(self, hello: Hello) -> None:
        ours = self._own
        if hello.protocol_version != ours.protocol_version:
            raise Refused(
                RefusalCode.PROTOCOL_VERSION,
                f"protocol version {hello.protocol_version} here {ours.protocol_version}: update the older node",
            )
        if hello.chain_id != ours.chain_id:
            raise Refused(
                RefusalCode.CHAIN_ID,
                f"chain {hello.chain_id.hex()[:16]} here {ours.chain_id.hex()[:16]}: another genesis",
            )
        if hello.parameters_hash != ours.parameters_hash:
            raise Refused(
                RefusalCode.PARAMETERS,
                f"parameters {hello.parameters_hash.hex()[:16]} here {ours.parameters_hash.hex()[:16]}: "
                "the rules of a chain are those of its genesis",
            )
        if self._peer_key == self._own_key:
            raise Refused(RefusalCode.SELF, "the peer holds this node's own key: run one process per key")


def refusal(code: RefusalCode, reason: str) -> bytes:
    """The message that tells a peer why it is refused."""
    return encode(Refusal(code.value, reason[:MAX_REASON_CHARACTERS]))
