"""Shapes shared by all rooms: fixed-length byte strings, bounded integers and the base of wire values.

Units stand in the names: ``*_ms`` milliseconds, ``*_wh`` watt-hours, ``*_bp`` basis points (1/10 000).
Money is in nano-units of the currency, credit in milli-credits (PROTOCOL 1.2).
"""

from typing import Annotated

import msgspec

Address = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
"""First 20 bytes of H(public key), PROTOCOL 1.3."""
PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""Ed25519 public key."""
SignatureBytes = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
"""Ed25519 signature."""
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""SHA-256 with a domain tag."""

Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An amount, a height, a view or a time: 0..2^63 - 1 (PROTOCOL 1.2)."""
BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
"""A share in 1/10 000."""
Credit = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
"""Milli-credits, PROTOCOL 1.2."""

MAX_TOTAL = 2**63 - 1
"""A total above this is refused (PROTOCOL 1.2)."""
MAX_CREDIT = 100_000
ENTRY_CREDIT = 50_000
"""T on entry: 50 credits (PROTOCOL 1.1)."""

ZERO_DIGEST = bytes(32)
ZERO_ADDRESS = bytes(20)


class Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of every value that is hashed, signed or sent: a positional msgpack array (PROTOCOL 9.4)."""


class Value(msgspec.Struct, frozen=True):
    """Base of immutable values that stay inside one process."""
