"""What a contract may know about the block it runs in, and where it puts its events."""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from consensus.block import Header
from consensus.errors import fail
from consensus.parameters import Parameters
from consensus.signing import Verifier
from consensus.types import Address, Digest, Value
from contracts.genesis import Genesis
from contracts.receipts import EpochPhase, Event, FaultKind, ReasonCode, Rejection
from contracts.state import State
from contracts.transaction import Payload, Transaction

P = TypeVar("P", bound=Payload)


class Fault(Value, frozen=True):
    """A fault that this block proves; credit is charged for all of them together, after the deadlines (6.11)."""

    address: Address
    kind: FaultKind
    height: int
    """Height at which it happened: its seats say which voters pay (PROTOCOL 3.2)."""


class BlockContext:
    """One block's surroundings; made by the engine, read by every contract."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        chain_id: Digest,
        header: Header,
        chain_ms: int,
        phase: EpochPhase,
        verifier: Verifier,
    ) -> None:
        self.genesis = genesis
        self.parameters: Parameters = genesis.parameters
        self.chain_id = chain_id
        self.header = header
        self.height = header.height
        self.epoch = header.epoch
        self.time_ms = header.time_ms
        """Block time (PROTOCOL 0.1)."""
        self.chain_ms = chain_ms
        """PROTOCOL 0.2, at this block."""
        self.phase = phase
        """Phase of this block, fixed by the state after its parent (PROTOCOL 4.4)."""
        self.verifier = verifier
        self.index = 0
        """Position of the running transaction in the block."""
        self._events: list[Event] = []
        self._faults: list[Fault] = []

    def emit(self, event: Event) -> None:
        """Record what happened; order is part of the receipt."""
        self._events.append(event)

    def take_events(self) -> tuple[Event, ...]:
        """Events since the last call, for one receipt."""
        events, self._events = self._events, []
        return tuple(events)

    def accuse(self, fault: Fault) -> None:
        """Note a fault for step 5 of PROTOCOL 6.11; order is that of charging."""
        self._faults.append(fault)

    def take_faults(self) -> tuple[Fault, ...]:
        """Faults since the last call, in the order found."""
        faults = tuple(self._faults)
        self._faults.clear()
        return faults


class Result(Value, frozen=True):
    """A handler's answer. A code other than OK means: nothing was changed."""

    code: ReasonCode
    rejections: tuple[Rejection, ...] = ()


OK = Result(ReasonCode.OK)

Handler: TypeAlias = Callable[[State, BlockContext, Transaction], Result]
"""A contract's entry point: checks everything first, then changes the state."""


def payload_of(transaction: Transaction, kind: type[P]) -> P:
    """The payload, known by the registry to be of ``kind``."""
    payload = transaction.payload
    if not isinstance(payload, kind):
        fail(f"a {type(payload).__name__} was handed to the contract of {kind.__name__}")
    return payload


def operators_among(genesis: Genesis, keys: tuple[bytes, ...]) -> int:
    """How many distinct operators stand among ``keys``."""
    return sum(1 for operator in genesis.operators if operator in keys)


def has_operator_approval(genesis: Genesis, transaction: Transaction) -> bool:
    """Whether ``operator_threshold`` operators signed ``transaction`` (PROTOCOL 1.6, 2.3)."""
    keys = tuple(signature.public_key for signature in transaction.signatures)
    threshold = genesis.operator_threshold
    return threshold > 0 and operators_among(genesis, keys) >= threshold
