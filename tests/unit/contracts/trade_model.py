"""A plain second reading of docs/annex/state.md 4 and 5: no index, no queue, everything found by looking at everything.

Slow on purpose. It takes what the chain accepted and says what allocation, deadlines and settlement must make of it.
"""

from dataclasses import dataclass, field

from contracts.transaction import BuyerRule, Terms


@dataclass
class ModelContract:
    """A contract in force."""

    terms: Terms
    place: tuple[int, int]
    seller_slots: list[int]
    buyer_slots: list[int]
    metering: bool = False


@dataclass
class TradeModel:
    """The state of trading, and what ended."""

    slot_ms: int
    deadline_ms: int
    limit: int
    genesis_slot: int
    members: list[bytes]
    running_slot: int = 0
    open_slot: int = 0
    next_slot: dict[bytes, int] = field(default_factory=dict)
    contracts: dict[bytes, ModelContract] = field(default_factory=dict)
    readings: dict[tuple[int, bytes], tuple[int, int]] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)
    balances: dict[bytes, int] = field(default_factory=dict)
    energy: dict[bytes, int] = field(default_factory=dict)
    settled: list[bytes] = field(default_factory=list)
    begun: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running_slot = self.open_slot = self.genesis_slot
        for member in self.members:
            self.next_slot[member] = self.genesis_slot + 1
            self.balances[member] = self.energy[member] = 0

    def window(self, contract: ModelContract) -> range:
        first = contract.terms.start_ms // self.slot_ms
        return range(first, first + contract.terms.slots)

    def open(self, contract_id: bytes, terms: Terms, place: tuple[int, int]) -> None:
        zeros = [0] * terms.slots
        self.contracts[contract_id] = ModelContract(terms, place, zeros, list(zeros))
        self.pay(terms, -1, 0, 0)

    def cancel(self, contract_id: bytes) -> None:
        self.pay(self.contracts.pop(contract_id).terms, 1, 0, 0)

    def pay(self, terms: Terms, sign: int, to_seller: int, to_buyer: int) -> None:
        value = terms.quantity_wh * terms.price
        deposit = value * terms.penalty_bp // 10_000
        self.balances[terms.seller] += sign * deposit + to_seller
        self.balances[terms.buyer] += sign * (value + deposit) + to_buyer

    def read(self, member: bytes, slot: int, exported: int, imported: int) -> None:
        self.readings[slot, member] = (exported, imported)
        self.advance(member)

    def advance(self, member: bytes) -> None:
        slot = self.next_slot[member]
        while True:
            covered = any(
                member in (c.terms.seller, c.terms.buyer) and slot in self.window(c)
                for c in self.contracts.values()
            )
            later = any(m == member and s > slot for s, m in self.readings)
            if (slot, member) in self.readings:
                self.allocate(member, slot)
            elif not (slot < self.open_slot or (later and not covered)):
                break
            slot += 1
        self.next_slot[member] = slot

    def allocate(self, member: bytes, slot: int) -> None:
        exported, imported = self.readings[slot, member]
        for sells, register in ((True, exported), (False, imported)):
            rest = register
            queue = [
                c
                for c in self.contracts.values()
                if slot in self.window(c) and member == (c.terms.seller if sells else c.terms.buyer)
            ]
            for contract in sorted(queue, key=lambda c: (self.window(c).stop, c.place)):
                slots = contract.seller_slots if sells else contract.buyer_slots
                given = min(rest, contract.terms.quantity_wh - sum(slots))
                slots[slot - self.window(contract).start] += given
                rest -= given

    def due(self, time_ms: int) -> list[tuple[int, tuple[int, int], bytes]]:
        found = []
        for contract_id, c in self.contracts.items():
            end = self.window(c).stop
            both = all(self.next_slot[party] >= end for party in (c.terms.seller, c.terms.buyer))
            if not c.metering and c.terms.start_ms <= time_ms:
                found.append((c.terms.start_ms, c.place, contract_id))
            elif end <= self.open_slot or both:
                found.append((end * self.slot_ms, c.place, contract_id))
        return sorted(found)

    def end_block(self, time_ms: int, chain_ms: int) -> None:
        running = time_ms // self.slot_ms
        if running > self.running_slot:
            self.ends.append((running, chain_ms))
            self.running_slot = running
        while self.ends and self.ends[0][1] + self.deadline_ms <= chain_ms:
            self.open_slot = self.ends.pop(0)[0]
        done = 0
        while done < self.limit:
            due = self.due(time_ms)
            if not due:
                break
            contract_id = due[0][2]
            if self.contracts[contract_id].metering:
                self.settle(contract_id)
            else:
                self.contracts[contract_id].metering = True
                self.begun.append(contract_id)
            done += 1
        if not self.due(time_ms):
            for key in sorted(key for key in self.readings if key[0] + 96 <= self.open_slot)[
                : self.limit - done
            ]:
                del self.readings[key]

    def settle(self, contract_id: bytes) -> None:
        contract = self.contracts[contract_id]
        t = contract.terms
        self.advance(t.seller)
        self.advance(t.buyer)
        sold, bought = sum(contract.seller_slots), sum(contract.buyer_slots)
        first = self.window(contract).start
        missing = sum(
            wh for j, wh in enumerate(contract.seller_slots) if (first + j, t.buyer) not in self.readings
        )
        takes = t.buyer_rule is BuyerRule.TAKE_OR_PAY
        paid = (sold if takes else min(sold, bought + missing)) * t.price
        seller_penalty = (t.quantity_wh - sold) * t.price * t.penalty_bp // 10_000
        buyer_penalty = 0 if takes else (t.quantity_wh - bought) * t.price * t.penalty_bp // 10_000
        moved = paid - seller_penalty + buyer_penalty
        self.pay(t, 1, moved, -moved)
        for party in (t.seller, t.buyer):
            self.energy[party] += min(sold, bought)
        del self.contracts[contract_id]
        self.settled.append(contract_id)
