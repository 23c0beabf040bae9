"""Proofs of removals: f + 1 distinct primaries proposed it in failed views (PROTOCOL 6.10; annex on blocks, 5)."""

import itertools
from typing import Any, NamedTuple

from node.auditor.encoding import (
    Malformed,
    Shape,
    address_of,
    decode,
    encode,
    path_holds,
    signature_holds,
    tagged,
)
from node.auditor.shapes import (
    MAX_PRE_PREPARE_BYTES,
    MAX_VIEW_CHANGE_BYTES,
    PRE_PREPARE_VOTE,
    VIEW_CHANGE_MESSAGE,
    Discard,
    FailedProposal,
    Header,
    ViewChange,
    Vote,
)
from node.auditor.validity import view_change_check, vote_check

MAX_ACCEPTED = 64
MAX_VIEW = 2**62


class Place(NamedTuple):
    """Where a block stands: what its removals' proofs are judged against."""

    chain_id: bytes
    epoch: int
    height: int
    view: int
    ranking: tuple[bytes, ...]
    """Addresses of C(h) in ranking order."""
    head: bytes
    """head(h)."""

    @property
    def faults(self) -> int:
        """f."""
        return (len(self.ranking) - 1) // 3

    def primary(self, view: int) -> bytes:
        """primary(h, view)."""
        return self.ranking[(self.ranking.index(self.head) + view) % len(self.ranking)]


class Unproven(Exception):
    """A removal without a valid proof."""


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise Unproven(text)


def _decoded(raw: bytes, shape: Shape, max_bytes: int) -> Any:
    try:
        return decode(raw, shape, max_bytes)
    except Malformed as error:
        raise Unproven(f"a part of the proof is malformed: {error}") from error


def check_removal(discard: Discard, place: Place) -> None:
    """Raise `Unproven` unless f + 1 failed views of distinct primaries are shown."""
    needed = place.faults + 1
    _require(place.faults > 0, "with f = 0 nothing is removed")
    _require(len(discard.proposals) == needed, f"{needed} failed proposals are needed")
    views = [item.header.view for item in discard.proposals]
    _require(all(view < place.view for view in views), "a failed view is not below the block's")
    _require(len({place.primary(view) for view in views}) == needed, "the primaries are not distinct")
    reference = tagged("transaction.full", discard.transaction)
    for item in discard.proposals:
        root, path = item.header.transactions_root, item.path
        _require(path_holds(root, reference, *path), "the transaction is not in a failed proposal")
        _check_proposal(item, place)


def _check_proposal(item: FailedProposal, place: Place) -> None:
    header: Header = item.header
    vote: Vote = _decoded(item.pre_prepare, PRE_PREPARE_VOTE, MAX_PRE_PREPARE_BYTES)
    _check_vote(vote, place)
    _require(address_of(vote.signer) == place.primary(vote.view), "a pre-prepare is not its primary's")
    stands = (header.height, header.epoch, header.view) == (place.height, place.epoch, vote.view)
    _require(stands, "a failed proposal is of another height, epoch or view")
    _require(tagged("block.header", encode(header)) == vote.digest, "a pre-prepare names another header")
    _require(header.proposer == place.primary(vote.view), "a failed proposal has another proposer")
    _require(len(item.view_changes) == place.faults + 1, "f + 1 view-changes are needed")
    senders = set()
    for raw in item.view_changes:
        message: ViewChange = _decoded(raw, VIEW_CHANGE_MESSAGE, MAX_VIEW_CHANGE_BYTES)
        _check_view_change(message, place)
        named = message.view == vote.view + 1 and (vote.view, vote.digest) in message.accepted
        _require(named, "a view-change does not name the proposal as accepted")
        senders.add(message.signer)
    _require(len(senders) == place.faults + 1, "the view-changes are not of distinct senders")


def _check_seat(message: Vote | ViewChange, place: Place) -> None:
    _require(address_of(message.signer) in place.ranking, "a signer holds no seat")
    here = (message.epoch, message.height) == (place.epoch, place.height)
    _require(here and message.view <= MAX_VIEW, "a message is of another epoch or height")


def _check_vote(vote: Vote, place: Place) -> None:
    _check_seat(vote, place)
    _require(signature_holds(*vote_check(vote, place.chain_id)), "a vote's signature does not verify")


def _check_view_change(message: ViewChange, place: Place) -> None:
    _check_seat(message, place)
    _require(message.view > 0, "view 0 needs no view-change")
    views = [view for view, _ in message.accepted]
    ascending = all(a < b for a, b in zip([-1, *views], [*views, message.view], strict=True))
    _require(len(views) <= MAX_ACCEPTED and ascending, "accepted views do not ascend below the view-change's")
    verified = signature_holds(*view_change_check(message, place.chain_id))
    _require(verified, "a view-change's signature does not verify")
    if message.prepared is not None:
        pre_prepare, prepares = message.prepared
        _require(pre_prepare.view < message.view, "a prepared certificate is not of a lower view")
        _check_prepared(pre_prepare, prepares, place)


def _check_prepared(pre_prepare: Vote, prepares: tuple[Vote, ...], place: Place) -> None:
    primary, n = place.primary(pre_prepare.view), len(place.ranking)
    _check_vote(pre_prepare, place)
    _require(address_of(pre_prepare.signer) == primary, "a prepared certificate's primary is another")
    _require(len(prepares) >= n - place.faults - 1, "a prepared certificate has fewer than q - 1 prepares")
    ranks = []
    for prepare in prepares:
        _check_vote(prepare, place)
        same = (prepare.view, prepare.digest) == (pre_prepare.view, pre_prepare.digest)
        _require(same, "a prepare is of another view or digest")
        _require(prepare.signer != pre_prepare.signer, "a primary signs no prepare in its own view")
        ranks.append(place.ranking.index(address_of(prepare.signer)))
    ordered = all(a < b for a, b in itertools.pairwise(ranks))
    _require(ordered, "the prepares are not in ranking order, each once")
