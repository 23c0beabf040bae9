"""The engine: genesis state, one block after another, and what the next height needs (PROTOCOL 6.11, 9.1).

`apply_block` runs decided blocks only: headers carry the roots *after the parent*, so nothing runs on speculation.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from consensus.block import Block, Certificate, Header
from consensus.encoding import encode
from consensus.errors import fail, invariant
from consensus.inputs import HeightContext
from consensus.signing import Verifier
from consensus.types import ENTRY_CREDIT, Digest, Value
from contracts import accounts, energy_trade, membership, metering
from contracts.ballots import handle_ballots
from contracts.chain import next_chain_ms
from contracts.conservation import check_conservation
from contracts.context import BlockContext, Handler
from contracts.deadlines import run_deadlines
from contracts.epoch import begin_block, end_block, initialise
from contracts.epoch_state import chain_of, register_epoch_tables
from contracts.evidence import handle_evidence
from contracts.genesis import Genesis, check_genesis
from contracts.heartbeats import handle_heartbeat
from contracts.plans import handle_plan
from contracts.receipts import (
    BLOCK_RECEIPT_ID,
    ReasonCode,
    Receipt,
    TransactionDiscarded,
    receipts_root,
)
from contracts.seats import delegate_set_at, next_height_head
from contracts.state import SINGLETON, Account, IdentifierBlock, MeterOwner, State, Tip, Totals, number_key
from contracts.trade_records import MeteringProgress
from contracts.transaction import Transaction, TransactionType
from contracts.validation import discarded_transaction

HANDLERS: Final[Mapping[TransactionType, Handler]] = {
    TransactionType.JOIN: membership.join,
    TransactionType.LEAVE: membership.leave,
    TransactionType.TRANSFER: accounts.transfer,
    TransactionType.ISSUE: accounts.issue,
    TransactionType.REDEEM: accounts.redeem,
    TransactionType.TRADE_OPEN: energy_trade.trade_open,
    TransactionType.TRADE_OFFER: energy_trade.trade_offer,
    TransactionType.TRADE_ACCEPT: energy_trade.trade_accept,
    TransactionType.TRADE_WITHDRAW: energy_trade.trade_withdraw,
    TransactionType.TRADE_DECLINE: energy_trade.trade_decline,
    TransactionType.TRADE_CANCEL: energy_trade.trade_cancel,
    TransactionType.EXCUSE: energy_trade.excuse,
    TransactionType.READINGS: metering.readings,
    TransactionType.BALLOTS: handle_ballots,
    TransactionType.PLAN: handle_plan,
    TransactionType.HEARTBEAT: handle_heartbeat,
    TransactionType.EVIDENCE: handle_evidence,
    TransactionType.CHANGE_METER: membership.change_meter,
}
"""The registry of contracts: every transaction type has its entry point."""


class BlockOutcome(Value, frozen=True):
    """What a block did."""

    receipts: tuple[Receipt, ...]
    """One per transaction in block order, the block's own last (PROTOCOL 9.3)."""
    receipt_bytes: tuple[bytes, ...]
    """The same, encoded: what ``receipts_root`` is over."""
    receipts_root: Digest
    state_root: Digest
    changes: dict[bytes, bytes | None]
    """Full state keys to store; None: delete."""


def new_state(genesis: Genesis) -> State:
    """An empty state with every table registered, ready for `State.load`."""
    state = State(genesis.parameters.slot_ms)
    register_epoch_tables(state)
    return state


def genesis_state(genesis: Genesis, verifier: Verifier) -> State:
    """The state after block 0, its root committed; `InvalidGenesis` for a genesis that breaks a rule (9.1, 4.7)."""
    check_genesis(genesis, verifier)
    state = new_state(genesis)
    p, money = genesis.parameters, genesis.founding_balance * len(genesis.members)
    for member in genesis.members:
        balance = genesis.founding_balance
        account = Account(member.public_key, balance, ENTRY_CREDIT, 0, 0, 0, 0, None)
        state.accounts.put(member.address, account)
        meter = membership.founding_meter(
            member.meter_public_key, member.max_power_w, genesis.time_ms, p.slot_ms
        )
        state.meters.put(member.address, meter)
        state.meter_owners.put(member.meter_public_key, MeterOwner(member.address))
    state.totals.put(SINGLETON, Totals(money, 0, money, 0, 0, len(genesis.members), 0))
    running_slot = genesis.time_ms // p.slot_ms
    state.metering.put(SINGLETON, MeteringProgress(running_slot, running_slot))
    state.tip.put(SINGLETON, Tip(receipts_root(())))
    initialise(state, genesis)
    check_conservation(state, Totals(0, 0, 0, 0, 0, 0, 0))
    state.commit()
    return state


def apply_block(
    state: State,
    block: Block,
    transactions: Sequence[Transaction],
    *,
    genesis: Genesis,
    chain_id: Digest,
    verifier: Verifier,
) -> BlockOutcome:
    """Execute a decided block on the state of its parent, in the order of PROTOCOL 6.11, and commit the state.

    ``transactions`` are the decoded ``block.transactions``, already validated. Mutates ``state``; an
    `InvariantViolation` means that the node must stop, and the state is then of no use.
    """
    header, chain = block.header, chain_of(state)
    invariant(len(transactions) == len(block.transactions), "every transaction of the block is handed in")
    context = BlockContext(
        genesis=genesis,
        chain_id=chain_id,
        header=header,
        chain_ms=next_chain_ms(chain, header.time_ms, genesis.parameters),
        phase=chain.phase,
        verifier=verifier,
    )
    totals = state.totals.require(SINGLETON)
    begin_block(state, context, block.last_commit)
    removed = [discarded_transaction(item) for item in block.discarded]
    for transaction in removed:
        context.emit(TransactionDiscarded(transaction.id))
    opening = context.take_events()
    receipts = [_execute(state, context, index, t) for index, t in enumerate(transactions)]
    run_deadlines(state, context)
    end_block(state, context)
    _keep_identifiers(state, context, [*transactions, *removed])
    receipts.append(Receipt(BLOCK_RECEIPT_ID, ReasonCode.OK, (), opening + context.take_events()))
    invariant(len(receipts) == len(transactions) + 1, "a receipt for each transaction, and the block's (9.3)")
    encoded = tuple([encode(receipt) for receipt in receipts])
    root = receipts_root(encoded)
    state.tip.put(SINGLETON, Tip(root))
    check_conservation(state, totals)
    changes, state_root = state.commit()
    return BlockOutcome(tuple(receipts), encoded, root, state_root, changes)


def height_context(
    state: State,
    *,
    genesis: Genesis,
    chain_id: Digest,
    header: Header | None,
    certificate: Certificate | None,
) -> HeightContext:
    """What deciding the next height needs, from the state after ``header`` and its certificate.

    Both are None after genesis: the first block's parent hash is the chain id, its parent time that of genesis, its
    roots those of the genesis state and of no receipts, and it has no last-commit (PROTOCOL 9.1).
    """
    chain = chain_of(state)
    height = chain.height + 1
    invariant((header is None) is (chain.height == 0), "a header is given for every height but 0")
    return HeightContext(
        height=height,
        epoch=chain.epoch,
        parent_hash=chain_id if header is None else header.digest(),
        parent_time_ms=genesis.time_ms if header is None else header.time_ms,
        parent_certificate=certificate,
        delegates=delegate_set_at(state, height),
        next_delegates=delegate_set_at(state, height + 1),
        head=next_height_head(state),
        previous_delegates=None if header is None else delegate_set_at(state, chain.height),
        state_root=state.tree.root,
        receipts_root=state.tip.require(SINGLETON).receipts_root,
    )


def _execute(state: State, context: BlockContext, index: int, transaction: Transaction) -> Receipt:
    context.index = index
    result = HANDLERS[transaction.type](state, context, transaction)
    events = context.take_events()
    if events and result.code is not ReasonCode.OK:
        fail(f"a rejected {transaction.type.name} left events behind")
    return Receipt(transaction.id, result.code, result.rejections, events)


def _keep_identifiers(state: State, context: BlockContext, transactions: Sequence[Transaction]) -> None:
    """Remember this block's ids; forget blocks of which no id can be in its window any more (PROTOCOL 9.2)."""
    heights = state.identifier_heights
    while heights:
        key = number_key(heights[0])
        oldest = state.identifiers.require(key)
        if oldest.valid_until_ms >= context.time_ms:
            break
        for identifier in oldest.ids:
            del state.known_ids[identifier]
        state.identifiers.delete(key)
        heights.popleft()
    if transactions:
        ids = tuple(transaction.id for transaction in transactions)
        until_ms = max(transaction.valid_until_ms for transaction in transactions)
        state.identifiers.put(number_key(context.height), IdentifierBlock(ids, until_ms))
        heights.append(context.height)
        state.known_ids.update(dict.fromkeys(ids))
