"""Who plays in a whole-system run: founders and newcomers with keys and meters, operators, and their genesis."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from consensus.ed25519 import is_acceptable_key
from consensus.hashing import address_of
from consensus.parameters import Parameters
from consensus.signing import Signer
from consensus.types import Address, Digest, PublicKey
from contracts.genesis import Admission, Genesis, sign_registration
from contracts.signatures import invite_bytes, meter_bytes, reading_bytes
from contracts.state import State
from contracts.transaction import (
    Invite,
    Join,
    Meter,
    Payload,
    Reading,
    Signature,
    encode_body,
    sign_body,
)
from network.simulation.clock import GENESIS_MS
from network.simulation.keys import KeyRing

CHAIN_NAME = "simulation"
FOUNDING_BALANCE = 10**15
"""Nano-units: most trades can be paid, a few cannot."""
ENTRY_BALANCE = 10**14
MAX_POWER_W = 40_000
OPERATORS = 3
OPERATOR_THRESHOLD = 2
EARLY_MS = 5_000
"""A window begins so long before the sender's clock: no clock in a run is wronger without a fault."""


@dataclass(frozen=True)
class Player:
    """A key that is, was or may become a member, with its meter's."""

    index: int
    signer: Signer
    meter: Signer
    address: Address = field(init=False)
    public_key: PublicKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_key", self.signer.public_key)
        object.__setattr__(self, "address", address_of(self.signer.public_key))


def _signer(ring: KeyRing, name: str) -> Signer:
    """A signer whose key genesis and registration take: half of all hashes are no point of the curve (PROTOCOL 1.3)."""
    return next(
        signer
        for attempt in count()
        if is_acceptable_key((signer := ring.signer(f"{name}/{attempt}")).public_key)
    )


class Cast:
    """All players of a run, the first ``founders`` of them members from genesis on."""

    def __init__(
        self, ring: KeyRing, founders: int, newcomers: int, parameters: Parameters, admission: Admission
    ) -> None:
        self.ring = ring
        self.parameters = parameters
        total = founders + newcomers
        self.players = tuple(
            Player(index, _signer(ring, f"member {index}"), _signer(ring, f"meter {index}"))
            for index in range(total)
        )
        self.operators = tuple(_signer(ring, f"operator {number}") for number in range(OPERATORS))
        self.by_address = {player.address: player for player in self.players}
        invited = admission is Admission.INVITED
        members = [
            sign_registration(CHAIN_NAME, player.signer, player.meter.public_key, MAX_POWER_W)
            for player in self.players[:founders]
        ]
        self.genesis = Genesis(
            version=1,
            chain_name=CHAIN_NAME,
            time_ms=GENESIS_MS,
            parameters=parameters,
            admission=admission,
            founding_balance=FOUNDING_BALANCE,
            entry_balance=ENTRY_BALANCE if invited else 0,
            operators=tuple(operator.public_key for operator in self.operators),
            operator_threshold=OPERATOR_THRESHOLD,
            members=tuple(sorted(members, key=lambda member: member.address)),
        )
        self.chain_id: Digest = self.genesis.hash()
        self._nonces = count(1)
        self._counters: dict[int, int] = {}

    def transaction(
        self, payload: Payload, signers: Sequence[Signer], wall_ms: int, window_ms: int | None = None
    ) -> bytes:
        """Full bytes, the first signer being the sender; ``window_ms`` None: as long as allowed."""
        window_ms = self.parameters.tx_window_ms if window_ms is None else window_ms
        begin_ms = wall_ms - min(window_ms // 2, EARLY_MS)
        sender = address_of(signers[0].public_key)
        body = encode_body(self.chain_id, sender, begin_ms, begin_ms + window_ms, next(self._nonces), payload)
        return sign_body(body, tuple(signers))

    def approvals(self, message: bytes) -> tuple[Signature, ...]:
        """What the operators sign: as few of them as suffice."""
        return tuple(
            Signature(operator.public_key, operator.sign(message))
            for operator in self.operators[:OPERATOR_THRESHOLD]
        )

    def meter(self, player: Player, power_w: int = MAX_POWER_W) -> Meter:
        """The player's meter, approved where the chain wants it (PROTOCOL 1.4)."""
        approvals: tuple[Signature, ...] = ()
        if self.genesis.admission is Admission.INVITED:
            message = meter_bytes(player.meter.public_key, power_w, player.address, self.chain_id)
            approvals = self.approvals(message)
        return Meter(player.meter.public_key, power_w, approvals)

    def join(self, player: Player, last_time_ms: int) -> Join:
        """A registration with an invite good until ``last_time_ms``, where the chain wants one (PROTOCOL 1.5)."""
        invite = None
        if self.genesis.admission is Admission.INVITED:
            approvals = self.approvals(invite_bytes(player.public_key, last_time_ms, self.chain_id))
            invite = Invite(player.public_key, last_time_ms, approvals)
        return Join(player.public_key, self.meter(player), invite)

    def is_member(self, state: State, index: int) -> bool:
        """Whether a player is registered and has not left."""
        account = state.accounts.get(self.players[index].address)
        return account is not None and account.left_height is None

    def next_counter(self, player: Player) -> int:
        """The meter's counter: one more with every reading it signs."""
        self._counters[player.index] = self._counters.get(player.index, 0) + 1
        return self._counters[player.index]

    def sign_reading(self, player: Player, slot: int, exported_wh: int, imported_wh: int) -> Reading:
        """A reading by the player's meter."""
        counter = self.next_counter(player)
        key = player.meter.public_key
        unsigned = Reading(player.address, slot, counter, exported_wh, imported_wh, key, bytes(64))
        signature = player.meter.sign(reading_bytes(unsigned, self.chain_id))
        return Reading(player.address, slot, counter, exported_wh, imported_wh, key, signature)
