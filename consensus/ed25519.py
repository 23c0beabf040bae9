"""The one Ed25519 verifier; its edge cases are consensus rules (PROTOCOL 1.3).

libsodium refuses small-order keys and S >= L; `is_acceptable_key` also refuses non-canonical encodings.
"""

from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import BadSignatureError, CryptoError

from consensus.types import PublicKey

_FIELD: Final = 2**255 - 19


class Ed25519Verifier:
    """`Verifier` by libsodium."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is valid; False for any malformed key or signature."""
        try:
            crypto_sign_open(signature + message, public_key)
        except (BadSignatureError, CryptoError, ValueError, TypeError):
            return False
        return True


def is_acceptable_key(public_key: PublicKey) -> bool:
    """False for small-order, off-curve or non-canonically encoded keys (PROTOCOL 1.3)."""
    if len(public_key) != 32:
        return False
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    return y < _FIELD and bool(crypto_core_ed25519_is_valid_point(public_key))
