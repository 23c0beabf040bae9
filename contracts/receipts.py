"""Receipts: a stable reason code and typed events per transaction, and one receipt for the block itself (PROTOCOL 9.3).

``receipts root = Merkle(leaf(encode(receipt)) ...)`` in block order; the block's own receipt comes last with a zero id
and carries what no single transaction caused: faults, deadlines, credit, elections.
"""

import enum
from typing import Final, TypeAlias

from consensus.encoding import Codec
from consensus.merkle import leaf_hash, merkle_root
from consensus.types import ZERO_DIGEST, Address, Digest, PublicKey, Unsigned, Wire


class ReasonCode(enum.IntEnum):
    """Why a transaction was rejected at execution; numbers and names never change their meaning."""

    OK = 0
    NOT_A_MEMBER = 1
    ALREADY_A_MEMBER = 2
    UNACCEPTABLE_KEY = 3
    METER_IN_USE = 4
    POWER_TOO_LARGE = 5
    INVITE_MISSING = 6
    INVITE_WRONG = 7
    INVITE_EXPIRED = 8
    INVITE_USED = 9
    OPERATOR_APPROVAL_MISSING = 10
    MEMBER_HAS_LEFT = 11
    OPEN_CONTRACTS = 12
    TOO_FEW_MEMBERS = 13
    BALANCE_TOO_LOW = 14
    TOTAL_TOO_LARGE = 15
    RECIPIENT_UNKNOWN = 16
    TOO_MANY_MEMBERS = 17
    PARTIES_EQUAL = 20
    NOT_A_PARTY = 21
    WINDOW_MISALIGNED = 22
    WINDOW_STARTED = 23
    WINDOW_TOO_FAR = 24
    EXPIRY_AFTER_START = 25
    CONTRACT_UNKNOWN = 27
    CONTRACT_STATE = 28
    ALREADY_CANCELLED_BY_SENDER = 29
    ALREADY_EXCUSED = 30
    OFFER_EXPIRED = 31
    TOO_MANY_OPEN_CONTRACTS = 32
    TOO_MANY_OPEN_OFFERS = 33
    READING_KEY_WRONG = 40
    READING_SLOT_NOT_ENDED = 41
    READING_SLOT_CLOSED = 42
    READING_DUPLICATE = 43
    READING_COUNTER_OUT_OF_ORDER = 44
    READING_ABOVE_CAPACITY = 45
    BALLOT_EPOCH_WRONG = 50
    BALLOT_VOTER_UNKNOWN = 51
    BALLOT_CHOICE_OUTSIDE_GROUP = 52
    BALLOT_SEQUENCE_OLD = 53
    BALLOT_TOO_MANY = 54
    PLAN_PHASE_WRONG = 60
    PLAN_NO_PARTITION = 61
    PLAN_CLAIM_NOT_BETTER = 62
    PLAN_CLAIM_WRONG = 63
    PLAN_ALREADY_COMMITTED = 64
    HEARTBEAT_WRONG = 70
    EVIDENCE_OLD = 80
    EVIDENCE_KNOWN = 81
    EVIDENCE_NOT_A_DELEGATE = 82
    EVIDENCE_PROVES_NOTHING = 83
    EVIDENCE_TOO_EARLY = 84


class CreditReason(enum.IntEnum):
    """The cause of a change of credit (PROTOCOL 3.5)."""

    DELEGATE_REWARD = 1
    VOTER_REWARD = 2
    NO_BLOCK = 3
    WRONG_BLOCK = 4
    DOWN = 5
    VOTER_PENALTY = 6
    DECAY = 7
    SELLER_SHORTFALL = 8
    BUYER_SHORTFALL = 9
    ENTRY = 10


class FaultKind(enum.IntEnum):
    """PROTOCOL 3.2."""

    NO_BLOCK = 1
    WRONG_BLOCK = 2
    DOWN = 3


class TradeState(enum.IntEnum):
    """PROTOCOL 2.3."""

    OFFERED = 1
    ACTIVE = 2
    METERING = 3
    SETTLED = 4
    WITHDRAWN = 5
    DECLINED = 6
    EXPIRED = 7
    CANCELLED = 8
    EXCUSED = 9


class EpochPhase(enum.IntEnum):
    """PROTOCOL 4.4."""

    RUNNING = 1
    PLANNING = 2
    VOTING = 3
    CLOSING = 4


class BalanceChanged(Wire, frozen=True, tag=1):
    """A member's balance after a change."""

    address: Address
    delta: int
    balance: Unsigned


class CreditChanged(Wire, frozen=True, tag=2):
    """Ledger entry of a credit change, ``delta`` as applied after the clamp (PROTOCOL 3.5)."""

    address: Address
    reason: CreditReason
    delta: int
    credit: Unsigned


class MemberJoined(Wire, frozen=True, tag=3):
    """A registration, or the return of one who left."""

    address: Address
    public_key: PublicKey


class MemberLeft(Wire, frozen=True, tag=4):
    """A `leave` took effect on electability."""

    address: Address


class MeterChanged(Wire, frozen=True, tag=5):
    """The member's meter from ``first_slot`` on."""

    address: Address
    public_key: PublicKey
    first_slot: Unsigned


class TradeChanged(Wire, frozen=True, tag=6):
    """A transition of a contract (PROTOCOL 2.3)."""

    contract_id: Digest
    state: TradeState
    seller: Address
    buyer: Address


class TradeSettled(Wire, frozen=True, tag=7):
    """Figures of a settlement (PROTOCOL 2.5)."""

    contract_id: Digest
    seller_wh: Unsigned
    """Seller's allocation."""
    buyer_wh: Unsigned
    """Buyer's allocation by its own meter."""
    delivered_wh: Unsigned
    """x by both meters, by which both N grow."""
    paid_wh: Unsigned
    """What is paid for: x with the buyer's missing slots counted as the seller's, or the seller's allocation."""
    paid: Unsigned
    seller_penalty: Unsigned
    buyer_penalty: Unsigned


class ReadingAccepted(Wire, frozen=True, tag=8):
    """A reading is on chain."""

    member: Address
    slot: Unsigned
    exported_wh: Unsigned
    imported_wh: Unsigned


class SlotAllocated(Wire, frozen=True, tag=9):
    """Energy of one slot's register given to one contract (PROTOCOL 2.4); without one the contract got nothing."""

    contract_id: Digest
    member: Address
    slot: Unsigned
    allocated_wh: Unsigned


class BallotAccepted(Wire, frozen=True, tag=10):
    """A ballot counts from now on."""

    voter: Address
    epoch: Unsigned
    sequence: Unsigned
    choices: tuple[Address, ...]


class PlanAccepted(Wire, frozen=True, tag=11):
    """A committed plan replaces the built-in one."""

    epoch: Unsigned
    submitter: Address
    energy_excess_wh: Unsigned
    credit_excess: Unsigned


class PhaseChanged(Wire, frozen=True, tag=12):
    """The next block belongs to another phase or epoch (PROTOCOL 4.4)."""

    epoch: Unsigned
    phase: EpochPhase


class GroupsFormed(Wire, frozen=True, tag=13):
    """The groups of ``epoch`` are fixed: eligible members in address order and their group numbers."""

    epoch: Unsigned
    members: tuple[Address, ...]
    assignment: tuple[Unsigned, ...]
    energy_excess_wh: Unsigned
    credit_excess: Unsigned
    submitted: bool


class GroupTallied(Wire, frozen=True, tag=14):
    """A group's election result, also of a recount (PROTOCOL 5.3, 7.2)."""

    epoch: Unsigned
    group: Unsigned
    delegate: Address
    votes: Unsigned
    """V of the delegate, in milli-credits."""
    ballots: Unsigned
    """Ballots that counted in the group."""
    recount: bool


class DelegatesChanged(Wire, frozen=True, tag=15):
    """C(height), in ranking order, comes from a tally or has another holder than C(height - 1) (PROTOCOL 7.2)."""

    height: Unsigned
    ranking: tuple[Address, ...]


class FaultRecorded(Wire, frozen=True, tag=16):
    """A fault follows from the ledger (PROTOCOL 3.2); ``charged`` says whether credit was taken under the caps."""

    address: Address
    kind: FaultKind
    height: Unsigned
    """Height at which the fault happened."""
    charged: bool


class TransactionDiscarded(Wire, frozen=True, tag=17):
    """Removed for ever (PROTOCOL 6.10)."""

    transaction_id: Digest


class MoneyIssued(Wire, frozen=True, tag=18):
    """PROTOCOL 1.6."""

    address: Address
    amount: Unsigned


class MoneyRedeemed(Wire, frozen=True, tag=19):
    """PROTOCOL 1.6."""

    address: Address
    amount: Unsigned


class HeartbeatSeen(Wire, frozen=True, tag=20):
    """A member showed that it lives (PROTOCOL 3.2c, 4.6)."""

    address: Address


class CancelSigned(Wire, frozen=True, tag=21):
    """One party signed the first half of a cancellation (PROTOCOL 2.3)."""

    contract_id: Digest
    party: Address


class TradeExcused(Wire, frozen=True, tag=22):
    """The operators marked a contract: it will end excused (PROTOCOL 2.3)."""

    contract_id: Digest


Event: TypeAlias = (
    BalanceChanged
    | CreditChanged
    | MemberJoined
    | MemberLeft
    | MeterChanged
    | TradeChanged
    | TradeSettled
    | ReadingAccepted
    | SlotAllocated
    | BallotAccepted
    | PlanAccepted
    | PhaseChanged
    | GroupsFormed
    | GroupTallied
    | DelegatesChanged
    | FaultRecorded
    | TransactionDiscarded
    | MoneyIssued
    | MoneyRedeemed
    | HeartbeatSeen
    | CancelSigned
    | TradeExcused
)


class Rejection(Wire, frozen=True):
    """One part of a carrying transaction (readings, ballots) that was refused, by its index."""

    index: Unsigned
    code: ReasonCode


class Receipt(Wire, frozen=True):
    """What a transaction did. ``code`` is OK if any part took effect; refused parts of a batch are listed."""

    transaction_id: Digest
    code: ReasonCode
    rejections: tuple[Rejection, ...]
    events: tuple[Event, ...]


BLOCK_RECEIPT_ID: Final = ZERO_DIGEST
"""Id in the block's own receipt, the last of its list."""

receipt_codec: Final[Codec[Receipt]] = Codec(Receipt, 4 * 1_048_576)


def receipts_root(encoded: tuple[bytes, ...]) -> Digest:
    """Merkle root over receipts as encoded, the block's own last."""
    return merkle_root([leaf_hash(receipt) for receipt in encoded])
