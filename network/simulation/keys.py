"""Keys of a run: keyed hashes, a hundred times faster than Ed25519 and forged by nobody inside it, or real ones."""

import hashlib
from typing import Protocol

from nacl.signing import SigningKey

from consensus.ed25519 import Ed25519Verifier
from consensus.signing import Signer
from consensus.types import PublicKey, SignatureBytes


class KeyRing(Protocol):
    """All keys of a run: makes signers, and verifies as `consensus.signing.Verifier`."""

    def signer(self, name: str) -> Signer:
        """The signer of ``name``, the same for the same seed."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the holder of ``public_key`` signed ``message``; never raises."""


def _secret(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=32).digest()


def _keyed_hash(secret: bytes, message: bytes) -> SignatureBytes:
    return hashlib.blake2b(message, key=secret, digest_size=64).digest()


class KeyedHashSigner:
    """A key whose signatures are keyed hashes."""

    def __init__(self, public_key: PublicKey, secret: bytes) -> None:
        self._public_key = public_key
        self._secret = secret

    @property
    def public_key(self) -> PublicKey:
        """The name under which the ring knows the secret."""
        return self._public_key

    def sign(self, message: bytes) -> SignatureBytes:
        """Keyed hash of ``message``."""
        return _keyed_hash(self._secret, message)


class KeyedHashRing:
    """`KeyRing` of simulated keys; the ring knows the secrets, the nodes do not."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._secrets: dict[PublicKey, bytes] = {}

    def signer(self, name: str) -> Signer:
        """A signer whose public key is a hash of its secret."""
        secret = _secret(self._seed, name)
        public_key = hashlib.blake2b(secret, person=b"public", digest_size=32).digest()
        self._secrets[public_key] = secret
        return KeyedHashSigner(public_key, secret)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """By the ring's own copy of the secret; False for keys unknown to the run."""
        secret = self._secrets.get(public_key)
        return secret is not None and _keyed_hash(secret, message) == signature


class Ed25519Signer:
    """A real key, derived from the seed."""

    def __init__(self, secret: bytes) -> None:
        self._key = SigningKey(secret)

    @property
    def public_key(self) -> PublicKey:
        """Ed25519 public key."""
        return bytes(self._key.verify_key)

    def sign(self, message: bytes) -> SignatureBytes:
        """Ed25519 signature."""
        return self._key.sign(message).signature


class Ed25519Ring:
    """`KeyRing` of real keys, for the few runs that take the shipped verifier along."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._verifier = Ed25519Verifier()

    def signer(self, name: str) -> Signer:
        """A signer derived from the seed."""
        return Ed25519Signer(_secret(self._seed, name))

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """By the shipped verifier."""
        return self._verifier.verify(public_key, message, signature)
