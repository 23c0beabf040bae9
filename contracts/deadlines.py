"""Step 4 of a block: slots end and close, offers expire, contracts begin and settle (PROTOCOL 2.3, 2.4, 6.11).

Deadlines run by (due, activation height, index), where due is the block time that the terms name: an offer's expiry, a
window's start for metering, a window's end for settlement. Whatever exceeds the limit waits for the next block.
"""

from heapq import heappop
from typing import Final

from consensus.errors import invariant
from contracts.allocation import advance_meter
from contracts.context import BlockContext
from contracts.energy_trade import begin_metering, expire_offer
from contracts.settlement import settle
from contracts.state import SINGLETON, State, number_key, reading_key
from contracts.trade_index import BEGIN_METERING, EXPIRE, Deadline
from contracts.trade_records import MeteringProgress, MeterRecord, ReadCounter, SlotEnd
from contracts.transaction import MAX_WINDOW_SLOTS

MAX_DEADLINES: Final = 4_096
"""Per block (PROTOCOL 6.11): as many as transactions, about 50 ms of work."""


def run_deadlines(state: State, context: BlockContext) -> None:
    """Do what has become due, at most `MAX_DEADLINES` of it, then forget readings that nothing can need."""
    open_slot = _move_slots(state, context)
    trades = state.trades
    trades.collect_due(context.time_ms, open_slot)
    done = 0
    while trades.due and done < MAX_DEADLINES:
        done += _meet(state, context, heappop(trades.due))
    invariant(done <= MAX_DEADLINES, "a block meets a bounded number of deadlines (6.11)")
    if not trades.due:
        _forget_readings(state, open_slot, MAX_DEADLINES - done)


def _move_slots(state: State, context: BlockContext) -> int:
    """Note slots that ended, close those whose meter deadline has passed; the first slot still open (PROTOCOL 2.4)."""
    progress = state.metering.require(SINGLETON)
    running = context.time_ms // context.parameters.slot_ms
    invariant(running >= progress.running_slot, "slots follow block time, which never goes back (6.8)")
    if running > progress.running_slot:
        state.slot_ends.put(number_key(running), SlotEnd(context.chain_ms))
        state.slot_end_keys.append(running)
    open_slot = progress.open_slot
    while state.slot_end_keys:
        key = number_key(state.slot_end_keys[0])
        ended_chain_ms = state.slot_ends.require(key).chain_ms
        if context.chain_ms < ended_chain_ms + context.parameters.meter_deadline_ms:
            break
        open_slot = state.slot_end_keys.popleft()
        state.slot_ends.delete(key)
    invariant(
        progress.open_slot <= open_slot <= running, "a closed slot stays closed, a running one open (2.4)"
    )
    moved = MeteringProgress(running, open_slot)
    if moved != progress:
        state.metering.put(SINGLETON, moved)
    return open_slot


def _meet(state: State, context: BlockContext, deadline: Deadline) -> bool:
    """Act on one deadline; False if it had lost its object and cost nothing."""
    kind, object_id = deadline[3], deadline[4]
    if kind == EXPIRE:
        return expire_offer(state, context, object_id)
    if kind == BEGIN_METERING:
        return begin_metering(state, context, object_id)
    contract = state.contracts.get(object_id)
    if contract is None:
        return False
    advance_meter(state, context, contract.terms.seller)
    advance_meter(state, context, contract.terms.buyer)
    settle(state, context, object_id, state.contracts.require(object_id))
    invariant(object_id not in state.contracts, "a settled trade leaves the hot state (9.5)")
    return True


def _forget_readings(state: State, open_slot: int, limit: int) -> None:
    """Drop at most ``limit`` readings, in (slot, address) order, that no contract's window can cover any more.

    Every contract whose window has closed is settled when this runs, and a window has at most 96 slots: so nothing
    open reaches 96 slots behind the first open slot. The last counter stays, for the order of later readings.
    """
    readers = state.trades.readers
    while limit > 0:
        slot = readers.first()
        if slot is None or slot + MAX_WINDOW_SLOTS > open_slot:
            return
        members = sorted(readers.take_first())
        for member in members[limit:]:
            readers.add(slot, member)
        for member in members[:limit]:
            key = reading_key(slot, member)
            reading = state.readings.require(key)
            meter = state.meters.require(member)
            counter = ReadCounter(reading.public_key, reading.counter)
            state.meters.put(member, MeterRecord(meter.terms, meter.next_slot, counter))
            state.readings.delete(key)
            state.trades.read_slots[member].pop(0)
        limit -= len(members[:limit])
