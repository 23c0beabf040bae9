"""What is written down when a broken invariant stops a node: what was found, where it stood, what to do.

A trip means a bug of this program, a disk that lies, or more than f Byzantine delegates (PROTOCOL 12); nothing was
signed since. The file goes to whoever looks into it, and tells the operator how to go on meanwhile.
"""

from collections.abc import Iterable
from typing import Any, Final

from consensus.inputs import (
    Advanced,
    Batch,
    BlockFetched,
    DecidedReceived,
    Input,
    ProposalChecked,
    Received,
    TimerFired,
)
from consensus.messages import Proposal
from consensus.replica import Replica
from consensus.types import Address

INPUTS_KEPT: Final = 64
"""Of the newest, in words: blocks and transactions in them are not kept alive."""
ADVICE: Final = (
    "Nothing was signed after this. Keep this file and the log around it, and send both with a report.",
    "Starting the node again is safe: its journal keeps it from contradicting what it signed.",
    "If it stops again at the same height, check what it holds with `cgpbft ledger verify HOME`.",
    "If that finds fault, move the directory `ledger` away and start: all blocks are fetched again.",
    "Never delete the directory `journal`.",
    "If other members' nodes stop at the same height, stop: compare the block hashes in these files first.",
)


def told(item: Input) -> str:
    """An input in one line."""
    match item:
        case Received(sender=sender, message=message):
            core = message.vote if isinstance(message, Proposal) else message
            return f"{type(message).__name__} h={core.height} v={core.view} from {sender.hex()[:16]}"
        case TimerFired(timer=timer):
            return f"timer {timer.kind} h={timer.height} v={timer.view}"
        case Batch() | ProposalChecked():
            return f"{type(item).__name__} h={item.height} v={item.view}"
        case Advanced(context=context):
            return f"Advanced h={context.height}"
        case BlockFetched(block=block):
            return f"BlockFetched h={block.header.height}"
        case DecidedReceived(certified=certified):
            return f"DecidedReceived h={certified.block.header.height} v={certified.certificate.view}"
        case _:
            return str(item)[:200]


def replica_state(replica: Replica) -> dict[str, Any]:
    """Where a replica stands."""
    votes: dict[Address, tuple[int, int, str]] = replica.last_votes
    return {
        "height": replica.height,
        "epoch": replica.context.epoch,
        "view": replica.view,
        "phase": replica.phase,
        "is_delegate": replica.is_delegate,
        "is_primary": replica.is_primary,
        "voting": replica.voting,
        "abstaining": replica.abstaining,
        "view_timeout_ms": replica.view_timeout_ms,
        "parent": replica.context.parent_hash.hex(),
        "delegates": [delegate.address.hex() for delegate in replica.context.delegates],
        "last_votes": {
            address.hex(): f"{phase} h={height} v={view}" for address, (height, view, phase) in votes.items()
        },
    }


def aged(lines: Iterable[tuple[int, str]], now_ms: int) -> list[str]:
    """Lines with how long ago each was."""
    return [f"-{now_ms - at_ms} ms {text}" for at_ms, text in lines]
