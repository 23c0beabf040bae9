"""What is on the wire, field by field (annex on blocks; on transactions, 2; on the state, 3)."""

from typing import Any, NamedTuple

from node.auditor.encoding import (
    Shape,
    binary,
    boolean,
    integer,
    many,
    optional,
    record,
    text,
    union,
)

NUMBER, ADDRESS, KEY, DIGEST, SIGNATURE = integer(), binary(20), binary(32), binary(32), binary(64)
BASIS_POINTS, POWER = integer(0, 10_000), integer(1, 100_000_000)
REGISTER, AMOUNT = integer(0, 10**12), integer(1)

MAX_GENESIS_BYTES = 8_388_608
MAX_BLOCK_BYTES = 4 * 1_048_576
"""Of an encoded block with its certificate."""
MAX_TRANSACTION_BYTES = 65_536
MAX_PRE_PREPARE_BYTES, MAX_VIEW_CHANGE_BYTES = 512, 262_144

# ---- genesis


class Parameters(NamedTuple):
    """PROTOCOL 11, in the order of the annex on the state, 3."""

    groups: int
    run_ms: int
    planning_ms: int
    voting_ms: int
    alpha: int
    beta: int
    delta: int
    gamma: int
    decay_bp: int
    trade_penalty: int
    trade_reference_wh: int
    candidate_floor: int
    dormant_epochs: int
    missed_limit: int
    missed_ms: int
    energy_tolerance_bp: int
    credit_tolerance_bp: int
    max_block_transactions: int
    max_block_bytes: int
    batch_wait_ms: int
    tx_window_ms: int
    view_timeout_ms: int
    view_timeout_max_ms: int
    request_timeout_ms: int
    empty_block_interval_ms: int
    max_drift_ms: int
    slot_ms: int
    slot_nominal_ms: int
    meter_deadline_ms: int
    max_power_w: int
    allow_non_bft: bool


class Registration(NamedTuple):
    """A founding member."""

    public_key: bytes
    meter_public_key: bytes
    max_power_w: int
    signature: bytes


INVITED, OPEN = 1, 2


class Genesis(NamedTuple):
    """Block 0."""

    version: int
    chain_name: str
    time_ms: int
    parameters: Parameters
    admission: int
    founding_balance: int
    entry_balance: int
    operators: tuple[bytes, ...]
    operator_threshold: int
    members: tuple[Registration, ...]


def _parameter(name: str) -> Shape:
    return boolean if name == "allow_non_bft" else BASIS_POINTS if name.endswith("_bp") else NUMBER


GENESIS = record(
    Genesis,
    NUMBER,
    text(1, 64),
    NUMBER,
    record(Parameters, *[_parameter(name) for name in Parameters._fields]),
    integer(INVITED, OPEN),
    NUMBER,
    NUMBER,
    many(KEY),
    NUMBER,
    many(record(Registration, KEY, KEY, POWER, SIGNATURE)),
)

# ---- blocks


class Header(NamedTuple):
    """PROTOCOL 9.1."""

    version: int
    chain_id: bytes
    height: int
    epoch: int
    view: int
    parent_hash: bytes
    time_ms: int
    proposer: bytes
    transactions_root: bytes
    last_commit_hash: bytes
    discarded_root: bytes
    receipts_root: bytes
    state_root: bytes
    delegates_hash: bytes
    next_delegates_hash: bytes


class Certificate(NamedTuple):
    """q commits of one view; ``signatures`` are (key, signature) in ranking order."""

    epoch: int
    height: int
    view: int
    digest: bytes
    signatures: tuple[tuple[bytes, bytes], ...]


class Path(NamedTuple):
    """A Merkle path."""

    place: int
    total: int
    siblings: tuple[bytes, ...]


class FailedProposal(NamedTuple):
    """A proposal of a failed view, with the view-changes that name it as accepted."""

    header: Header
    path: Path
    pre_prepare: bytes
    view_changes: tuple[bytes, ...]


class Discard(NamedTuple):
    """The removal of one transaction (PROTOCOL 6.10)."""

    transaction_id: bytes
    transaction: bytes
    proposals: tuple[FailedProposal, ...]


class Block(NamedTuple):
    """What three phases decide."""

    header: Header
    transactions: tuple[bytes, ...]
    last_commit: Certificate | None
    discarded: tuple[Discard, ...]


class CertifiedBlock(NamedTuple):
    """A decided block and what proves it."""

    block: Block
    certificate: Certificate


def pair(*items: Any) -> tuple[Any, ...]:
    """A record without a name."""
    return items


_SIGNED = many(record(pair, KEY, SIGNATURE))
HEADER = record(Header, NUMBER, DIGEST, *[NUMBER] * 3, DIGEST, NUMBER, ADDRESS, *[DIGEST] * 7)
CERTIFICATE = record(Certificate, NUMBER, NUMBER, NUMBER, DIGEST, _SIGNED)
PATH = record(Path, NUMBER, NUMBER, many(DIGEST))
DISCARD = record(
    Discard, DIGEST, binary(), many(record(FailedProposal, HEADER, PATH, binary(), many(binary())))
)
CERTIFIED_BLOCK = record(
    CertifiedBlock,
    record(Block, HEADER, many(binary()), optional(CERTIFICATE), many(DISCARD)),
    CERTIFICATE,
)

# ---- votes

PRE_PREPARE, PREPARE, COMMIT, VIEW_CHANGE = 1, 2, 3, 5


class Vote(NamedTuple):
    """A pre-prepare, prepare or commit; ``phase`` tells which."""

    phase: int
    epoch: int
    height: int
    view: int
    digest: bytes
    signer: bytes
    signature: bytes


class ViewChange(NamedTuple):
    """``prepared`` is nil or (pre-prepare, prepares), ``accepted`` ascending (view, digest)."""

    phase: int
    epoch: int
    height: int
    view: int
    prepared: tuple[Vote, tuple[Vote, ...]] | None
    accepted: tuple[tuple[int, bytes], ...]
    signer: bytes
    signature: bytes


def _vote(phase: int) -> Shape:
    return record(Vote, NUMBER, NUMBER, NUMBER, DIGEST, KEY, SIGNATURE, tag=phase)


PRE_PREPARE_VOTE, PREPARE_VOTE, COMMIT_VOTE = _vote(PRE_PREPARE), _vote(PREPARE), _vote(COMMIT)
ANY_VOTE = union({PRE_PREPARE: PRE_PREPARE_VOTE, PREPARE: PREPARE_VOTE, COMMIT: COMMIT_VOTE})
VIEW_CHANGE_MESSAGE = record(
    ViewChange,
    NUMBER,
    NUMBER,
    NUMBER,
    optional(record(pair, PRE_PREPARE_VOTE, many(PREPARE_VOTE))),
    many(record(pair, NUMBER, DIGEST)),
    KEY,
    SIGNATURE,
    tag=VIEW_CHANGE,
)

# ---- transactions

(JOIN, LEAVE, TRANSFER, ISSUE, REDEEM, TRADE_OPEN, TRADE_OFFER, TRADE_ACCEPT, TRADE_WITHDRAW) = range(1, 10)
(TRADE_DECLINE, TRADE_CANCEL, EXCUSE, READINGS, BALLOTS, PLAN, HEARTBEAT, EVIDENCE, CHANGE_METER) = range(
    10, 19
)
TYPE_NAMES = [
    "-",
    "join",
    "leave",
    "transfer",
    "issue",
    "redeem",
    "trade_open",
    "trade_offer",
    "trade_accept",
    "trade_withdraw",
    "trade_decline",
    "trade_cancel",
    "excuse",
    "readings",
    "ballots",
    "plan",
    "heartbeat",
    "evidence",
    "change_meter",
]
PAY_ACTUAL, TAKE_OR_PAY = 1, 2


class Meter(NamedTuple):
    """A meter with the operators' approvals, (key, signature) each."""

    public_key: bytes
    max_power_w: int
    approvals: tuple[tuple[bytes, bytes], ...]


class Invite(NamedTuple):
    """Permission to join."""

    public_key: bytes
    last_time_ms: int
    approvals: tuple[tuple[bytes, bytes], ...]


class Terms(NamedTuple):
    """What seller and buyer fix before delivery (PROTOCOL 2.1)."""

    seller: bytes
    buyer: bytes
    quantity_wh: int
    price: int
    start_ms: int
    slots: int
    penalty_bp: int
    buyer_rule: int
    expiry_ms: int

    @property
    def value(self) -> int:
        """The price of the whole quantity."""
        return self.quantity_wh * self.price

    @property
    def deposit(self) -> int:
        """Of each party."""
        return self.value * self.penalty_bp // 10_000


class Reading(NamedTuple):
    """A meter's registers of one slot."""

    member: bytes
    slot: int
    counter: int
    exported_wh: int
    imported_wh: int
    public_key: bytes
    signature: bytes


class Ballot(NamedTuple):
    """A vote for a seat."""

    voter: bytes
    epoch: int
    sequence: int
    choices: tuple[bytes, ...]
    public_key: bytes
    signature: bytes


class Plan(NamedTuple):
    """A grouping and the score it claims."""

    epoch: int
    assignment: tuple[int, ...]
    energy_excess_wh: int
    credit_excess: int


_APPROVALS = many(record(pair, KEY, SIGNATURE), 0, 16)
METER = record(Meter, KEY, POWER, _APPROVALS)
INVITE = record(Invite, KEY, NUMBER, _APPROVALS)
TERMS = record(
    Terms,
    ADDRESS,
    ADDRESS,
    integer(1, 10**9),
    integer(0, 10**9),
    NUMBER,
    integer(1, 96),
    BASIS_POINTS,
    integer(PAY_ACTUAL, TAKE_OR_PAY),
    NUMBER,
)
READING = record(Reading, ADDRESS, NUMBER, NUMBER, REGISTER, REGISTER, KEY, SIGNATURE)
BALLOT = record(Ballot, ADDRESS, NUMBER, NUMBER, many(ADDRESS, 1, 3), KEY, SIGNATURE)
CONFLICT, BAD_TRANSACTION, BAD_HEADER = 1, 2, 3
PROOF = union(
    {
        CONFLICT: record(pair, ANY_VOTE, ANY_VOTE, tag=CONFLICT),
        BAD_TRANSACTION: record(pair, PRE_PREPARE_VOTE, HEADER, PATH, binary(), tag=BAD_TRANSACTION),
        BAD_HEADER: record(pair, PRE_PREPARE_VOTE, HEADER, tag=BAD_HEADER),
    }
)
_ONE_DIGEST, _TERMS = record(pair, DIGEST), record(pair, TERMS)
PAYLOADS: dict[int, Shape] = {
    JOIN: record(pair, KEY, METER, optional(INVITE)),
    LEAVE: record(pair),
    TRANSFER: record(pair, ADDRESS, AMOUNT),
    ISSUE: record(pair, ADDRESS, AMOUNT),
    REDEEM: record(pair, AMOUNT),
    TRADE_OPEN: _TERMS,
    TRADE_OFFER: _TERMS,
    TRADE_ACCEPT: _ONE_DIGEST,
    TRADE_WITHDRAW: _ONE_DIGEST,
    TRADE_DECLINE: _ONE_DIGEST,
    TRADE_CANCEL: _ONE_DIGEST,
    EXCUSE: _ONE_DIGEST,
    READINGS: record(pair, many(READING, 1, 256)),
    BALLOTS: record(pair, many(BALLOT, 1, 128)),
    PLAN: record(Plan, NUMBER, many(NUMBER), NUMBER, NUMBER),
    HEARTBEAT: record(pair, NUMBER, optional(COMMIT_VOTE)),
    EVIDENCE: record(pair, PROOF),
    CHANGE_METER: record(pair, METER),
}


class Body(NamedTuple):
    """What is hashed for the id and signed."""

    chain_id: bytes
    type: int
    sender: bytes
    valid_from_ms: int
    valid_until_ms: int
    nonce: int
    payload: Any


class Transaction(NamedTuple):
    """A body and its signatures, (key, signature) each, the sender's first."""

    body: Body
    signatures: tuple[tuple[bytes, bytes], ...]


_BODY = record(
    Body, DIGEST, integer(JOIN, CHANGE_METER), ADDRESS, NUMBER, NUMBER, NUMBER, lambda plain: plain
)


def _body(value: Any) -> Body:
    body: Body = _BODY(value)
    return body._replace(payload=PAYLOADS[body.type](body.payload))


TRANSACTION = record(Transaction, _body, many(record(pair, KEY, SIGNATURE), 1, 18))
