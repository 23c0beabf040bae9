"""One simulated process: the shipped replica between simulated doors, as the runtime holds it between real ones."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from consensus.block import CertifiedBlock
from consensus.delegates import Delegate
from consensus.effects import (
    BuildBatch,
    CancelTimer,
    CheckProposal,
    Decide,
    Effect,
    FetchBlock,
    FetchDecided,
    Forget,
    Persist,
    Report,
    ReportProposal,
    Send,
    SendDecided,
    SetTimer,
    Trace,
)
from consensus.inputs import Advanced, Input, Instant, JournalLost, PoolChanged, Received, TimerFired
from consensus.messages import Commit, NewView, Prepare, Proposal, ViewChange
from consensus.replica import Replica
from consensus.signing import Signer
from consensus.types import PublicKey
from network.simulation.agenda import Appointment
from network.simulation.catching_up import CatchingUp
from network.simulation.clock import NodeClock
from network.simulation.disk import Disk
from network.simulation.letters import (
    AskBlock,
    AskDecided,
    AskHeight,
    AskTransactions,
    GiveBlock,
    GiveDecided,
    GiveHeight,
    GiveTransactions,
    Letter,
    Relay,
)
from network.simulation.proposals import Proposals
from network.simulation.surroundings import Surroundings

TICK_US = 200_000
"""How often a shell looks after what has not been answered."""
POLL_TICKS = 5
"""An idle node asks a peer for later blocks every so many ticks, so that lost answers are made good."""


@dataclass(frozen=True)
class Speed:
    """How long things take at one node."""

    sync_us: int = 200
    execute_us: int = 500
    pipelined: bool = False
    """Whether inputs are worked on while a sync is under way (their effects wait behind it)."""


class SimulatedNode:
    """A machine with a key, a disk and a clock; the process on it may `start` and `crash` for ever."""

    def __init__(
        self, index: int, member: Delegate, signer: Signer, around: Surroundings, rng: random.Random
    ) -> None:
        self.index = index
        self.member = member
        self.signer = signer
        self.around = around
        self.disk = Disk()
        self.speed = Speed()
        usual_offset_ms = around.parameters.max_drift_ms // 3
        self.clock = NodeClock(
            around.agenda, rng.randrange(10**6), rng.randint(-usual_offset_ms, usual_offset_ms)
        )
        self.crash_when: Callable[[Effect, bool], bool] | None = None
        """Asked before (False) and after (True) each effect; True kills the process there."""
        self.others = tuple(
            other.public_key for other in around.members if other.public_key != member.public_key
        )
        self._rng = rng
        self._up = False
        self._paused = False
        self._lives = 0
        self._be_born()

    def _be_born(self) -> None:
        """The volatile state of a fresh process."""
        self._lives += 1
        self._replica: Replica | None = None
        self.ledger = self.around.doors.ledger(self.disk)
        self.pool = self.around.doors.pool(self.ledger)
        self._proposals = Proposals(self, self.pool)
        self._catching_up = CatchingUp(self, self._rng)
        self._inbox: deque[Callable[[], None]] = deque()
        self._effects: deque[Effect] = deque()
        self._syncing = False
        self._timers: dict[str, Appointment] = {}
        self._told_waiting = 0
        self._ticks = 0

    # ------------------------------------------------------------------ life and death

    @property
    def up(self) -> bool:
        """Whether the process runs (it may be paused)."""
        return self._up

    def start(self) -> None:
        """Begin, or begin again from what the disk holds; no effect on a process that runs."""
        if self._up:
            return
        self._be_born()
        self._up, self._paused = True, False
        try:
            self._replica = Replica(
                chain_id=self.around.chain_id,
                parameters=self.around.parameters,
                signer=self.signer,
                verifier=self.around.verifier,
                context=self.ledger.context(),
                at=self.at(),
                journal=self.disk.journal(),
            )
            effects = self._replica.start(self.at())
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            self._break(error)
            return
        self.around.world.stepped(self, None, effects)
        self._queue(effects)
        if self.disk.lost:
            self.step(JournalLost(self.at()))
        self._catching_up.begin()
        self._later(TICK_US, self._tick)

    def crash(self) -> None:
        """Die at once: what is not durable is gone."""
        if self._up:
            self._up, self._paused = False, False
            self.disk.crash(self._rng)
            self._be_born()

    def pause(self) -> None:
        """Stop as SIGSTOP does: timers and letters wait."""
        self._paused = self._up

    def resume(self) -> None:
        """Go on; all that waited arrives now, stale timers among it."""
        self._paused = False
        self._work()

    def _break(self, error: Exception) -> None:
        self.around.world.broke(self, error)
        self.crash()

    def at(self) -> Instant:
        """Both clocks now."""
        return self.clock.instant()

    def post(self, to: PublicKey, letter: Letter) -> None:
        """Send a letter."""
        self.around.world.post(self, to, letter)

    def _later(self, delay_us: int, action: Callable[[], None]) -> Appointment:
        """Run ``action`` later in this life of the process, after a pause if there is one."""
        return self.around.agenda.after(delay_us, partial(self._arrive, self._lives, action))

    def _arrive(self, life: int, action: Callable[[], None]) -> None:
        if life == self._lives and self._up:
            self._inbox.append(action)
            self._work()

    def _work(self) -> None:
        while self._inbox and self._up and not self._paused:
            if self._syncing and not self.speed.pipelined:
                return
            self._inbox.popleft()()

    # ------------------------------------------------------------------ the replica and its effects

    def step(self, item: Input) -> None:
        """Hand an input to the replica and carry out what it asks for."""
        if self._replica is None:
            return
        try:
            effects = self._replica.step(item)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            self._break(error)
            return
        self.around.world.stepped(self, item, effects)
        self._queue(effects)

    def _queue(self, effects: list[Effect]) -> None:
        self._effects.extend(effects)
        self._perform_all()

    def _perform_all(self) -> None:
        """Carry effects out in order; nothing overtakes a sync."""
        while self._effects and self._up and not self._syncing:
            effect = self._effects.popleft()
            if self._dies(effect, after=False):
                return
            if isinstance(effect, Persist):
                self.disk.write(effect.records)
                self._syncing = True
                self.around.agenda.after(self.speed.sync_us, partial(self._synced, self._lives, effect))
                return
            self._perform(effect)
            self.around.world.performed(self, effect)
            if self._dies(effect, after=True):
                return

    def _synced(self, life: int, effect: Persist) -> None:
        if life != self._lives or not self._up:
            return
        self._syncing = False
        self.disk.sync()
        self.around.world.performed(self, effect)
        if not self._dies(effect, after=True):
            self._perform_all()
            self._work()

    def _dies(self, effect: Effect, *, after: bool) -> bool:
        if self.crash_when is not None and self.crash_when(effect, after):
            self.crash_when = None
            self.crash()
        return not self._up

    def _perform(self, effect: Effect) -> None:
        """Answers come later, never from inside: a replica is stepped by one input at a time."""
        match effect:
            case Send():
                self._send(effect)
            case SetTimer() | CancelTimer():
                self._keep_time(effect)
            case BuildBatch():
                self._later(0, partial(self._proposals.build, effect))
            case CheckProposal():
                self._later(0, partial(self._proposals.check, effect))
            case FetchBlock():
                self._later(0, partial(self._proposals.fetch, effect))
            case FetchDecided():
                self._catching_up.ask(effect.holders)
            case SendDecided():
                self._catching_up.send(effect)
            case Decide():
                self._decide(effect.certified)
            case Forget():
                self.disk.forget(effect.height)
            case Persist() | Report() | ReportProposal() | Trace():
                return
            case _:
                assert_never(effect)

    def _send(self, effect: Send) -> None:
        message = effect.message
        height = message.vote.height if isinstance(message, Proposal) else message.height
        delegates = self.around.timetable.term(height).delegates
        for key in effect.to or tuple(delegate.public_key for delegate in delegates):
            if key != self.member.public_key:
                self.post(key, message)

    def _keep_time(self, effect: SetTimer | CancelTimer) -> None:
        kind = effect.timer.kind if isinstance(effect, SetTimer) else effect.kind
        running = self._timers.pop(kind, None)
        if running is not None:
            running.cancel()
        if isinstance(effect, SetTimer):
            self._timers[kind] = self._later(effect.delay_ms * 1_000, partial(self._fire, effect))

    def _fire(self, effect: SetTimer) -> None:
        self.step(TimerFired(self.at(), effect.timer))

    def _decide(self, certified: CertifiedBlock) -> None:
        self.ledger.apply(certified)
        self.around.world.applied(self, certified)
        self._proposals.end_height()
        self._catching_up.disseminate(certified, self.member.address)
        self._later(self.speed.execute_us, self._advance)

    def _advance(self) -> None:
        self.pool.settle(self.at().wall_ms)
        self.step(Advanced(self.at(), self.ledger.context()))
        self._tell_pool()
        self._catching_up.go_on()

    # ------------------------------------------------------------------ transactions

    def submit(self, transaction: bytes) -> None:
        """A client hands in a transaction; it goes to all delegates."""
        self._arrive(self._lives, partial(self._take_in, transaction, relay=True))

    def _take_in(self, transaction: bytes, *, relay: bool) -> None:
        if not self.pool.add(transaction, self.at().monotonic_ms):
            return
        if relay:
            self._relay(transaction)
        if not self._told_waiting:
            self._tell_pool()
        self._proposals.came_in()

    def _relay(self, transaction: bytes) -> None:
        for delegate in self.ledger.context().delegates:
            if delegate.public_key != self.member.public_key:
                self.post(delegate.public_key, Relay(transaction))

    def _tell_pool(self) -> None:
        at = self.at()
        waiting = self.pool.includable(at.wall_ms)
        self._told_waiting = len(waiting)
        oldest_ms = min((item.received_ms for item in waiting), default=None)
        self.step(PoolChanged(at, len(waiting), oldest_ms))

    # ------------------------------------------------------------------ letters and ticks

    def deliver(self, sender: PublicKey, letter: Letter) -> None:
        """A letter has come in from the member that holds ``sender``."""
        self._arrive(self._lives, partial(self._open, sender, letter))

    def _open(self, sender: PublicKey, letter: Letter) -> None:
        match letter:
            case Proposal() | Prepare() | Commit() | ViewChange() | NewView():
                self.step(Received(self.at(), sender, letter))
            case Relay():
                self._take_in(letter.transaction, relay=False)
            case AskTransactions():
                self._proposals.answer_transactions(sender, letter)
            case GiveTransactions():
                self._proposals.take(letter.transactions)
            case AskBlock():
                self._proposals.answer_block(sender, letter)
            case GiveBlock():
                self._proposals.found(letter.block)
            case AskDecided():
                self._catching_up.answer(sender, letter)
            case GiveDecided():
                self._catching_up.take(letter.blocks)
            case AskHeight():
                self.post(sender, GiveHeight(self.disk.height))
            case GiveHeight():
                self._catching_up.note_height(sender, letter.height)
            case _:
                assert_never(letter)

    def _tick(self) -> None:
        self._ticks += 1
        self._later(TICK_US, self._tick)
        at = self.at()
        self.pool.settle(at.wall_ms)
        if len(self.pool.includable(at.wall_ms)) != self._told_waiting:
            self._tell_pool()
        self._proposals.retry()
        if self.disk.lost:
            self._catching_up.learn_height()
        if self._ticks % POLL_TICKS == 0:
            self._catching_up.poll()
            patience_ms = self.around.parameters.request_timeout_ms // 2
            for item in self.pool.held_longer_than(patience_ms, at.monotonic_ms):
                self._relay(item.data)
        elif not self._catching_up.caught_up:
            self._catching_up.poll()
