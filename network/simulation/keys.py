"""Keys whose signatures are keyed hashes: a hundred times faster than Ed25519, forgeable by nobody inside a run."""

import hashlib

from consensus.types import PublicKey, SignatureBytes


def _signature(secret: bytes, message: bytes) -> SignatureBytes:
    return hashlib.blake2b(message, key=secret, digest_size=64).digest()


class SimulatedSigner:
    """`consensus.signing.Signer` of one node."""

    def __init__(self, public_key: PublicKey, secret: bytes) -> None:
        self._public_key = public_key
        self._secret = secret

    @property
    def public_key(self) -> PublicKey:
        """The name under which `KeyRing` knows the secret."""
        return self._public_key

    def sign(self, message: bytes) -> SignatureBytes:
        """Keyed hash of ``message``."""
        return _signature(self._secret, message)


class KeyRing:
    """All keys of a run: makes signers, and verifies as `consensus.signing.Verifier`."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._secrets: dict[PublicKey, bytes] = {}
        self.verified = 0
        """Signatures checked: a figure for tests of how much work the replicas cause."""

    def signer(self, name: str) -> SimulatedSigner:
        """The signer of ``name``, the same for the same seed."""
        secret = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=32).digest()
        public_key = hashlib.blake2b(secret, person=b"public", digest_size=32).digest()
        self._secrets[public_key] = secret
        return SimulatedSigner(public_key, secret)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the holder of ``public_key`` signed ``message``; False for keys unknown to the run."""
        self.verified += 1
        secret = self._secrets.get(public_key)
        return secret is not None and _signature(secret, message) == signature


