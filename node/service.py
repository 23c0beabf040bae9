"""What a running node offers to its HTTP API: one typed surface, so that the API knows no ledger, pool or replica.

Everything here runs on the node's event loop. Plain methods answer from memory and from bounded key reads of the
ledger, never from scans (LESSONS 14, 19): a page has at most `MAX_PAGE_ITEMS` rows. Coroutines wait for something.
Every answer that reads state carries the `LedgerPosition` it was read at.
"""

import enum
from collections.abc import AsyncIterator
from typing import Final, Generic, Protocol, TypeVar

from consensus.block import Block, Certificate, Header
from consensus.delegates import Delegate
from consensus.merkle import MerklePath
from consensus.types import Address, Digest, PublicKey, Value
from contracts.genesis import Genesis
from contracts.receipts import (
    CreditReason,
    EpochPhase,
    Event,
    GroupTallied,
    Receipt,
    TradeSettled,
    TradeState,
)
from contracts.state_tree import StateProof
from contracts.transaction import Payload, Terms

T = TypeVar("T")

DEFAULT_PAGE_ITEMS: Final = 30
MAX_PAGE_ITEMS: Final = 100
"""Lists are paged, 30 by default, 100 at most."""


class LedgerPosition(Value, frozen=True):
    """The decided block that an answer was read at."""

    height: int
    block_hash: Digest
    time_ms: int
    """Block time of that block (PROTOCOL 0.1)."""


class Page(Value, Generic[T], frozen=True):
    """One page of a list; ``next_cursor`` is opaque text for the following page, None at the end."""

    at: LedgerPosition
    items: tuple[T, ...]
    next_cursor: str | None


class TransactionState(enum.StrEnum):
    """What a submitter sees (PROTOCOL 9.3)."""

    PENDING = "pending"
    COMMITTED = "committed"
    """In a decided block with receipt code OK."""
    REJECTED = "rejected"
    """In a decided block with another receipt code, or never admitted (then without a height)."""
    DISCARDED = "discarded"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class SubmitCode(enum.StrEnum):
    """Stable answers to a submission; the API maps them to HTTP status codes."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    """The same id was submitted before: the outcome shows its present state (idempotent)."""
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    FOREIGN_CHAIN = "foreign_chain"
    BAD_SIGNATURE = "bad_signature"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REFUSED = "refused"
    """Another rule of PROTOCOL 6.8 that needs no state; ``reason`` says which."""
    POOL_FULL = "pool_full"
    SENDER_LIMIT = "sender_limit"
    NOT_READY = "not_ready"


class SubmitOutcome(Value, frozen=True):
    """Answer to one submission; ``id`` is None if the bytes could not be decoded."""

    code: SubmitCode
    id: Digest | None
    state: TransactionState | None
    reason: str = ""
    retry_after_ms: int | None = None
    """Set with POOL_FULL, SENDER_LIMIT and NOT_READY."""
    holders: int = 0
    """Current delegates to whom live connections carried it, this node included (LESSONS 17)."""

    @property
    def accepted(self) -> bool:
        """Whether the node holds the transaction or knows how it ended."""
        return self.code in (SubmitCode.ACCEPTED, SubmitCode.KNOWN)


class CertifiedHeader(Value, frozen=True):
    """A header and the q commits that decided it."""

    header: Header
    certificate: Certificate


class ReceiptProof(Value, frozen=True):
    """That a receipt stands in the ledger: header h + 1 carries the receipts root of block h (PROTOCOL 9.1, 9.3).

    Leaf = `consensus.merkle.leaf_hash` of the encoded receipt under ``next.header.receipts_root``;
    the transaction's reference stands in ``header.transactions_root`` by ``transaction_path``.
    """

    header: Header
    transaction_path: MerklePath | None
    """None for a discarded transaction, which is in no block's transactions."""
    receipt_path: MerklePath
    next: CertifiedHeader


class TransactionStatus(Value, frozen=True):
    """GET /v1/transactions/{id}."""

    at: LedgerPosition
    id: Digest
    state: TransactionState
    height: int | None = None
    index: int | None = None
    """Position in the block."""
    raw: bytes | None = None
    """Full bytes, where this node holds them."""
    receipt: Receipt | None = None
    reason: str = ""
    """Name of the receipt's reason code in lower case, or why it expired."""
    holders: int = 0
    proof: ReceiptProof | None = None
    """Asked for, and header h + 1 is decided; None until then."""


class StateEntryProof(Value, frozen=True):
    """A state entry after block ``next.header.height - 1``, under that header's state root (PROTOCOL 9.5)."""

    proof: StateProof
    next: CertifiedHeader


class DelegateChange(Value, frozen=True):
    """A link of the chain of set hashes: ``certified`` (height h, decided by C(h)) names C(h + 1) != C(h).

    A client with the genesis starts from C(1) = C(2) and follows these links to any certificate (PROTOCOL 9.5, 10.1).
    """

    certified: CertifiedHeader
    next_delegates: tuple[Delegate, ...]


class MemberView(Value, frozen=True):
    """A member or leaver (PROTOCOL 1.1)."""

    address: Address
    public_key: PublicKey
    balance: int
    credit: int
    energy_wh: int
    open_contracts: int
    active_epoch: int
    left_height: int | None
    group: int | None
    """Its group in the current epoch; None if not grouped."""
    seat: int | None
    """Rank in C(next height), 0 first; None if it holds no seat."""
    meter_public_key: PublicKey | None
    max_power_w: int | None


class MemberAnswer(Value, frozen=True):
    """One member, at a position."""

    at: LedgerPosition
    member: MemberView


class CreditEntry(Value, frozen=True):
    """One ledger entry of a member's credit, newest first in pages (PROTOCOL 3.5)."""

    height: int
    time_ms: int
    reason: CreditReason
    delta: int
    credit: int
    """After the change."""


class GroupView(Value, frozen=True):
    """One group of an epoch."""

    number: int
    members: tuple[Address, ...]
    delegate: Address | None
    """Holder of its seat now; None where the epoch has no seat for it."""
    energy_wh: int
    credit: int
    """Sums of the snapshot's N and T."""


class GroupsAnswer(Value, frozen=True):
    """The current epoch's groups."""

    at: LedgerPosition
    epoch: int
    groups: tuple[GroupView, ...]


class EpochAnswer(Value, frozen=True):
    """An epoch as far as the ledger knows it."""

    at: LedgerPosition
    epoch: int
    phase: EpochPhase | None
    """Phase of the next block if the epoch is the current one; None for one that is over or not begun."""
    first_height: int | None
    snapshot_height: int | None
    """Snapshot taken in this epoch, for the next one's groups (PROTOCOL 4.4)."""
    closing_height: int | None
    members: tuple[Address, ...]
    """Eligible members in address order, whose groups ``assignment`` names."""
    assignment: tuple[int, ...]
    energy_excess_wh: int
    credit_excess: int
    submitted_plan: bool
    """The groups come from a committed plan, not the built-in one."""
    delegates: tuple[Address, ...]
    """Ranking at the epoch's first height."""
    tallies: tuple[GroupTallied, ...]
    """Elections of this epoch's seats, recounts included, oldest first."""


class DelegatesAnswer(Value, frozen=True):
    """C(height) in ranking order."""

    at: LedgerPosition
    height: int
    epoch: int
    ranking: tuple[Delegate, ...]
    primary: Address
    """primary(height, 0) for an undecided height, else the block's proposer."""
    quorum: int
    faults: int
    set_hash: Digest


class ParametersAnswer(Value, frozen=True):
    """Genesis and chain id."""

    at: LedgerPosition
    chain_id: Digest
    genesis: Genesis


class BlockSummary(Value, frozen=True):
    """A line of the block list."""

    height: int
    hash: Digest
    time_ms: int
    epoch: int
    view: int
    proposer: Address
    transactions: int
    discarded: int


class BlockAnswer(Value, frozen=True):
    """A decided block with ids and receipts in block order; the block's own receipt is last."""

    at: LedgerPosition
    hash: Digest
    block: Block
    transaction_ids: tuple[Digest, ...]
    receipts: tuple[Receipt, ...]


class CertificateAnswer(Value, frozen=True):
    """A block's header and certificate with the set that made it."""

    at: LedgerPosition
    certified: CertifiedHeader
    ranking: tuple[Delegate, ...]


class TradeSummary(Value, frozen=True):
    """A line of the trade list, newest first."""

    id: Digest
    state: TradeState
    terms: Terms
    height: int
    """Block of the offer or opening."""


class TradeSlot(Value, frozen=True):
    """One line of a trade's slot table (PROTOCOL 2.5)."""

    slot: int
    start_ms: int
    contracted_wh: int
    seller_allocated_wh: int | None
    """None: not allocated yet."""
    seller_read: bool | None
    """Whether a reading stood behind it; None while open."""
    buyer_allocated_wh: int | None
    buyer_read: bool | None
    paid_wh: int | None
    """Growth of what is paid for; None until both sides of this and every earlier slot are allocated."""
    seller_metered_wh: int | None = None
    """The seller's export register, for all its contracts together; None without a reading."""
    buyer_metered_wh: int | None = None
    """The buyer's import register."""


class TradeTransition(Value, frozen=True):
    """A change of state on the ledger."""

    height: int
    time_ms: int
    state: TradeState


class TradeAnswer(Value, frozen=True):
    """One trade, also after it left the hot state."""

    at: LedgerPosition
    id: Digest
    state: TradeState
    terms: Terms
    escrow: int
    """Nano-units held now; 0 after the end."""
    history: tuple[TradeTransition, ...]
    slots: tuple[TradeSlot, ...]
    settlement: TradeSettled | None
    seller_credit_delta: int
    buyer_credit_delta: int
    """Milli-credits taken at settlement, 0 or negative (PROTOCOL 2.6)."""


class Quote(Value, frozen=True):
    """What a trade would bind and risk; nothing is sent."""

    at: LedgerPosition
    value: int
    """quantity_wh * price, nano-units."""
    buyer_escrow: int
    """Payment and deposit."""
    seller_escrow: int
    """Deposit."""
    seller_worst_credit: int
    buyer_worst_credit: int
    """Milli-credits lost if nothing at all is delivered or taken."""


class EventRecord(Value, frozen=True):
    """An event of one block, in order; ``(height, sequence)`` identifies it for ever."""

    height: int
    sequence: int
    """Position among all events of the block, 0 first."""
    transaction_id: Digest | None
    """None for what no single transaction caused."""
    event: Event


class BlockEvents(Value, frozen=True):
    """All events of one decided block, also of one without any."""

    height: int
    block_hash: Digest
    time_ms: int
    transactions: int
    records: tuple[EventRecord, ...]


class PeerView(Value, frozen=True):
    """A peer as the transport sees it."""

    public_key: PublicKey
    address: Address
    connected: bool
    endpoint: str
    """host:port of its address record; empty if unknown."""
    height: int | None
    """Highest certified height it told us."""


class PoolView(Value, frozen=True):
    """The mempool's fill."""

    transactions: int
    bytes: int
    max_transactions: int
    max_bytes: int


class DelegateVotes(Value, frozen=True):
    """The last votes seen of one delegate of the undecided height (LESSONS 21)."""

    address: Address
    rank: int
    primary: bool
    """Primary of the present view."""
    height: int | None
    view: int | None
    phase: str | None
    """"pre-prepare", "prepare", "commit", "view-change" or "new-view"; None: nothing seen yet."""
    age_ms: int | None


class Role(enum.StrEnum):
    """What this node is at the undecided height."""

    PRIMARY = "primary"
    DELEGATE = "delegate"
    MEMBER = "member"
    OBSERVER = "observer"
    """Not registered, or it has left and no longer serves."""


class StatusAnswer(Value, frozen=True):
    """GET /v1/status: what the node does and, if it does not decide, why."""

    at: LedgerPosition
    version: str
    protocol_version: int
    chain_id: Digest
    chain_name: str
    address: Address
    public_key: PublicKey
    role: Role
    group: int | None
    epoch: int
    epoch_phase: EpochPhase
    height: int
    """Undecided height."""
    view: int
    consensus_phase: str
    delegates: tuple[DelegateVotes, ...]
    bft: bool
    """False: fewer than 4 delegates survive no fault (PROTOCOL 6.2)."""
    caught_up: bool
    best_known_height: int
    """Highest certified height that any peer told."""
    abstaining_until: int | None
    """Nothing is signed at heights up to this one (journal lost, 6.5); -1: not known yet; None: it signs."""
    leaves_at_height: int | None
    """First height without this node's seat, once a set without it is known (PROTOCOL 1.7)."""
    ready: bool
    not_ready_because: tuple[str, ...]
    peers: tuple[PeerView, ...]
    pool: PoolView
    members: int
    last_commit_age_ms: int
    uptime_ms: int


class Health(Value, frozen=True):
    """/livez and /readyz: each with what is wrong, in words."""

    live: bool
    ready: bool
    problems: tuple[str, ...]


class Figures(Value, frozen=True):
    """Counts and gauges for /metrics, since the start of the process."""

    height: int
    view: int
    blocks_committed: int
    transactions_committed: int
    transactions_rejected: int
    submissions_accepted: int
    submissions_refused: int
    signatures_verified: int
    view_changes: int
    journal_syncs: int
    journal_sync_ms: float
    journal_bytes: int
    ledger_bytes: int
    pool_transactions: int
    pool_bytes: int
    peers_connected: int
    messages_received: int
    loop_lag_ms: float
    """Largest delay of the event loop over the last ten seconds."""
    last_commit_age_ms: int
    resident_bytes: int


class UnknownResource(LookupError):
    """What was asked for is not in the ledger; the text says what (HTTP 404)."""


class InvalidCursor(ValueError):
    """A cursor, range or page size that this node did not give out or does not allow (HTTP 400)."""


class TooManySubscribers(RuntimeError):
    """The bound on event streams is reached (HTTP 429)."""


class NodeService(Protocol):
    """The surface of a running node; implemented by `node.member.MemberNode`."""

    # ---- submitting

    async def submit(self, raw: bytes) -> SubmitOutcome:
        """Take one signed transaction in its canonical bytes; the same bytes again give the same answer."""

    async def submit_many(self, raws: list[bytes]) -> list[SubmitOutcome]:
        """Take many, one answer each, in order; decoded together, signatures checked in one batch."""

    async def sign_and_submit(self, payload: Payload) -> SubmitOutcome:
        """Sign ``payload`` with the node's own key (window from now, random nonce) and submit it."""

    async def vote(self, choices: tuple[Address, ...]) -> SubmitOutcome:
        """Sign and submit the node's own ballot for the epoch that accepts ballots now (PROTOCOL 5.2, 7.2)."""

    def transaction_status(self, transaction_id: Digest, *, proof: bool = False) -> TransactionStatus:
        """PROTOCOL 9.3; state UNKNOWN instead of an error for an id never seen."""

    async def wait_committed(self, transaction_id: Digest, timeout_ms: int) -> TransactionStatus:
        """The status once it is final, or as it is when the timeout runs out (never a failure, 9.3)."""

    # ---- reading the ledger; `UnknownResource` for what does not exist, `InvalidCursor` for bad cursors

    def position(self) -> LedgerPosition:
        """The last decided block."""

    def members(self, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS) -> Page[MemberView]:
        """All members and leavers in address order."""

    def member(self, address: Address) -> MemberAnswer:
        """One member."""

    def credit_history(
        self, address: Address, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS
    ) -> Page[CreditEntry]:
        """A member's credit changes with reasons, newest first."""

    def groups(self) -> GroupsAnswer:
        """The current epoch's groups."""

    def epoch(self, number: int) -> EpochAnswer:
        """An epoch: heights, groups, delegates and tallies."""

    def current_epoch(self) -> int:
        """Epoch of the next block."""

    def delegates(self, height: int | None = None) -> DelegatesAnswer:
        """C(height); by default of the undecided height, at most one above it."""

    def delegate_changes(
        self, from_height: int = 1, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS
    ) -> Page[DelegateChange]:
        """Links of the chain of set hashes at heights from ``from_height`` on, oldest first."""

    def parameters(self) -> ParametersAnswer:
        """Genesis, with the rules of PROTOCOL 11."""

    def blocks(self, cursor: str | None = None, limit: int = DEFAULT_PAGE_ITEMS) -> Page[BlockSummary]:
        """Decided blocks, newest first."""

    def block(self, height: int) -> BlockAnswer:
        """A decided block with its receipts."""

    def certificate(self, height: int) -> CertificateAnswer:
        """A decided block's header and certificate."""

    def certified_block(self, height: int) -> bytes:
        """Canonical bytes of `consensus.block.CertifiedBlock`, for auditors."""

    def trades(
        self,
        party: Address | None = None,
        state: TradeState | None = None,
        cursor: str | None = None,
        limit: int = DEFAULT_PAGE_ITEMS,
    ) -> Page[TradeSummary]:
        """Trades, newest first, of one party or of all, in one state or in any."""

    def trade(self, contract_id: Digest) -> TradeAnswer:
        """One trade with history, slot table and settlement."""

    def quote(self, terms: Terms) -> Quote:
        """Escrow and worst-case credit loss of ``terms`` (PROTOCOL 2.2, 2.6)."""

    async def account_proof(self, address: Address, timeout_ms: int) -> StateEntryProof:
        """The account's entry, proven by the next header; `TimeoutError` if none is decided in time."""

    async def contract_proof(self, contract_id: Digest, timeout_ms: int) -> StateEntryProof:
        """A contract in the hot state (or its absence), proven by the next header."""

    # ---- events

    def events(self, from_height: int, after_sequence: int | None = None) -> AsyncIterator[BlockEvents]:
        """Blocks from ``from_height`` on, for ever, each exactly once, read from the ledger at the reader's pace.

        With ``after_sequence`` the first block's records start behind that sequence (resumption inside a block).
        Raises `TooManySubscribers` on the first step when the bound is reached.
        """

    # ---- the node itself

    def status(self) -> StatusAnswer:
        """What the node is doing."""

    def health(self) -> Health:
        """Live: the consensus task runs and the loop turns. Ready: caught up, and commits come (10.2, LESSONS 11)."""

    def figures(self) -> Figures:
        """Numbers for /metrics."""
