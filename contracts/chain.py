"""The chain's own record, block time against chain time, and the phases of an epoch (PROTOCOL 0.2, 4.4).

State after block h fixes the epoch and the phase of block h + 1; nothing else does.
"""

import msgspec

from consensus.block import Header
from consensus.parameters import Parameters
from consensus.types import Address, Digest, Unsigned, Wire
from contracts.receipts import EpochPhase

MIN_VOTING_BLOCKS = 2
"""The second-to-last voting block fixes the closing block's set, the last one tallies (PROTOCOL 4.4, 7.2)."""


class Chain(Wire, frozen=True):
    """Where the chain stands after its last block; ``epoch`` and ``phase`` are those of the next one."""

    height: Unsigned
    """Of the last block; 0 after genesis."""
    block_hash: Digest
    """Of the last block; the chain id after genesis."""
    time_ms: Unsigned
    """Block time of the last block."""
    chain_ms: Unsigned
    """Chain time of the last block (PROTOCOL 0.2)."""
    proposer: Address
    """Of the last block: head(h + 1) follows from it (PROTOCOL 6.3). Zero after genesis."""
    epoch: Unsigned
    """Epoch of the next block."""
    epoch_first_height: Unsigned
    """First height of ``epoch``."""
    phase: EpochPhase
    """Phase of the next block."""
    phase_since_chain_ms: Unsigned
    """Chain time of the last block before ``phase``."""
    phase_blocks: Unsigned
    """Blocks that ``phase`` has had so far."""


def first_chain(chain_id: Digest, time_ms: int, nobody: Address) -> Chain:
    """State after genesis: epoch 0 runs from block 1 on (PROTOCOL 4.7, 9.1)."""
    return Chain(0, chain_id, time_ms, 0, nobody, 0, 1, EpochPhase.RUNNING, 0, 0)


def next_chain_ms(chain: Chain, time_ms: int, parameters: Parameters) -> int:
    """chain_ms of the next block, whose header time is ``time_ms``: it stands still while the chain halts (0.2)."""
    return chain.chain_ms + min(time_ms - chain.time_ms, 2 * parameters.empty_block_interval_ms)


def ends_phase(chain: Chain, chain_ms: int, parameters: Parameters) -> bool:
    """Whether the block after ``chain``, at ``chain_ms``, is the last of its phase (PROTOCOL 4.4).

    A phase ends with its first block (voting: not before its second) whose chain_ms is at least the duration past
    that of the last block before the phase. The closing phase is one block.
    """
    elapsed_ms = chain_ms - chain.phase_since_chain_ms
    match chain.phase:
        case EpochPhase.RUNNING:
            return elapsed_ms >= parameters.run_ms
        case EpochPhase.PLANNING:
            return elapsed_ms >= parameters.planning_ms
        case EpochPhase.VOTING:
            return chain.phase_blocks + 1 >= MIN_VOTING_BLOCKS and elapsed_ms >= parameters.voting_ms
        case EpochPhase.CLOSING:
            return True


def advance(chain: Chain, header: Header, chain_ms: int, parameters: Parameters) -> Chain:
    """``chain`` after the block of ``header``: running, planning, voting, closing, next epoch (PROTOCOL 4.4)."""
    ended = ends_phase(chain, chain_ms, parameters)
    moved = msgspec.structs.replace(
        chain,
        height=header.height,
        block_hash=header.digest(),
        time_ms=header.time_ms,
        chain_ms=chain_ms,
        proposer=header.proposer,
        phase_blocks=chain.phase_blocks + 1,
    )
    if not ended:
        return moved
    closed = chain.phase is EpochPhase.CLOSING
    return msgspec.structs.replace(
        moved,
        epoch=chain.epoch + 1 if closed else chain.epoch,
        epoch_first_height=header.height + 1 if closed else chain.epoch_first_height,
        phase=_next_phase(chain.phase),
        phase_since_chain_ms=chain_ms,
        phase_blocks=0,
    )


def _next_phase(phase: EpochPhase) -> EpochPhase:
    match phase:
        case EpochPhase.RUNNING:
            return EpochPhase.PLANNING
        case EpochPhase.PLANNING:
            return EpochPhase.VOTING
        case EpochPhase.VOTING:
            return EpochPhase.CLOSING
        case EpochPhase.CLOSING:
            return EpochPhase.RUNNING
