"""The ledger at work on one block: state, what indexes it, and the few acts that all rules share."""

import enum
from typing import Any

from node.auditor.encoding import MAX_INTEGER
from node.auditor.shapes import Genesis, Parameters
from node.auditor.state import Account, State

MAX_CREDIT, ENTRY_CREDIT = 100_000, 50_000


class Code(enum.IntEnum):
    """Codes of receipts (annex on transactions, 4)."""

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


class Refused(Exception):
    """A rule that needs the state fails; nothing has changed."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


def demand(holds: object, code: Code) -> None:
    """Refuse with ``code`` unless ``holds``."""
    if not holds:
        raise Refused(code)


class Event(enum.IntEnum):
    """Numbers of events."""

    BALANCE_CHANGED = 1
    CREDIT_CHANGED = 2
    MEMBER_JOINED = 3
    MEMBER_LEFT = 4
    METER_CHANGED = 5
    TRADE_CHANGED = 6
    TRADE_SETTLED = 7
    READING_ACCEPTED = 8
    SLOT_ALLOCATED = 9
    BALLOT_ACCEPTED = 10
    PLAN_ACCEPTED = 11
    PHASE_CHANGED = 12
    GROUPS_FORMED = 13
    GROUP_TALLIED = 14
    DELEGATES_CHANGED = 15
    FAULT_RECORDED = 16
    TRANSACTION_DISCARDED = 17
    MONEY_ISSUED = 18
    MONEY_REDEEMED = 19
    HEARTBEAT_SEEN = 20
    CANCEL_SIGNED = 21
    TRADE_EXCUSED = 22


class Trade(enum.IntEnum):
    """States of a trade (PROTOCOL 2.3)."""

    OFFERED = 1
    ACTIVE = 2
    METERING = 3
    SETTLED = 4
    WITHDRAWN = 5
    DECLINED = 6
    EXPIRED = 7
    CANCELLED = 8
    EXCUSED = 9


class Reason(enum.IntEnum):
    """Why credit changed (PROTOCOL 3.5)."""

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


class Ledger:
    """State and rules of one chain, and the block that is being executed."""

    def __init__(self, genesis: Genesis, chain_id: bytes) -> None:
        self.genesis = genesis
        self.chain_id = chain_id
        self.parameters: Parameters = genesis.parameters
        self.state = State()
        self.height = 0
        self.time_ms = genesis.time_ms
        self.chain_ms = 0
        self.epoch = 0
        self.events: list[tuple[Any, ...]] = []
        self.settled = 0
        self.elections = 0

    def emit(self, event: Event, *fields: Any) -> None:
        """An event of the receipt that is being made."""
        self.events.append((event, *fields))

    def take_events(self) -> tuple[tuple[Any, ...], ...]:
        """The events since the last call."""
        events, self.events = tuple(self.events), []
        return events

    # ---- members

    def member(self, address: bytes) -> Account:
        """The account of a member; refused for others and for who has left."""
        account = self.state.accounts.get(address)
        if account is None:
            raise Refused(Code.NOT_A_MEMBER)
        demand(account.left_height is None, Code.MEMBER_HAS_LEFT)
        return account

    def is_member(self, address: bytes) -> bool:
        """Has an account and has not left."""
        account = self.state.accounts.get(address)
        return account is not None and account.left_height is None

    def demand_operators(self, keys: list[bytes]) -> None:
        """Enough distinct operators among ``keys`` (PROTOCOL 1.6)."""
        named = len(set(keys) & set(self.genesis.operators))
        demand(named >= max(1, self.genesis.operator_threshold), Code.OPERATOR_APPROVAL_MISSING)

    def update(self, address: bytes, **fields: Any) -> None:
        """Give an account other figures."""
        accounts = self.state.accounts
        accounts.put(address, accounts[address]._replace(**fields))

    # ---- sums

    def add_totals(self, **deltas: int) -> None:
        """Add to the sums."""
        totals = self.state.totals.value
        self.state.totals.value = totals._replace(
            **{name: getattr(totals, name) + delta for name, delta in deltas.items()}
        )

    def demand_room(self, greatest: int, amount: int) -> None:
        """A sum above 2^63 - 1 is refused (PROTOCOL 1.2)."""
        demand(greatest + amount <= MAX_INTEGER, Code.TOTAL_TOO_LARGE)

    def change_balance(self, address: bytes, delta: int) -> None:
        """Book money; nothing for 0."""
        if delta:
            balance = self.state.accounts[address].balance + delta
            self.update(address, balance=balance)
            self.emit(Event.BALANCE_CHANGED, address, delta, balance)

    def change_credit(self, address: bytes, reason: Reason, delta: int) -> None:
        """Book credit, clamped to 0..100 000; nothing if nothing is left of it (PROTOCOL 3.5)."""
        old = self.state.accounts[address].credit
        credit = min(max(old + delta, 0), MAX_CREDIT)
        if credit != old:
            self.update(address, credit=credit)
            self.emit(Event.CREDIT_CHANGED, address, reason, credit - old, credit)
