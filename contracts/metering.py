"""Readings of meters: who may report what, and when (PROTOCOL 1.4, 2.4)."""

from bisect import bisect_left
from typing import Final

from contracts.accounts import refusal_of_member
from contracts.allocation import advance_meter
from contracts.context import OK, BlockContext, Result, payload_of
from contracts.receipts import ReadingAccepted, ReasonCode, Rejection
from contracts.state import SINGLETON, State, reading_key
from contracts.trade_records import MeterRecord, MeterTerm, OpenReading
from contracts.transaction import Reading, Readings, Transaction

MS_PER_HOUR: Final = 3_600_000


def readings(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Take each reading by itself, in order; the transaction is rejected only if none was accepted (PROTOCOL 2.4)."""
    batch = payload_of(transaction, Readings).readings
    rejections: list[Rejection] = []
    for index, reading in enumerate(batch):
        refusal = refusal_of_reading(state, context, reading)
        if refusal is None:
            _accept(state, context, reading)
        else:
            rejections.append(Rejection(index, refusal))
    if not rejections:
        return OK
    code = rejections[0].code if len(rejections) == len(batch) else ReasonCode.OK
    return Result(code, tuple(rejections))


def refusal_of_reading(state: State, context: BlockContext, reading: Reading) -> ReasonCode | None:
    """The first rule of PROTOCOL 1.4 and 2.4 that ``reading`` breaks at this block, or None."""
    p, member, slot = context.parameters, reading.member, reading.slot
    refusal = refusal_of_member(state.accounts.get(member))
    if refusal is not None:
        return refusal
    if (slot + 1) * p.slot_ms > context.time_ms:
        return ReasonCode.READING_SLOT_NOT_ENDED
    if slot < state.metering.require(SINGLETON).open_slot:
        return ReasonCode.READING_SLOT_CLOSED
    meter = state.meters.require(member)
    term = term_of(meter, slot)
    if term is None or term.public_key != reading.public_key:
        return ReasonCode.READING_KEY_WRONG
    if max(reading.exported_wh, reading.imported_wh) > slot_capacity_wh(term.max_power_w, p.slot_nominal_ms):
        return ReasonCode.READING_ABOVE_CAPACITY
    return _refusal_of_order(state, meter, reading)


def term_of(meter: MeterRecord, slot: int) -> MeterTerm | None:
    """The meter in force in ``slot``: the latest that began at or before it (PROTOCOL 1.4)."""
    for term in reversed(meter.terms):
        if term.first_slot <= slot:
            return term
    return None


def slot_capacity_wh(max_power_w: int, slot_nominal_ms: int) -> int:
    """The most that a register can show for one slot (PROTOCOL 1.4)."""
    return max_power_w * slot_nominal_ms // MS_PER_HOUR + 1


def _refusal_of_order(state: State, meter: MeterRecord, reading: Reading) -> ReasonCode | None:
    """One reading a slot, counters ascending with slots among the readings of one meter (PROTOCOL 2.4)."""
    member, slot = reading.member, reading.slot
    slots = state.trades.read_slots.get(member, [])
    position = bisect_left(slots, slot)
    later = earlier = None
    if position < len(slots):
        if slots[position] == slot:
            return ReasonCode.READING_DUPLICATE
        later = state.readings.require(reading_key(slots[position], member))
    if position > 0:
        earlier = state.readings.require(reading_key(slots[position - 1], member))
    below = earlier or meter.last_counter
    if later is not None and later.public_key == reading.public_key and later.counter <= reading.counter:
        return ReasonCode.READING_COUNTER_OUT_OF_ORDER
    if below is not None and below.public_key == reading.public_key and below.counter >= reading.counter:
        return ReasonCode.READING_COUNTER_OUT_OF_ORDER
    return None


def _accept(state: State, context: BlockContext, reading: Reading) -> None:
    member, slot = reading.member, reading.slot
    kept = OpenReading(reading.counter, reading.exported_wh, reading.imported_wh, reading.public_key)
    state.readings.put(reading_key(slot, member), kept)
    state.trades.add_reading(slot, member)
    context.emit(ReadingAccepted(member, slot, reading.exported_wh, reading.imported_wh))
    advance_meter(state, context, member)
