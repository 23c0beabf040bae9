"""What nodes of a simulation send one another beside consensus messages: the shell's requests and answers."""

from typing import TypeAlias

from consensus.block import Block, CertifiedBlock
from consensus.messages import ConsensusMessage
from consensus.types import Digest, Value


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


class AskDecided(Value, frozen=True):
    """Decided blocks are wanted from ``height`` on."""

    height: int


class GiveDecided(Value, frozen=True):
    """Decided blocks with their certificates, ascending and without gaps."""

    blocks: tuple[CertifiedBlock, ...]


class AskHeight(Value, frozen=True):
    """Which height is certified at yours? (PROTOCOL 6.5, a lost journal)."""


class GiveHeight(Value, frozen=True):
    """The highest certified height of the sender."""

    height: int


Letter: TypeAlias = (
    ConsensusMessage
    | Relay
    | AskTransactions
    | GiveTransactions
    | AskBlock
    | GiveBlock
    | AskDecided
    | GiveDecided
    | AskHeight
    | GiveHeight
)
