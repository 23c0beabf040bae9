"""One simulated process: the shipped replica between simulated doors, as the runtime holds it between real ones."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from consensus.block import Certificate, CertifiedBlock
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
    SentRecord,
    SetTimer,
    Trace,
)
from consensus.inputs import Advanced, Input, Instant, PoolChanged, Received, TimerFired
from consensus.messages import Commit, NewView, Prepare, Proposal, ViewChange
from consensus.replica import Replica
from consensus.signing import Signer
from consensus.types import PublicKey
from network.simulation.abstention import Abstention
from network.simulation.agenda import Action, Appointment
from network.simulation.catching_up import CatchingUp
from network.simulation.clock import NodeClock
from network.simulation.disk import Disk, DiskFailed
from network.simulation.letters import (
    AskBlock,
    AskHeight,
    AskTransactions,
    GiveBlock,
    GiveHeight,
    GiveTransactions,
    Letter,
    Relay,
)
from network.simulation.proposals import Proposals
from network.simulation.surroundings import Surroundings
from network.wire import BlocksRequest, BlocksResponse, Decided, StatusAnnouncement

TICK_MS: Final = 2_000
"""How often a shell looks after what has not been answered."""
LOOKS_PER_VIEW: Final = 5
"""How often in a view timeout windows of waiting transactions are looked at, as by the runtime."""
RETRY_MS: Final = 250
"""How often what a proposal lacks is asked for again."""
CONSENSUS: Final = frozenset((Proposal, Prepare, Commit, ViewChange, NewView))


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
        # A quarter, so that with drift on top two honest clocks differ by less than the drift that all accept.
        usual_offset_ms = around.parameters.max_drift_ms // 4
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
        self._end_life()
        self.ledger = self.around.doors.ledger(self.disk)
        self.pool = self.around.doors.pool(self.ledger)
        self._proposals = Proposals(self, self.pool)
        self.catching_up = CatchingUp(self, self._ready_height)
        self._abstention = Abstention(self)
        self._signed_height = 0
        self._told_waiting = 0
        self._retrying = False
        self._looking = False

    def _end_life(self) -> None:
        self._lives += 1
        self.replica: Replica | None = None
        self._inbox: deque[tuple[Action, tuple[Any, ...]]] = deque()
        self._effects: deque[Effect] = deque()
        self._syncing = False
        self._timers: dict[str, Appointment] = {}

    # ------------------------------------------------------------------ life and death

    @property
    def up(self) -> bool:
        """Whether the process runs (it may be paused)."""
        return self._up

    @property
    def paused(self) -> bool:
        """Whether it runs but does nothing."""
        return self._up and self._paused

    @property
    def waiting_inputs(self) -> int:
        """Letters and alarms not looked at yet."""
        return len(self._inbox)

    def start(self) -> None:
        """Begin, or begin again from what the disk holds; no effect on a process that runs."""
        if self._up:
            return
        repaired = self.disk.repair_blocks()
        journal = self.disk.journal()
        self._be_born()
        self._up, self._paused = True, False
        self._signed_height = max((r.height for r in journal if isinstance(r, SentRecord)), default=0)
        if repaired is not None:
            self.around.world.happened(self, "damaged block fetched again")
        try:
            self.replica = Replica(
                chain_id=self.around.chain_id,
                parameters=self.around.parameters,
                signer=self.signer,
                verifier=self.around.verifier,
                context=self.ledger.context(),
                at=self.at(),
                journal=journal,
            )
            effects = self.replica.start(self.at())
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            self._break(error)
            return
        self.around.world.stepped(self, None, effects)
        self._queue(effects)
        if self.disk.lost:
            self._abstention.begin()
        if self._up:
            self.catching_up.begin()
            self._later(TICK_MS * 1_000, self._tick)
            self.around.world.came_up(self, True)

    def crash(self) -> None:
        """Die at once: what is not durable is gone."""
        if self._up:
            self._up, self._paused = False, False
            fate = self.disk.crash(self._rng)
            if fate in {"torn", "lost"}:
                self.around.world.happened(self, f"{fate} journal tail")
            self._end_life()
            self.around.world.came_up(self, False)

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

    def now_ms(self) -> int:
        """The monotonic clock."""
        return self.clock.instant().monotonic_ms

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> Appointment:
        """Call back later in this life, by this machine's clock."""
        return self._later(self.clock.delay_us(delay_ms), callback)

    def post(self, to: PublicKey, letter: Letter) -> None:
        """Send a letter."""
        self.around.world.post(self, to, letter)

    def _later(self, delay_us: int, action: Action, *arguments: Any) -> Appointment:
        """Run ``action`` later in this life of the process, after a pause if there is one."""
        return self.around.agenda.after(delay_us, self._arrive, self._lives, action, arguments)

    def _arrive(self, life: int, action: Action, arguments: tuple[Any, ...]) -> None:
        if life != self._lives or not self._up:
            return
        if self._inbox or self._paused or (self._syncing and not self.speed.pipelined):
            self._inbox.append((action, arguments))
            self._work()
        else:
            action(*arguments)

    def _work(self) -> None:
        while self._inbox and self._up and not self._paused:
            if self._syncing and not self.speed.pipelined:
                return
            action, arguments = self._inbox.popleft()
            action(*arguments)

    # ------------------------------------------------------------------ the replica and its effects

    def step(self, item: Input) -> None:
        """Hand an input to the replica and carry out what it asks for."""
        if self.replica is None:
            return
        try:
            effects = self.replica.step(item)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            self._break(error)
            return
        self.around.world.stepped(self, item, effects)
        if effects:
            self._queue(effects)

    def _queue(self, effects: list[Effect]) -> None:
        self._effects.extend(effects)
        self._perform_all()

    def _perform_all(self) -> None:
        """Carry effects out in order; nothing overtakes a sync."""
        performed = self.around.world.performed
        while self._effects and self._up and not self._syncing:
            effect = self._effects.popleft()
            trapped = self.crash_when is not None
            if trapped and self._dies(effect, after=False):
                return
            if type(effect) is Persist:
                self.disk.write(effect.records)
                self._syncing = True
                self.around.agenda.call(self.speed.sync_us, self._synced, self._lives, effect)
                return
            self._perform(effect)
            performed(self, effect)
            if trapped and self._dies(effect, after=True):
                return

    def _synced(self, life: int, effect: Persist) -> None:
        if life != self._lives or not self._up:
            return
        self._syncing = False
        try:
            self.disk.sync()
        except DiskFailed as error:
            self.around.world.stopped(self, error)
            self.crash()
            return
        for record in effect.records:
            if type(record) is SentRecord and record.height > self._signed_height:
                self._signed_height = record.height
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
            case Trace() | Persist() | Report() | ReportProposal():
                return
            case Send():
                self._send(effect)
            case SetTimer() | CancelTimer():
                self._keep_time(effect)
            case BuildBatch():
                self._later(0, self._build, effect)
            case CheckProposal():
                self._later(0, self._proposals.check, effect)
                self._retry_soon()
            case FetchBlock():
                self._later(0, self._proposals.fetch, effect)
                self._retry_soon()
            case FetchDecided():
                self.catching_up.fetch(effect.height, effect.holders)
            case SendDecided():
                self.catching_up.send_decided(effect.height, effect.to)
            case Decide():
                self._decide(effect.certified)
            case Forget():
                self.disk.forget(effect.height)
            case _:
                assert_never(effect)

    def _send(self, effect: Send) -> None:
        message, own, post = effect.message, self.member.public_key, self.around.world.post
        if effect.to:
            for key in effect.to:
                if key != own:
                    post(self, key, message)
            return
        height = message.vote.height if isinstance(message, Proposal) else message.height
        for delegate in self.around.timetable.term(height).delegates.ranking:
            if delegate.public_key != own:
                post(self, delegate.public_key, message)

    def _keep_time(self, effect: SetTimer | CancelTimer) -> None:
        kind = effect.timer.kind if isinstance(effect, SetTimer) else effect.kind
        running = self._timers.pop(kind, None)
        if running is not None:
            running.cancel()
        if isinstance(effect, SetTimer):
            self._timers[kind] = self._later(self.clock.delay_us(effect.delay_ms), self._fire, effect)

    def _fire(self, effect: SetTimer) -> None:
        self.step(TimerFired(self.at(), effect.timer))

    def _decide(self, certified: CertifiedBlock) -> None:
        self.ledger.apply(certified)
        self.around.world.applied(self, certified)
        self._proposals.end_height()
        self.catching_up.decided(certified)
        self._later(self.speed.execute_us, self._advance)
        self._check_own_commit(certified)

    def _check_own_commit(self, certified: CertifiedBlock) -> None:
        """A commit of this key that its journal does not know: the journal was restored (as node.runtime does it)."""
        if self.disk.lost:
            return
        for certificate in (certified.block.last_commit, certified.certificate):
            if certificate is not None and self._is_strange(certificate):
                self.disk.lost = True
                self.around.world.happened(self, "own commit not in the journal")
                self._later(0, self._abstention.begin)
                return

    def _is_strange(self, certificate: Certificate) -> bool:
        replica = self.replica
        if certificate.height <= self._signed_height or replica is None or replica.abstaining:
            return False
        return any(item.signer == self.member.public_key for item in certificate.signatures)

    def _advance(self) -> None:
        at = self.at()
        self.pool.settle(at.wall_ms)
        self.step(Advanced(at, self.ledger.context()))
        self._tell_pool()
        self.catching_up.go_on()

    def _ready_height(self) -> int | None:
        """The height that the replica still has to decide; None while a decided one is on its way to the ledger."""
        replica = self.replica
        if replica is None or replica.phase == "decided":
            return None
        return replica.height

    # ------------------------------------------------------------------ transactions

    def submit(self, transaction: bytes) -> None:
        """A client hands in a transaction; it goes to all delegates."""
        self._arrive(self._lives, self._take_in, (transaction, True))

    def _take_in(self, transaction: bytes, relay: bool) -> None:
        if not self.pool.add(transaction, self.at().monotonic_ms):
            return
        if relay:
            self._relay(transaction)
        self._look_soon()
        if not self._told_waiting:
            self._tell_pool()
        self._proposals.came_in()

    def _relay(self, transaction: bytes) -> None:
        letter = Relay(transaction)
        for delegate in self.ledger.context().delegates.ranking:
            if delegate.public_key != self.member.public_key:
                self.post(delegate.public_key, letter)

    def _tell_pool(self) -> None:
        at = self.at()
        waiting = self.pool.includable(at.wall_ms)
        if not waiting and not self._told_waiting:
            return
        self._told_waiting = len(waiting)
        oldest_ms = min((item.received_ms for item in waiting), default=None)
        self.step(PoolChanged(at, len(waiting), oldest_ms))

    def _build(self, effect: BuildBatch) -> None:
        if not self._proposals.build(effect):
            self._told_waiting = 0  # as the runtime has it: the next arrival has to be told

    def _look_at_windows(self) -> None:
        """Transactions begin and cease to be includable as time goes by."""
        self._looking = False
        if len(self.pool) or self._told_waiting:
            self._tell_pool()
            self._look_soon()

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            look_ms = self.around.parameters.view_timeout_ms // LOOKS_PER_VIEW
            self._later(self.clock.delay_us(look_ms), self._look_at_windows)

    # ------------------------------------------------------------------ letters and ticks

    def deliver(self, sender: PublicKey, letter: Letter) -> None:
        """A letter has come in from the member that holds ``sender``."""
        self._arrive(self._lives, self._open, (sender, letter))

    def connect(self, peer: PublicKey, connected: bool) -> None:
        """A connection to another node came up or broke."""
        if peer != self.member.public_key:
            self._arrive(self._lives, self.catching_up.peer, (peer, connected))

    def _open(self, sender: PublicKey, letter: Letter) -> None:
        if type(letter) in CONSENSUS:
            self.step(Received(self.clock.instant(), sender, letter))  # type: ignore[arg-type]
            return
        match letter:
            case Relay():
                self._take_in(letter.transaction, False)
            case BlocksRequest() | BlocksResponse() | Decided() | StatusAnnouncement():
                self.catching_up.take(sender, letter)
            case AskTransactions():
                self._proposals.answer_transactions(sender, letter)
            case GiveTransactions():
                self._proposals.take(letter.transactions)
            case AskBlock():
                self._proposals.answer_block(sender, letter)
            case GiveBlock():
                self._proposals.found(letter.block)
            case AskHeight():
                self._abstention.answer(sender)
            case GiveHeight():
                self._abstention.note(sender, letter)
            case Proposal() | Prepare() | Commit() | ViewChange() | NewView():
                return
            case _:
                assert_never(letter)

    def _tick(self) -> None:
        self._later(self.clock.delay_us(TICK_MS), self._tick)
        at = self.at()
        self._abstention.tick()
        self.pool.settle(at.wall_ms)
        if len(self.pool.includable(at.wall_ms)) != self._told_waiting:
            self._tell_pool()
        patience_ms = self.around.parameters.request_timeout_ms // 2
        for item in self.pool.held_longer_than(patience_ms, at.monotonic_ms):
            self._relay(item.data)

    def _retry_soon(self) -> None:
        if not self._retrying:
            self._retrying = True
            self._later(self.clock.delay_us(RETRY_MS), self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if self._proposals.pending:
            self._proposals.retry()
            self._retry_soon()
