"""What nodes of a simulation send one another: consensus messages, the shipped messages of following the chain, and
stand-ins for the shell's other requests and answers."""

from typing import TypeAlias

from consensus.block import Block
from consensus.messages import ConsensusMessage
from consensus.types import Digest, Value
from network.wire import BlocksRequest, BlocksResponse, Decided, StatusAnnouncement


class Relay(Value, frozen=True):
    """A transaction on its way to all delegates."""

    transaction: bytes


class AskTransactions(Value, frozen=True):
    """A proposal names bytes that the asker lacks (PROTOCOL 6.4)."""

    references: tuple[Digest, ...]


class GiveTransactions(Value, frozen=True):
    """Those of them that are held here."""

    transactions: tuple[bytes, ...]


class AskBlock(Value, frozen=True):
    """An undecided block is wanted by its digest (PROTOCOL 6.5)."""

    height: int
    digest: Digest


class GiveBlock(Value, frozen=True):
    """The block asked for."""

    block: Block


class AskHeight(Value, frozen=True):
    """Which height is certified at yours? (PROTOCOL 6.5, a lost journal)."""


class GiveHeight(Value, frozen=True):
    """The highest certified height of the sender, and its block's hash: believed once the asker holds that block."""

    height: int
    block_hash: Digest


SyncLetter: TypeAlias = BlocksRequest | BlocksResponse | Decided | StatusAnnouncement
Letter: TypeAlias = (
    ConsensusMessage
    | Relay
    | AskTransactions
    | GiveTransactions
    | AskBlock
    | GiveBlock
    | SyncLetter
    | AskHeight
    | GiveHeight
)
