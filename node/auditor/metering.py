"""Readings, slots, deadlines and settlement (PROTOCOL 2.4-2.6; annex on the state, 4 and 5)."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from heapq import heappop, heappush

from node.auditor.encoding import u64
from node.auditor.ledger import Code, Event, Ledger, Reason, Refused, Trade, demand
from node.auditor.shapes import TAKE_OR_PAY, Reading, Terms, Transaction
from node.auditor.state import Contract, Offer, OpenReading, Totals

MAX_DEADLINES = 4_096
KEPT_SLOTS = 96
"""A window's length: so long a reading may still be asked for after its slot has closed."""

Entry = tuple[int, int, int, bytes]
"""(time or slot, height, index, id): the order of deadlines."""


class Metering:
    """What indexes readings and trades by slot, member and due time."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._by_slot: defaultdict[tuple[bytes, int], list[bytes]] = defaultdict(list)
        self._ends_of: defaultdict[bytes, list[Entry]] = defaultdict(list)
        self._read: defaultdict[bytes, list[int]] = defaultdict(list)
        self._old_readings: list[tuple[bytes, int, bytes]] = []
        self._expiries: list[Entry] = []
        self._starts: list[Entry] = []
        self._ends: list[Entry] = []
        self._due: list[Entry] = []
        self._slot_ends: list[int] = []

    def window(self, terms: Terms) -> range:
        """Slots of a contract."""
        first = terms.start_ms // self.ledger.parameters.slot_ms
        return range(first, first + terms.slots)

    # ---- offers and contracts

    def add_offer(self, identity: bytes, offer: Offer) -> None:
        """Write a new offer."""
        self.ledger.state.offers.put(identity, offer)
        heappush(self._expiries, (offer.terms.expiry_ms, offer.height, offer.place, identity))

    def end_offer(self, identity: bytes, offer: Offer, ending: Trade | None) -> None:
        """Remove an offer; ``ending`` is what it ends as, None if it becomes a contract."""
        ledger = self.ledger
        ledger.state.offers.delete(identity)
        ledger.update(offer.offerer, open_offers=ledger.state.accounts[offer.offerer].open_offers - 1)
        if ending is not None:
            self._changed(identity, offer.terms, ending)

    def add_contract(self, identity: bytes, contract: Contract) -> None:
        """Write a new contract."""
        terms, place = contract.terms, (contract.height, contract.place, identity)
        self.ledger.state.contracts.put(identity, contract)
        window = self.window(terms)
        for party in (terms.seller, terms.buyer):
            for slot in window:
                self._by_slot[party, slot].append(identity)
            insort(self._ends_of[party], (window.stop, *place))
        heappush(self._starts, (terms.start_ms, *place))
        heappush(self._ends, (window.stop, *place))

    def remove_contract(self, identity: bytes, contract: Contract) -> None:
        """Delete a contract that has ended."""
        terms, window = contract.terms, self.window(contract.terms)
        self.ledger.state.contracts.delete(identity)
        for party in (terms.seller, terms.buyer):
            for slot in window:
                self._by_slot[party, slot].remove(identity)
                if not self._by_slot[party, slot]:
                    del self._by_slot[party, slot]
            self._ends_of[party].remove((window.stop, contract.height, contract.place, identity))

    # ---- readings

    def readings(self, transaction: Transaction) -> list[tuple[int, Code]]:
        """Judge each reading by itself; the refused ones by their place."""
        refused = []
        for place, reading in enumerate(transaction.body.payload[0]):
            try:
                self._check_reading(reading)
            except Refused as refusal:
                refused.append((place, refusal.code))
            else:
                self._accept_reading(reading)
        return refused

    def _check_reading(self, reading: Reading) -> None:
        ledger, member, slot = self.ledger, reading.member, reading.slot
        parameters, state = ledger.parameters, ledger.state
        ledger.member(member)
        demand((slot + 1) * parameters.slot_ms <= ledger.time_ms, Code.READING_SLOT_NOT_ENDED)
        demand(slot >= state.metering.value.open_slot, Code.READING_SLOT_CLOSED)
        record = state.meters[member]
        in_force = [term for term in record.terms if term[2] <= slot]
        demand(in_force and in_force[-1][0] == reading.public_key, Code.READING_KEY_WRONG)
        capacity = in_force[-1][1] * parameters.slot_nominal_ms // 3_600_000 + 1
        demand(max(reading.exported_wh, reading.imported_wh) <= capacity, Code.READING_ABOVE_CAPACITY)
        demand(u64(slot) + member not in state.readings, Code.READING_DUPLICATE)
        slots = self._read[member]
        place = bisect_left(slots, slot)
        if place < len(slots):
            later = state.readings[u64(slots[place]) + member]
            fits = later.public_key != reading.public_key or later.counter > reading.counter
            demand(fits, Code.READING_COUNTER_OUT_OF_ORDER)
        earlier = record.last_counter
        if place > 0:
            before = state.readings[u64(slots[place - 1]) + member]
            earlier = before.public_key, before.counter
        fits = earlier is None or earlier[0] != reading.public_key or earlier[1] < reading.counter
        demand(fits, Code.READING_COUNTER_OUT_OF_ORDER)

    def _accept_reading(self, reading: Reading) -> None:
        member, slot = reading.member, reading.slot
        key = u64(slot) + member
        row = OpenReading(reading.counter, reading.exported_wh, reading.imported_wh, reading.public_key)
        self.ledger.state.readings.put(key, row)
        insort(self._read[member], slot)
        heappush(self._old_readings, (key, slot, member))
        self.ledger.emit(Event.READING_ACCEPTED, member, slot, reading.exported_wh, reading.imported_wh)
        self._advance(member)

    # ---- allocation

    def _advance(self, member: bytes) -> None:
        state = self.ledger.state
        record = state.meters[member]
        open_slot, slots = state.metering.value.open_slot, self._read[member]
        slot = first = record.next_slot
        while True:
            place = bisect_left(slots, slot)
            following = slots[place] if place < len(slots) else None
            if following == slot:
                self._allocate(member, slot)
                slot += 1
            elif slot < open_slot:
                slot = open_slot if following is None else min(open_slot, following)
            elif following is not None and (member, slot) not in self._by_slot:
                slot += 1
            else:
                break
        if slot == first:
            return
        state.meters.put(member, record._replace(next_slot=slot))
        ends = self._ends_of[member]
        for entry in ends[bisect_left(ends, (first + 1,)) : bisect_left(ends, (slot + 1,))]:
            self._settle_if_read(entry)

    def _settle_if_read(self, entry: Entry) -> None:
        terms, meters = self.ledger.state.contracts[entry[3]].terms, self.ledger.state.meters
        if all(meters[party].next_slot >= entry[0] for party in (terms.seller, terms.buyer)):
            self._push_settlement(*entry)

    def _push_settlement(self, end: int, height: int, index: int, identity: bytes) -> None:
        heappush(self._due, (end * self.ledger.parameters.slot_ms, height, index, identity))

    def _allocate(self, member: bytes, slot: int) -> None:
        contracts = self.ledger.state.contracts
        reading = self.ledger.state.readings[u64(slot) + member]
        found = [(identity, contracts[identity]) for identity in self._by_slot.get((member, slot), ())]
        found.sort(key=lambda item: (self.window(item[1].terms).stop, item[1].height, item[1].place))
        for side, register in (("seller", reading.exported_wh), ("buyer", reading.imported_wh)):
            rest = register
            for identity, _ in found:
                contract = contracts[identity]
                if getattr(contract.terms, side) != member:
                    continue
                so_far = getattr(contract, f"{side}_wh")
                given = min(rest, contract.terms.quantity_wh - so_far)
                if given == 0:
                    continue
                figures = list(getattr(contract, f"{side}_slots"))
                figures[slot - self.window(contract.terms).start] += given
                fields = {f"{side}_wh": so_far + given, f"{side}_slots": tuple(figures)}
                contracts.put(identity, contract._replace(**fields))
                rest -= given
                self.ledger.emit(Event.SLOT_ALLOCATED, identity, member, slot, given)

    # ---- slots and deadlines

    def close(self) -> None:
        """Annex on the state, 5.2 and 5.3."""
        self._end_and_close_slots()
        self._collect_due()
        met = 0
        while self._has_due() and met < MAX_DEADLINES:
            self._run(heappop(self._due))
            met += 1
        if not self._has_due():
            self._forget_readings(MAX_DEADLINES - met)

    def _end_and_close_slots(self) -> None:
        ledger, state = self.ledger, self.ledger.state
        progress = state.metering.value
        running = ledger.time_ms // ledger.parameters.slot_ms
        if running > progress.running_slot:
            state.slot_ends.put(u64(running), (ledger.chain_ms,))
            self._slot_ends.append(running)
            progress = progress._replace(running_slot=running)
        while self._slot_ends:
            ended = self._slot_ends[0]
            (ended_chain_ms,) = state.slot_ends[u64(ended)]
            if ended_chain_ms + ledger.parameters.meter_deadline_ms > ledger.chain_ms:
                break
            state.slot_ends.delete(u64(self._slot_ends.pop(0)))
            progress = progress._replace(open_slot=ended)
        if progress != state.metering.value:
            state.metering.value = progress

    def _collect_due(self) -> None:
        state, t = self.ledger.state, self.ledger.time_ms
        for queue in (self._expiries, self._starts):
            while queue and queue[0][0] <= t:
                heappush(self._due, heappop(queue))
        while self._ends and self._ends[0][0] <= state.metering.value.open_slot:
            self._push_settlement(*heappop(self._ends))

    def _has_due(self) -> bool:
        """Whether a deadline is left; entries of trades that ended otherwise are dropped."""
        while self._due and not self._stands(self._due[0]):
            heappop(self._due)
        return bool(self._due)

    def _stands(self, entry: Entry) -> bool:
        due, height, index, identity = entry
        offer = self.ledger.state.offers.get(identity)
        if offer is not None:
            return (offer.terms.expiry_ms, offer.height, offer.place) == (due, height, index)
        contract = self.ledger.state.contracts.get(identity)
        if contract is None or (contract.height, contract.place) != (height, index):
            return False
        return due != contract.terms.start_ms or contract.state == Trade.ACTIVE

    def _run(self, entry: Entry) -> None:
        due, _, _, identity = entry
        state = self.ledger.state
        offer = state.offers.get(identity)
        if offer is not None:
            self.end_offer(identity, offer, Trade.EXPIRED)
            return
        contract = state.contracts[identity]
        if due == contract.terms.start_ms:
            state.contracts.put(identity, contract._replace(state=Trade.METERING))
            self._changed(identity, contract.terms, Trade.METERING)
            return
        self._advance(contract.terms.seller)
        self._advance(contract.terms.buyer)
        self._settle(identity, state.contracts[identity])

    def _changed(self, identity: bytes, terms: Terms, state: Trade) -> None:
        self.ledger.emit(Event.TRADE_CHANGED, identity, state, terms.seller, terms.buyer)

    def _forget_readings(self, most: int) -> None:
        state, queue = self.ledger.state, self._old_readings
        open_slot = state.metering.value.open_slot
        while most > 0 and queue and queue[0][1] + KEPT_SLOTS <= open_slot:
            key, slot, member = heappop(queue)
            row, slots = state.readings[key], self._read[member]
            state.readings.delete(key)
            del slots[bisect_right(slots, slot) - 1]
            record = state.meters[member]
            state.meters.put(member, record._replace(last_counter=(row.public_key, row.counter)))
            most -= 1

    # ---- settlement

    def _settle(self, identity: bytes, contract: Contract) -> None:
        ledger, terms = self.ledger, contract.terms
        q, sold, bought = terms.quantity_wh, contract.seller_wh, contract.buyer_wh
        readings, window = ledger.state.readings, self.window(terms)
        unread = sum(
            contract.seller_slots[slot - window.start]
            for slot in window
            if u64(slot) + terms.buyer not in readings
        )
        delivered = min(sold, bought)
        all_or_nothing = terms.buyer_rule == TAKE_OR_PAY
        paid_wh = sold if all_or_nothing else min(sold, bought + unread)
        paid = paid_wh * terms.price
        seller_penalty = 0 if contract.excused else _penalty(terms, q - sold)
        buyer_penalty = 0 if contract.excused or all_or_nothing else _penalty(terms, q - bought)
        to_seller = paid + terms.deposit - seller_penalty + buyer_penalty
        to_buyer = terms.value - paid + terms.deposit - buyer_penalty + seller_penalty
        self.remove_contract(identity, contract)
        for party, amount in ((terms.seller, to_seller), (terms.buyer, to_buyer)):
            account = ledger.state.accounts[party]
            fields = (account.open_contracts - 1, account.energy_wh + delivered)
            ledger.update(party, open_contracts=fields[0], energy_wh=fields[1])
            ledger.add_totals(balances=amount, escrow=-amount, energy_wh=delivered)
            ledger.change_balance(party, amount)
        figures = (sold, bought, delivered, paid_wh, paid, seller_penalty, buyer_penalty)
        ledger.emit(Event.TRADE_SETTLED, identity, *figures)
        if not contract.excused:
            self._judge(terms.seller, Reason.SELLER_SHORTFALL, q, q - sold)
            self._judge(terms.buyer, Reason.BUYER_SHORTFALL, q, q - bought)
        self._changed(identity, terms, Trade.EXCUSED if contract.excused else Trade.SETTLED)
        ledger.settled += 1

    def _judge(self, party: bytes, reason: Reason, contracted: int, shortfall: int) -> None:
        rules = self.ledger.parameters
        if shortfall > 0:
            loss = -(-rules.trade_penalty * shortfall // max(contracted, rules.trade_reference_wh))
            self.ledger.change_credit(party, reason, -loss)


def _penalty(terms: Terms, shortfall: int) -> int:
    return min(shortfall * terms.price * terms.penalty_bp // 10_000, terms.deposit)


def conserved(totals: Totals) -> bool:
    """PROTOCOL 1.6: balances + escrow = genesis + issued - redeemed."""
    return totals.balances + totals.escrow == totals.genesis + totals.issued - totals.redeemed
