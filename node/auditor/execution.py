"""A block's execution: step by step in the order of PROTOCOL 6.11, receipts and identifiers."""

from collections.abc import Sequence
from typing import Any

from node.auditor import members, shapes, trades
from node.auditor.encoding import encode, merkle_root, u64
from node.auditor.epoch import Epoch
from node.auditor.ledger import Code, Event, Ledger, Refused
from node.auditor.metering import Metering
from node.auditor.shapes import Block
from node.auditor.state import Identifiers
from node.auditor.validity import Decoded


class Execution:
    """Applies blocks to one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.epoch = Epoch(ledger)
        self.metering = Metering(ledger)
        self.known_ids: set[bytes] = set()
        """Ids that may not come again (PROTOCOL 9.2)."""
        self._identifier_heights: list[int] = []

    def apply(
        self, block: Block, digest: bytes, included: Sequence[Decoded], removed: Sequence[Decoded]
    ) -> list[bytes]:
        """Execute ``block``; its encoded receipts. The state is committed."""
        ledger, header = self.ledger, block.header
        chain, step = ledger.state.chain.value, 2 * ledger.parameters.empty_block_interval_ms
        ledger.height, ledger.time_ms, ledger.epoch = header.height, header.time_ms, chain.epoch
        ledger.chain_ms = chain.chain_ms + min(header.time_ms - chain.time_ms, step)
        self.epoch.begin(block)
        for item in removed:
            ledger.emit(Event.TRANSACTION_DISCARDED, item.id)
        first_events = ledger.take_events()
        receipts = [encode(self._receipt(item, index)) for index, item in enumerate(included)]
        self.metering.close()
        self.epoch.judge()
        self.epoch.step(header, digest)
        self._keep_identifiers([*included, *removed])
        receipts.append(encode((bytes(32), 0, (), first_events + ledger.take_events())))
        ledger.state.tip.value = (merkle_root(receipts),)
        ledger.state.commit()
        return receipts

    def _receipt(self, decoded: Decoded, index: int) -> tuple[Any, ...]:
        try:
            refused = self._run(decoded, index)
        except Refused as refusal:
            self.ledger.take_events()
            return decoded.id, refusal.code, (), ()
        events = self.ledger.take_events()
        parts = decoded.transaction.body.payload
        all_refused = refused and len(refused) == len(parts[0])
        return decoded.id, refused[0][1] if all_refused else Code.OK, tuple(refused), events

    def _run(self, decoded: Decoded, index: int) -> list[tuple[int, Code]]:
        """Execute one transaction; the refused parts of a batch."""
        transaction, kind = decoded.transaction, decoded.transaction.body.type
        if kind == shapes.READINGS:
            return self.metering.readings(transaction)
        if kind == shapes.BALLOTS:
            return self.epoch.ballots(transaction)
        ledger, metering, epoch = self.ledger, self.metering, self.epoch
        rules: dict[int, Any] = {
            shapes.JOIN: lambda: members.join(ledger, transaction),
            shapes.LEAVE: lambda: members.leave(ledger, transaction),
            shapes.TRANSFER: lambda: members.transfer(ledger, transaction),
            shapes.ISSUE: lambda: members.issue(ledger, transaction),
            shapes.REDEEM: lambda: members.redeem(ledger, transaction),
            shapes.CHANGE_METER: lambda: members.change_meter(ledger, transaction),
            shapes.TRADE_OPEN: lambda: trades.trade_open(metering, transaction, decoded.id, index),
            shapes.TRADE_OFFER: lambda: trades.trade_offer(metering, transaction, decoded.id, index),
            shapes.TRADE_ACCEPT: lambda: trades.trade_accept(metering, transaction, index),
            shapes.TRADE_WITHDRAW: lambda: trades.trade_end_offer(metering, transaction, True),
            shapes.TRADE_DECLINE: lambda: trades.trade_end_offer(metering, transaction, False),
            shapes.TRADE_CANCEL: lambda: trades.trade_cancel(metering, transaction),
            shapes.EXCUSE: lambda: trades.excuse(ledger, transaction),
            shapes.PLAN: lambda: epoch.plan(transaction),
            shapes.HEARTBEAT: lambda: epoch.heartbeat(transaction),
            shapes.EVIDENCE: lambda: epoch.evidence(transaction),
        }
        rules[kind]()
        return []

    def _keep_identifiers(self, decided: Sequence[Decoded]) -> None:
        table, heights = self.ledger.state.identifiers, self._identifier_heights
        while heights and table[u64(heights[0])].valid_until_ms < self.ledger.time_ms:
            key = u64(heights.pop(0))
            self.known_ids.difference_update(table[key].ids)
            table.delete(key)
        if decided:
            ids = tuple(item.id for item in decided)
            valid_until_ms = max(item.transaction.body.valid_until_ms for item in decided)
            table.put(u64(self.ledger.height), Identifiers(ids, valid_until_ms))
            heights.append(self.ledger.height)
            self.known_ids.update(ids)
