"""What the parts of a simulated node share: the run around them, and the process they belong to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.block import CertifiedBlock
from consensus.delegates import Delegate
from consensus.effects import Effect
from consensus.inputs import Input, Instant
from consensus.parameters import Parameters
from consensus.signing import Signer, Verifier
from consensus.types import Digest, PublicKey
from network.simulation.agenda import Agenda, Appointment
from network.simulation.disk import Disk, DiskFailed
from network.simulation.doors import Doors, LedgerDoor, Terms
from network.simulation.letters import Letter


class Holder(Protocol):
    """A node as the world sees it."""

    @property
    def index(self) -> int:
        """Its number; twins share a member but not a number."""

    @property
    def member(self) -> Delegate:
        """Whose key it holds."""

    @property
    def signer(self) -> Signer:
        """The key."""

    @property
    def disk(self) -> Disk:
        """What of it survives."""

    def at(self) -> Instant:
        """Both its clocks now."""


class World(Protocol):
    """What a node needs of the simulation around it."""

    def post(self, node: Holder, to: PublicKey, letter: Letter) -> None:
        """Send a letter to the member with this key."""

    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica took in ``item``, or began if there is none, and asks for ``effects``."""

    def performed(self, node: Holder, effect: Effect) -> None:
        """An effect has just been carried out."""

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A block was decided and stored."""

    def broke(self, node: Holder, error: Exception) -> None:
        """The replica raised: always a finding."""

    def stopped(self, node: Holder, error: DiskFailed) -> None:
        """The disk failed, so the process ended before it signed anything."""

    def punished(self, node: Holder, culprit: PublicKey, reason: str) -> None:
        """A peer sent what no honest node sends."""

    def happened(self, node: Holder, event: str) -> None:
        """Something worth counting that the replica knows nothing of."""

    def came_up(self, node: Holder, up: bool) -> None:
        """A process began or ended: connections follow."""


@dataclass(frozen=True)
class Surroundings:
    """What all nodes of a run share."""

    agenda: Agenda
    world: World
    chain_id: Digest
    parameters: Parameters
    verifier: Verifier
    timetable: Terms
    members: tuple[Delegate, ...]
    """Also those that may join later: whoever has a node."""
    doors: Doors


class Process(Holder, Protocol):
    """One life of a node, as its parts see it: they die with it. It is a `network.scheduler.Scheduler` too."""

    @property
    def around(self) -> Surroundings:
        """The run."""

    @property
    def ledger(self) -> LedgerDoor:
        """The state after the decided blocks."""

    @property
    def others(self) -> tuple[PublicKey, ...]:
        """All members but this one."""

    def now_ms(self) -> int:
        """Its monotonic clock."""

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> Appointment:
        """Call back later in this life, by its own clock, after a pause if there is one."""

    def step(self, item: Input) -> None:
        """Hand an input to the replica and queue its effects."""

    def post(self, to: PublicKey, letter: Letter) -> None:
        """Send a letter."""
