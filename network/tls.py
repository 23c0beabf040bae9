"""TLS 1.3 between nodes without IO, mutually authenticated by the Ed25519 node keys (PROTOCOL 10, issue 2).

A node's identity is the public key in its certificate, and what proves it is TLS 1.3's own CertificateVerify: a
signature with the node key over the whole handshake transcript, in both directions. A relay in the middle either
passes the bytes on unread, or terminates TLS with a key of its own and is then seen as the holder of that key.

Python's `ssl` can demand a client certificate only together with a chain to a trusted root, and a set of pinned
self-signed certificates cannot follow a membership that changes. So every certificate is issued by a root whose
private key is a public constant. Its signature says nothing and is not meant to: it satisfies the chain check, while
the possession of the leaf's key, the only thing we rely on, is checked by OpenSSL as it should be. That is safer than
a signature of our own over a hand-made transcript, for which TLS 1.3 gives `ssl` no channel binding.

TLS 1.2 would let a stranger choose bytes that the node key signs; in 1.3 the signed bytes begin with 64 spaces and a
fixed text, so they never equal a vote's or a transaction's (`consensus.signing`). Tickets and resumption are off:
each connection proves the keys anew. There is no close_notify: frames carry their length, so a cut is seen.

`TlsSession` works on memory buffers: the same code serves asyncio, uvloop and tests without sockets, the transport
sees the true size of its write buffer, and a stranger costs no read buffer of a quarter MiB.
"""

import datetime
import hashlib
import secrets
import ssl
import tempfile
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from consensus.ed25519 import is_acceptable_key
from consensus.errors import ProtocolError
from consensus.types import PublicKey

SEED_BYTES: Final = 32
_READ_BYTES: Final = 65_536
"""Plaintext taken per call; a TLS record carries at most 16 KiB."""
_ROOT_SEED: Final = hashlib.sha256(b"cgpbft/transport-root/1").digest()
_ROOT_NAME: Final = x509.Name(
    [x509.NameAttribute(NameOID.COMMON_NAME, "cgpbft transport root (public key pair)")]
)
_NOT_BEFORE: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280's "no well-defined expiration": membership, not a date or a node's clock, ends a key's use."""


class TlsFailure(ProtocolError):
    """The peer broke the TLS protocol or proved no acceptable key; the connection ends."""


class NodeIdentity:
    """A node key made ready for TLS; the private key stays inside OpenSSL's contexts."""

    def __init__(self, seed: bytes) -> None:
        """``seed`` is the 32-byte Ed25519 private key; `ValueError` for another length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: Final[PublicKey] = key.public_key().public_bytes_raw()
        root_key = Ed25519PrivateKey.from_private_bytes(_ROOT_SEED)
        leaf = issue_certificate(key.public_key(), root_key)
        self.server_context: Final = _context(ssl.PROTOCOL_TLS_SERVER, key, leaf, root_key)
        self.client_context: Final = _context(ssl.PROTOCOL_TLS_CLIENT, key, leaf, root_key)


def issue_certificate(public_key: Ed25519PublicKey, root_key: Ed25519PrivateKey) -> x509.Certificate:
    """A certificate of ``public_key`` from the public root; anyone can make one, only the key's holder can use it."""
    raw = public_key.public_bytes_raw()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, raw.hex())]))
        .issuer_name(_ROOT_NAME)
        .public_key(public_key)
        .serial_number(int.from_bytes(hashlib.sha256(raw).digest()[:16], "big") | 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, None)
    )


def _root_certificate(root_key: Ed25519PrivateKey) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(_ROOT_NAME)
        .issuer_name(_ROOT_NAME)
        .public_key(root_key.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
        .sign(root_key, None)
    )


def _context(
    protocol: "ssl._SSLMethod", key: Ed25519PrivateKey, leaf: x509.Certificate, root_key: Ed25519PrivateKey
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.load_verify_locations(cadata=_root_certificate(root_key).public_bytes(Encoding.DER))
    _load_key(context, key, leaf)
    return context


def _load_key(context: ssl.SSLContext, key: Ed25519PrivateKey, leaf: x509.Certificate) -> None:
    """`ssl` reads keys from files only, so the file is the owner's, encrypted under a one-time password, and gone."""
    password = secrets.token_bytes(32).hex().encode()
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    with tempfile.NamedTemporaryFile(prefix="cgpbft-") as file:
        file.write(leaf.public_bytes(Encoding.PEM) + encrypted)
        file.flush()
        context.load_cert_chain(file.name, password=password)


class TlsSession:
    """One end of one connection: ciphertext in and out, plaintext out and in."""

    def __init__(self, identity: NodeIdentity, *, server_side: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        context = identity.server_context if server_side else identity.client_context
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._peer_key: PublicKey | None = None
        if not server_side:
            self._advance()

    @property
    def peer_key(self) -> PublicKey | None:
        """The key that the peer has proven to hold; None until the handshake is complete on this side."""
        return self._peer_key

    def receive(self, data: bytes) -> bytes:
        """Plaintext made available by ``data``; `TlsFailure` where the peer breaks the protocol.

        Drives the handshake; call `take_outgoing` afterwards in any case, also after a failure (it holds the alert).
        """
        self._incoming.write(data)
        if self._peer_key is None and not self._advance():
            return b""
        chunks: list[bytes] = []
        try:
            while chunk := self._object.read(_READ_BYTES):
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise TlsFailure(f"TLS: {error.reason or error}") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def send(self, plaintext: bytes) -> None:
        """Encrypt ``plaintext``; the ciphertext waits for `take_outgoing`. Only after the handshake."""
        self._object.write(plaintext)

    def take_outgoing(self) -> bytes:
        """Ciphertext to put on the wire now; may be empty."""
        return self._outgoing.read()

    def _advance(self) -> bool:
        """Go on with the handshake; whether it is complete."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsFailure(f"TLS handshake: {error.reason or error}") from error
        self._peer_key = _key_of(self._object.getpeercert(binary_form=True))
        return True


def _key_of(certificate: bytes | None) -> PublicKey:
    """The Ed25519 key of a peer's certificate; `TlsFailure` for another kind or a weak key (PROTOCOL 1.3)."""
    if certificate is None:
        raise TlsFailure("TLS: the peer showed no certificate")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise TlsFailure(f"TLS: the peer's certificate cannot be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TlsFailure(f"TLS: the peer's key is {type(key).__name__}, not Ed25519")
    raw = key.public_bytes_raw()
    if not is_acceptable_key(raw):
        raise TlsFailure("TLS: the peer's key is of small order or not canonical (PROTOCOL 1.3)")
    return raw
