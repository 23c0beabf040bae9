"""Named events that a campaign must reach (RELIABILITY G19): a simulation in which they do not happen proves nothing.

An event is a key of `Outcome.reached`. Most are traced by the replicas themselves or told by the nodes and faults of a
run; `Witness` sees what takes two looks: what was decided and how, what a restart finds, who woke in which view.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from consensus.block import CertifiedBlock
from consensus.effects import Decide, Effect, ReportProposal, Send, Trace
from consensus.inputs import DecidedReceived, Input
from consensus.messages import Commit, ConsensusMessage, NewView, Prepare, Proposal, ViewChange
from consensus.types import Address, Digest
from network.simulation.doors import Terms

RUN_EVENTS: Final = {
    # what is decided
    "block: empty": "an empty block let time pass (6.9)",
    "block: transactions": "a block with transactions was decided",
    "block: removals": "a block removed transactions that failed primaries had proposed (6.10)",
    "decided in view 0": "decided without a view change",
    "decided in view 1": "decided by the first backup",
    "decided in view 2": "decided by the second backup",
    "decided in view 3": "decided in view 3 or later",
    "carried over one view": "a block was decided one view after the one in which it was first proposed (6.6)",
    "carried over two views": "a prepared block was carried over two views or more before it was decided (6.6)",
    "empty block carried over": "an empty block was proposed again after a view change and decided",
    "more commits than a quorum": "a block's certificate holds more than q commits",
    "last-commit of all": "a last-commit holds the commits of all delegates, late ones included (9.1)",
    "last-commit of a quorum": "a last-commit holds exactly q commits",
    # who decides
    "seat replaced": "a set differs from the one before within an epoch (7.2)",
    "epoch with another set": "an epoch began with other delegates or another ranking",
    "epoch begins after a view change": "the first height of an epoch was decided in a later view than 0",
    "promoted backup stayed": "the proposer of a later view proposed the next height in view 0 (6.3)",
    "primary lost its seat": "the last primary holds no seat at the next height; the next in rank is its head (6.3)",
    # view changes
    "view-change: timeout": "a view had its time (6.7)",
    "view-change: join": "f + 1 view-changes made a delegate join (6.6)",
    "view-change: invalid proposal": "an invalid proposal made a delegate ask for the next view at once (6.4)",
    "view-change: complaint": "a complaint made a delegate ask for another primary (6.7)",
    "view-change carries a certificate": "a view-change carried a prepared certificate",
    "view-change carries an old certificate": "a view-change carried a prepared certificate two views old or more",
    "new-view: fresh": "a new-view allowed a fresh proposal",
    "new-view: again": "a new-view demanded a block to be proposed again",
    "new-view chooses among certificates": "view-changes of one new-view carried certificates of different views",
    "new-view of more than a quorum": "a new-view held more than q view-changes",
    "proposed-again": "a primary proposed a carried-over block byte for byte",
    "kept-early": "a proposal came before its new-view and was kept",
    "body-missing": "a new primary had to propose a block again that it did not hold, and fetched it (6.5)",
    "block-fetched": "an undecided block was found by its digest",
    # votes
    "commit without prepare": "a delegate committed a block that it had not prepared itself (6.4)",
    "late-commit": "one that decided without having committed signed commit for the deciding view (6.4)",
    "decided in another view": "commits decided a height for a delegate that was in another view than they (6.4)",
    "certificate-before-block": "a certificate came before the block that it decides",
    "certificate-learned": "a height was decided by the last-commit of the next proposal",
    "replayed": "messages of the next height were kept and taken in when it was entered (6.6)",
    "time-ahead": "a prepare waited until the clock reached the proposal's time (6.8)",
    # lies and what becomes of them
    "refused": "a message was refused and changed nothing",
    "invalid-proposal": "a proposal was found invalid",
    "equivocation: PrePrepareVote": "two pre-prepares of one view were reported (3.2)",
    "equivocation: Prepare": "two prepares of one view were reported (3.2)",
    "equivocation: Commit": "two commits of one view were reported (3.2)",
    "wrong block reported": "a fresh pre-prepare of a wrong block was reported with its proof (3.2)",
    "complaint: overlooked": "a primary left out a transaction that had waited for long (6.7)",
    "peer banned": "a node banned a peer that sent what no honest node sends",
    # restarts, journals, disks
    "restart resends votes": "a process came back within a height and sent the same bytes again (6.5)",
    "restart in a later view": "a process came back in a view above 0",
    "restart of a primary": "a primary came back after its proposal and went on with it",
    "restart of a new primary": "a new primary came back after its new-view and went on with it",
    "journal-lost": "a node told its replica that its journal is lost (6.5)",
    "abstaining": "a node learned from q others up to which height it signs nothing (6.5)",
    "torn journal tail": "a crash left a part of the last write, and the rest was discarded",
    "lost journal tail": "a crash took the whole last write, which nothing depended on yet",
    "stopped by its disk": "a sync failed, and the node stopped before it signed anything more",
    "disk restored": "a node came back with a disk of the past",
    "damaged block fetched again": "a damaged stored block was found at a start and fetched from peers",
    # behind and ahead
    "behind": "a delegate saw that others are ahead and fetched decided blocks (6.6)",
    "answered-late": "one that had decided answered a view-change with block and certificate (6.6)",
    "taken over from a peer": "a delegate decided by a block with its certificate instead of votes (6.12)",
    "woke behind": "a node went on after a pause while the chain had gone on without it",
    "woke in a stale view": "a node went on after a pause in a view that others had left",
    # faults, as they strike
    "fault Crash": "a node died",
    "fault CrashAtEffect": "a node died right before or after an effect of its replica",
    "fault Pause": "a node stood still and went on with stale timers",
    "fault CutLinks": "a partition, a one-way cut, or the loss of some kinds of messages",
    "fault BadLinks": "links lost, doubled, delayed and reordered",
    "fault ClogLinks": "links held back letters and delivered them in a burst",
    "fault SlowDisk": "a disk was slow",
    "fault DiskError": "a disk failed with an error",
    "fault JumpingClock": "a wall clock jumped within what all accept",
    "fault DriftingClock": "a clock ran fast or slow",
    "fault WrongClock": "a wall clock jumped beyond what others accept",
    "fault FrozenClock": "a wall clock stood still",
    "fault LoseJournal": "a journal, or a whole disk, was lost",
    "fault RotBlock": "a bit of a stored block flipped",
    "fault RotJournal": "a bit of a journal flipped",
    "fault RestoreDisk": "a disk was restored from an old copy",
}
"""Name and meaning of what runs of replicas must reach."""

RARE: Final = frozenset(
    (
        "block: removals",
        "body-missing",
        "complaint: overlooked",
        "fault RotJournal",
        "fault WrongClock",
        "lost journal tail",
        "new-view chooses among certificates",
        "new-view of more than a quorum",
        "peer banned",
        "restart of a new primary",
        "restart of a primary",
        "time-ahead",
        "torn journal tail",
        "view-change: complaint",
        "wrong block reported",
    )
)
"""Fewer than one seed in ten reaches these."""
SEEDS_FOR_COMMON: Final = 500
"""So many seeds reach every event but the rare ones: a zero means that something is out of order."""
SEEDS_FOR_ALL: Final = 10_000
"""So many seeds reach the rare events, too."""


def due(names: Sequence[str], seeds: int) -> list[str]:
    """Those of ``names`` that must have occurred in a campaign of so many seeds."""
    if seeds < SEEDS_FOR_COMMON:
        return []
    return [name for name in names if seeds >= SEEDS_FOR_ALL or name not in RARE]


def never(reached: Counter[str], names: Sequence[str]) -> list[str]:
    """Those of ``names`` that did not occur."""
    return [name for name in names if not reached[name]]


class Awake(Protocol):
    """A running node, as far as it matters whether it is late."""

    @property
    def height(self) -> int:
        """In flight."""

    @property
    def view(self) -> int:
        """The view it is in or asks for."""


class _Numbered(Protocol):
    @property
    def index(self) -> int: ...


class Witness:
    """Counts what no single message or effect shows. Told of honest nodes only."""

    def __init__(self, reached: Counter[str], terms: Terms) -> None:
        self._reached = reached
        self._terms = terms
        self._height = 0
        self._last: CertifiedBlock | None = None
        self._prepared: dict[tuple[int, int, int], Digest] = {}
        """What a node prepared or pre-prepared, by (node, height, view); of the last heights only."""

    # ------------------------------------------------------------------ steps and effects

    def stepped(self, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica was stepped; with no input it has just started."""
        if item is None:
            self._restarted(effects)
        elif type(item) is DecidedReceived and any(type(effect) is Decide for effect in effects):
            self._reached["taken over from a peer"] += 1

    def _restarted(self, effects: Sequence[Effect]) -> None:
        sent = [effect.message for effect in effects if isinstance(effect, Send)]
        if sent:
            self._reached["restart resends votes"] += 1
        if any(_view(message) > 0 for message in sent):
            self._reached["restart in a later view"] += 1
        if any(isinstance(message, Proposal) for message in sent):
            self._reached["restart of a primary"] += 1
        if any(isinstance(message, NewView) for message in sent):
            self._reached["restart of a new primary"] += 1

    def performed(self, node: _Numbered, effect: Effect) -> None:
        """An effect was carried out."""
        kind = type(effect)
        if kind is Trace:
            self._traced(effect)  # type: ignore[arg-type]
        elif kind is Send:
            self._sent(node.index, effect.message)  # type: ignore[union-attr]
        elif kind is ReportProposal:
            self._reached["wrong block reported"] += 1

    def _traced(self, effect: Trace) -> None:
        match effect.event:
            case "view-change" | "new-view" | "equivocation":
                self._reached[f"{effect.event}: {effect.detail}"] += 1
            case "complaint":
                slow = effect.detail.startswith("0 ")
                self._reached[f"complaint: {'slow' if slow else 'overlooked'}"] += 1
            case _:
                return

    def _sent(self, index: int, message: ConsensusMessage) -> None:
        match message:
            case Proposal():
                self._prepared[(index, message.vote.height, message.vote.view)] = message.vote.digest
            case Prepare():
                self._prepared[(index, message.height, message.view)] = message.digest
            case Commit():
                if self._prepared.get((index, message.height, message.view)) != message.digest:
                    self._reached["commit without prepare"] += 1
            case ViewChange():
                self._sent_view_change(message)
            case NewView():
                self._sent_new_view(message)

    def _sent_view_change(self, message: ViewChange) -> None:
        if message.prepared is not None:
            self._reached["view-change carries a certificate"] += 1
            if message.view - message.prepared.pre_prepare.view >= 2:
                self._reached["view-change carries an old certificate"] += 1

    def _sent_new_view(self, message: NewView) -> None:
        prepared = (item.prepared for item in message.view_changes)
        if len({item.pre_prepare.view for item in prepared if item is not None}) > 1:
            self._reached["new-view chooses among certificates"] += 1
        if len(message.view_changes) > self._terms.term(message.height).delegates.quorum:
            self._reached["new-view of more than a quorum"] += 1

    # ------------------------------------------------------------------ decisions

    def applied(self, certified: CertifiedBlock, own_view: int | None) -> None:
        """A node decided; ``own_view`` is the view it was in, if it is known."""
        certificate = certified.certificate
        if own_view is not None and own_view != certificate.view:
            self._reached["decided in another view"] += 1
        if certificate.height == self._height + 1:
            self._height = certificate.height
            self._decided(certified)
            self._last = certified
            for place in [place for place in self._prepared if place[1] < self._height]:
                del self._prepared[place]

    def _decided(self, certified: CertifiedBlock) -> None:
        header, certificate = certified.block.header, certified.certificate
        carried = certificate.view - header.view
        if carried == 1:
            self._reached["carried over one view"] += 1
        elif carried > 1:
            self._reached["carried over two views"] += 1
        if carried and not certified.block.transactions:
            self._reached["empty block carried over"] += 1
        if len(certificate.signatures) > self._terms.term(header.height).delegates.quorum:
            self._reached["more commits than a quorum"] += 1
        if self._last is not None:
            self._compare(certified, self._last.block.header.proposer, self._last)

    def _compare(self, certified: CertifiedBlock, before: Address, last: CertifiedBlock) -> None:
        """With the height below."""
        header = certified.block.header
        term, previous = self._terms.term(header.height), self._terms.term(header.height - 1)
        if term.first_of_epoch:
            if term.delegates.ranking != previous.delegates.ranking:
                self._reached["epoch with another set"] += 1
            if certified.certificate.view:
                self._reached["epoch begins after a view change"] += 1
        else:
            if term.delegates.ranking != previous.delegates.ranking:
                self._reached["seat replaced"] += 1
            if term.delegates.position(before) is None:
                self._reached["primary lost its seat"] += 1
            if last.block.header.view and not header.view and header.proposer == before:
                self._reached["promoted backup stayed"] += 1
        held = 0 if certified.block.last_commit is None else len(certified.block.last_commit.signatures)
        if held == len(previous.delegates):
            self._reached["last-commit of all"] += 1
        elif held == previous.delegates.quorum:
            self._reached["last-commit of a quorum"] += 1

    # ------------------------------------------------------------------ pauses

    def woke(self, node: Awake, others: Sequence[Awake]) -> None:
        """A paused node is about to go on."""
        if any(other.height > node.height for other in others):
            self._reached["woke behind"] += 1
        elif any(other.height == node.height and other.view > node.view for other in others):
            self._reached["woke in a stale view"] += 1


def _view(message: ConsensusMessage) -> int:
    return message.vote.view if isinstance(message, Proposal) else message.view
