"""What is signed, and by whom: domain-separated byte strings, the Signer and Verifier doors (PROTOCOL 6.5)."""

import enum
from typing import Final, Protocol

from consensus.types import PublicKey, SignatureBytes

CONSENSUS_DOMAIN: Final = b"cgpbft/consensus/1"
TRANSACTION_DOMAIN: Final = b"cgpbft/transaction/1"
READING_DOMAIN: Final = b"cgpbft/reading/1"
BALLOT_DOMAIN: Final = b"cgpbft/ballot/1"
INVITE_DOMAIN: Final = b"cgpbft/invite/1"
METER_DOMAIN: Final = b"cgpbft/meter/1"
REGISTRATION_DOMAIN: Final = b"cgpbft/registration/1"
GENESIS_DOMAIN: Final = b"cgpbft/genesis/1"
ADDRESS_RECORD_DOMAIN: Final = b"cgpbft/address-record/1"
RESUME_DOMAIN: Final = b"cgpbft/resume/1"


class Phase(enum.IntEnum):
    """The kind of a signed consensus message; two phases never sign the same bytes."""

    PRE_PREPARE = 1
    PREPARE = 2
    COMMIT = 3
    VIEW_CHANGE = 4
    NEW_VIEW = 5


class Signer(Protocol):
    """A private key, real or simulated."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies this signer's signatures."""

    def sign(self, message: bytes) -> SignatureBytes:
        """Signature of ``message``."""


class Verifier(Protocol):
    """Signature check, real (Ed25519) or simulated (keyed hash); its rules are consensus rules."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is ``public_key``'s over ``message``; never raises."""


def consensus_bytes(
    phase: Phase, chain_id: bytes, epoch: int, height: int, view: int, digest: bytes
) -> bytes:
    """The signed bytes of a consensus message (PROTOCOL 6.5).

    domain || phase (1 byte) || chain id (32) || epoch, height, view (8 bytes each, big-endian) || digest (32).
    """
    return b"".join(
        (
            CONSENSUS_DOMAIN,
            bytes((phase,)),
            chain_id,
            epoch.to_bytes(8, "big"),
            height.to_bytes(8, "big"),
            view.to_bytes(8, "big"),
            digest,
        )
    )
