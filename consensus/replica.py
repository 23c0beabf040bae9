"""The consensus replica: inputs in, effects out (PROTOCOL 6).

This file is the table of contents. Each input is taken in by one function, which only notes what was learned; then the
rules of PROTOCOL 6 are applied in order until none has anything left to do. Read it beside PROTOCOL.md:

    three_phases   6.4, 6.8   pre-prepare, prepare, commit
    deciding       6.4        q commits of one view decide
    proposing      6.4, 6.9   what the primary proposes, and when; removals of 6.10
    failover       6.6, 6.7   view-changes, new-views, view timer, resending
    standing       6.5, 10.2  journal, abstaining, resume, entering heights, who is ahead and behind
    own_votes      6.5, S4    what this key signed: nothing conflicting, ever
    judge, certificate, view_change, proposal, removal, complaint    pure judgement, no memory of the replica's
"""

from collections.abc import Callable
from typing import Final, assert_never

from consensus import deciding, failover, proposing, standing, three_phases
from consensus.block import Block
from consensus.core import Core
from consensus.effects import Effect, JournalRecord
from consensus.errors import InvalidMessage, fail, invariant
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    Batch,
    BlockFetched,
    DecidedReceived,
    HeightContext,
    Input,
    Instant,
    JournalLost,
    PoolChanged,
    ProposalChecked,
    Received,
    Resume,
    SyncState,
    Timer,
    TimerFired,
)
from consensus.messages import Commit, ConsensusMessage, NewView, Prepare, Proposal, ViewChange
from consensus.parameters import Parameters
from consensus.signing import Signer, Verifier
from consensus.timers import BATCH, CLOCK, EMPTY, GATHER, RESEND, VIEW
from consensus.types import Address, Digest, PublicKey

RULES: Final[tuple[Callable[[Core], bool], ...]] = (
    deciding.decide,
    standing.obey_resume,
    failover.reject,
    failover.join,
    failover.announce_new_view,
    proposing.propose,
    three_phases.prepare,
    three_phases.commit,
)
"""What a replica does of its own accord, in this order: first what ends a height, then what changes the view, then what
is signed in it. Each returns whether it acted."""

MAX_RULES_PER_INPUT: Final = 64
"""One input can make a replica join, announce, propose, prepare, commit and decide, each once or twice."""


class Replica:
    """One node's part in deciding blocks, for all heights of its life.

    A node whose key holds no seat in ``context.delegates`` is an observer at that height: it signs nothing, but checks
    and takes over decided blocks and answers those who are late. Nothing but `start` and `step` changes a replica.
    """

    def __init__(
        self,
        *,
        chain_id: Digest,
        parameters: Parameters,
        signer: Signer,
        verifier: Verifier,
        context: HeightContext,
        at: Instant,
        journal: tuple[JournalRecord, ...] = (),
    ) -> None:
        """A replica at ``context.height`` that remembers everything in ``journal``; `start` sets it going.

        It takes itself as caught up until a `SyncState` says otherwise.
        """
        self._core = Core(chain_id, parameters, signer, verifier, context, at)
        standing.read_journal(self._core, journal)
        self._started = False

    # ------------------------------------------------------------------ entry points

    def start(self, at: Instant) -> list[Effect]:
        """Begin, or begin again after a restart: the same bytes are resent, the timers set (PROTOCOL 6.5)."""
        invariant(not self._started, "a replica is started once")
        self._started = True
        self._core.now = at
        standing.begin_height(self._core)
        failover.resend(self._core)
        return self._settle()

    def step(self, item: Input) -> list[Effect]:
        """Take in ``item`` and do what PROTOCOL 6 asks then. What a peer did wrong is traced and changes nothing.

        Effects are to be run in list order. `InvariantViolation` means a bug or more than f faults: stop the node.
        """
        invariant(self._started, "a replica is started before it is stepped")
        self._core.now = item.at
        try:
            self._take_in(item)
        except InvalidMessage as error:
            self._core.refuse(error)
        return self._settle()

    def _take_in(self, item: Input) -> None:
        core = self._core
        match item:
            case Received():
                self._receive(item.sender, item.message)
            case TimerFired():
                self._timer_fired(item.timer)
            case PoolChanged():
                proposing.pool_changed(core, item)
            case Batch():
                proposing.batch_built(core, item)
            case ProposalChecked():
                three_phases.proposal_checked(core, item)
            case BlockFetched():
                deciding.block_fetched(core, item)
            case DecidedReceived():
                standing.decided_received(core, item)
            case Advanced():
                self._enter(item.context)
            case SyncState() | JournalLost() | AbstainUntil() | Resume():
                self._change_standing(item)
            case _:
                assert_never(item)

    def _change_standing(self, item: SyncState | JournalLost | AbstainUntil | Resume) -> None:
        """Whether and from where on this node may sign (PROTOCOL 6.5, 10.2)."""
        core = self._core
        match item:
            case SyncState():
                core.caught_up = item.caught_up
            case JournalLost():
                standing.journal_lost(core)
            case AbstainUntil():
                standing.abstain_until(core, item)
            case Resume():
                standing.resume_signed(core, item)
            case _:
                assert_never(item)

    def _receive(self, sender: PublicKey, message: ConsensusMessage) -> None:
        core = self._core
        if standing.of_another_height(core, sender, message) or core.height.rank is None:
            return
        match message:
            case Proposal():
                three_phases.receive_proposal(core, sender, message)
            case Prepare():
                three_phases.receive_prepare(core, message)
            case Commit():
                three_phases.receive_commit(core, message)
            case ViewChange():
                failover.receive_view_change(core, message)
            case NewView():
                failover.receive_new_view(core, message)
            case _:
                assert_never(message)

    def _timer_fired(self, timer: Timer) -> None:
        core = self._core
        if core.timers.get(timer.kind) != timer:
            return
        del core.timers[timer.kind]
        match timer.kind:
            case k if k == VIEW:
                failover.view_timed_out(core)
            case k if k == RESEND:
                failover.resend(core)
            case k if k == EMPTY:
                core.height.empty_due = True
            case k if k == BATCH:
                core.height.busy = False
            case k if k == GATHER:
                core.height.gathering_overdue = True
            case k if k == CLOCK:
                pass
            case _:
                fail(f"timer of unknown kind {timer.kind}")

    def _enter(self, context: HeightContext) -> None:
        core = self._core
        if not standing.advance(core, context):
            return
        standing.complain(core)
        kept = core.next_height.take()
        if kept:
            core.trace("replayed", f"{len(kept)} messages")
        for sender, message in kept:
            try:
                self._receive(sender, message)
            except InvalidMessage as error:
                core.refuse(error)

    def _settle(self) -> list[Effect]:
        """Apply the rules until none acts, then set the timers that the outcome asks for."""
        core = self._core
        acted = 0
        while core.height.decided is None and self._one_acts():
            acted += 1
            invariant(acted <= MAX_RULES_PER_INPUT, "the rules of one input come to an end")
        failover.keep_view_timer(core)
        failover.keep_resending(core)
        return core.take_effects()

    def _one_acts(self) -> bool:
        core = self._core
        # Who may not vote can still decide on the certificates of others, and nothing else.
        rules = RULES if core.voting else RULES[:1]
        for rule in rules:  # noqa: SIM110 - any() over a generator costs a third of the rules' time
            if rule(core):
                return True
        return False

    # ------------------------------------------------------------------ for the status page (LESSONS 21)

    @property
    def height(self) -> int:
        """The height in flight."""
        return self._core.height.context.height

    @property
    def view(self) -> int:
        """The view this node is in, or asks for."""
        return self._core.height.view

    @property
    def phase(self) -> str:
        """One of observing, idle, pre-prepared, prepared, committed, view-change, decided."""
        height = self._core.height
        if height.decided is not None:
            return "decided"
        if height.rank is None:
            return "observing"
        if not height.in_view:
            return "view-change"
        if height.view in height.own.commits:
            return "committed"
        if height.view in height.own.prepares:
            return "prepared"
        return "idle" if height.proposal is None else "pre-prepared"

    @property
    def voting(self) -> bool:
        """Whether this node signs: it holds a seat, is caught up and not abstaining."""
        return self._core.voting

    @property
    def abstaining(self) -> bool:
        """Whether a lost journal keeps this node from signing at this height (PROTOCOL 6.5)."""
        return self._core.abstaining

    @property
    def is_delegate(self) -> bool:
        """Whether this node holds a seat at this height."""
        return self._core.height.rank is not None

    @property
    def primary(self) -> Address:
        """The primary of the view this node is in or asks for."""
        return self._core.height.judge.primary_address(self._core.height.view)

    @property
    def is_primary(self) -> bool:
        """Whether this node is that primary."""
        return self._core.height.judge.primary_key(self._core.height.view) == self._core.public_key

    @property
    def context(self) -> HeightContext:
        """What the ledger said about the height in flight; its delegates are those that `Send` addresses."""
        return self._core.height.context

    @property
    def last_votes(self) -> dict[Address, tuple[int, int, str]]:
        """Per delegate the newest verified vote: height, view, phase."""
        return dict(self._core.last_votes)

    @property
    def view_timeout_ms(self) -> int:
        """How long the current view may last (PROTOCOL 6.7)."""
        return self._core.backoff.timeout_ms(self._core.height.view)

    def undecided_block(self, digest: Digest) -> Block | None:
        """A held block of the height in flight, to be served by digest (PROTOCOL 6.5); the journal has all."""
        return self._core.height.blocks.get(digest)
