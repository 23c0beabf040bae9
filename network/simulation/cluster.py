"""A whole run: nodes, links, faults, load and checkers made from one seed; a phase of faults, then one of recovery."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from consensus.block import CertifiedBlock
from consensus.delegates import Delegate
from consensus.effects import Effect, Send, Trace
from consensus.encoding import encode
from consensus.errors import InvariantViolation
from consensus.hashing import address_of, tagged_hash
from consensus.inputs import Input
from consensus.messages import ConsensusMessage, message_codec
from consensus.types import PublicKey
from network.simulation.agenda import Agenda
from network.simulation.byzantine import Censor, Mischief, twisted
from network.simulation.checkers import Checkers, Context, Finding
from network.simulation.clock import GENESIS_MS
from network.simulation.connections import Connections
from network.simulation.disk import DiskFailed
from network.simulation.faults import Fault, FaultPlanner, Pause, Planned, forgetful
from network.simulation.forks import AFTERWARDS_US, ForkWatch
from network.simulation.holdings import entries, most_entries
from network.simulation.intruders import Ears
from network.simulation.keys import Ed25519Ring, KeyedHashRing, KeyRing
from network.simulation.letters import Letter
from network.simulation.network import Network
from network.simulation.node import SimulatedNode, Speed
from network.simulation.obligations import Obligations
from network.simulation.proofs import Proofs
from network.simulation.reachability import Witness
from network.simulation.record import Record
from network.simulation.recovery import Recovery
from network.simulation.scenario import LINKS, PARAMETERS, SECOND_US, TWINS, Scenario, draw
from network.simulation.stand_ins import StandIns
from network.simulation.surroundings import Holder, Surroundings
from network.simulation.timetable import Timetable
from network.simulation.transplants import EVERY_MISCHIEF
from network.simulation.workload import Workload, open_transaction

__all__ = ["PARAMETERS", "TWINS", "Outcome", "Scenario", "Simulation", "draw", "findings", "simulate"]

MORE_FAULTS_US: Final = 20 * SECOND_US
"""If too few faults found something to break, as many more are drawn for so much more time."""
NOTICED: Final = "a node stopped before it followed a fork"
MEMORY_CHECK_US: Final = 30 * SECOND_US
MAX_INBOX: Final = 5_000
"""Letters behind the slowest disk: seconds of what ten chatty peers, one of them a flooder, can send."""
MAX_AHEAD_BYTES: Final = 20 * 1_048_576
"""`SyncLimits.buffer_bytes` and the blocks of one more answer."""


@dataclass
class Outcome:
    """What came of a run."""

    scenario: Scenario
    finding: str | None = None
    trace_hash: str = ""
    height: int = 0
    """Of the longest chain."""
    faults: int = 0
    """That broke something."""
    events: int = 0
    virtual_us: int = 0
    recovered_us: int = 0
    """From the end of all faults until every honest node was level and a new transaction had committed."""
    reached: Counter[str] = field(default_factory=Counter)
    """How often the replicas traced each event, and how many faults of each kind began."""
    log: list[str] = field(default_factory=list)
    """What happened, if asked for."""


class Simulation:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, *, keep_log: bool = False) -> None:
        self.scenario = scenario
        self.agenda = Agenda()
        self.outcome = Outcome(scenario)
        self.record = Record(self.agenda, keep=keep_log)
        self._failed: Exception | None = None
        self._keys: KeyRing = (Ed25519Ring if scenario.real_keys else KeyedHashRing)(scenario.seed)
        self._chain_id = tagged_hash("genesis", scenario.seed.to_bytes(16, "big"))
        self.network = Network(self.agenda, self._rng("network"), self._deliver, LINKS[scenario.links])
        self._members = self._make_members()
        chosen = self._rng("liars").sample(self._members, len(scenario.liars))
        self._liars = {member.public_key: names for member, names in zip(chosen, scenario.liars, strict=True)}
        self._timetable = Timetable(
            self._members, scenario.seats, scenario.epoch_heights, self._rng("timetable")
        )
        self._of_key: dict[PublicKey, list[int]] = {}
        self.nodes: list[SimulatedNode] = []
        self._mischief: dict[int, list[Mischief]] = {}
        self._make_nodes()
        self._connections = Connections(self.agenda, self._rng("connections"), self.network, self.nodes)
        self._planner, self._plan = self._make_plan()
        self._forgetful = {self.nodes[index].member.public_key: None for index in forgetful(self._plan)}
        trusted = [node.member.public_key for node in self.honest]
        context = Context(
            self._chain_id,
            self._timetable,
            self._keys,
            frozenset(key for key in trusted if key not in self._forgetful),
            open_transaction,
            over_threshold=scenario.over_threshold,
        )
        self.checkers = Checkers(context)
        self._forks = (
            ForkWatch(self._chain_id, self._keys, context.honest) if scenario.over_threshold else None
        )
        self._honest_keys = context.honest
        proofs = Proofs(self._chain_id, self._timetable, self._keys, lambda: self.checkers.decisions.chain)
        self._obligations = Obligations(proofs, PARAMETERS)
        self._witness = Witness(self.outcome.reached, self._timetable)
        self._workload = Workload(self._rng("workload"))
        self._load_rng = self._rng("load")
        self._loading = True
        self._recovery: Recovery | None = None

    def _rng(self, name: str) -> random.Random:
        """A stream of its own for each concern, so that one more draw here does not change everything there."""
        return random.Random(f"{self.scenario.seed}/{name}")

    def _make_members(self) -> tuple[Delegate, ...]:
        count = self.scenario.seats + self.scenario.spare_members
        keys = [self._keys.signer(f"member {index}").public_key for index in range(count)]
        return tuple(Delegate(address_of(key), key) for key in keys)

    def _make_nodes(self) -> None:
        around = Surroundings(
            self.agenda,
            self,
            self._chain_id,
            PARAMETERS,
            self._keys,
            self._timetable,
            self._members,
            StandIns(self._chain_id, self._timetable, PARAMETERS),
        )
        rng = self._rng("nodes")
        owners = list(range(len(self._members)))
        owners += [index for index in owners if self._liars.get(self._members[index].public_key) == TWINS]
        for index, owner in enumerate(owners):
            member = self._members[owner]
            node = SimulatedNode(
                index, member, self._keys.signer(f"member {owner}"), around, random.Random(rng.random())
            )
            node.speed = Speed(rng.choice((0, 200, 4_000)), rng.choice((0, 500, 20_000)), rng.random() < 0.5)
            self.nodes.append(node)
            self._of_key.setdefault(member.public_key, []).append(index)
            names = self._liars.get(member.public_key, ())
            self._mischief[index] = [
                EVERY_MISCHIEF[name](rng, self._chain_id, PARAMETERS.view_timeout_ms)
                for name in names
                if names != TWINS
            ]

    def _make_plan(self) -> tuple[FaultPlanner, list[Planned]]:
        scenario = self.scenario
        frail_count = (scenario.seats - 1) // 3 - len(scenario.liars)
        rng = self._rng("faults")
        upright = [node.index for node in self.honest]
        planner = FaultPlanner(
            rng,
            self.nodes,
            rng.sample(upright, max(0, frail_count)),
            scenario.kinds,
            PARAMETERS.max_drift_ms,
        )
        plan = planner.plan(scenario.faults, 0, scenario.fault_phase_us)
        if scenario.over_threshold:
            plan += planner.split(scenario.fault_phase_us, upright)
        return planner, plan

    @property
    def honest(self) -> list[SimulatedNode]:
        """Nodes whose key is not a liar's."""
        return [node for node in self.nodes if node.member.public_key not in self._liars]

    # ------------------------------------------------------------------ the world of the nodes

    def post(self, node: Holder, to: PublicKey, letter: Letter) -> None:
        """Send a letter to every node that holds a key."""
        mischief = self._mischief[node.index]
        for target in self._of_key.get(to, ()):
            if not mischief:
                self.network.send(node.index, target, letter)
                continue
            for delay_us, piece in twisted(mischief, node, target, letter):
                self.agenda.call(delay_us, self.network.send, node.index, target, piece)

    def _deliver(self, source: int, target: int, letter: Letter) -> None:
        self.record.note("letter", source, target, type(letter).__name__)
        if self.scenario.encoded and isinstance(letter, ConsensusMessage):
            letter = message_codec.decode(encode(letter))
        for kind in self._mischief[target]:
            if isinstance(kind, Ears):
                kind.hear(letter)
            elif isinstance(kind, Censor) and kind.ignores(letter):
                return
        if self._forks is not None and isinstance(letter, ConsensusMessage):
            self._see(self._forks, self.nodes[target], letter)
        self.nodes[target].deliver(self.nodes[source].member.public_key, letter)

    def _see(self, forks: ForkWatch, node: Holder, message: ConsensusMessage) -> None:
        if node.member.public_key in self._honest_keys:
            forks.saw(message)

    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica was stepped."""
        if node.member.public_key in self._honest_keys and self._forks is None:
            self._obligations.stepped(node, item, effects)
            self._witness.stepped(item, effects)

    def performed(self, node: Holder, effect: Effect) -> None:
        """An effect was carried out."""
        if node.member.public_key in self._honest_keys:
            self._witness.performed(node, effect)
        if type(effect) is Trace:
            self.outcome.reached[effect.event] += 1
            self.record.note(effect.event, node.index, effect.height, effect.view, effect.detail)
            return
        self.record.note(type(effect).__name__, node.index)
        if self._forks is not None and type(effect) is Send:
            self._see(self._forks, node, effect.message)
        self.checkers.performed(node, effect)

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A block was decided."""
        header = certified.block.header
        self.record.note("applies", node.index, header.height, certified.certificate.digest)
        if self._forks is not None:
            replica = self.nodes[node.index].replica
            if replica is not None:
                self._forks.applied(node, certified, replica.context)
            return
        first = header.height == len(self.checkers.decisions.chain) + 1
        self.checkers.applied(node, certified)
        if first:
            block = certified.block
            kind = "removals" if block.discarded else "transactions" if block.transactions else "empty"
            self.happened(node, f"block: {kind}")
            self.happened(node, f"decided in view {min(certified.certificate.view, 3)}")
        replica = self.nodes[node.index].replica
        if replica is not None and node.member.public_key in self._honest_keys:
            self._witness.applied(certified, replica.view)
        if self._recovery is not None:
            self._recovery.applied(header.height)

    def broke(self, node: Holder, error: Exception) -> None:
        """A replica raised."""
        self.record.note("breaks", node.index, repr(error))
        key = node.member.public_key
        if key in self._forgetful:
            self.happened(node, "a node that forgot what it signed stopped")
        elif self._forks is not None and isinstance(error, InvariantViolation):
            self.happened(node, NOTICED)
        elif key not in self._liars:
            self._failed = error
            raise error

    def stopped(self, node: Holder, error: DiskFailed) -> None:
        """A node stopped since its disk failed."""
        self.record.note("disk fails", node.index, str(error))
        self.happened(node, "stopped by its disk")

    def punished(self, node: Holder, culprit: PublicKey, reason: str) -> None:
        """A node banned a peer."""
        self.record.note("bans", node.index, culprit, reason)
        self.happened(node, "peer banned")
        self.checkers.punished(node, culprit, reason)

    def happened(self, node: Holder, event: str) -> None:
        """Count something that the replica knows nothing of."""
        self.record.note(event, node.index)
        self.outcome.reached[event] += 1

    def came_up(self, node: Holder, up: bool) -> None:
        """A process began or ended."""
        if not up:
            self._connections.process_ended(node.index)
        self._connections.look()

    # ------------------------------------------------------------------ a run

    def run(self) -> Outcome:
        """Faults, then recovery; whatever is found ends it."""
        outcome = self.outcome
        try:
            self._suffer()
            if self._forks is None:
                self._recover()
            else:
                self._look_for_forks(self._forks)
        except Finding as found:
            outcome.finding = str(found)
        except Exception as error:
            outcome.finding = f"{type(error).__name__}: {error}"
            if error is not self._failed:
                raise
        outcome.height = len(self.checkers.decisions.chain) if self._forks is None else self._forks.height
        outcome.events = self.agenda.done
        outcome.virtual_us = self.agenda.now_us
        outcome.trace_hash = self.record.trace_hash()
        outcome.log = self.record.lines()
        return outcome

    def _suffer(self) -> None:
        scenario = self.scenario
        for node in self.nodes:
            node.start()
        self._schedule(self._plan)
        self._load()
        self._check_memory()
        self.agenda.run(scenario.fault_phase_us)
        while self.outcome.faults < scenario.faults:
            missing = scenario.faults - self.outcome.faults
            more = self._planner.plan(missing, 0, MORE_FAULTS_US)
            more = [item for item in more if not forgetful([item])]
            self._schedule(more)
            self._plan += more
            self.agenda.run(self.agenda.now_us + MORE_FAULTS_US)

    def _schedule(self, plan: Sequence[Planned]) -> None:
        for planned in plan:
            self.agenda.call(planned.begins_us, self._begin, planned)
            self.agenda.call(planned.ends_us, self._end, planned)

    def _begin(self, planned: Planned) -> None:
        if self._plan:
            self.record.note("begins", str(planned.fault))
            if planned.fault.begin(self):
                self.struck(planned.fault)
            self._connections.look()

    def struck(self, fault: Fault) -> None:
        """A fault broke something."""
        self.outcome.faults += 1
        self.outcome.reached[f"fault {type(fault).__name__}"] += 1

    def _end(self, planned: Planned) -> None:
        if self._plan:
            self.record.note("ends", str(planned.fault))
            if isinstance(planned.fault, Pause):
                self._wakes(self.nodes[planned.fault.node])
            planned.fault.end(self)
            self._connections.look()

    def _wakes(self, node: SimulatedNode) -> None:
        others = [other.replica for other in self.honest if other is not node and other.replica is not None]
        if node.paused and node.replica is not None:
            self._witness.woke(node.replica, others)

    def _load(self) -> None:
        """Transactions arrive at one node or at several, at random times."""
        mean_us = self.scenario.transaction_interval_us
        if not mean_us or not self._loading:
            return
        rng = self._load_rng
        data = self._workload.next(GENESIS_MS + self.agenda.now_ms(), PARAMETERS.tx_window_ms)
        for node in rng.sample(self.nodes, rng.choice((1, 1, 1, 2))):
            node.submit(data)
        self.agenda.call(rng.randint(1, 2 * mean_us), self._load)

    def _check_memory(self) -> None:
        for node in self.honest:
            held = 0 if node.replica is None else entries(node.replica)
            most = most_entries(self.scenario.seats)
            if held > most:
                raise Finding(
                    f"R1: the replica of {node.index} holds {held} entries, at most {most} are right"
                )
            waiting = 0 if node.paused else node.waiting_inputs
            if waiting > MAX_INBOX or node.catching_up.session.held_bytes > MAX_AHEAD_BYTES:
                raise Finding(f"R1: {waiting} inputs wait at {node.index}, or too many blocks from ahead")
        self.agenda.call(MEMORY_CHECK_US, self._check_memory)

    def _look_for_forks(self, forks: ForkWatch) -> None:
        """Too many lie for anything to be promised but this: who forked the chain is known."""
        self._heal()
        self.agenda.run(self.agenda.now_us + AFTERWARDS_US)
        noticed = self.outcome.reached[NOTICED] + self.checkers.proofs.proofs > 0
        forks.judge(noticed=noticed)
        self.outcome.reached[
            "over the threshold: fork" if forks.forks() else "over the threshold: no fork"
        ] += 1

    def _heal(self) -> None:
        """All faults end; liars go on."""
        for planned in self._plan:
            planned.fault.end(self)
        self._plan = []
        self.network.heal_all()
        self.record.note("healed")
        for node in self.nodes:
            node.crash_when = None
            node.clock.correct()
            node.disk.fail(False)
            node.resume()
            node.start()
        self._connections.look()

    def _recover(self) -> None:
        """Without faults every honest node must come level, and a new transaction must commit."""
        self._heal()
        probe = self._workload.probe(GENESIS_MS + self.agenda.now_ms(), PARAMETERS.tx_window_ms)
        self._recovery = Recovery(
            self.scenario, PARAMETERS, self.agenda, self.checkers.decisions, self._to_recover(), probe
        )
        self._recovery.run()
        self.outcome.recovered_us = self._recovery.level_us
        self._loading = False

    def _to_recover(self) -> list[SimulatedNode]:
        """Those that can: all but the liars, and but those that stopped because of what they had forgotten."""
        return [node for node in self.honest if node.up]


def simulate(scenario: Scenario, *, keep_log: bool = False) -> Outcome:
    """Run one scenario; the same scenario always has the same outcome."""
    return Simulation(scenario, keep_log=keep_log).run()


def findings(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that found something."""
    return [outcome for outcome in outcomes if outcome.finding is not None]
