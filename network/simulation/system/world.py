"""A whole-system run: shipped replicas and the shipped engine, members that come and go, trade, vote and fail."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from consensus.block import CertifiedBlock
from consensus.delegates import Delegate
from consensus.effects import Effect, Report, ReportProposal, Send, Trace
from consensus.inputs import Input
from consensus.messages import Commit
from consensus.removal import transaction_id
from consensus.types import Digest, PublicKey
from contracts.duties import evidence_due
from contracts.epoch_queries import group_of
from contracts.epoch_state import chain_of
from contracts.genesis import Admission
from contracts.receipts import EpochPhase, FaultKind, FaultRecorded, MemberJoined, PhaseChanged
from contracts.state import SINGLETON, State
from contracts.transaction import Leave
from network.simulation.agenda import Agenda
from network.simulation.byzantine import MISCHIEF, Mischief, twisted
from network.simulation.checkers import Checkers, Context, Finding, demand
from network.simulation.clock import GENESIS_MS
from network.simulation.connections import Connections
from network.simulation.disk import Disk, DiskFailed
from network.simulation.doors import LedgerDoor, PoolDoor
from network.simulation.intruders import Ears
from network.simulation.keys import Ed25519Ring, KeyedHashRing, KeyRing
from network.simulation.letters import Letter
from network.simulation.network import Network
from network.simulation.node import SimulatedNode, Speed
from network.simulation.record import Record
from network.simulation.surroundings import Holder, Surroundings
from network.simulation.system import events
from network.simulation.system.books import Books
from network.simulation.system.cast import Cast
from network.simulation.system.duties import Duties, Temper
from network.simulation.system.elections import Elections
from network.simulation.system.execution import Executor, Ledgers, OwnLedger, SharedLedger
from network.simulation.system.mischief import BadTransactions
from network.simulation.system.opening import Opening
from network.simulation.system.planning import better_plan
from network.simulation.system.pool import SystemPool
from network.simulation.system.scenario import (
    FEWEST_MEMBERS,
    MOST_MEMBERS,
    SECOND_US,
    Outcome,
    Scenario,
)
from network.simulation.system.traders import Traders
from network.simulation.system.troubles import Trouble, crash_of, draw_trouble

STALL_US = 120 * SECOND_US
"""No block for so long while at most one node is in trouble: the chain has halted (L1)."""
SETTLE_US = 3 * SECOND_US
"""After a trouble ends, what it delayed may still show for so long."""
CONVICT_US = 60 * SECOND_US
"""Evidence of what happened before is on the ledger after so long without troubles."""
BOUNDARY_BLOCKS = 2
"""How near a boundary a fault has to be (G15)."""
READINGS_US = 700_000
"""How often meters report."""


class SystemDoors:
    """`Doors` with the engine behind them."""

    def __init__(self, cast: Cast, opening: Opening, ledgers: Ledgers) -> None:
        self._cast = cast
        self._opening = opening
        self._ledgers = ledgers

    def ledger(self, disk: Disk) -> LedgerDoor:
        """Shared, or of the node's own state."""
        return self._ledgers.open(disk)

    def pool(self, ledger: LedgerDoor) -> PoolDoor:
        """Of real transactions."""
        if not isinstance(ledger, SharedLedger | OwnLedger):
            raise TypeError("a ledger of another world")
        return SystemPool(ledger, self._cast.parameters, self._opening)


class SystemRun:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, *, keep_log: bool = False) -> None:
        self.scenario = scenario
        self.agenda = Agenda()
        self.outcome = Outcome(scenario)
        self.record = Record(self.agenda, keep=keep_log)
        self._failed: Exception | None = None
        ring: KeyRing = (Ed25519Ring if scenario.real_keys else KeyedHashRing)(scenario.seed)
        admission = Admission.INVITED if scenario.invited else Admission.OPEN
        self.cast = Cast(ring, scenario.founders, scenario.newcomers, scenario.parameters(), admission)
        self.opening = Opening(self.cast)
        self.ledgers = Ledgers(self.cast, self.opening, self.outcome.reached)
        self.shared = self.ledgers.shared
        self.network = Network(self.agenda, self._rng("network"), self._deliver)
        self._of_key: dict[PublicKey, int] = {}
        self.nodes: list[SimulatedNode] = []
        self._liar = self._rng("liar").randrange(scenario.founders) if scenario.liars else None
        self._mischief: dict[int, list[Mischief]] = {}
        self._duties: dict[int, tuple[PoolDoor, Duties]] = {}
        self._tempers: list[Temper] = []
        self._wants_in: set[int] = set(range(scenario.founders))
        self._returning: set[bytes] = set()
        self.loses: Callable[[int, int, Letter], bool] | None = None
        """What a story takes off the links: asked on arrival (source, target, letter)."""
        self._make_nodes()
        self._connections = Connections(self.agenda, self._rng("connections"), self.network, self.nodes)
        honest = frozenset(p.public_key for p in self.cast.players if p.index != self._liar)
        self.checkers = Checkers(Context(self.cast.chain_id, self.shared, ring, honest, self.opening))
        self.books = Books(self.cast.genesis)
        self.elections = self._make_elections()
        self._traders = Traders(self.cast, self._rng("traders"), self._submit_anywhere)
        self._load_rng, self._churn_rng = self._rng("load"), self._rng("churn")
        self._trouble_rng = self._rng("troubles")
        self._troubles: list[Trouble] = []
        self._frail = self._draw_frail()
        self._active = True
        self._disturbed_us = 0
        self._first_applied_us: dict[int, int] = {}
        self._last_block_us = 0
        self._struck_at: list[int] = []
        self._boundaries: dict[int, None] = {}
        self._seats = len(self.shared.term(1).delegates)
        self._plan_epoch = -1

    # ------------------------------------------------------------------ making it

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self.scenario.seed}/system/{name}")

    def _make_nodes(self) -> None:
        cast = self.cast
        members = tuple(Delegate(player.address, player.public_key) for player in cast.players)
        around = Surroundings(
            self.agenda,
            self,
            cast.chain_id,
            cast.parameters,
            cast.ring,
            self.shared,
            members,
            SystemDoors(cast, self.opening, self.ledgers),
        )
        rng = self._rng("nodes")
        own = set(rng.sample(range(len(members)), 2))
        for index, member in enumerate(members):
            node = SimulatedNode(
                index, member, cast.players[index].signer, around, random.Random(rng.random())
            )
            node.speed = Speed(rng.choice((0, 200, 2_000)), rng.choice((0, 500, 3_000)), rng.random() < 0.5)
            if index in own or self.scenario.execute_all:
                self.ledgers.let_execute(node.disk)
            self.nodes.append(node)
            self._of_key[member.public_key] = index
            self._mischief[index] = self._make_mischief(rng) if index == self._liar else []
            self._tempers.append(
                Temper(
                    silent=rng.choice((0, 0, 20, 90)),
                    willful=rng.choice((0, 50)),
                    changing=rng.choice((0, 30)),
                    absent=rng.choice((0, 0, 40)),
                )
            )

    def _make_mischief(self, rng: random.Random) -> list[Mischief]:
        made: list[Mischief] = []
        for name in self.scenario.liars:
            if name == "bad transactions":
                made.append(BadTransactions(rng, self.cast))
            else:
                timeout_ms = self.cast.parameters.view_timeout_ms
                made.append(MISCHIEF[name](rng, self.cast.chain_id, timeout_ms))
        return made

    def _make_elections(self) -> Elections:
        state = self.shared.state
        groups = [[m.address for m in group] for group in state.epoch.grouping(0).groups]
        ranking = [delegate.address for delegate in self.shared.term(1).delegates]
        return Elections(self.cast.genesis, self.books, self.cast.ring, groups, ranking, self.outcome.reached)

    def _draw_frail(self) -> int | None:
        """The one node whose clock and journal may fail, where nobody lies (PROTOCOL 6.5, 6.8: at most f)."""
        if self._liar is not None:
            return None
        return self._rng("frail").randrange(self.scenario.founders)

    @property
    def honest(self) -> list[SimulatedNode]:
        """Nodes whose key is not the liar's."""
        return [node for node in self.nodes if node.index != self._liar]

    # ------------------------------------------------------------------ the world of the nodes

    def post(self, node: Holder, to: PublicKey, letter: Letter) -> None:
        """Send a letter to the node that holds a key."""
        target = self._of_key.get(to)
        if target is None:
            return
        mischief = self._mischief[node.index]
        if not mischief:
            self.network.send(node.index, target, letter)
            return
        for delay_us, piece in twisted(mischief, self.nodes[node.index], target, letter):
            self.agenda.call(delay_us, self.network.send, node.index, target, piece)

    def _deliver(self, source: int, target: int, letter: Letter) -> None:
        if self.loses is not None and self.loses(source, target, letter):
            return
        self.record.note("letter", source, target, type(letter).__name__)
        for kind in self._mischief[target]:
            if isinstance(kind, Ears):
                kind.hear(letter)
        self.nodes[target].deliver(self.nodes[source].member.public_key, letter)

    def performed(self, node: Holder, effect: Effect) -> None:
        """An effect was carried out."""
        match effect:
            case Trace():
                self.outcome.reached[effect.event] += 1
                self.record.note(effect.event, node.index, effect.height, effect.view, effect.detail)
            case Send(message=Commit() as commit) if commit.signer == node.member.public_key:
                self._duties_of(self.nodes[node.index]).committed(commit)
            case Report() | ReportProposal():
                self._duties_of(self.nodes[node.index]).report(effect)
            case _:
                pass
        self.checkers.performed(node, effect)

    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica was stepped."""

    def happened(self, node: Holder, event: str) -> None:
        """Something worth a count."""
        self.record.note(event, node.index)
        self.outcome.reached[event] += 1

    def stopped(self, node: Holder, error: DiskFailed) -> None:
        """A disk failed."""
        self.record.note("disk fails", node.index, str(error))

    def punished(self, node: Holder, culprit: PublicKey, reason: str) -> None:
        """A node banned a peer."""
        self.record.note("bans", node.index, culprit, reason)
        self.checkers.punished(node, culprit, reason)

    def came_up(self, node: Holder, up: bool) -> None:
        """A process began or ended."""
        if not up:
            self._connections.process_ended(node.index)
        self._connections.look()

    def broke(self, node: Holder, error: Exception) -> None:
        """A replica raised."""
        self.record.note("breaks", node.index, repr(error))
        if node.index != self._liar:
            self._failed = error
            raise error

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A block was decided and executed."""
        header = certified.block.header
        self.record.note("applies", node.index, header.height, certified.certificate.digest)
        first = header.height == len(self.checkers.decisions.chain) + 1
        if first and node.index != self._liar:
            self._decided(certified)
        self.checkers.applied(node, certified)
        held = self.nodes[node.index]
        if isinstance(held.ledger, OwnLedger):
            self.outcome.reached["block executed by own state"] += 1
        self.agenda.call(held.speed.execute_us + 1, self._look, held)

    # ------------------------------------------------------------------ duties

    def _duties_of(self, node: SimulatedNode) -> Duties:
        """Those of this life of the process: its pool is made anew with each."""
        known = self._duties.get(node.index)
        if known is not None and known[0] is node.pool:
            return known[1]
        pool, ledger = node.pool, node.ledger
        if not isinstance(pool, SystemPool):
            raise TypeError("a pool of another world")
        made = Duties(
            self.cast,
            self.cast.players[node.index],
            self._tempers[node.index],
            node.submit,
            pool.holds,
            ledger.finished,
        )
        self._duties[node.index] = (pool, made)
        return made

    def _state_of(self, node: SimulatedNode) -> State | None:
        """The node's newest state; None while it is behind what a shared execution knows."""
        ledger = node.ledger
        if isinstance(ledger, OwnLedger):
            return ledger.state
        return self.shared.state if ledger.height == self.shared.height else None

    def _look(self, node: SimulatedNode) -> None:
        state = self._state_of(node)
        if state is None or not node.up:
            return
        wall_ms = node.at().wall_ms
        self._duties_of(node).look(state, wall_ms, wants_in=node.index in self._wants_in)
        if chain_of(state).phase is EpochPhase.PLANNING and self._plan_epoch != chain_of(state).epoch:
            self._plan(node, state, wall_ms)

    def _plan(self, node: SimulatedNode, state: State, wall_ms: int) -> None:
        """What a bootstrap service would do for the members: look for a better plan (PROTOCOL 4.5, 8.1)."""
        self._plan_epoch = chain_of(state).epoch
        if not self.scenario.bootstrap:
            return
        plan = better_plan(state, self.cast.parameters, self._rng(f"plan {self._plan_epoch}"))
        if plan is not None:
            signer = self.cast.players[node.index].signer
            node.submit(self.cast.transaction(plan, (signer,), wall_ms))

    def _submit_anywhere(self, data: bytes) -> None:
        node = self._load_rng.choice(self.nodes)
        node.submit(data)

    # ------------------------------------------------------------------ a decided block

    def _decided(self, certified: CertifiedBlock) -> None:
        """The first node decided a height: count, compare with the plain books, and make what follows from it."""
        block, height = certified.block, certified.block.header.height
        outcome = self.shared.outcomes[height - 1]
        transactions = [self.opening.transaction(data) for data in block.transactions]
        self._first_applied_us[height] = self._last_block_us = self.agenda.now_us
        for receipt in outcome.receipts:
            for event in receipt.events:
                if isinstance(event, FaultRecorded):
                    self._judge_fault(event)
                if isinstance(event, MemberJoined) and event.address in self.books.of:
                    self.outcome.reached["return"] += 1
        self.books.block(height, transactions, outcome.receipts)
        self.elections.block(block, transactions, outcome.receipts)
        events.count(self.outcome.reached, outcome.receipts)
        self._check_set(height)
        changes = [e for e in outcome.receipts[-1].events if isinstance(e, PhaseChanged)]
        for change in changes:
            self._phase_changed(change, height)
        self._watch_boundaries(height)

    def _check_set(self, height: int) -> None:
        """S11: the sets that replicas go by are those that the plain model derived."""
        for place in (height + 1, height + 2):
            ranking = tuple(delegate.address for delegate in self.shared.term(place).delegates)
            demand(
                ranking == self.elections.set_at(place).ranking,
                f"S11: C({place}) is not what the ledger says",
            )
        seats = len(self.shared.term(height + 1).delegates)
        if seats != self._seats:
            self.outcome.reached["seats grew" if seats > self._seats else "seats shrank"] += 1
            self._seats = seats

    def _judge_fault(self, event: FaultRecorded) -> None:
        """S13, and nobody honest and up is punished while nothing is the matter."""
        player = self.cast.by_address[event.address]
        liar = player.index == self._liar
        if event.kind is FaultKind.WRONG_BLOCK:
            demand(liar, f"S13: honest node {player.index} was proven guilty")
            return
        if liar or self._liar is not None:
            return
        begun_us = self._first_applied_us.get(event.height - self.cast.parameters.missed_limit - 1, 0)
        calm_since_us = self._disturbed_us + SETTLE_US
        demand(
            bool(self._troubles) or begun_us < calm_since_us,
            f"3.2: honest node {player.index} was up, nothing was the matter since {calm_since_us} us, "
            f"and yet it is charged with {event.kind.name} at height {event.height}",
        )

    def _phase_changed(self, change: PhaseChanged, height: int) -> None:
        if change.phase is EpochPhase.RUNNING:
            self.outcome.epochs = change.epoch
            self._boundaries[height + 1] = None
            if self.shared.height == height:  # the liar may have decided one more
                self.books.compare(self.shared.state, height)
            self._churn()
        if self._active:
            self._trouble_boundary(change)

    def _trouble_boundary(self, change: PhaseChanged) -> None:
        """At least one trouble within two blocks of each boundary, some more anywhere."""
        rng = self._trouble_rng
        if change.phase is EpochPhase.CLOSING:
            if rng.random() < 0.6:
                self._begin_trouble(rng.choice((0, 100_000, 500_000)))
        elif change.phase is EpochPhase.RUNNING and (not self._recently_struck() or rng.random() < 0.3):
            self._begin_trouble(rng.choice((0, 0, 20_000)))
        for _ in range(self.scenario.faults_per_epoch - 1):
            if rng.random() < 0.4:
                self._begin_trouble(rng.randrange(2 * SECOND_US))

    # ------------------------------------------------------------------ troubles

    def struck(self) -> None:
        """Something broke: at the height that is undecided now."""
        self._struck_at.append(self.shared.height + 1)

    def _recently_struck(self) -> bool:
        return bool(self._struck_at) and self._struck_at[-1] >= self.shared.height - 1

    def _watch_boundaries(self, height: int) -> None:
        """Two blocks after each boundary something must have broken within two blocks of it."""
        for boundary in list(self._boundaries):
            near = any(abs(at - boundary) <= BOUNDARY_BLOCKS for at in self._struck_at[-8:])
            if height == boundary + 1 and not near and self._active:
                node = next(node for node in self._trouble_rng.sample(self.nodes, len(self.nodes)) if node.up)
                self._start_trouble(crash_of(node, SECOND_US))
            if height > boundary + 1:
                del self._boundaries[boundary]
                self.outcome.boundaries += 1
                self.outcome.boundary_faults += near

    def _begin_trouble(self, delay_us: int) -> None:
        trouble = draw_trouble(self._trouble_rng, self, self._frail)
        self.agenda.call(delay_us, self._start_trouble, trouble)

    def _start_trouble(self, trouble: Trouble) -> None:
        if not self._active:
            return
        self._troubles.append(trouble)
        self.outcome.reached[f"fault {trouble.name}"] += 1
        self.record.note(f"begins {trouble.name}", trouble.about)
        if trouble.begin():
            self.struck()
        self._connections.look()
        self.agenda.call(trouble.lasts_us, self._end_trouble, trouble)

    def _end_trouble(self, trouble: Trouble) -> None:
        if trouble in self._troubles:
            self._troubles.remove(trouble)
            self.record.note(f"ends {trouble.name}", trouble.about)
            trouble.end()
            self._connections.look()
            self._disturbed_us = self.agenda.now_us

    # ------------------------------------------------------------------ members come and go

    def _churn(self) -> None:
        """At the beginning of each epoch somebody may wish to join, and somebody to leave."""
        rng, percent = self._churn_rng, self.scenario.churn_percent
        if not self._active:
            return
        state = self.shared.state
        members = state.totals.require(SINGLETON).members
        inside = [player.index for player in self.cast.players if self.cast.is_member(state, player.index)]
        outside = [player.index for player in self.cast.players if player.index not in inside]
        self._wants_in = set(inside) | (self._wants_in & set(outside))
        if rng.randrange(100) < percent and outside and members < MOST_MEMBERS:
            chosen = rng.choice(outside)
            self._wants_in.add(chosen)
        staying = [index for index in inside if index != self._liar]
        if rng.randrange(100) < percent and members > FEWEST_MEMBERS and staying:
            for index in self._leavers(rng, staying, members):
                self._leave(index)

    def _leavers(self, rng: random.Random, staying: list[int], members: int) -> list[int]:
        """Mostly one, often a delegate; sometimes a delegate and another of its group, at once."""
        state, epoch = self.shared.state, chain_of(self.shared.state).epoch
        seated = {delegate.address for delegate in self.shared.term(self.shared.height + 1).delegates}
        holders = [index for index in staying if self.cast.players[index].address in seated]
        first = rng.choice(holders if holders and rng.random() < 0.6 else staying)
        group = group_of(state, epoch, self.cast.players[first].address)
        if group is None or members <= FEWEST_MEMBERS + 1 or rng.random() < 0.6:
            return [first]
        groups = state.epoch.grouping(epoch).group_of
        beside = [i for i in staying if i != first and groups.get(self.cast.players[i].address) == group]
        return [first, *rng.sample(beside, min(1, len(beside)))]

    def _leave(self, index: int) -> None:
        self._wants_in.discard(index)
        node = self.nodes[index]
        data = self.cast.transaction(Leave(), (self.cast.players[index].signer,), self.true_ms())
        node.submit(data)

    def true_ms(self) -> int:
        """The true wall time."""
        return GENESIS_MS + self.agenda.now_ms()

    # ------------------------------------------------------------------ load

    def _load(self) -> None:
        mean_us = self.scenario.load_us
        if not mean_us or not self._active:
            return
        self._traders.act(self.shared.state, self.true_ms())
        self.agenda.call(self._load_rng.randint(1, 2 * mean_us), self._load)

    def _read_meters(self) -> None:
        if self.scenario.load_us and self._active:
            self._traders.report(self.shared.state, self.true_ms())
            self.agenda.call(READINGS_US, self._read_meters)

    # ------------------------------------------------------------------ a run

    def quiet(self, *, idle: bool = False) -> None:
        """No troubles, nobody comes or goes; ``idle``: no ballots nor heartbeats. For stories that bring their own."""
        self._active = False
        if idle:
            self._tempers = [Temper(absent=100) for _ in self._tempers]

    def run(self) -> Outcome:
        """Epochs with troubles, then recovery and the last comparisons; whatever is found ends it."""
        outcome = self.outcome
        try:
            self._live()
            self._check_boundaries()
            self._recover()
            self._convict()
            self._compare_all()
        except Finding as found:
            outcome.finding = str(found)
        except Exception as error:
            outcome.finding = f"{type(error).__name__}: {error}"
            if error is not self._failed:
                raise
        outcome.height = len(self.checkers.decisions.chain)
        outcome.events = self.agenda.done
        outcome.virtual_us = self.agenda.now_us
        outcome.trace_hash = self.record.trace_hash()
        outcome.log = self.record.lines()
        return outcome

    def _live(self) -> None:
        for node in self.nodes:
            node.start()
        self._load()
        self._read_meters()
        while not self._is_over():
            before = self._last_block_us
            self.agenda.run(self.agenda.now_us + STALL_US, self._is_over)
            if self._last_block_us == before:
                raise Finding(f"L1: no block for {STALL_US // SECOND_US} s after height {self.shared.height}")

    def _check_boundaries(self) -> None:
        """G15: a campaign over epochs is worth nothing where its boundaries were calm."""
        calm = self.outcome.boundaries - self.outcome.boundary_faults
        if self.scenario.lean and self.scenario.faults_per_epoch and calm:
            raise Finding(
                f"G15: {calm} of {self.outcome.boundaries} boundaries had no fault within two blocks"
            )

    def _is_over(self) -> bool:
        return self.outcome.boundaries >= self.scenario.epochs

    def _recover(self) -> None:
        """All troubles end, the liar goes on; everybody must come level and a new transaction must commit."""
        self._active = False
        for trouble in list(self._troubles):
            self._end_trouble(trouble)
        self.network.heal_all()
        self.record.note("healed")
        for node in self.nodes:
            node.crash_when = None
            node.clock.correct()
            node.resume()
            node.start()
        begun_us = self.agenda.now_us
        goal = len(self.checkers.decisions.chain) + 3
        probe = self._traders.probe(self.shared.state, self.true_ms())
        for node in self.honest:
            node.submit(probe)
        identity = transaction_id(probe)
        bound_us = self._bound_us()
        self.agenda.run(begun_us + bound_us, partial(self._is_level, goal, identity))
        self.outcome.recovered_us = self.agenda.now_us - begun_us
        if not self._is_level(goal, identity):
            heights = [node.ledger.height for node in self.honest]
            committed = self.checkers.decisions.finished(identity)
            raise Finding(
                f"L1: {bound_us // SECOND_US} s after all faults healed the honest nodes are at {heights}, "
                f"expected {goal} of all; new transaction {'' if committed else 'not '}committed"
            )

    def _bound_us(self) -> int:
        """A view under way may run out at the longest timeout, and the liar may spoil one at two heights."""
        views = 2 + 2 * (self._liar is not None)
        return (views * self.cast.parameters.view_timeout_max_ms + 10_000) * 1_000

    def _is_level(self, goal: int, probe: Digest) -> bool:
        return self.checkers.decisions.finished(probe) and all(
            node.ledger.height >= goal for node in self.honest
        )

    def _convict(self) -> None:
        """What honest nodes can prove commits, while the liar does what it can against it (PROTOCOL 3.2b)."""
        if self._pending_evidence():
            self.agenda.run(self.agenda.now_us + CONVICT_US, lambda: not self._pending_evidence())
        pending = self._pending_evidence()
        demand(not pending, f"3.2: after {CONVICT_US // SECOND_US} s there is still no evidence of {pending}")

    def _pending_evidence(self) -> list[str]:
        return [
            f"{type(report).__name__} by {node.index}"
            for node in self.honest
            for report in self._duties_of(node).reports.values()
            if evidence_due(self.shared.state, report) is not None
            and self.cast.is_member(self.shared.state, node.index)
        ]

    # ------------------------------------------------------------------ afterwards

    def _compare_all(self) -> None:
        """S6, S7: books against state, and a replay from genesis in a fresh engine."""
        chain = self.checkers.decisions.chain
        if self.shared.height == len(chain):
            self.books.compare(self.shared.state, len(chain))
        if self.scenario.lean and self.scenario.seed % 10:
            return  # two nodes have executed every block for themselves already
        replay = Executor(self.cast, Opening(self.cast))
        for certified in chain:
            outcome = replay.execute(certified.block)
            other = self.shared.outcomes[certified.block.header.height - 1]
            demand(
                outcome.state_root == other.state_root and outcome.receipts_root == other.receipts_root,
                f"S6: a replay from genesis differs at height {certified.block.header.height}",
            )
        self.outcome.reached["replayed from genesis"] += 1


def simulate(scenario: Scenario, *, keep_log: bool = False) -> Outcome:
    """Run one scenario; the same scenario always has the same outcome."""
    return SystemRun(scenario, keep_log=keep_log).run()


def reached_of(outcomes: Sequence[Outcome]) -> Counter[str]:
    """All events of several runs."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.reached)
    return total
