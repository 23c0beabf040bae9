"""Genesis: members, operators and rules of a chain; its hash is the chain id (PROTOCOL 1.5, 8.1, 9.1)."""

import enum
from itertools import pairwise
from typing import Annotated, Final

import msgspec

from consensus.ed25519 import is_acceptable_key
from consensus.encoding import Codec, encode
from consensus.errors import InvalidGenesis
from consensus.hashing import address_of, tagged_hash
from consensus.parameters import Parameters, check_parameters
from consensus.signing import REGISTRATION_DOMAIN, Signer, Verifier
from consensus.types import MAX_TOTAL, Address, Digest, PublicKey, SignatureBytes, Unsigned, Wire
from contracts.transaction import MAX_OPERATORS


class Admission(enum.IntEnum):
    """Who may join later (PROTOCOL 1.5)."""

    INVITED = 1
    OPEN = 2


class Registration(Wire, frozen=True):
    """A founding member's signed wish: REGISTRATION_DOMAIN || encode([chain name, key, meter key, max_power_w])."""

    public_key: PublicKey
    meter_public_key: PublicKey
    max_power_w: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
    signature: SignatureBytes

    @property
    def address(self) -> Address:
        """The member's address."""
        return address_of(self.public_key)


class Genesis(Wire, frozen=True):
    """Block 0. C(1) and the groups follow from it and are no part of its hash (PROTOCOL 4.7, 9.1)."""

    version: Unsigned
    chain_name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    time_ms: Unsigned
    parameters: Parameters
    admission: Admission
    founding_balance: Unsigned
    """Nano-units each founding member starts with."""
    entry_balance: Unsigned
    """Nano-units granted to each who joins later for the first time; 0 in `open` chains (PROTOCOL 1.5)."""
    operators: tuple[PublicKey, ...]
    operator_threshold: Unsigned
    members: tuple[Registration, ...]
    """In address order."""

    def hash(self) -> Digest:
        """Chain id."""
        return tagged_hash("genesis", encode(self))


genesis_codec: Final[Codec[Genesis]] = Codec(Genesis, 8_388_608)


def registration_bytes(
    chain_name: str, public_key: bytes, meter_public_key: bytes, max_power_w: int
) -> bytes:
    """What a founding member signs."""
    return REGISTRATION_DOMAIN + encode((chain_name, public_key, meter_public_key, max_power_w))


def sign_registration(
    chain_name: str, signer: Signer, meter_public_key: bytes, max_power_w: int
) -> Registration:
    """A registration by ``signer``."""
    key = signer.public_key
    message = registration_bytes(chain_name, key, meter_public_key, max_power_w)
    return Registration(key, meter_public_key, max_power_w, signer.sign(message))


def check_registration(registration: Registration, chain_name: str, verifier: Verifier) -> None:
    """Raise `InvalidGenesis` for an unacceptable key or a signature that does not prove possession (1.3)."""
    r = registration
    for key in (r.public_key, r.meter_public_key):
        if not is_acceptable_key(key):
            raise InvalidGenesis(f"key {key.hex()} is of small order or not canonical: make another")
    message = registration_bytes(chain_name, r.public_key, r.meter_public_key, r.max_power_w)
    if not verifier.verify(r.public_key, message, r.signature):
        raise InvalidGenesis(f"registration of {r.address.hex()} is not signed by its key")


def check_genesis(genesis: Genesis, verifier: Verifier) -> None:
    """Raise `InvalidGenesis` with the first broken rule; every node runs this before it acknowledges (8.1)."""
    g = genesis
    addresses = [member.address for member in g.members]
    meters = [member.meter_public_key for member in g.members]
    rules = (
        (g.version == 1, f"unknown genesis version {g.version}"),
        (len(g.members) > 0, "no members"),
        (
            all(a < b for a, b in pairwise(addresses)),
            "members must be in address order, once",
        ),
        (len(dict.fromkeys(meters)) == len(meters), "two members share a meter"),
        (
            all(m.max_power_w <= g.parameters.max_power_w for m in g.members),
            "a meter's power exceeds max_power_w",
        ),
        (len(g.operators) <= MAX_OPERATORS, f"more than {MAX_OPERATORS} operators"),
        (len(dict.fromkeys(g.operators)) == len(g.operators), "an operator key stands twice"),
        (
            all(is_acceptable_key(key) for key in g.operators),
            "an operator key is of small order or not canonical",
        ),
        (g.operator_threshold <= len(g.operators), "operator_threshold exceeds the number of operators"),
        (g.operator_threshold >= 1 or not g.operators, "operator_threshold must be at least 1"),
        (g.admission is not Admission.INVITED or len(g.operators) > 0, "an invited chain needs operators"),
        (g.admission is not Admission.OPEN or g.entry_balance == 0, "an open chain grants no entry_balance"),
        (max(g.entry_balance, g.founding_balance) <= 10**18, "a balance exceeds 10^18"),
        (
            g.founding_balance * len(g.members) <= MAX_TOTAL,
            "the founding balances add up to more than 2^63 - 1",
        ),
    )
    for holds, text in rules:
        if not holds:
            raise InvalidGenesis(text)
    for member in g.members:
        check_registration(member, g.chain_name, verifier)
    check_parameters(g.parameters, len(g.members))
