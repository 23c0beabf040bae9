"""One simulated process: the shipped replica between simulated doors, as `node.runtime` holds it between real ones."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never

from consensus.block import Block, CertifiedBlock, full_hash
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
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    Batch,
    BlockFetched,
    DecidedReceived,
    Input,
    JournalLost,
    PoolChanged,
    ProposalChecked,
    Received,
    SyncState,
    TimerFired,
)
from consensus.messages import Commit, ConsensusMessage, NewView, Prepare, Proposal, ViewChange
from consensus.parameters import Parameters
from consensus.replica import Replica
from consensus.signing import Signer, Verifier
from consensus.types import Digest, PublicKey
from network.simulation.agenda import Agenda, Appointment
from network.simulation.clock import NodeClock
from network.simulation.disk import Disk
from network.simulation.ledger import Ledger
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
from network.simulation.pool import Pool
from network.simulation.timetable import Timetable

TICK_US = 200_000
"""How often a shell looks after what has not been answered."""
BLOCKS_PER_ANSWER = 8
"""Decided blocks in one answer to a node that fell behind."""
BLOCKS_AHEAD = 64
"""Decided blocks kept until their turn comes."""
POLL_TICKS = 5
"""An idle node asks a peer for later blocks every so many ticks, so that lost answers are made good."""


class World(Protocol):
    """What a node needs of the simulation around it."""

    def post(self, node: "SimulatedNode", to: PublicKey, letter: Letter) -> None:
        """Send a letter to the member with this key."""

    def performed(self, node: "SimulatedNode", effect: Effect) -> None:
        """An effect has just been carried out."""

    def applied(self, node: "SimulatedNode", certified: CertifiedBlock) -> None:
        """A block was decided and stored."""

    def broke(self, node: "SimulatedNode", error: Exception) -> None:
        """The replica raised: always a finding."""


@dataclass(frozen=True)
class Surroundings:
    """What all nodes of a run share."""

    agenda: Agenda
    world: World
    chain_id: Digest
    parameters: Parameters
    verifier: Verifier
    timetable: Timetable
    members: tuple[Delegate, ...]


@dataclass
class DiskSpeed:
    """How long things take at one node; a fault may make them slow."""

    sync_us: int = 200
    execute_us: int = 500
    pipelined: bool = False
    """Whether inputs are worked on while a sync is under way (their effects wait behind it)."""


@dataclass
class _Check:
    """A proposal whose transactions are being gathered."""

    effect: CheckProposal
    held_since_ms: int


class SimulatedNode:
    """A process with a key, a disk and a clock; `start` and `crash` may alternate for ever."""

    def __init__(
        self, index: int, member: Delegate, signer: Signer, around: Surroundings, rng: random.Random
    ) -> None:
        self.index = index
        self.member = member
        self.signer = signer
        self.disk = Disk()
        self.speed = DiskSpeed()
        self.clock = NodeClock(around.agenda, rng.randrange(10**6))
        self.crash_when: Callable[[Effect, bool], bool] | None = None
        """Asked before (False) and after (True) each effect; True kills the node there."""
        self._around = around
        self._rng = rng
        self._up = False
        self._paused = False
        self._lives = 0
        self._restart()

    def _restart(self) -> None:
        """Volatile state of a fresh process."""
        self._lives += 1
        self.replica: Replica | None = None
        self.ledger = Ledger(self._around.chain_id, self._around.timetable, self.disk)
        self.pool = Pool(self.ledger, self._around.parameters)
        self._effects: deque[Effect] = deque()
        self._syncing = False
        self._inbox: deque[Callable[[], None]] = deque()
        self._timers: dict[str, Appointment] = {}
        self._checks: dict[Digest, _Check] = {}
        self._wanted: dict[Digest, FetchBlock] = {}
        self._ahead: dict[int, CertifiedBlock] = {}
        self._waiting = 0
        self._caught_up = True
        self._heights: dict[PublicKey, int] = {}
        self._ticks = 0

    # ------------------------------------------------------------------ life

    @property
    def up(self) -> bool:
        """Whether the process runs (it may be paused)."""
        return self._up

    @property
    def paused(self) -> bool:
        """Whether the process is stopped, its peers' letters piling up."""
        return self._paused

    def start(self) -> None:
        """Begin, or begin again from what the disk holds."""
        if self._up:
            return
        self._up, self._paused = True, False
        self._restart()
        try:
            self.replica = Replica(
                chain_id=self._around.chain_id,
                parameters=self._around.parameters,
                signer=self.signer,
                verifier=self._around.verifier,
                context=self.ledger.context(),
                at=self.clock.instant(),
                journal=self.disk.journal(),
            )
            effects = self.replica.start(self.clock.instant())
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            self._break(error)
            return
        self._queue(effects)
        if self.disk.lost:
            self._step(JournalLost(self.clock.instant()))
        self._set_caught_up(False)
        self._poll()
        self._later(TICK_US, self._tick)

    def crash(self) -> None:
        """Die at once: what is not durable is gone."""
        if self._up:
            self._up, self._paused = False, False
            self.disk.crash(self._rng)
            self._restart()

    def pause(self) -> None:
        """Stop as SIGSTOP does: timers and letters wait."""
        self._paused = self._up

    def resume(self) -> None:
        """Go on; all that waited arrives now, stale timers among it."""
        self._paused = False
        self._work()

    def _later(self, delay_us: int, action: Callable[[], None]) -> Appointment:
        """Run ``action`` later in this life of the process, after a pause if there is one."""
        return self._around.agenda.after(delay_us, partial(self._in_life, self._lives, action))

    def _in_life(self, life: int, action: Callable[[], None]) -> None:
        if life == self._lives and self._up:
            self._inbox.append(action)
            self._work()

    def _work(self) -> None:
        while self._inbox and self._up and not self._paused:
            if self._syncing and not self.speed.pipelined:
                return
            self._inbox.popleft()()

    def _break(self, error: Exception) -> None:
        self._around.world.broke(self, error)
        self.crash()

    # ------------------------------------------------------------------ the replica and its effects

    def _step(self, given: Input) -> None:
        if self.replica is None:
            return
        try:
            effects = self.replica.step(given)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            self._break(error)
            return
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
                self._around.agenda.after(self.speed.sync_us, partial(self._synced, self._lives, effect))
                return
            self._perform(effect)
            self._around.world.performed(self, effect)
            if self._dies(effect, after=True):
                return

    def _synced(self, life: int, effect: Persist) -> None:
        if life != self._lives or not self._up:
            return
        self._syncing = False
        self.disk.sync()
        self._around.world.performed(self, effect)
        if self._dies(effect, after=True):
            return
        self._perform_all()
        self._work()

    def _dies(self, effect: Effect, *, after: bool) -> bool:
        if self.crash_when is not None and self.crash_when(effect, after):
            self.crash_when = None
            self.crash()
        return not self._up

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case SetTimer():
                self._set_timer(effect)
            case CancelTimer():
                running = self._timers.pop(effect.kind, None)
                if running is not None:
                    running.cancel()
            case BuildBatch():
                self._later(0, partial(self._build, effect))
            case CheckProposal():
                digest = effect.proposal.vote.digest
                self._checks[digest] = _Check(effect, self.clock.instant().monotonic_ms)
                self._later(0, partial(self._gather, digest))
            case FetchBlock():
                self._wanted[effect.digest] = effect
                self._later(0, partial(self._fetch_block, effect.digest))
            case FetchDecided():
                self._ask_decided(effect.holders or self._other_keys())
            case SendDecided():
                self._send_decided(effect)
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
        delegates = self._around.timetable.term(height).delegates
        for key in effect.to or tuple(delegate.public_key for delegate in delegates):
            if key != self.member.public_key:
                self._around.world.post(self, key, message)

    def _set_timer(self, effect: SetTimer) -> None:
        running = self._timers.pop(effect.timer.kind, None)
        if running is not None:
            running.cancel()
        fire = partial(self._fire, effect)
        self._timers[effect.timer.kind] = self._later(effect.delay_ms * 1_000, fire)

    def _fire(self, effect: SetTimer) -> None:
        self._step(TimerFired(self.clock.instant(), effect.timer))

    # ------------------------------------------------------------------ pool

    def submit(self, transaction: bytes) -> None:
        """A client hands in a transaction; it goes to all delegates."""
        if self._up:
            self._later(0, partial(self._take_in, transaction, True))

    def _take_in(self, transaction: bytes, relay: bool) -> None:
        if not self.pool.add(transaction, self.clock.instant().monotonic_ms):
            return
        if relay:
            self._relay(transaction)
        if not self._waiting:
            self._tell_pool()
        self._gather_all()

    def _relay(self, transaction: bytes) -> None:
        for delegate in self.ledger.context().delegates:
            if delegate.public_key != self.member.public_key:
                self._around.world.post(self, delegate.public_key, Relay(transaction))

    def _tell_pool(self) -> None:
        at = self.clock.instant()
        waiting = self.pool.includable(at.wall_ms)
        self._waiting = len(waiting)
        oldest = min((item.received_ms for item in waiting), default=None)
        self._step(PoolChanged(at, len(waiting), oldest))

    def _build(self, effect: BuildBatch) -> None:
        chosen = self.pool.batch(effect.time_ms, effect.max_bytes, effect.excluded)
        self._step(
            Batch(
                self.clock.instant(),
                effect.height,
                effect.view,
                effect.generation,
                tuple(item.data for item in chosen),
                tuple(item.reference for item in chosen),
            )
        )

    # ------------------------------------------------------------------ proposals

    def _gather(self, digest: Digest) -> None:
        """Assemble a proposal's block if all its bytes are here, else ask for them."""
        check = self._checks.get(digest)
        if check is None:
            return
        effect = check.effect
        proposal = effect.proposal
        if effect.known is not None:
            self._judged(check, effect.known)
            return
        found = [(reference, self.pool.find(reference)) for reference in proposal.references]
        missing = tuple(reference for reference, data in found if data is None)
        if missing:
            self._around.world.post(self, effect.sender, AskTransactions(missing))
            return
        transactions = tuple(data for _, data in found if data is not None)
        self._judged(
            check, Block(proposal.header, transactions, proposal.last_commit, proposal.discarded)
        )

    def _gather_all(self) -> None:
        for digest in tuple(self._checks):
            check = self._checks.get(digest)
            if check is not None and all(map(self.pool.find, check.effect.proposal.references)):
                self._gather(digest)

    def _judged(self, check: _Check, block: Block) -> None:
        proposal = check.effect.proposal
        vote = proposal.vote
        self._checks.pop(vote.digest, None)
        if proposal.header.height != self.ledger.height + 1:
            return
        at = self.clock.instant()
        verdict = self.pool.judge(block, proposal, check.effect.entered_ms, at)
        self._step(
            ProposalChecked(
                at,
                vote.height,
                vote.view,
                vote.digest,
                block if verdict.reason is None else None,
                verdict.reason,
                verdict.overlooked,
                verdict.wait_ms,
                verdict.offending,
            )
        )

    def _fetch_block(self, digest: Digest) -> None:
        wanted = self._wanted.get(digest)
        if wanted is None:
            return
        own = self.disk.holds_block(wanted.height, digest)
        if own is not None:
            self._give_block(own.block)
            return
        for key in wanted.holders or self._other_keys():
            self._around.world.post(self, key, AskBlock(wanted.height, digest))

    def _give_block(self, block: Block) -> None:
        if self._wanted.pop(block.header.digest(), None) is not None:
            self._step(BlockFetched(self.clock.instant(), block))

    # ------------------------------------------------------------------ decided blocks

    def _decide(self, certified: CertifiedBlock) -> None:
        self.ledger.apply(certified)
        self._around.world.applied(self, certified)
        self._checks.clear()
        self._wanted.clear()
        self._disseminate(certified)
        self._later(self.speed.execute_us, self._advance)

    def _disseminate(self, certified: CertifiedBlock) -> None:
        """Members without a seat learn of decided blocks from a delegate (PROTOCOL 6.12)."""
        term = self._around.timetable.term(certified.block.header.height)
        rank = term.delegates.position(self.member.address)
        if rank is None:
            return
        others = [m for m in self._around.members if term.delegates.position(m.address) is None]
        for place, member in enumerate(others):
            if place % len(term.delegates) == rank:
                self._around.world.post(self, member.public_key, GiveDecided((certified,)))

    def _advance(self) -> None:
        self.pool.settle(self.clock.instant().wall_ms)
        self._step(Advanced(self.clock.instant(), self.ledger.context()))
        self._tell_pool()
        self._apply_ahead()

    def _send_decided(self, effect: SendDecided) -> None:
        if 0 < effect.height <= self.disk.height:
            self._around.world.post(self, effect.to, GiveDecided((self.disk.blocks[effect.height - 1],)))

    def _take_decided(self, blocks: tuple[CertifiedBlock, ...]) -> None:
        for certified in blocks:
            height = certified.block.header.height
            if self.ledger.height < height <= self.ledger.height + BLOCKS_AHEAD:
                self._ahead[height] = certified
        if not blocks:
            self._set_caught_up(True)
        elif blocks[-1].block.header.height > self.ledger.height + 1:
            self._set_caught_up(False)
        self._apply_ahead()

    def _apply_ahead(self) -> None:
        following = self._ahead.pop(self.ledger.height + 1, None)
        if following is not None:
            self._step(DecidedReceived(self.clock.instant(), following))
        elif not self._caught_up:
            self._poll()

    def _set_caught_up(self, caught_up: bool) -> None:
        if caught_up != self._caught_up:
            self._caught_up = caught_up
            self._step(SyncState(self.clock.instant(), caught_up))

    def _poll(self) -> None:
        self._ask_decided((self._rng.choice(self._other_keys()),))

    def _ask_decided(self, keys: tuple[PublicKey, ...]) -> None:
        for key in keys:
            self._around.world.post(self, key, AskDecided(self.ledger.height + 1))

    # ------------------------------------------------------------------ letters

    def deliver(self, sender: PublicKey, letter: Letter) -> None:
        """A letter has come in from the member that holds ``sender``."""
        if self._up:
            self._later(0, partial(self._open, sender, letter))

    def _open(self, sender: PublicKey, letter: Letter) -> None:
        match letter:
            case Proposal() | Prepare() | Commit() | ViewChange() | NewView():
                self._receive(sender, letter)
            case Relay():
                self._take_in(letter.transaction, False)
            case AskTransactions():
                held = tuple(data for data in map(self.pool.find, letter.references) if data is not None)
                if held:
                    self._around.world.post(self, sender, GiveTransactions(held))
            case GiveTransactions():
                self._take_bytes(letter.transactions)
            case AskBlock():
                self._answer_block(sender, letter)
            case GiveBlock():
                self._give_block(letter.block)
            case AskDecided():
                begin = letter.height - 1
                blocks = tuple(self.disk.blocks[begin : begin + BLOCKS_PER_ANSWER])
                self._around.world.post(self, sender, GiveDecided(blocks))
            case GiveDecided():
                self._take_decided(letter.blocks)
            case AskHeight():
                self._around.world.post(self, sender, GiveHeight(self.disk.height))
            case GiveHeight():
                self._heights[sender] = letter.height
            case _:
                assert_never(letter)

    def _receive(self, sender: PublicKey, message: ConsensusMessage) -> None:
        self._step(Received(self.clock.instant(), sender, message))

    def _take_bytes(self, transactions: tuple[bytes, ...]) -> None:
        named = {ref for check in self._checks.values() for ref in check.effect.proposal.references}
        for data in transactions:
            if full_hash(data) in named:
                self.pool.keep(data)
        self._gather_all()

    def _answer_block(self, sender: PublicKey, asked: AskBlock) -> None:
        if asked.height <= self.disk.height:
            self._around.world.post(self, sender, GiveDecided((self.disk.blocks[asked.height - 1],)))
            return
        record = self.disk.holds_block(asked.height, asked.digest)
        if record is not None:
            self._around.world.post(self, sender, GiveBlock(record.block))

    # ------------------------------------------------------------------ what repeats

    def _tick(self) -> None:
        self._ticks += 1
        self._later(TICK_US, self._tick)
        at = self.clock.instant()
        self.pool.settle(at.wall_ms)
        if len(self.pool.includable(at.wall_ms)) != self._waiting:
            self._tell_pool()
        patience_ms = self._around.parameters.request_timeout_ms // 2
        for item in self.pool.held_longer_than(patience_ms, at.monotonic_ms):
            if self._ticks % POLL_TICKS == 0:
                self._relay(item.data)
        for digest in tuple(self._checks):
            self._gather(digest)
        for digest in tuple(self._wanted):
            self._fetch_block(digest)
        if self._ticks % POLL_TICKS == 0 or not self._caught_up:
            self._poll()
        if self.disk.lost:
            self._learn_height()

    def _learn_height(self) -> None:
        """Ask the others how far the chain is; q of the delegates' answers end the abstention's first part (6.5)."""
        context = self.ledger.context()
        seats = [d.public_key for d in context.delegates if d.public_key != self.member.public_key]
        answered = [key for key in seats if key in self._heights]
        highest = max(self._heights.values(), default=0)
        if len(answered) >= context.delegates.quorum and self.ledger.height >= highest:
            self.disk.lost = False
            self._step(AbstainUntil(self.clock.instant(), max(highest, self.ledger.height)))
            return
        for key in self._other_keys():
            self._around.world.post(self, key, AskHeight())

    def _other_keys(self) -> tuple[PublicKey, ...]:
        return tuple(
            m.public_key for m in self._around.members if m.public_key != self.member.public_key
        )
