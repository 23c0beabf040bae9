"""Records of trading and metering as the state tree holds them (PROTOCOL 2, 9.5; layout: docs/annex/state.md)."""

from consensus.types import Address, PublicKey, Unsigned, Wire
from contracts.receipts import TradeState
from contracts.transaction import Terms


class Offer(Wire, frozen=True):
    """Terms that one party signed and the other has not answered yet (PROTOCOL 2.2)."""

    terms: Terms
    offerer: Address
    height: Unsigned
    index: Unsigned
    """Block and position of the offer."""


class Contract(Wire, frozen=True):
    """A contract in force: active or metering (PROTOCOL 2.3). It leaves the state when it ends."""

    terms: Terms
    height: Unsigned
    index: Unsigned
    """Block and position of the activation: the order of allocation and of deadlines (PROTOCOL 2.4, 6.11)."""
    state: TradeState
    cancelled_by: Address | None
    """The party that signed the first half of a cancellation."""
    excused: bool
    seller_wh: Unsigned
    """Seller's allocation so far, the sum of ``seller_slots``."""
    buyer_wh: Unsigned
    seller_slots: tuple[Unsigned, ...]
    """Export allocated in each slot of the window, in Wh."""
    buyer_slots: tuple[Unsigned, ...]
    """Import allocated in each slot of the window, in Wh."""


class MeterTerm(Wire, frozen=True):
    """A member's meter from ``first_slot`` until the next term's (PROTOCOL 1.4)."""

    public_key: PublicKey
    max_power_w: Unsigned
    first_slot: Unsigned


class ReadCounter(Wire, frozen=True):
    """The counter of a reading, and the meter that counted."""

    public_key: PublicKey
    counter: Unsigned


class MeterRecord(Wire, frozen=True):
    """What the chain knows of a member's meter."""

    terms: tuple[MeterTerm, ...]
    """Ascending by ``first_slot``; empty once the member has left."""
    next_slot: Unsigned
    """Slots below it are allocated (PROTOCOL 2.4)."""
    last_counter: ReadCounter | None
    """Of the latest read slot whose reading has left the state."""


class OpenReading(Wire, frozen=True):
    """An accepted reading, kept until no contract can need it."""

    counter: Unsigned
    exported_wh: Unsigned
    imported_wh: Unsigned
    public_key: PublicKey


class MeteringProgress(Wire, frozen=True):
    """How far slots have ended and closed, for the whole chain."""

    running_slot: Unsigned
    """First slot that has not ended by block time."""
    open_slot: Unsigned
    """First slot that is not closed by chain_ms (PROTOCOL 2.4)."""


class SlotEnd(Wire, frozen=True):
    """The first block at or after the end of some slots."""

    chain_ms: Unsigned


class InviteUse(Wire, frozen=True):
    """The last time named by the newest invite that an address has used: older ones are spent (PROTOCOL 1.5)."""

    last_time_ms: Unsigned
