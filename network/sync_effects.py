"""What a catching-up session does and within which bounds: the effects and limits of `network.sync` (PROTOCOL 10.1)."""

from typing import TypeAlias

from consensus.block import CertifiedBlock
from consensus.types import PublicKey, Value


class SyncLimits(Value, frozen=True):
    """Bounds of a session, each with its reason."""

    blocks_per_request: int = 64
    """A busy chain's MiB blocks end the answer by size, an idle one's 64 are about 100 KiB."""
    requests_per_peer: int = 2
    """One on its way while the other is prepared."""
    requests: int = 8
    """In all: eight answers of at most 5 MiB."""
    window_blocks: int = 1_024
    """How far ahead of the ledger blocks are asked for."""
    buffer_bytes: int = 16 * 1_048_576
    """Beyond it only the next missing block is asked for."""
    unapplied_blocks: int = 64
    """Handed out and not yet answered."""
    redeliver_ms: int = 30_000
    """Blocks that the ledger has not answered for so long are handed out again: nothing lost on the way stops us."""
    request_timeout_ms: int = 5_000
    hedge_ms: int = 1_000
    """After so long the next missing block is asked from a second peer as well."""
    strikes: int = 2
    """Unanswered or outrun requests in a row, after which a peer is left out."""
    bar_ms: int = 30_000
    """First exclusion from the session; doubles each time."""
    bar_max_ms: int = 3_600_000
    behind_blocks: int = 2
    """A lag that large may just be on its way here."""
    behind_ms: int = 1_000
    """A lag that lasts so long is one, and blocks are asked for."""
    far_behind_blocks: int = 32
    """A lag that large is one at once."""
    overslept_ms: int = 1_000
    """A tick that comes so late tells of a pause of this process, not of its peers."""


class RequestBlocks(Value, frozen=True):
    """Ask ``peer`` for ``count`` blocks from ``from_height`` on."""

    peer: PublicKey
    from_height: int
    count: int


class DeliverBlock(Value, frozen=True):
    """The next block in order: check its certificate, apply it, answer with `applied` or `invalid`.

    Blocks may be delivered again (after an `invalid`, or when no answer comes): apply only the ledger's height plus 1,
    and work deliveries off in their order.
    """

    peer: PublicKey
    height: int
    certified: CertifiedBlock
    encoded: bytes


class LeaveOut(Value, frozen=True):
    """``peer`` is left out of the session for a while; ``punish``: it sent what no honest node sends."""

    peer: PublicKey
    reason: str
    punish: bool


class CaughtUpChanged(Value, frozen=True):
    """Whether this node is level with the delegates (PROTOCOL 10.2)."""

    caught_up: bool


SyncEffect: TypeAlias = RequestBlocks | DeliverBlock | LeaveOut | CaughtUpChanged
