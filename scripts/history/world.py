"""A small made-up ledger for generated histories: transfers, trades, elections, credit, as rows (no signatures)."""

import random
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from scripts.history.chain import (
    BalanceChanged,
    BallotAccepted,
    Block,
    Chain,
    CreditChanged,
    DelegatesChanged,
    Event,
    FaultRecorded,
    GroupsFormed,
    GroupTallied,
    Item,
    Member,
    PhaseChanged,
    ReadingAccepted,
    Rules,
    SlotAllocated,
    Terms,
    TradeChanged,
    TradeSettled,
    Transfer,
)
from scripts.history.electorate import Electorate, Result, count, ranked

MEMBERS: Final = 8
GROUPS: Final = 4
BALANCE: Final = 10**15
CREDIT: Final = 50_000
BLOCK_MS: Final = 100
RUNNING, PLANNING, VOTING, CLOSING = 7, 2, 3, 1
"""Blocks of each phase."""
EPOCH_BLOCKS: Final = RUNNING + PLANNING + VOTING + CLOSING
BALANCE_TOO_LOW: Final = 14
FAULT_CHANCE: Final = 0.02


def name(*parts: object) -> str:
    """64 hex digits of their own."""
    return sha256("/".join(map(str, parts)).encode()).hexdigest()


class World:
    """A ledger that grows by `block`."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(f"world {seed}")
        self.members = sorted(name(seed, "member", number)[:40] for number in range(MEMBERS))
        self.rules = Rules()
        self.chain_id = name(seed, "chain")
        self.blocks: list[Block] = []
        self.balances = dict.fromkeys(self.members, BALANCE)
        self.groups = GroupsFormed(0, tuple(self.members), tuple(n % GROUPS for n in range(MEMBERS)))
        self.delegates = tuple(self.members[:GROUPS])
        self.seats: list[tuple[int, tuple[str, ...]]] = [(1, self.delegates)]
        founders = tuple(Member(address, BALANCE, CREDIT) for address in self.members)
        self._beginning = Chain(self.chain_id, founders, self.delegates, self.groups, self.rules, ())
        self.electorate = Electorate(self._beginning)
        self.epoch = self._step = 0
        self._due: dict[int, list[tuple[str, str, Terms]]] = {}
        self._slots = 0
        self._sold: dict[str, int] = {}
        self._charged: set[str] = set()
        self._paid: set[str] = set()

    def chain(self) -> Chain:
        """All of it."""
        first = self._beginning
        return Chain(
            self.chain_id, first.members, first.delegates, first.groups, first.rules, tuple(self.blocks)
        )

    def seated(self, height: int) -> tuple[str, ...]:
        """C(height)."""
        return next(ranking for begin, ranking in reversed(self.seats) if begin <= height)

    def transfer(self, identity: str, amount: int) -> Item:
        """A payment, executed when it is put into a block."""
        payer, payee = self.draw.sample(self.members, 2)
        return Item(identity, "transfer", payer, 0, (), None, Transfer(payee, amount))

    def trade(self, identity: str) -> Item:
        """A trade that both signed."""
        seller, buyer = self.draw.sample(self.members, 2)
        terms = Terms(seller, buyer, self.draw.randint(10, 2_000), 200_000, 1_000, False)
        return Item(identity, "trade_open", seller, 0, (), terms)

    # ---- blocks

    def block(self, asked: Sequence[Item], discarded: Sequence[str] = ()) -> Block:
        """Decide the next block with ``asked`` and what falls due."""
        height = len(self.blocks) + 1
        ranking = self.seated(height)
        parent = self.blocks[-1].hash if self.blocks else self.chain_id
        failed = self.draw.random() < FAULT_CHANCE and height > 1
        epoch, own = self.epoch, list[Event]()
        block_hash = name(parent, height)
        items = [self._execute(height, item) for item in asked]
        for kind, contract, terms in self._due.pop(height, ()):
            if kind == "read":
                items.append(self._read(contract, terms))
            elif kind == "settle":
                own += self._settle(contract, terms)
            else:
                own.append(TradeChanged(contract, "metering", terms.seller, terms.buyer))
        if self._phase(0) == "voting":
            items += self._ballots(height)
        if failed:
            own += self._no_block(ranking[0], height)
        for event in [event for item in items for event in item.events] + own:
            self.electorate.take(epoch, event)
        own += self._end_of_block(height, block_hash)
        quorum = len(ranking) - (len(ranking) - 1) // 3
        present = self.draw.sample(ranking, self.draw.randint(quorum, len(ranking)))
        signers = [one for one in ranking if one in present]
        block = Block(
            height, block_hash, parent, epoch, int(failed), height * BLOCK_MS, ranking[int(failed)],
            tuple(signers), tuple(items), tuple(discarded), tuple(own),
        )  # fmt: skip
        self.blocks.append(block)
        return block

    def _pay(self, address: str, delta: int) -> Event:
        self.balances[address] += delta
        return BalanceChanged(address, delta, self.balances[address])

    def _execute(self, height: int, item: Item) -> Item:
        events: tuple[Event, ...] = ()
        if item.transfer is not None:
            if item.transfer.amount > self.balances[item.sender]:
                return Item(item.id, item.kind, item.sender, BALANCE_TOO_LOW, (), None, item.transfer)
            paid = item.transfer
            events = (self._pay(item.sender, -paid.amount), self._pay(paid.recipient, paid.amount))
        elif item.terms is not None:
            terms = item.terms
            value = terms.escrow - 2 * terms.deposit
            if (
                self.balances[terms.buyer] < value + terms.deposit
                or self.balances[terms.seller] < terms.deposit
            ):
                return Item(item.id, item.kind, item.sender, BALANCE_TOO_LOW, (), terms)
            events = (
                self._pay(terms.seller, -terms.deposit),
                self._pay(terms.buyer, -terms.deposit - value),
                TradeChanged(item.id, "active", terms.seller, terms.buyer),
            )
            for delay, kind in ((1, "meter"), (2, "read"), (3, "settle")):
                self._due.setdefault(height + delay, []).append((kind, item.id, terms))
        return Item(item.id, item.kind, item.sender, 0, events, item.terms, item.transfer)

    # ---- trades

    def _read(self, contract: str, terms: Terms) -> Item:
        """Both meters' registers of a slot of the contract's own."""
        self._slots += 1
        sold = terms.quantity_wh - (
            self.draw.randint(1, terms.quantity_wh) if self.draw.random() < 0.2 else 0
        )
        events = (
            ReadingAccepted(terms.seller, self._slots, sold, 0),
            SlotAllocated(contract, terms.seller, self._slots, sold),
            ReadingAccepted(terms.buyer, self._slots, 0, terms.quantity_wh + 5),
            SlotAllocated(contract, terms.buyer, self._slots, terms.quantity_wh),
        )
        self._sold[contract] = sold
        return Item(name(contract, "read"), "readings", terms.seller, 0, events)

    def _settle(self, contract: str, terms: Terms) -> list[Event]:
        sold = self._sold.pop(contract)
        short = terms.quantity_wh - sold
        penalty = min(short * terms.price * terms.penalty_bp // 10_000, terms.deposit)
        paid = sold * terms.price
        to_seller = paid + terms.deposit - penalty
        events: list[Event] = [
            self._pay(terms.seller, to_seller),
            self._pay(terms.buyer, terms.escrow - to_seller),
            TradeSettled(contract, sold, terms.quantity_wh, sold, sold, paid, penalty, 0),
        ]
        if short:
            most = max(terms.quantity_wh, self.rules.trade_reference_wh)
            loss = -(-self.rules.trade_penalty * short // most)
            events += self._credit(terms.seller, "seller_shortfall", -loss)
        return [*events, TradeChanged(contract, "settled", terms.seller, terms.buyer)]

    # ---- credit

    def _credit(self, address: str, reason: str, delta: int) -> list[Event]:
        before = self.electorate.credit[address]
        after = min(max(before + delta, 0), 100_000)
        self.electorate.credit[address] = after
        return [CreditChanged(address, reason, after - before, after)] if after != before else []

    def _no_block(self, primary: str, height: int) -> list[Event]:
        first = primary not in self._charged
        events: list[Event] = [FaultRecorded(primary, "no_block", height, first)]
        if not first:
            return events
        self._charged.add(primary)
        events += self._credit(primary, "no_block", -self.rules.beta)
        for voter, (_, choices) in sorted(self.electorate.ballots.get(self.epoch, {}).items()):
            if choices[0] == primary and voter != primary and voter not in self._paid:
                self._paid.add(voter)
                events += self._credit(voter, "voter_penalty", -self.rules.gamma)
        return events

    # ---- epochs

    def _phase(self, ahead: int) -> str:
        step = self._step + ahead
        for phase, length in (("running", RUNNING), ("planning", PLANNING), ("voting", VOTING)):
            if step < length:
                return phase
            step -= length
        return "closing" if step < CLOSING else "running"

    def _end_of_block(self, height: int, block_hash: str) -> list[Event]:
        now, following = self._phase(0), self._phase(1)
        events: list[Event] = []
        if now == "closing":
            events += self._close()
        if now != following:
            events += self._end_of_phase(height, now)
            if following == "planning":
                self.electorate.take_snapshot(self.epoch + 1, block_hash)
            if following == "running":
                self.epoch += 1
                self._charged.clear()
                self._paid.clear()
            events.append(PhaseChanged(self.epoch, following))
        self._step = 0 if now == "closing" else self._step + 1
        return events

    def _end_of_phase(self, height: int, ending: str) -> list[Event]:
        epoch = self.epoch + 1
        if ending == "planning":
            shift = self.draw.randrange(GROUPS)
            assignment = tuple((number + shift) % GROUPS for number in range(MEMBERS))
            formed = GroupsFormed(epoch, tuple(self.members), assignment)
            self.electorate.take(self.epoch, formed)
            return [formed]
        if ending != "voting":
            return []
        results: list[Result] = []
        for group in range(GROUPS):
            members = self.electorate.members_of(epoch, group)
            electable = self.electorate.electable(epoch, members, self.rules.candidate_floor, recount=False)
            ballots = self.electorate.ballots.get(epoch, {})
            results.append(count(self.electorate.snapshots[epoch], members, electable, ballots))
        ranking = ranked(self.electorate.snapshots[epoch], results)
        self.seats.append((height + 2, ranking))
        tallies = [GroupTallied(epoch, group, *result, False) for group, result in enumerate(results)]
        return [*tallies, DelegatesChanged(height + 2, ranking)]

    def _ballots(self, height: int) -> list[Item]:
        formed = self.electorate.groups[self.epoch + 1]
        group_of = dict(zip(formed.members, formed.assignment, strict=True))
        items: list[Item] = []
        for voter in self.members:
            if self.draw.random() < 0.4:
                mates = [other for other in self.members if group_of[other] == group_of[voter]]
                ballot = BallotAccepted(voter, self.epoch + 1, height, (self.draw.choice(mates),))
                items.append(
                    Item(name(self.chain_id, "ballot", height, voter), "ballots", voter, 0, (ballot,))
                )
        return items

    def _close(self) -> list[Event]:
        rules, epoch, events = self.rules, self.epoch, list[Event]()
        height = len(self.blocks) + 1
        first = height - self._step
        served = {holder for at in range(first, height + 1) for holder in self.seated(at)}
        voters = self.electorate.ballots.get(epoch, {})
        for holder in sorted(self.seated(height - 2)):
            if holder in self._charged:
                continue
            events += self._credit(holder, "delegate_reward", self._gain(rules.alpha, holder))
            for voter, (_, choices) in sorted(voters.items()):
                if choices[0] == holder and voter != holder and voter not in self._paid:
                    events += self._credit(voter, "voter_reward", self._gain(rules.delta, voter))
        for member in self.members:
            if member not in self.electorate.ballots.get(epoch + 1, {}) and member not in served:
                loss = -(-self.electorate.credit[member] * rules.decay_bp // 10_000)
                events += self._credit(member, "decay", -loss)
        return events

    def _gain(self, full: int, address: str) -> int:
        return min(full, full * (100_000 - self.electorate.credit[address]) // 50_000)
