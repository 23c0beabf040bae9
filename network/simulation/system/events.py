"""Events that a campaign of whole-system runs must reach, each by its name in `Outcome.reached` (G19)."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from contracts.receipts import (
    BLOCK_RECEIPT_ID,
    CancelSigned,
    CreditChanged,
    CreditReason,
    Event,
    FaultKind,
    FaultRecorded,
    MemberJoined,
    MemberLeft,
    MeterChanged,
    PlanAccepted,
    ReasonCode,
    Receipt,
    TradeChanged,
    TradeSettled,
    TradeState,
    TransactionDiscarded,
)

_TRADE: Final = {
    TradeState.ACTIVE: "trade active",
    TradeState.SETTLED: "trade settled",
    TradeState.WITHDRAWN: "offer withdrawn",
    TradeState.DECLINED: "offer declined",
    TradeState.EXPIRED: "offer expired",
    TradeState.CANCELLED: "trade cancelled",
    TradeState.EXCUSED: "excuse accepted",
}
_CREDIT: Final = {
    CreditReason.DELEGATE_REWARD: "delegate rewarded",
    CreditReason.VOTER_REWARD: "voter rewarded",
    CreditReason.VOTER_PENALTY: "voter penalised",
    CreditReason.DECAY: "idle member decayed",
    CreditReason.SELLER_SHORTFALL: "shortfall seller",
    CreditReason.BUYER_SHORTFALL: "shortfall buyer",
    CreditReason.WRONG_BLOCK: "evidence charged",
}
_FAULT: Final = {
    FaultKind.NO_BLOCK: "no-block fault",
    FaultKind.WRONG_BLOCK: "evidence committed",
    FaultKind.DOWN: "down fault",
}

EXPECTED: Final = (
    "block executed by own state",
    "delegate replaced",
    "delegate rewarded",
    "discarded transaction",
    "dormant member left out of the groups",
    "down fault",
    "evidence committed",
    "excuse accepted",
    "group without ballots",
    "heartbeat restarted a counter",
    "idle member decayed",
    "join",
    "leave",
    "meter changed",
    "no-block fault",
    "offer declined",
    "offer expired",
    "offer withdrawn",
    "plan adopted over built-in",
    "plan accepted",
    "primary lost its seat",
    "recount moved a ballot to its second choice",
    "recount moved a ballot to its third choice",
    "rejected receipt",
    "restart from stored state",
    "return",
    "seat kept for want of another",
    "seats grew",
    "seats shrank",
    "shortfall buyer",
    "shortfall seller",
    "tally",
    "tally moved a ballot to its second choice",
    "trade cancelled",
    "trade settled",
    "voter penalised",
    "voter rewarded",
    "votes tied",
)
"""A campaign of some thousand runs in which one of these never occurs has a hole (`scripts/simulate --system`)."""


def count(reached: Counter[str], receipts: Sequence[Receipt]) -> None:
    """Count what a block's receipts tell."""
    for receipt in receipts:
        if receipt.code is not ReasonCode.OK and receipt.transaction_id != BLOCK_RECEIPT_ID:
            reached["rejected receipt"] += 1
            reached[f"rejected: {receipt.code.name.lower()}"] += 1
        for event in receipt.events:
            name = _name(event)
            if name is not None:
                reached[name] += 1


def _name(event: Event) -> str | None:
    match event:
        case TradeChanged():
            return _TRADE.get(event.state)
        case TradeSettled(seller_penalty=seller, buyer_penalty=buyer) if seller or buyer:
            return "penalty paid"
        case CreditChanged():
            return _CREDIT.get(event.reason)
        case FaultRecorded():
            return _FAULT[event.kind]
        case MemberJoined():
            return "join"
        case MemberLeft():
            return "leave"
        case MeterChanged():
            return "meter changed"
        case PlanAccepted():
            return "plan accepted"
        case TransactionDiscarded():
            return "discarded transaction"
        case CancelSigned():
            return "cancellation half signed"
        case _:
            return None
