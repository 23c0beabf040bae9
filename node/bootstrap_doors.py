"""What the bootstrap service may not know itself: genesis, ballots and transactions (`network.bootstrap.doors`)."""

import secrets
from collections.abc import Callable, Sequence

from consensus.ed25519 import is_acceptable_key
from consensus.encoding import Codec, encode
from consensus.errors import InvalidMessage
from consensus.grouping import Score
from consensus.hashing import address_of
from consensus.signing import Signer, Verifier
from consensus.types import Digest
from contracts.genesis import (
    Admission,
    Genesis,
    Registration,
    check_genesis,
    check_registration,
    genesis_codec,
)
from contracts.signatures import ballot_bytes
from contracts.transaction import Ballot, Ballots, Payload, Plan, encode_body, sign_body
from network.bootstrap.doors import BallotFacts, GenesisFacts, RegistrationFacts
from network.bootstrap.limits import MAX_BALLOT_BYTES, MAX_REGISTRATION_BYTES
from network.bootstrap.records import Announcement

_registration_codec: Codec[Registration] = Codec(Registration, MAX_REGISTRATION_BYTES)
_ballot_codec: Codec[Ballot] = Codec(Ballot, MAX_BALLOT_BYTES)


def genesis_of(announcement: Announcement, members: Sequence[Registration]) -> Genesis:
    """The genesis of ``announcement`` with these members, put into address order."""
    return Genesis(
        version=1,
        chain_name=announcement.chain_name,
        time_ms=announcement.time_ms,
        parameters=announcement.parameters,
        admission=Admission[announcement.admission.upper()],
        founding_balance=announcement.founding_balance,
        entry_balance=announcement.entry_balance,
        operators=announcement.operators,
        operator_threshold=announcement.operator_threshold,
        members=tuple(sorted(members, key=lambda member: member.address)),
    )


class GenesisMaker:
    """`GenesisDoor` of one announcement."""

    def __init__(self, announcement: Announcement, verifier: Verifier) -> None:
        self._announcement = announcement
        self._verifier = verifier

    def read_registration(self, raw: bytes) -> RegistrationFacts:
        """A registration whose key, signature and power are in order."""
        registration = _registration_codec.decode(raw)
        check_registration(registration, self._announcement.chain_name, self._verifier)
        limit = self._announcement.parameters.max_power_w
        if registration.max_power_w > limit:
            raise InvalidMessage(
                f"the meter's power of {registration.max_power_w} W exceeds max_power_w {limit}"
            )
        return RegistrationFacts(registration.public_key, registration.meter_public_key, registration.address)

    def make_genesis(self, registrations: Sequence[bytes]) -> bytes:
        """Checked as every node will check it."""
        members = [_registration_codec.decode(raw) for raw in registrations]
        genesis = genesis_of(self._announcement, members)
        check_genesis(genesis, self._verifier)
        return encode(genesis)

    def read_genesis(self, raw: bytes) -> GenesisFacts:
        """Of a genesis made here."""
        genesis = genesis_codec.decode(raw)
        return GenesisFacts(genesis.hash(), tuple(member.public_key for member in genesis.members))


class BallotReader:
    """`BallotDoor` of one chain."""

    def __init__(self, chain_id: Digest, verifier: Verifier) -> None:
        self._chain_id = chain_id
        self._verifier = verifier

    def read_ballot(self, raw: bytes) -> BallotFacts:
        """A ballot signed by its voter (PROTOCOL 5.2)."""
        ballot = _ballot_codec.decode(raw)
        key = ballot.public_key
        if not is_acceptable_key(key) or address_of(key) != ballot.voter:
            raise InvalidMessage("the ballot's key is not its voter's")
        if not self._verifier.verify(key, ballot_bytes(ballot, self._chain_id), ballot.signature):
            raise InvalidMessage("the ballot is not signed by its voter for this chain")
        return BallotFacts(ballot.voter, ballot.epoch, ballot.sequence, ballot.choices)


class TransactionMaker:
    """`TransactionDoor` of one chain; any key may carry ballots and propose plans (PROTOCOL 4.5, 8.1)."""

    def __init__(
        self, chain_id: Digest, signer: Signer, tx_window_ms: int, now_ms: Callable[[], int]
    ) -> None:
        self._chain_id = chain_id
        self._signer = signer
        self._tx_window_ms = tx_window_ms
        self._now_ms = now_ms

    def ballots(self, ballots: Sequence[bytes]) -> bytes:
        """Carry 1..128 ballots."""
        return self._signed(Ballots(tuple(_ballot_codec.decode(raw) for raw in ballots)))

    def plan(self, epoch: int, assignment: Sequence[int], score: Score) -> bytes:
        """Propose the groups of ``epoch``."""
        return self._signed(Plan(epoch, tuple(assignment), score.energy_excess, score.credit_excess))

    def _signed(self, payload: Payload) -> bytes:
        # Half of the window lies behind: the header's time may be behind our clock (PROTOCOL 6.8).
        start_ms = max(0, self._now_ms() - self._tx_window_ms // 2)
        sender = address_of(self._signer.public_key)
        nonce = secrets.randbits(63)
        body = encode_body(self._chain_id, sender, start_ms, start_ms + self._tx_window_ms, nonce, payload)
        return sign_body(body, (self._signer,))
