"""What goes over HTTP: request bodies and answers, one struct each, shared by the API and `node.client`.

Units: ``*_ms`` milliseconds, ``*_wh`` watt-hours; money (`Money`) nano-units as a decimal string, since JSON numbers
lose digits above 2^53; ``price`` micro-units per kWh; credit milli-credits (PROTOCOL 1.2). Bytes are lower-case hex.

Answers that read state carry ``height`` and ``block_hash`` of the decided block they were read at. Where these name the
resource itself (a transaction, a block, a certificate) the position stands in ``at``.
"""

from typing import Annotated, Any, Generic, TypeVar

import msgspec

from contracts.transaction import MAX_TRANSACTION_BYTES

T = TypeVar("T")

AddressText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{40}\Z", description="40 hex digits")]
DigestText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{64}\Z", description="64 hex digits")]
KeyText = DigestText
SignatureText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{128}\Z", description="128 hex digits")]
Money = Annotated[
    str, msgspec.Meta(pattern=r"\A(0|[1-9][0-9]{0,18})\Z", description="nano-units, decimal digits")
]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies: unknown fields are refused."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of answers that read state."""

    height: int
    block_hash: str


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The decided block that an answer was read at."""

    height: int
    block_hash: str
    time_ms: int


class Listing(Answer, Generic[T], frozen=True, kw_only=True):
    """One page; ask again with ``cursor=next_cursor`` for the next."""

    items: list[T]
    next_cursor: str | None


# ---- requests


class TransactionRequest(Request, frozen=True):
    """POST /v1/transactions as JSON, and a line of a batch."""

    transaction: Annotated[str, msgspec.Meta(max_length=2 * MAX_TRANSACTION_BYTES)]
    """Canonical bytes in hex."""


class TermsRequest(Request, frozen=True, kw_only=True):
    """POST /v1/trades and /v1/quotes. A party left out is the node itself."""

    seller: AddressText | None = None
    buyer: AddressText | None = None
    quantity_wh: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    price: Annotated[int, msgspec.Meta(ge=0, le=10**9)]
    start_ms: Count
    slots: Annotated[int, msgspec.Meta(ge=1, le=96)] = 1
    penalty_bp: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    buyer_rule: Annotated[str, msgspec.Meta(pattern=r"\A(pay_actual|take_or_pay)\Z")] = "pay_actual"
    expiry_ms: Count | None = None
    """Left out: ``start_ms``."""


class EmptyRequest(Request, frozen=True):
    """Body of actions that need no more than their path: ``{}`` or nothing."""


class ReadingRequest(Request, frozen=True, kw_only=True):
    """A meter-signed reading (PROTOCOL 2.4); without key and signature the node signs it as its own meter's."""

    member: AddressText | None = None
    """Left out: the node's member."""
    slot: Count
    counter: Count | None = None
    """Left out, where the node signs: the slot's number, which grows as a counter must."""
    exported_wh: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    imported_wh: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    public_key: KeyText | None = None
    signature: SignatureText | None = None


class ReadingsRequest(Request, frozen=True):
    """POST /v1/readings."""

    readings: Annotated[list[ReadingRequest], msgspec.Meta(min_length=1, max_length=256)]


class BallotRequest(Request, frozen=True):
    """POST /v1/ballots: the node votes."""

    choices: Annotated[list[AddressText], msgspec.Meta(min_length=1, max_length=3)]


class TransferRequest(Request, frozen=True):
    """POST /v1/transfers."""

    recipient: AddressText
    amount: Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,18}\Z")]


# ---- submissions


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """202: the node holds the transaction, or knows how it ended."""

    id: str
    state: str
    holders: int
    """Delegates known to hold it; f + 1 hold it for certain (LESSONS 17)."""
    status_url: str
    trade_url: str | None = None
    """For an offer: where the trade will stand once the offer is committed."""


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item's answer in a batch, in the order of the request."""

    id: str | None
    state: str | None
    code: str
    """"accepted", "known", or a code of `node.api.problems`."""
    detail: str = ""
    retry_after_ms: int | None = None
    holders: int = 0


class ReceiptProofText(msgspec.Struct, frozen=True, kw_only=True):
    """`node.service.ReceiptProof` and the receipt, each the canonical encoding in hex, for `node.proofs`."""

    header: str
    transaction_path: str | None
    receipt: str
    receipt_path: str
    next_header: str
    next_certificate: str


class ReceiptView(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction did."""

    transaction_id: str
    code: str
    rejections: list[dict[str, Any]]
    """{index, code} of refused parts."""
    events: list[dict[str, Any]]


class TransactionView(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/transactions/{id}."""

    at: Position
    id: str
    state: str
    """pending, committed, rejected, discarded, expired or unknown (PROTOCOL 9.3)."""
    height: int | None
    """Block that holds it."""
    block_hash: str | None
    index: int | None
    reason: str
    holders: int
    receipt: ReceiptView | None
    transaction: dict[str, Any] | None
    """Decoded, where this node holds the bytes."""
    raw: str | None
    proof: ReceiptProofText | None
    """With ?proof=1, once the next header is decided."""


class StateProofText(msgspec.Struct, frozen=True, kw_only=True):
    """`node.service.StateEntryProof`, each part the canonical encoding in hex, for `node.proofs`."""

    proof: str
    next_header: str
    next_certificate: str


# ---- members, groups, epochs


class MemberInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A member or leaver (PROTOCOL 1.1)."""

    address: str
    public_key: str
    balance: Money
    credit: int
    energy_wh: int
    open_contracts: int
    active_epoch: int
    left_height: int | None
    group: int | None
    seat: int | None
    meter_public_key: str | None
    max_power_w: int | None


class MemberAnswerView(Answer, frozen=True, kw_only=True):
    """GET /v1/members/{address}."""

    member: MemberInfo
    proof: StateProofText | None = None
    """With ?proof=1: the account as the next header's state root binds it."""


class CreditEntryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A change of credit with its cause (PROTOCOL 3.5)."""

    height: int
    time_ms: int
    reason: str
    delta: int
    credit: int


class GroupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One group."""

    number: int
    members: list[str]
    delegate: str | None
    energy_wh: int
    credit: int


class GroupsView(Answer, frozen=True, kw_only=True):
    """GET /v1/groups."""

    epoch: int
    groups: list[GroupInfo]


class TallyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A group's election result, also of a recount."""

    epoch: int
    group: int
    delegate: str
    votes: int
    ballots: int
    recount: bool


class EpochView(Answer, frozen=True, kw_only=True):
    """GET /v1/epochs/{e}."""

    epoch: int
    phase: str | None
    first_height: int | None
    snapshot_height: int | None
    closing_height: int | None
    members: list[str]
    assignment: list[int]
    energy_excess_wh: int
    credit_excess: int
    submitted_plan: bool
    delegates: list[str]
    tallies: list[TallyInfo]


class DelegateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A seat's holder."""

    address: str
    public_key: str


class DelegatesView(Answer, frozen=True, kw_only=True):
    """GET /v1/delegates: C(for_height) in ranking order."""

    for_height: int
    epoch: int
    ranking: list[DelegateInfo]
    primary: str
    quorum: int
    faults: int
    set_hash: str


class DelegateChangeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A link of the chain of set hashes; header and certificate are canonical encodings in hex."""

    height: int
    header: str
    certificate: str
    next_delegates: list[DelegateInfo]


class ParametersView(Answer, frozen=True, kw_only=True):
    """GET /v1/parameters."""

    chain_id: str
    chain_name: str
    version: int
    genesis_time_ms: int
    admission: str
    founding_balance: Money
    entry_balance: Money
    operators: list[str]
    operator_threshold: int
    members: int
    """Founding members."""
    parameters: dict[str, int | bool]
    genesis: str
    """Canonical bytes in hex; their hash is the chain id."""


# ---- blocks


class BlockInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the block list."""

    height: int
    hash: str
    time_ms: int
    epoch: int
    view: int
    proposer: str
    transactions: int
    discarded: int


class BlockTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction of a block and how it ended."""

    id: str
    code: str


class BlockView(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/blocks/{height}."""

    at: Position
    height: int
    block_hash: str
    header: dict[str, Any]
    transactions: list[BlockTransaction]
    discarded: list[str]
    last_commit: dict[str, Any] | None
    events: list[dict[str, Any]]
    """Of the block's own receipt: what no single transaction caused."""


class CertificateView(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/blocks/{height}/certificate; ``header`` and ``certificate`` are canonical encodings in hex."""

    at: Position
    height: int
    block_hash: str
    epoch: int
    view: int
    signers: list[str]
    """Addresses, in ranking order."""
    ranking: list[DelegateInfo]
    header: str
    certificate: str


# ---- trades


class TermsInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What both parties agreed on (PROTOCOL 2.1)."""

    seller: str
    buyer: str
    quantity_wh: int
    price: int
    start_ms: int
    slots: int
    penalty_bp: int
    buyer_rule: str
    expiry_ms: int


class TradeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the trade list."""

    id: str
    state: str
    terms: TermsInfo
    height: int


class SlotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the slot table (PROTOCOL 2.5); None while not known yet."""

    slot: int
    start_ms: int
    contracted_wh: int
    seller_allocated_wh: int | None
    seller_read: bool | None
    buyer_allocated_wh: int | None
    buyer_read: bool | None
    paid_wh: int | None
    seller_metered_wh: int | None = None
    """What the seller's export register read; None: not read (so far)."""
    buyer_metered_wh: int | None = None
    """What the buyer's import register read; None: not read (so far)."""


class TransitionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A change of state on the ledger."""

    height: int
    time_ms: int
    state: str


class SettlementInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a settlement (PROTOCOL 2.5, 2.6)."""

    seller_wh: int
    buyer_wh: int
    delivered_wh: int
    paid_wh: int
    paid: Money
    seller_penalty: Money
    buyer_penalty: Money
    seller_credit_delta: int
    buyer_credit_delta: int


class TradeView(Answer, frozen=True, kw_only=True):
    """GET /v1/trades/{id}."""

    id: str
    state: str
    terms: TermsInfo
    escrow: Money
    history: list[TransitionInfo]
    slots: list[SlotInfo]
    settlement: SettlementInfo | None
    proof: StateProofText | None = None


class QuoteView(Answer, frozen=True, kw_only=True):
    """POST /v1/quotes: what a trade would bind and risk; nothing is sent."""

    terms: TermsInfo
    value: Money
    buyer_escrow: Money
    seller_escrow: Money
    seller_worst_credit: int
    buyer_worst_credit: int


# ---- the node


class PeerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A peer as the transport sees it."""

    address: str
    public_key: str
    connected: bool
    endpoint: str
    height: int | None


class PoolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The mempool's fill."""

    transactions: int
    bytes: int
    max_transactions: int
    max_bytes: int


class VotesInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The last votes seen of one delegate (LESSONS 21)."""

    address: str
    rank: int
    primary: bool
    height: int | None
    view: int | None
    phase: str | None
    age_ms: int | None


class ConsensusInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The undecided height."""

    height: int
    view: int
    phase: str
    delegates: list[VotesInfo]


class StatusView(Answer, frozen=True, kw_only=True):
    """GET /v1/status; ``height`` is the last decided block's."""

    block_time_ms: int
    version: str
    protocol_version: int
    chain_id: str
    chain_name: str
    address: str
    public_key: str
    role: str
    group: int | None
    epoch: int
    epoch_phase: str
    primary: str | None
    """Primary of the present view of the undecided height."""
    consensus: ConsensusInfo
    bft: bool
    caught_up: bool
    best_known_height: int
    abstaining_until: int | None
    leaves_at_height: int | None
    ready: bool
    not_ready_because: list[str]
    peers: list[PeerInfo]
    pool: PoolInfo
    members: int
    last_commit_age_ms: int
    uptime_ms: int


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """/livez and /readyz."""

    live: bool
    ready: bool
    problems: list[str]


class ProblemView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    action: str = ""
    """What to do."""
    retry_after_ms: int | None = None
    id: str | None = None
    """Id of the transaction concerned."""
    state: str | None = None
    """Its state."""
    height: int | None = None
    block_hash: str | None = None
