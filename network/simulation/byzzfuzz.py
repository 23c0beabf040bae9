"""ByzzFuzz: few faults, each in one communication round, each small (RELIABILITY G4).

A run has c rounds in which the liar's messages to some of the others are changed in one place, and d rounds in which
the nodes are split in two; all else is in lock step and by the rules. Three cells each of c and d, in two scopes.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from consensus.block import Block
from network.simulation.checkers import Finding
from network.simulation.fork_check import check_agreement, check_reports
from network.simulation.lockstep import Links, Lockstep, LockstepNode, Table, Told
from network.simulation.mutations import Message, Mutator, Scope, delivered
from network.simulation.twins import heal, links_of, splits_of

HORIZON: Final = 14
"""Rounds in which faults may happen: three heights decided at once, or one in its third view."""
SEEN: Final = 40
"""Messages of late from which values are taken: more than two views of four nodes say."""
EACH: Final = (0, 1, 2)

Progress: TypeAlias = Callable[[int, int], None]
"""Told (runs done, runs in all)."""


@dataclass(frozen=True)
class Cell:
    """How many faults a run has, and how far they go."""

    process_faults: int
    network_faults: int
    scope: Scope
    seats: int = 4


CELLS: Final = tuple(Cell(c, d, scope) for scope in ("small", "any") for c in EACH for d in EACH)
"""The 9 cells in both scopes."""


@dataclass(frozen=True)
class ByzzFuzzFinding:
    """A run that breaks a property: `play` repeats it from cell and seed."""

    cell: Cell
    seed: int
    text: str
    story: tuple[str, ...]
    """The faults of the run."""


@dataclass(frozen=True)
class ByzzFuzzResult:
    """What the runs of a cell came to."""

    cell: Cell
    first_seed: int
    runs: int
    changed: int
    """Messages that arrived changed."""
    malformed: int
    """Changed messages that the codec refused."""
    cut: int
    """Messages lost to splits."""
    proofs: int
    """Proofs against the liar that honest nodes reported."""
    blocks: int
    """Decided in all runs, on the longest chain of each."""
    slowest_views: int
    """Most views that it took to decide one more height after the last fault."""
    findings: tuple[ByzzFuzzFinding, ...]

    @property
    def rate(self) -> float:
        """Share of runs with a finding."""
        return len(self.findings) / self.runs if self.runs else 0.0


@dataclass
class Run:
    """One run and what it has seen so far."""

    cell: Cell
    seed: int
    story: list[str] = field(default_factory=list)
    changed: int = 0
    malformed: int = 0
    cut: int = 0
    blocks: int = 0
    proofs: int = 0
    healed_views: int = 0

    def __post_init__(self) -> None:
        rng = self._rng = random.Random(f"{self.seed}/{self.cell}")
        seats = self.cell.seats
        self._liar = rng.randrange(seats)
        self._table = Table(seats, liars=(self._liar,), seed=self.seed)
        self._lying = {rng.randrange(HORIZON): self._audience(seats) for _ in range(self.cell.process_faults)}
        """Round to whom the liar lies in it."""
        self._split = {
            rng.randrange(HORIZON): rng.randrange(1, splits_of(seats))
            for _ in range(self.cell.network_faults)
        }
        self._mutator = Mutator(rng, self.cell.scope, self._table.signers[self._liar], self._table.chain_id)
        self._seen: deque[Message] = deque(maxlen=SEEN)
        self._told: dict[int, tuple[Told, Message | None]] = {}
        """Of this round, by identity: what was said and what it was changed to, the same for all who hear it."""
        self._round = 0

    def _audience(self, seats: int) -> frozenset[int]:
        others = [node for node in range(seats) if node != self._liar]
        return frozenset(self._rng.sample(others, self._rng.randint(1, len(others))))

    def play(self) -> None:
        """Faults, then healing; raises `Finding` or whatever a replica raises."""
        run = Lockstep(self._table)
        view = 0
        while self._round < HORIZON:
            run.begin_view(view, self._transactions)
            while run.round(self._links(), self._twist) and self._round < HORIZON:
                self._round += 1
                self._told.clear()
            self._round += 1
            view += 1
            self._check(run)
        run.talk(links_of(0))
        self.healed_views = heal(run, view)
        self._check(run)
        self.blocks = max(node.height for node in run.nodes.values())
        self.proofs = sum(len(node.reports) for node in run.nodes.values())

    def _check(self, run: Lockstep) -> None:
        check_agreement(self._table, run.nodes.values())
        check_reports(self._table, run.nodes.values())

    def _transactions(self, node: LockstepNode) -> tuple[bytes, ...]:
        """All hold the same ones, so that a transaction may fail with several primaries and be removed."""
        return (self._table.transaction(node.height),)

    def _links(self) -> Links:
        joined = links_of(self._split.get(self._round, 0))

        def arrives(source: int, target: int, told: Told) -> bool:
            if joined(source, target, told):
                return True
            self.cut += 1
            return False

        if self._round in self._split:
            self.story.append(f"round {self._round}: split {self._split[self._round]:b}")
        return arrives

    def _twist(self, source: int, target: int, told: Told) -> tuple[Told, ...]:
        if isinstance(told, Block) or not self.cell.process_faults:
            return (told,)
        if id(told) not in self._told:
            self._told[id(told)] = (told, self._lie(source, told))
            self._seen.append(told)
        audience = self._lying.get(self._round, frozenset())
        if source != self._liar or target not in audience:
            return (told,)
        lie = self._told[id(told)][1]
        if lie is None:
            self.malformed += 1
            return ()
        self.changed += 1
        return (lie,)

    def _lie(self, source: int, told: Message) -> Message | None:
        if source != self._liar or self._round not in self._lying:
            return None
        mutation = self._mutator.mutate(told, self._seen)
        where = ".".join(map(str, mutation.path))
        whom = sorted(self._lying[self._round])
        self.story.append(
            f"round {self._round}: {source} to {whom}: {type(told).__name__}.{where} {mutation.operation}"
        )
        return delivered(mutation.message)


def play(cell: Cell, seed: int) -> tuple[Run, str | None]:
    """Play the run of a seed; what was found, if anything."""
    run = Run(cell, seed)
    try:
        run.play()
    except Finding as found:
        return run, str(found)
    except Exception as error:  # noqa: BLE001 - whatever a replica raises is the finding
        return run, f"{type(error).__name__}: {error}"
    return run, None


def run_byzzfuzz(
    cell: Cell, runs: int, first_seed: int = 0, progress: Progress | None = None
) -> ByzzFuzzResult:
    """``runs`` runs of a cell, one a seed from ``first_seed`` on."""
    findings: list[ByzzFuzzFinding] = []
    changed = malformed = cut = proofs = blocks = slowest = 0
    for number in range(runs):
        seed = first_seed + number
        run, text = play(cell, seed)
        if text is not None:
            findings.append(ByzzFuzzFinding(cell, seed, text, tuple(run.story)))
        changed, malformed, cut = changed + run.changed, malformed + run.malformed, cut + run.cut
        proofs, blocks, slowest = proofs + run.proofs, blocks + run.blocks, max(slowest, run.healed_views)
        if progress is not None:
            progress(number + 1, runs)
    return ByzzFuzzResult(
        cell, first_seed, runs, changed, malformed, cut, proofs, blocks, slowest, tuple(findings)
    )
