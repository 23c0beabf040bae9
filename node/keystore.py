"""Keys on disk: PKCS #8 PEM files readable by their owner only, optionally encrypted by a passphrase.

PKCS #8 has no checksum, and every 32 bytes are somebody's private key: a rotten bit would make another key of it. So
the public key stands before the PEM block, where readers skip text (RFC 7468), and is compared.
"""

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from consensus.hashing import address_of
from consensus.types import Address, PublicKey, SignatureBytes
from node.errors import KeyStoreError

NODE_KEY_FILE: Final = "node.key"
METER_KEY_FILE: Final = "meter.key"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LABEL: Final = b"Public-Key: "
_PEM_BEGINS: Final = b"-----BEGIN "


class KeyPair:
    """An Ed25519 key; a `consensus.signing.Signer`."""

    def __init__(self, seed: bytes) -> None:
        """``seed``: the 32-byte private key of RFC 8032."""
        self.seed: Final = seed
        public_key, self._secret = crypto_sign_seed_keypair(seed)
        self._public_key: PublicKey = bytes(public_key)

    @property
    def public_key(self) -> PublicKey:
        """The 32-byte public key."""
        return self._public_key

    @property
    def address(self) -> Address:
        """PROTOCOL 1.3."""
        return address_of(self._public_key)

    def sign(self, message: bytes) -> SignatureBytes:
        """64-byte signature of ``message``."""
        return bytes(crypto_sign(message, self._secret)[:64])


def new_key_pair() -> KeyPair:
    """A key from the operating system's randomness."""
    return KeyPair(os.urandom(32))


def write_key(path: Path, key: KeyPair, passphrase: str | None = None) -> None:
    """Write ``key`` to a new file of mode 0600; `KeyStoreError` if something stands there already."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    pem = Ed25519PrivateKey.from_private_bytes(key.seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyStoreError(f"{path} exists already: a key is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(_preamble(key) + pem)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_key(path: Path, passphrase: str | None = None) -> KeyPair:
    """The key in ``path``; `KeyStoreError` says what is wrong with the file or the passphrase."""
    try:
        mode = path.stat().st_mode
        pem = path.read_bytes()
    except FileNotFoundError:
        raise KeyStoreError(f"no key at {path}: run `cgpbft init`, or `cgpbft keys new`") from None
    except OSError as error:
        raise KeyStoreError(f"cannot read {path}: {error.strerror}") from error
    if mode & _OTHERS:
        raise KeyStoreError(f"{path} can be read by others: run `chmod 600 {path}`")
    try:
        private = serialization.load_pem_private_key(pem, None if passphrase is None else passphrase.encode())
    except TypeError as error:
        hint = "needs a passphrase" if passphrase is None else "is not encrypted, yet a passphrase was given"
        raise KeyStoreError(f"{path} {hint}: see --passphrase-file") from error
    except (ValueError, UnsupportedAlgorithm, InternalError) as error:
        raise KeyStoreError(f"{path} holds no readable key, or the passphrase is wrong") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyStoreError(f"{path} holds another kind of key than Ed25519: restore it from a backup")
    key = KeyPair(private.private_bytes_raw())
    if not pem.startswith((_PEM_BEGINS, _preamble(key) + _PEM_BEGINS)):
        raise KeyStoreError(
            f"{path} is damaged: the key in it is not the one named in its first line; restore it from a backup"
        )
    return key


def _preamble(key: KeyPair) -> bytes:
    """The line before the PEM block; files made by other tools have none, and nothing to compare."""
    return _LABEL + key.public_key.hex().encode() + b"\n"
