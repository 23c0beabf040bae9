"""The engine alone: blocks made by hand on a genesis of simulated members, for what needs no replicas."""

from collections.abc import Sequence

import msgspec

from consensus.block import (
    PROTOCOL_VERSION,
    Block,
    Certificate,
    CommitSignature,
    Header,
    full_hash,
    transactions_root,
)
from consensus.parameters import Parameters
from consensus.types import ZERO_DIGEST, Address
from contracts.chain import ends_phase, next_chain_ms
from contracts.engine import BlockOutcome, apply_block, genesis_state
from contracts.epoch_state import chain_of
from contracts.genesis import Admission
from contracts.receipts import EpochPhase
from contracts.seats import delegate_set_at, next_height_head
from contracts.transaction import decode_transaction
from network.simulation.keys import KeyedHashRing
from network.simulation.system.cast import Cast


class Bench:
    """A chain that grows block by block; every delegate commits every block."""

    def __init__(self, seed: int, members: int, parameters: Parameters) -> None:
        self.cast = Cast(KeyedHashRing(seed), members, 1, parameters, Admission.OPEN)
        self.state = genesis_state(self.cast.genesis, self.cast.ring)
        self.time_ms = self.cast.genesis.time_ms
        self.last: Block
        """The block made last."""

    @property
    def phase(self) -> EpochPhase:
        """Of the next block."""
        return chain_of(self.state).phase

    def ends_phase(self, after_ms: int = 1_000) -> bool:
        """Whether the next block, after so long, is the last of its phase."""
        chain, parameters = chain_of(self.state), self.cast.parameters
        return ends_phase(chain, next_chain_ms(chain, self.time_ms + after_ms, parameters), parameters)

    def set_energy(self, energies: Sequence[int]) -> None:
        """Let members have traded: what years of contracts would do."""
        for player, energy_wh in zip(self.cast.players, energies, strict=False):
            account = self.state.accounts.require(player.address)
            self.state.accounts.put(player.address, msgspec.structs.replace(account, energy_wh=energy_wh))
        self.state.commit()

    def block(self, *transactions: bytes, after_ms: int = 1_000) -> BlockOutcome:
        """The next block."""
        self.time_ms += after_ms
        block = self.last = Block(self._header(transactions), transactions, self._last_commit(), ())
        return apply_block(
            self.state,
            block,
            [decode_transaction(data) for data in transactions],
            genesis=self.cast.genesis,
            chain_id=self.cast.chain_id,
            verifier=self.cast.ring,
        )

    def _header(self, transactions: Sequence[bytes]) -> Header:
        chain = chain_of(self.state)
        proposer: Address = next_height_head(self.state)
        return Header(
            version=PROTOCOL_VERSION,
            chain_id=self.cast.chain_id,
            height=chain.height + 1,
            epoch=chain.epoch,
            view=0,
            parent_hash=chain.block_hash,
            time_ms=self.time_ms,
            proposer=proposer,
            transactions_root=transactions_root([full_hash(data) for data in transactions]),
            last_commit_hash=ZERO_DIGEST,
            discarded_root=ZERO_DIGEST,
            receipts_root=ZERO_DIGEST,
            state_root=self.state.tree.root,
            delegates_hash=delegate_set_at(self.state, chain.height + 1).hash(),
            next_delegates_hash=delegate_set_at(self.state, chain.height + 2).hash(),
        )

    def _last_commit(self) -> Certificate | None:
        chain = chain_of(self.state)
        if chain.height == 0:
            return None
        signed = tuple(
            CommitSignature(delegate.public_key, bytes(64))
            for delegate in delegate_set_at(self.state, chain.height)
        )
        return Certificate(chain.epoch, chain.height, 0, chain.block_hash, signed)

    def go_to(self, phase: EpochPhase) -> None:
        """Empty blocks until the next one is of ``phase``, at least one."""
        self.block()
        while self.phase is not phase:
            self.block()
