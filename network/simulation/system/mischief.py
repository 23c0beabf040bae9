"""Mischief that needs real transactions."""

import random
from collections.abc import Sequence

import msgspec

from consensus.block import full_hash, transactions_root
from consensus.messages import PrePrepareVote, Proposal, sign_vote
from consensus.types import Digest
from contracts.transaction import Signature as TransactionSignature
from contracts.transaction import Transfer, encode_body, join_signatures
from network.simulation.byzantine import Liar
from network.simulation.letters import GiveTransactions, Letter
from network.simulation.system.cast import Cast


class BadTransactions:
    """As primary puts a badly signed transaction into fresh blocks, and gives its bytes to who asks (PROTOCOL 3.2b)."""

    def __init__(self, rng: random.Random, cast: Cast) -> None:
        self._rng = rng
        self._cast = cast
        self._told: dict[Digest, Proposal] = {}
        self._bad: dict[Digest, bytes] = {}

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Now and then a block with a forged transfer, the same for all."""
        if not isinstance(letter, Proposal) or letter.header.view != letter.vote.view:
            return [(0, letter)]
        digest = letter.vote.digest
        if digest not in self._told:
            self._told[digest] = self._spoiled(liar, letter) if self._rng.random() < 0.5 else letter
        told: list[tuple[int, Letter]] = [(0, self._told[digest])]
        if self._told[digest] is not letter:
            # Nobody has these bytes: they follow the proposal unasked, as an answer would.
            told.append((20_000, GiveTransactions((self._bad[digest],))))
        return told

    def _spoiled(self, liar: Liar, proposal: Proposal) -> Proposal:
        players = self._cast.players
        sender, recipient = self._rng.sample(players, 2)
        time_ms = proposal.header.time_ms
        body = encode_body(
            self._cast.chain_id,
            sender.address,
            time_ms,
            time_ms + 1_000,
            self._rng.getrandbits(40),
            Transfer(recipient.address, 1),
        )
        forged = TransactionSignature(sender.public_key, self._rng.randbytes(64))
        data = join_signatures(body, (forged,))
        self._bad[proposal.vote.digest] = data
        references = (*proposal.references, full_hash(data))
        header = msgspec.structs.replace(proposal.header, transactions_root=transactions_root(references))
        vote = proposal.vote
        signed = sign_vote(
            PrePrepareVote,
            self._cast.chain_id,
            vote.epoch,
            vote.height,
            vote.view,
            header.digest(),
            liar.signer,
        )
        return Proposal(signed, header, references, proposal.last_commit, proposal.discarded)
