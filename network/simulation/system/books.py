"""S7 by a second, plain set of books: money, escrow, energy and credit, from genesis, transactions and events."""

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.types import Address, Digest
from contracts.genesis import Genesis
from contracts.receipts import (
    BalanceChanged,
    CreditChanged,
    Event,
    MemberJoined,
    MemberLeft,
    MoneyIssued,
    MoneyRedeemed,
    Receipt,
    TradeChanged,
    TradeSettled,
    TradeState,
)
from contracts.state import SINGLETON, State
from contracts.transaction import Terms, TradeOffer, TradeOpen, Transaction
from network.simulation.checkers import demand

ENTRY_CREDIT = 50_000


@dataclass
class Book:
    """What one member has."""

    balance: int
    credit: int
    energy_wh: int = 0
    member: bool = True


class Books:
    """Told every decided block once, in order."""

    def __init__(self, genesis: Genesis) -> None:
        self._entry_balance = genesis.entry_balance
        self.of: dict[Address, Book] = {
            member.address: Book(genesis.founding_balance, ENTRY_CREDIT) for member in genesis.members
        }
        self._money = genesis.founding_balance * len(genesis.members)
        self._balances = self._money
        self._escrow = 0
        self._terms: dict[Digest, Terms] = {}
        self._live: dict[Digest, int] = {}
        """Escrow of each contract in force."""

    def block(self, height: int, transactions: Sequence[Transaction], receipts: Sequence[Receipt]) -> None:
        """Book a block."""
        for transaction in transactions:
            if isinstance(transaction.payload, TradeOffer | TradeOpen):
                self._terms[transaction.id] = transaction.payload.terms
        for receipt in receipts:
            for event in receipt.events:
                self._event(event, height)
        demand(self._escrow >= 0, f"S7: the escrow is below 0 at height {height}")
        demand(
            self._balances + self._escrow == self._money,
            f"S7: balances {self._balances} and escrow {self._escrow} are not {self._money} at height {height}",
        )

    def _event(self, event: Event, height: int) -> None:
        match event:
            case BalanceChanged():
                book = self.of[event.address]
                book.balance += event.delta
                self._balances += event.delta
                demand(
                    book.balance == event.balance >= 0, f"S7: a balance does not add up at height {height}"
                )
            case CreditChanged():
                book = self.of[event.address]
                book.credit += event.delta
                right = book.credit == event.credit and 0 <= event.credit <= 100_000 and event.delta
                demand(bool(right), f"S7, 3.5: credit does not add up at height {height}")
            case TradeSettled():
                terms = self._terms[event.contract_id]
                for party in (terms.seller, terms.buyer):
                    self.of[party].energy_wh += event.delivered_wh
                most = min(event.seller_wh, event.buyer_wh, terms.quantity_wh)
                demand(event.delivered_wh <= most, f"S7: more delivered than metered at height {height}")
            case TradeChanged():
                self._trade(event, height)
            case MemberJoined():
                self._join(event)
            case MemberLeft():
                self.of[event.address].member = False
            case MoneyIssued():
                self._money += event.amount
            case MoneyRedeemed():
                self._money -= event.amount
            case _:
                return

    def _join(self, event: MemberJoined) -> None:
        known = self.of.get(event.address)
        if known is not None:
            known.member = True
            return
        # Its grant and its first credit follow as events of their own.
        self.of[event.address] = Book(0, 0)
        self._money += self._entry_balance

    def _trade(self, event: TradeChanged, height: int) -> None:
        contract = event.contract_id
        if event.state is TradeState.ACTIVE:
            terms = self._terms[contract]
            value = terms.quantity_wh * terms.price
            demand(contract not in self._live, f"S7: a contract begins twice at height {height}")
            self._live[contract] = value + 2 * (value * terms.penalty_bp // 10_000)
            self._escrow += self._live[contract]
        elif event.state in (TradeState.SETTLED, TradeState.CANCELLED, TradeState.EXCUSED):
            demand(contract in self._live, f"S7: a contract ends twice at height {height}")
            self._escrow -= self._live.pop(contract)
            del self._terms[contract]
        elif event.state in (TradeState.WITHDRAWN, TradeState.DECLINED, TradeState.EXPIRED):
            del self._terms[contract]

    def compare(self, state: State, height: int) -> None:
        """The state's accounts and totals are those of the books."""
        accounts = dict(state.accounts.items())
        demand(
            accounts.keys() == self.of.keys(), f"S7: other accounts than the events tell at height {height}"
        )
        for address, account in accounts.items():
            book = self.of[address]
            found = (account.balance, account.credit, account.energy_wh, account.left_height is None)
            kept = (book.balance, book.credit, book.energy_wh, book.member)
            demand(
                found == kept,
                f"S7: {address.hex()} has {found}, its events add up to {kept}, height {height}",
            )
        totals = state.totals.require(SINGLETON)
        demand(
            (totals.balances, totals.escrow) == (self._balances, self._escrow),
            f"S7: the totals of height {height} are not the books'",
        )
        demand(len(self._live) == len(state.contracts), f"S7: contracts in force differ at height {height}")
