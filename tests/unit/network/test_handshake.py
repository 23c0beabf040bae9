"""What two nodes compare when they meet, without IO."""

import msgspec
import pytest

from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.parameters import DEMO, Parameters
from network.handshake import (
    MAX_HANDSHAKE_BYTES,
    ChainIdentity,
    Handshake,
    Hello,
    Refusal,
    RefusalCode,
    Refused,
    RefusedByPeer,
    Welcome,
    handshake_codec,
    parameters_hash,
    refusal,
)
from network.wire import Role
from tests.unit.network.harness import CHAIN, key


def side(chain: ChainIdentity = CHAIN, *, own: int = 1, peer: int = 2, role: Role = Role.MEMBER) -> Handshake:
    return Handshake(chain, "test/1", bytes(16), key(own), key(peer), lambda hello: role)


def is_open(handshake: Handshake) -> bool:
    return not handshake.complete


def test_two_nodes_of_one_chain_welcome_each_other() -> None:
    alice, bob = side(role=Role.GUEST), side(own=2, peer=1)
    to_bob, to_alice = bob.receive(alice.start()), alice.receive(bob.start())
    assert to_bob is not None
    assert to_alice is not None
    assert is_open(alice)
    assert alice.receive(to_bob) is None
    assert bob.receive(to_alice) is None
    assert alice.complete
    assert bob.complete
    assert alice.granted_here is Role.GUEST is bob.granted_there
    assert bob.granted_here is Role.MEMBER is alice.granted_there
    assert alice.hello is not None
    assert alice.hello.software == "test/1"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"protocol_version": 2}, RefusalCode.PROTOCOL_VERSION, "version 2 here 1"),
        ({"chain_id": b"d" * 32}, RefusalCode.CHAIN_ID, "another genesis"),
        ({"parameters_hash": b"q" * 32}, RefusalCode.PARAMETERS, "rules of a chain"),
    ],
)
def test_a_difference_is_refused_with_its_reason(
    change: dict[str, object], code: RefusalCode, text: str
) -> None:
    other = side(msgspec.structs.replace(CHAIN, **change), own=2, peer=1)
    mine = side()
    with pytest.raises(Refused, match=text) as refused:
        mine.receive(other.start())
    assert refused.value.code is code
    assert not mine.complete


def test_the_version_is_judged_before_all_else() -> None:
    other = side(ChainIdentity(b"d" * 32, b"q" * 32, 2), own=2, peer=1)
    with pytest.raises(Refused) as refused:
        side().receive(other.start())
    assert refused.value.code is RefusalCode.PROTOCOL_VERSION


def test_the_own_key_at_the_other_end_is_refused() -> None:
    with pytest.raises(Refused, match="one process per key"):
        side(own=1, peer=1).receive(side().start())


def test_the_peers_refusal_is_told_with_its_reason() -> None:
    with pytest.raises(RefusedByPeer, match=r"\(full\): no room") as refused:
        side().receive(refusal(RefusalCode.FULL, "no room"))
    assert refused.value.code == "full"


def test_a_long_reason_is_cut_to_what_the_peer_will_read() -> None:
    message = handshake_codec.decode(refusal(RefusalCode.MALFORMED, "x" * 1_000))
    assert isinstance(message, Refusal)
    assert len(message.reason) == 256


@pytest.mark.parametrize("twice", [side(own=2, peer=1).start(), encode(Welcome(Role.MEMBER))])
def test_saying_anything_twice_is_malformed(twice: bytes) -> None:
    mine = side()
    mine.receive(twice)
    with pytest.raises(MalformedInput, match="second"):
        mine.receive(twice)


@pytest.mark.parametrize(
    "payload", [b"", b"\x00", b"GET /", encode(Welcome(Role.MEMBER)) + b"x", bytes(MAX_HANDSHAKE_BYTES + 1)]
)
def test_anything_else_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedInput):
        side().receive(payload)


def test_a_refusal_to_grant_a_role_leaves_the_handshake_open_for_nothing() -> None:
    def grant(hello: Hello) -> Role:
        raise Refused(RefusalCode.BANNED, "later")

    mine = Handshake(CHAIN, "test/1", bytes(16), key(1), key(2), grant)
    with pytest.raises(Refused, match="later"):
        mine.receive(side(own=2, peer=1).start())
    mine.receive(encode(Welcome(Role.MEMBER)))
    assert not mine.complete


def test_every_parameter_is_part_of_the_compared_hash() -> None:
    hashes = {parameters_hash(DEMO), parameters_hash(Parameters())}
    for field in msgspec.structs.fields(Parameters):
        value = getattr(DEMO, field.name)
        changed = msgspec.structs.replace(
            DEMO, **{field.name: (not value) if isinstance(value, bool) else value + 1}
        )
        hashes.add(parameters_hash(changed))
    assert len(hashes) == 2 + len(msgspec.structs.fields(Parameters))
