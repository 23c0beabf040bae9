"""What this package needs to know of contracts, which it must not import: given by constructor, wired by the node."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from consensus.grouping import Score
from consensus.types import Address, Digest, PublicKey, Value
from network.bootstrap.chain import ChainBlock, EpochFacts, MemberFacts, MemberStatus


class RegistrationFacts(Value, frozen=True):
    """What a well-signed registration says."""

    public_key: PublicKey
    meter_public_key: PublicKey
    address: Address


class GenesisFacts(Value, frozen=True):
    """What a genesis says."""

    hash: Digest
    members: tuple[PublicKey, ...]
    """In address order."""


class BallotFacts(Value, frozen=True):
    """What a well-signed ballot says (PROTOCOL 5.2)."""

    voter: Address
    epoch: int
    sequence: int
    choices: tuple[Address, ...]


class GenesisDoor(Protocol):
    """Registrations and genesis."""

    def read_registration(self, raw: bytes) -> RegistrationFacts:
        """A checked registration for the announced chain; `ProtocolError` with the reason otherwise."""

    def make_genesis(self, registrations: Sequence[bytes]) -> bytes:
        """The canonical genesis of the announcement with these members, checked; `ProtocolError` if it is invalid."""

    def read_genesis(self, raw: bytes) -> GenesisFacts:
        """Facts of a genesis this service made; `ProtocolError` if it is none."""


class BallotDoor(Protocol):
    """Ballots of one chain."""

    def read_ballot(self, raw: bytes) -> BallotFacts:
        """A canonical ballot signed by its voter for this chain; `ProtocolError` otherwise."""


class TransactionDoor(Protocol):
    """Transactions of one chain, signed with the service's own key, valid from now."""

    def ballots(self, ballots: Sequence[bytes]) -> bytes:
        """Carry 1..128 ballots."""

    def plan(self, epoch: int, assignment: Sequence[int], score: Score) -> bytes:
        """Propose the groups of ``epoch`` (PROTOCOL 4.5)."""


class ChainDoor(Protocol):
    """Members' HTTP APIs, each by its URL. Every method raises `Unavailable` where that member does not serve."""

    async def status(self, url: str) -> MemberStatus:
        """GET /v1/status."""

    async def epoch(self, url: str, number: int) -> EpochFacts:
        """GET /v1/epochs/{number}."""

    async def members(self, url: str) -> tuple[MemberFacts, ...]:
        """GET /v1/members, all pages."""

    def follow(self, url: str, from_height: int) -> AsyncIterator[ChainBlock]:
        """GET /v1/events: decided blocks from ``from_height`` on, each once, for ever."""

    async def submit(self, url: str, transaction: bytes) -> None:
        """POST /v1/transactions; a transaction known already is no failure. `Refused` for one refused for good."""

    async def close(self) -> None:
        """Release the connections."""
