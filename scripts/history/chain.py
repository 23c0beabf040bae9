"""The final chain as plain rows: what the checks recount from. Identifiers are lower-case hex."""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec


class Row(msgspec.Struct, frozen=True, tag_field="type", gc=False):
    """Base of events: the names and fields of PROTOCOL's receipts."""


class BalanceChanged(Row, frozen=True, tag="balance_changed"):
    """Money moved."""

    address: str
    delta: int
    balance: int


class CreditChanged(Row, frozen=True, tag="credit_changed"):
    """Credit was booked (PROTOCOL 3.5)."""

    address: str
    reason: str
    delta: int
    credit: int


class TradeChanged(Row, frozen=True, tag="trade_changed"):
    """A contract's transition (PROTOCOL 2.3)."""

    contract: str
    state: str
    seller: str
    buyer: str


class TradeSettled(Row, frozen=True, tag="trade_settled"):
    """Figures of a settlement (PROTOCOL 2.5)."""

    contract: str
    seller_wh: int
    buyer_wh: int
    delivered_wh: int
    paid_wh: int
    paid: int
    seller_penalty: int
    buyer_penalty: int


class ReadingAccepted(Row, frozen=True, tag="reading_accepted"):
    """A meter's two registers of a slot."""

    member: str
    slot: int
    exported_wh: int
    imported_wh: int


class SlotAllocated(Row, frozen=True, tag="slot_allocated"):
    """Energy of a slot given to a contract."""

    contract: str
    member: str
    slot: int
    allocated_wh: int


class BallotAccepted(Row, frozen=True, tag="ballot_accepted"):
    """A ballot counts."""

    voter: str
    epoch: int
    sequence: int
    choices: tuple[str, ...]


class PhaseChanged(Row, frozen=True, tag="phase_changed"):
    """The next block's phase and epoch (PROTOCOL 4.4)."""

    epoch: int
    phase: str


class GroupsFormed(Row, frozen=True, tag="groups_formed"):
    """The groups of an epoch."""

    epoch: int
    members: tuple[str, ...]
    assignment: tuple[int, ...]


class GroupTallied(Row, frozen=True, tag="group_tallied"):
    """An election's result."""

    epoch: int
    group: int
    delegate: str
    votes: int
    ballots: int
    recount: bool


class DelegatesChanged(Row, frozen=True, tag="delegates_changed"):
    """C from a height on."""

    height: int
    ranking: tuple[str, ...]


class FaultRecorded(Row, frozen=True, tag="fault_recorded"):
    """A fault of PROTOCOL 3.2."""

    address: str
    kind: str
    height: int
    charged: bool


class MoneyIssued(Row, frozen=True, tag="money_issued"):
    """Operators made money."""

    address: str
    amount: int


class MoneyRedeemed(Row, frozen=True, tag="money_redeemed"):
    """Operators took money back."""

    address: str
    amount: int


class MemberJoined(Row, frozen=True, tag="member_joined"):
    """A registration."""

    address: str


class MemberLeft(Row, frozen=True, tag="member_left"):
    """A departure."""

    address: str


class TradeExcused(Row, frozen=True, tag="trade_excused"):
    """Operators excused a contract."""

    contract: str


class Other(Row, frozen=True, tag="other"):
    """An event that no check looks into; its kind still stands in streams."""

    kind: str


Event: TypeAlias = (
    BalanceChanged
    | CreditChanged
    | TradeChanged
    | TradeSettled
    | ReadingAccepted
    | SlotAllocated
    | BallotAccepted
    | PhaseChanged
    | GroupsFormed
    | GroupTallied
    | DelegatesChanged
    | FaultRecorded
    | MoneyIssued
    | MoneyRedeemed
    | MemberJoined
    | MemberLeft
    | TradeExcused
    | Other
)


def kind_of(event: Event) -> str:
    """Its name in event streams."""
    return event.kind if isinstance(event, Other) else str(event.__struct_config__.tag)


class Terms(msgspec.Struct, frozen=True):
    """What a trade binds (PROTOCOL 2.1, 2.2)."""

    seller: str
    buyer: str
    quantity_wh: int
    price: int
    penalty_bp: int
    take_or_pay: bool

    @property
    def deposit(self) -> int:
        """Of each party."""
        return self.quantity_wh * self.price * self.penalty_bp // 10_000

    @property
    def escrow(self) -> int:
        """Of both parties together."""
        return self.quantity_wh * self.price + 2 * self.deposit


class Transfer(msgspec.Struct, frozen=True):
    """Who pays whom."""

    recipient: str
    amount: int


class Item(msgspec.Struct, frozen=True):
    """A transaction of a block and its receipt."""

    id: str
    kind: str
    sender: str
    code: int
    """0: it did what it says."""
    events: tuple[Event, ...] = ()
    terms: Terms | None = None
    """Of trade_open and trade_offer."""
    transfer: Transfer | None = None
    trade: str = ""
    """The offer that a trade_accept takes."""


class Block(msgspec.Struct, frozen=True):
    """A decided block."""

    height: int
    hash: str
    parent: str
    epoch: int
    view: int
    time_ms: int
    proposer: str
    signers: tuple[str, ...]
    """Of its certificate, in order."""
    items: tuple[Item, ...] = ()
    discarded: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    """Of the block's own receipt."""

    def stream(self) -> Iterator[tuple[str, str]]:
        """(kind, transaction id) of its events in the order of event streams, without the block's own first one."""
        for item in self.items:
            for event in item.events:
                yield kind_of(event), item.id
        for event in self.events:
            yield kind_of(event), ""


class Member(msgspec.Struct, frozen=True):
    """A founding member."""

    address: str
    balance: int
    credit: int


class Rules(msgspec.Struct, frozen=True):
    """The genesis parameters that the checks need (PROTOCOL 11)."""

    alpha: int = 1_000
    beta: int = 5_000
    gamma: int = 2_000
    delta: int = 500
    decay_bp: int = 200
    trade_penalty: int = 10_000
    trade_reference_wh: int = 1_000
    candidate_floor: int = 30_000
    entry_balance: int = 0


class Finding(msgspec.Struct, frozen=True):
    """What the independent auditor found wrong with a ledger's bytes."""

    height: int
    rule: str
    expected: str
    found: str


class Chain(msgspec.Struct, frozen=True):
    """The final chain, and what it began with."""

    chain_id: str
    members: tuple[Member, ...]
    delegates: tuple[str, ...]
    """C(1)."""
    groups: GroupsFormed
    """Of epoch 0."""
    rules: Rules
    blocks: tuple[Block, ...]
    findings: tuple[Finding, ...] = ()
    """Of the audit; empty for rows that no audit made."""
    audited: bool = False

    @property
    def height(self) -> int:
        """Of the last block."""
        return len(self.blocks)

    def hash_at(self, height: int) -> str | None:
        """None beyond the end; 0 is the chain id."""
        if height == 0:
            return self.chain_id
        return self.blocks[height - 1].hash if 0 < height <= len(self.blocks) else None
