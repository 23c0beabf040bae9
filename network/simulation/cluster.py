"""A whole run: nodes, links, faults, load and checkers made from one seed; a phase of faults, then one of recovery."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from consensus.block import CertifiedBlock
from consensus.delegates import Delegate
from consensus.effects import Effect, Trace
from consensus.encoding import encode
from consensus.hashing import address_of, tagged_hash
from consensus.inputs import Input
from consensus.messages import ConsensusMessage, message_codec
from consensus.parameters import Parameters
from consensus.types import Digest, PublicKey
from network.simulation.agenda import Agenda
from network.simulation.byzantine import MISCHIEF, Mischief, draw_mischief, twisted
from network.simulation.checkers import Checkers, Context, Finding
from network.simulation.clock import GENESIS_MS
from network.simulation.faults import FaultPlanner, Planned
from network.simulation.intruders import Ears
from network.simulation.keys import Ed25519Ring, KeyedHashRing, KeyRing
from network.simulation.letters import Letter
from network.simulation.network import Network
from network.simulation.node import SimulatedNode, Speed
from network.simulation.obligations import Obligations
from network.simulation.proofs import Proofs
from network.simulation.stand_ins import StandIns
from network.simulation.surroundings import Holder, Surroundings
from network.simulation.timetable import Timetable
from network.simulation.workload import Workload, open_transaction

SECOND_US = 1_000_000

PARAMETERS = Parameters(
    run_ms=60_000,
    planning_ms=20_000,
    voting_ms=20_000,
    missed_ms=20_000,
    view_timeout_ms=500,
    view_timeout_max_ms=4_000,
    request_timeout_ms=700,
    empty_block_interval_ms=500,
    max_drift_ms=300,
    slot_ms=1_000,
    meter_deadline_ms=5_000,
    max_block_transactions=16,
    max_block_bytes=65_536,
    allow_non_bft=True,
)
"""Demo speed: nothing here depends on absolute durations, only on how they compare."""


TWINS = ("twins",)
"""The mischief of a member that runs two honest nodes with one key: each signs what the other contradicts."""


@dataclass(frozen=True)
class Scenario:
    """What a run is like; `draw` makes one from a seed."""

    seed: int
    seats: int
    spare_members: int
    """Members without a seat at any given height."""
    liars: tuple[tuple[str, ...], ...]
    """Per Byzantine member the names of its mischief; `TWINS` are two nodes with one key."""
    epoch_heights: int | None
    """Length of an epoch; None for a delegate set that never changes."""
    faults: int
    fault_phase_us: int
    transaction_interval_us: int
    """Mean time between transactions; 0 for an idle chain."""
    real_keys: bool = False
    """Ed25519 instead of keyed hashes."""
    encoded: bool = False
    """Whether consensus messages travel as bytes, so that codecs take part."""


def draw(seed: int, seats: int | None = None) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"{seed}/scenario")
    chosen = seats or rng.choice((4, 4, 4, 5, 6, 7, 10))
    most = (chosen - 1) // 3
    liars = tuple(draw_mischief(rng) for _ in range(rng.choice((0, most, rng.randint(0, most)))))
    if rng.random() < 0.25:
        liars = (TWINS,) * len(liars)
    changing = rng.random() < 0.5
    return Scenario(
        seed=seed,
        seats=chosen,
        spare_members=rng.randint(1, 3) if changing else rng.choice((0, 0, 1)),
        liars=liars,
        epoch_heights=rng.randint(5, 20) if changing else None,
        faults=rng.randint(4, 16),
        fault_phase_us=rng.randint(6, 14) * SECOND_US,
        transaction_interval_us=rng.choice((0, 100_000, 300_000)),
        real_keys=seed % 100 == 99,
        encoded=seed % 10 == 9,
    )


@dataclass
class Outcome:
    """What came of a run."""

    scenario: Scenario
    finding: str | None = None
    trace_hash: str = ""
    height: int = 0
    """Of the longest chain."""
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
        self._keep_log = keep_log
        self._hash = hashlib.blake2b(digest_size=16)
        self._failed: Exception | None = None
        self._keys: KeyRing = (Ed25519Ring if scenario.real_keys else KeyedHashRing)(scenario.seed)
        self._chain_id = tagged_hash("genesis", scenario.seed.to_bytes(16, "big"))
        self.network = Network(self.agenda, self._rng("network"), self._deliver)
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
        honest = frozenset(m.public_key for m in self._members) - frozenset(self._liars)
        self.checkers = Checkers(
            Context(self._chain_id, self._timetable, self._keys, honest, open_transaction)
        )
        proofs = Proofs(self._chain_id, self._timetable, self._keys, lambda: self.checkers.decisions.chain)
        self._obligations = Obligations(proofs, PARAMETERS)
        self._workload = Workload(self._rng("workload"))
        self._load_rng = self._rng("load")
        self._loading = True
        self._plan: list[Planned] = []

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
            node.speed = Speed(rng.choice((0, 200, 2_000)), rng.choice((0, 500, 5_000)), rng.random() < 0.5)
            self.nodes.append(node)
            self._of_key.setdefault(member.public_key, []).append(index)
            names = self._liars.get(member.public_key, ())
            self._mischief[index] = [
                MISCHIEF[name](rng, self._chain_id, PARAMETERS.view_timeout_ms)
                for name in names
                if names != TWINS
            ]

    @property
    def honest(self) -> list[SimulatedNode]:
        """Nodes whose key is not a liar's."""
        return [node for node in self.nodes if node.member.public_key not in self._liars]

    # ------------------------------------------------------------------ the world of the nodes

    def post(self, node: Holder, to: PublicKey, letter: Letter) -> None:
        """Send a letter to every node that holds a key."""
        for target in self._of_key.get(to, ()):
            told = twisted(self._mischief[node.index], node, target, letter)
            for delay_us, piece in told:
                if delay_us:
                    self.agenda.after(delay_us, partial(self.network.send, node.index, target, piece))
                else:
                    self.network.send(node.index, target, piece)

    def _deliver(self, source: int, target: int, letter: Letter) -> None:
        self._note(f"{source}>{target} {type(letter).__name__}")
        if self.scenario.encoded and isinstance(letter, ConsensusMessage):
            letter = message_codec.decode(encode(letter))
        for kind in self._mischief[target]:
            if isinstance(kind, Ears):
                kind.hear(letter)
        self.nodes[target].deliver(self.nodes[source].member.public_key, letter)

    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica was stepped."""
        if node.member.public_key not in self._liars:
            self._obligations.stepped(node, item, effects)

    def performed(self, node: Holder, effect: Effect) -> None:
        """An effect was carried out."""
        if isinstance(effect, Trace):
            self.outcome.reached[effect.event] += 1
            self._note(f"{node.index} {effect.event} {effect.height}/{effect.view} {effect.detail}")
        else:
            self._note(f"{node.index} {type(effect).__name__}")
        self.checkers.performed(node, effect)

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A block was decided."""
        header = certified.block.header
        self._note(f"{node.index} applies {header.height} {header.digest().hex()[:12]}")
        if header.height == len(self.checkers.decisions.chain) + 1:
            kind = (
                "removals"
                if certified.block.discarded
                else "transactions"
                if certified.block.transactions
                else "empty"
            )
            self.outcome.reached[f"block: {kind}"] += 1
            self.outcome.reached[f"decided in view {min(certified.certificate.view, 3)}"] += 1
        self.checkers.applied(node, certified)

    def broke(self, node: Holder, error: Exception) -> None:
        """A replica raised."""
        self._note(f"{node.index} breaks: {error!r}")
        if node.member.public_key not in self._liars:
            self._failed = error
            raise error

    def _note(self, text: str) -> None:
        line = f"{self.agenda.now_us} {text}\n"
        self._hash.update(line.encode())
        if self._keep_log:
            self.outcome.log.append(line)

    # ------------------------------------------------------------------ a run

    def run(self) -> Outcome:
        """Faults, then recovery; whatever is found ends it."""
        outcome = self.outcome
        try:
            self._suffer()
            self._recover()
        except Finding as found:
            outcome.finding = str(found)
        except Exception as error:
            outcome.finding = f"{type(error).__name__}: {error}"
            if error is not self._failed:
                raise
        outcome.height = len(self.checkers.decisions.chain)
        outcome.events = self.agenda.done
        outcome.virtual_us = self.agenda.now_us
        outcome.trace_hash = self._hash.hexdigest()
        return outcome

    def _suffer(self) -> None:
        scenario = self.scenario
        for node in self.nodes:
            node.start()
        frail_count = (scenario.seats - 1) // 3 - len(scenario.liars)
        rng = self._rng("faults")
        upright = [node.index for node in self.honest]
        planner = FaultPlanner(rng, self.nodes, rng.sample(upright, max(0, frail_count)))
        self._plan = planner.plan(scenario.faults, scenario.fault_phase_us)
        for planned in self._plan:
            self.agenda.after(planned.begins_us, partial(self._begin, planned))
            self.agenda.after(planned.ends_us, partial(self._end, planned))
        self._load()
        self.agenda.run(scenario.fault_phase_us, lambda: False)

    def _begin(self, planned: Planned) -> None:
        if self._plan:
            self.outcome.reached[f"fault {type(planned.fault).__name__}"] += 1
            self._note(f"begins {planned.fault}")
            planned.fault.begin(self)

    def _end(self, planned: Planned) -> None:
        if self._plan:
            self._note(f"ends {planned.fault}")
            planned.fault.end(self)

    def _load(self) -> None:
        """Transactions arrive at one node or at several, at random times."""
        mean_us = self.scenario.transaction_interval_us
        if not mean_us or not self._loading:
            return
        rng = self._load_rng
        data = self._workload.next(GENESIS_MS + self.agenda.now_ms(), PARAMETERS.tx_window_ms)
        for node in rng.sample(self.nodes, rng.choice((1, 1, len(self.nodes)))):
            node.submit(data)
        self.agenda.after(rng.randint(1, 2 * mean_us), self._load)

    def _recover(self) -> None:
        """All faults end, liars go on; every honest node must come level and a new transaction must commit."""
        for planned in self._plan:
            planned.fault.end(self)
        self._plan = []
        self.network.heal_all()
        self._loading = False
        self._note("healed")
        for node in self.nodes:
            node.crash_when = None
            node.clock.correct()
            node.resume()
            node.start()
        begun_us = self.agenda.now_us
        goal = len(self.checkers.decisions.chain) + 3
        probe = self._workload.probe(GENESIS_MS + self.agenda.now_ms(), PARAMETERS.tx_window_ms)
        for node in self.honest:
            node.submit(probe)
        identity = open_transaction(probe).transaction_id
        self.agenda.run(begun_us + self._bound_us(), partial(self._is_level, goal, identity))
        self.outcome.recovered_us = self.agenda.now_us - begun_us
        if not self._is_level(goal, identity):
            heights = [node.ledger.height for node in self.honest]
            committed = self.checkers.decisions.finished(identity)
            raise Finding(
                f"L1: {self._bound_us() // SECOND_US} s after all faults healed the honest nodes are at {heights}, "
                f"expected {goal} of all; new transaction {'' if committed else 'not '}committed"
            )

    def _bound_us(self) -> int:
        """L1: a view under way may run out at the longest timeout, and each liar may spoil one at two heights."""
        views = 2 + 2 * len(self.scenario.liars)
        return (views * PARAMETERS.view_timeout_max_ms + 3_000) * 1_000

    def _is_level(self, goal: int, probe: Digest) -> bool:
        return self.checkers.decisions.finished(probe) and all(
            node.ledger.height >= goal for node in self.honest
        )


def simulate(scenario: Scenario, *, keep_log: bool = False) -> Outcome:
    """Run one scenario; the same scenario always has the same outcome."""
    return Simulation(scenario, keep_log=keep_log).run()


def findings(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that found something."""
    return [outcome for outcome in outcomes if outcome.finding is not None]
