"""Removing a transaction that f + 1 distinct primaries proposed in failed views (PROTOCOL 6.10).

The failed views of a height are remembered as they happen; a new primary builds proofs from them, and everybody
verifies proofs with `check_removals`, whoever made them.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from consensus.block import Block, Discard, FailedProposal, full_hash
from consensus.encoding import Codec, encode
from consensus.errors import InvalidMessage, MalformedInput, invariant
from consensus.hashing import tagged_hash
from consensus.judge import Judge
from consensus.merkle import MerkleTree, leaf_hash, verify_path
from consensus.messages import Accepted, Proposal, ViewChange, pre_prepare_codec, view_change_codec
from consensus.tally import VIEWS_KEPT
from consensus.types import Digest, PublicKey
from consensus.view_change import check_view_change

T = TypeVar("T")

MAX_TRANSACTION_BYTES = 65_536
"""No transaction is larger; a removal carries one."""

_parts_codec: Codec[tuple[msgspec.Raw, msgspec.Raw]] = Codec(
    tuple[msgspec.Raw, msgspec.Raw], MAX_TRANSACTION_BYTES
)


def transaction_id(transaction: bytes) -> Digest:
    """id = H(body), the first of the two parts of a transaction (PROTOCOL 9.2); `MalformedInput` if it has none."""
    body, _signatures = _parts_codec.decode(transaction)
    return tagged_hash("transaction.body", bytes(body))


def views_remembered(faults: int) -> int:
    """Failed views kept: f + 1 primaries need f + 1 views; twice that leaves room for views that held nothing."""
    return max(VIEWS_KEPT, 2 * (faults + 1))


class FailedViews:
    """Per view: the fresh proposal seen, and the view-changes for the next view by the digest they accepted."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._limit = views_remembered(judge.faults)
        self._proposals: dict[int, Proposal] = {}
        self._witnesses: dict[int, dict[Digest, dict[PublicKey, ViewChange]]] = {}

    def note_proposal(self, proposal: Proposal) -> None:
        """Remember a verified fresh proposal; one proposed again names an older view and is no new failure."""
        view = proposal.vote.view
        if self._judge.faults and proposal.header.view == view:
            self._proposals.setdefault(view, proposal)
            _keep_highest(self._proposals, self._limit)

    def note_view_change(self, message: ViewChange) -> None:
        """Remember a verified view-change (h, u + 1) as witness of what its sender accepted in u."""
        failed = message.view - 1
        digest = next((item.digest for item in message.accepted if item.view == failed), None)
        if digest is None or not self._judge.faults:
            return
        witnesses = self._witnesses.setdefault(failed, {}).setdefault(digest, {})
        if len(witnesses) <= self._judge.faults:
            witnesses.setdefault(message.signer, message)
        _keep_highest(self._witnesses, self._limit)

    def removals(self, view: int, blocks: Mapping[Digest, Block], max_bytes: int) -> tuple[Discard, ...]:
        """What the primary of ``view`` can prove now, within ``max_bytes``; the rest waits for another block."""
        faults = self._judge.faults
        proven = [item for item in sorted(self._proposals) if item < view and self._is_proven(item)]
        if faults == 0 or len(proven) <= faults:
            return ()
        failed = {item: _FailedView(self._proposals[item], self._view_changes(item)) for item in proven}
        discards: list[Discard] = []
        remaining = max_bytes
        for reference, views in self._common_references(proven):
            discard = self._prove(reference, [failed[item] for item in views], blocks)
            if discard is None:
                continue
            remaining -= len(encode(discard))
            if remaining < 0:
                break
            discards.append(discard)
        return tuple(discards)

    def _is_proven(self, view: int) -> bool:
        digest = self._proposals[view].vote.digest
        return len(self._witnesses.get(view, {}).get(digest, {})) > self._judge.faults

    def _common_references(self, views: list[int]) -> list[tuple[Digest, list[int]]]:
        """References that f + 1 distinct primaries proposed, each with the first such views."""
        seen: dict[Digest, dict[PublicKey, int]] = {}
        for view in views:
            primary = self._judge.primary_key(view)
            for reference in self._proposals[view].references:
                seen.setdefault(reference, {}).setdefault(primary, view)
        needed = self._judge.faults + 1
        return [
            (reference, list(by.values())[:needed]) for reference, by in seen.items() if len(by) >= needed
        ]

    def _view_changes(self, view: int) -> tuple[bytes, ...]:
        """Canonical bytes of the f + 1 view-changes that show the proposal of ``view`` as accepted."""
        witnesses = self._witnesses[view][self._proposals[view].vote.digest]
        chosen = tuple(encode(item) for item in tuple(witnesses.values())[: self._judge.faults + 1])
        invariant(len(chosen) == self._judge.faults + 1, "f + 1 delegates accepted a removed proposal (6.10)")
        return chosen

    @staticmethod
    def _prove(
        reference: Digest, views: list["_FailedView"], blocks: Mapping[Digest, Block]
    ) -> Discard | None:
        transaction = _find(reference, views, blocks)
        if transaction is None:
            return None
        try:
            identity = transaction_id(transaction)
        except MalformedInput:
            return None
        return Discard(identity, transaction, tuple(view.proof_of(reference) for view in views))


class _FailedView:
    """One failed view, and what the proofs of all that it carried have in common: a block holds thousands."""

    def __init__(self, proposal: Proposal, view_changes: tuple[bytes, ...]) -> None:
        self.proposal = proposal
        self._view_changes = view_changes
        self._pre_prepare = encode(proposal.vote)
        self._positions = {reference: index for index, reference in enumerate(proposal.references)}
        self._tree = MerkleTree([leaf_hash(item) for item in proposal.references])

    def position(self, reference: Digest) -> int:
        """Where the proposal carried ``reference``."""
        return self._positions[reference]

    def proof_of(self, reference: Digest) -> FailedProposal:
        """That the proposal carried ``reference`` and f + 1 delegates accepted it."""
        path = self._tree.path(self._positions[reference])
        return FailedProposal(self.proposal.header, path, self._pre_prepare, self._view_changes)


def _find(reference: Digest, views: list[_FailedView], blocks: Mapping[Digest, Block]) -> bytes | None:
    for view in views:
        block = blocks.get(view.proposal.vote.digest)
        if block is not None:
            transaction = block.transactions[view.position(reference)]
            invariant(full_hash(transaction) == reference, "a held block has the bytes its references name")
            return transaction
    return None


def _keep_highest(
    table: dict[int, Proposal] | dict[int, dict[Digest, dict[PublicKey, ViewChange]]], limit: int
) -> None:
    while len(table) > limit:
        del table[min(table)]


class RemovalCheck:
    """Verifies the removals of one fresh proposal; parts that several removals share are verified once."""

    def __init__(self, judge: Judge, view: int) -> None:
        self._judge = judge
        self._view = view
        self._accepted: dict[bytes, ViewChange] = {}
        self._pre_prepares: dict[bytes, tuple[int, Digest]] = {}

    def check(self, discarded: tuple[Discard, ...]) -> None:
        """Raise `InvalidMessage` unless every removal is proven as PROTOCOL 6.10 asks."""
        if discarded and self._judge.faults == 0:
            raise InvalidMessage("with f = 0 nothing is removed (6.10)")
        if len({item.transaction_id for item in discarded}) != len(discarded):
            raise InvalidMessage("a removal is listed twice")
        for item in discarded:
            self._check_one(item)

    def _check_one(self, discard: Discard) -> None:
        try:
            identity = transaction_id(discard.transaction)
        except MalformedInput as error:
            raise InvalidMessage(f"the removed transaction is malformed: {error}") from error
        if identity != discard.transaction_id:
            raise InvalidMessage("the removed transaction has another id")
        needed = self._judge.faults + 1
        if len(discard.proposals) != needed:
            raise InvalidMessage(f"{len(discard.proposals)} failed proposals, a removal names {needed}")
        views = [item.header.view for item in discard.proposals]
        if any(view >= self._view for view in views):
            raise InvalidMessage("a failed view is not below the proposal's")
        if len({self._judge.primary_key(view) for view in views}) != needed:
            raise InvalidMessage("the failed proposals are not of distinct primaries")
        leaf = leaf_hash(full_hash(discard.transaction))
        for item in discard.proposals:
            if not verify_path(item.header.transactions_root, leaf, item.path):
                raise InvalidMessage("the removed transaction is not in a failed proposal")
            self._check_proposal(item)

    def _check_proposal(self, item: FailedProposal) -> None:
        view, digest = self._pre_prepare(item.pre_prepare)
        header = item.header
        if (header.height, header.epoch, header.view) != (self._judge.height, self._judge.epoch, view):
            raise InvalidMessage("a failed proposal's header is of another height, epoch or view")
        if header.digest() != digest or header.proposer != self._judge.primary_address(view):
            raise InvalidMessage("a failed proposal's header is not the one its primary signed")
        needed = self._judge.faults + 1
        if len(item.view_changes) != needed:
            raise InvalidMessage(f"{len(item.view_changes)} view-changes, a failed proposal shows {needed}")
        signers = {self._witness(raw, Accepted(view, digest)) for raw in item.view_changes}
        if len(signers) != needed:
            raise InvalidMessage("the view-changes of a failed proposal are not of distinct senders")

    def _pre_prepare(self, raw: bytes) -> tuple[int, Digest]:
        known = self._pre_prepares.get(raw)
        if known is not None:
            return known
        vote = _decoded(pre_prepare_codec, raw)
        self._judge.check_place(vote)
        if vote.signer != self._judge.primary_key(vote.view):
            raise InvalidMessage("a failed proposal's pre-prepare is not its primary's")
        self._judge.check_vote(vote)
        self._pre_prepares[raw] = (vote.view, vote.digest)
        return vote.view, vote.digest

    def _witness(self, raw: bytes, accepted: Accepted) -> PublicKey:
        message = self._accepted.get(raw)
        if message is None:
            message = _decoded(view_change_codec, raw)
            check_view_change(message, self._judge)
            self._accepted[raw] = message
        if message.view != accepted.view + 1 or accepted not in message.accepted:
            raise InvalidMessage("a view-change does not name the failed proposal as accepted")
        return message.signer


def _decoded(codec: Codec[T], raw: bytes) -> T:
    try:
        return codec.decode(raw)
    except MalformedInput as error:
        raise InvalidMessage(f"a removal's proof is malformed: {error}") from error


def is_disjoint(block: Block) -> bool:
    """Whether no id is both listed for removal and included (PROTOCOL 6.10)."""
    removed = {item.transaction_id for item in block.discarded}
    return not removed or all(_id_or_none(item) not in removed for item in block.transactions)


def _id_or_none(transaction: bytes) -> Digest | None:
    try:
        return transaction_id(transaction)
    except MalformedInput:
        return None
