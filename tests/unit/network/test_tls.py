"""Mutual TLS 1.3 pinned to node keys, and those who try to stand in between (issue 2)."""

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from network import tls
from network.tls import NodeIdentity, TlsFailure, TlsSession, issue_certificate
from tests.unit.network.harness import KeySigner, seed

ALICE, BOB, MALLORY = (NodeIdentity(seed(n)) for n in (1, 2, 3))


def shake(client: TlsSession, server: TlsSession) -> None:
    """Carry bytes until nobody has anything to say; failures are raised where they happen."""
    for _ in range(8):
        to_server, to_client = client.take_outgoing(), server.take_outgoing()
        if to_server:
            server.receive(to_server)
        if to_client:
            client.receive(to_client)


def pair(client: NodeIdentity = ALICE, server: NodeIdentity = BOB) -> tuple[TlsSession, TlsSession]:
    ends = TlsSession(client, server_side=False), TlsSession(server, server_side=True)
    shake(*ends)
    return ends


def test_the_identity_is_the_node_key() -> None:
    assert KeySigner(1).public_key == ALICE.public_key


def test_each_side_learns_the_key_that_the_other_holds() -> None:
    client, server = pair()
    assert client.peer_key == BOB.public_key
    assert server.peer_key == ALICE.public_key


def test_bytes_pass_in_both_directions_also_larger_than_a_record() -> None:
    client, server = pair()
    for speaker, hearer in ((client, server), (server, client)):
        speaker.send(bytes(100_000) + b"end")
        assert hearer.receive(speaker.take_outgoing()) == bytes(100_000) + b"end"


def test_only_version_1_3_and_no_resumption() -> None:
    client, server = pair()
    assert client._object.version() == server._object.version() == "TLSv1.3"
    assert client._object.session is None or not client._object.session.has_ticket
    for context in (ALICE.client_context, ALICE.server_context):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_client_of_version_1_2_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    with pytest.raises(TlsFailure, match=r"(?i)version|protocol"):
        TlsSession(BOB, server_side=True).receive(outgoing.read())


def test_a_client_without_certificate_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    server = TlsSession(BOB, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    server.receive(outgoing.read())
    incoming.write(server.take_outgoing())
    client.do_handshake()
    with pytest.raises(TlsFailure, match=r"(?i)certificate"):
        server.receive(outgoing.read())
    assert server.peer_key is None


def test_a_man_in_the_middle_is_seen_under_its_own_key() -> None:
    to_bob = TlsSession(MALLORY, server_side=False)
    bob = TlsSession(BOB, server_side=True)
    alice = TlsSession(ALICE, server_side=False)
    to_alice = TlsSession(MALLORY, server_side=True)
    shake(alice, to_alice)
    shake(to_bob, bob)
    assert alice.peer_key == MALLORY.public_key != BOB.public_key
    assert bob.peer_key == MALLORY.public_key != ALICE.public_key


def test_a_certificate_for_another_key_is_worth_nothing_without_the_key() -> None:
    """Anyone can issue a certificate for Bob's key, since the root is public; using it needs Bob's private key."""
    root = Ed25519PrivateKey.from_private_bytes(tls._ROOT_SEED)
    bob_key = Ed25519PrivateKey.from_private_bytes(seed(2)).public_key()
    forged = issue_certificate(bob_key, root)
    assert forged.public_key().public_bytes_raw() == BOB.public_key  # type: ignore[union-attr]
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        tls._load_key(
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Ed25519PrivateKey.from_private_bytes(seed(3)), forged
        )


def test_a_spliced_certificate_fails_the_proof_of_possession() -> None:
    """The server's flight with one byte of its CertificateVerify changed is a proof by nobody."""
    client = TlsSession(ALICE, server_side=False)
    server = TlsSession(BOB, server_side=True)
    server.receive(client.take_outgoing())
    flight = bytearray(server.take_outgoing())
    flight[-200] ^= 1
    with pytest.raises(TlsFailure):
        client.receive(bytes(flight))
    assert client.peer_key is None


def test_a_relay_that_passes_the_bytes_on_unread_learns_and_changes_nothing() -> None:
    client, server = TlsSession(ALICE, server_side=False), TlsSession(BOB, server_side=True)
    seen = bytearray()
    for _ in range(4):
        out = client.take_outgoing()
        seen += out
        if out:
            server.receive(out)
        back = server.take_outgoing()
        seen += back
        if back:
            client.receive(back)
    client.send(b"a secret of sixteen bytes or more")
    cipher = client.take_outgoing()
    seen += cipher
    assert b"a secret" not in seen
    changed = bytearray(cipher)
    changed[-1] ^= 1
    with pytest.raises(TlsFailure):
        server.receive(bytes(changed))


def test_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = Ed25519PrivateKey.from_private_bytes(tls._ROOT_SEED)
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(tls._ROOT_NAME)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(tls._NOT_BEFORE)
        .not_valid_after(tls._NOT_AFTER)
        .sign(root, None)
    )
    der = certificate.public_bytes(Encoding.DER)
    with pytest.raises(TlsFailure, match="not Ed25519"):
        tls._key_of(der)


def test_a_key_of_small_order_is_refused() -> None:
    """PROTOCOL 1.3: a signature by the neutral element verifies for anything."""
    root = Ed25519PrivateKey.from_private_bytes(tls._ROOT_SEED)
    good = issue_certificate(Ed25519PrivateKey.from_private_bytes(seed(2)).public_key(), root)
    neutral = b"\x01" + bytes(31)
    der = good.public_bytes(Encoding.DER).replace(BOB.public_key, neutral)
    with pytest.raises(TlsFailure, match="small order"):
        tls._key_of(der)


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x16\x03\x01\x40\x00" + bytes(16_384)]
)
def test_noise_instead_of_a_handshake_is_refused(noise: bytes) -> None:
    with pytest.raises(TlsFailure):
        TlsSession(BOB, server_side=True).receive(noise)


def test_a_seed_of_another_length_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NodeIdentity(bytes(31))


def test_all_nodes_make_the_same_root() -> None:
    root = Ed25519PrivateKey.from_private_bytes(tls._ROOT_SEED)
    assert tls._root_certificate(root) == tls._root_certificate(root)
