"""Planted bugs that the simulation must find: a harness that misses them proves nothing when it finds none.

Each canary is a real mistake of other projects, put into the shipped code for the length of a test. What would speak
first is switched off, the replica's own invariants and the simulation's judge of single steps, so that the checkers of
PROTOCOL 12 have to. `scripts/simulate --canary` plants others, with everything switched on.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consensus import core, failover, messages, standing, three_phases
from consensus.delegates import DelegateSet
from consensus.effects import Effect, Persist, Send, SentRecord
from consensus.messages import NewView, ViewChange
from consensus.own_votes import Signed
from consensus.signing import Phase
from consensus.tally import Tally
from network.simulation import node
from network.simulation.cluster import Scenario, draw, simulate
from network.simulation.disk import Disk
from network.simulation.obligations import Obligations
from network.simulation.scenario import SECOND_US

Patch = pytest.MonkeyPatch


def _silence_invariants(patch: Patch) -> None:
    for name in ("judge", "certificate", "own_votes", "core", "tally", "failover", "three_phases", "height"):
        patch.setattr(f"consensus.{name}.invariant", lambda _condition, _message: None)


def small_quorum(patch: Patch) -> None:
    """q - 1 instead of q."""
    _silence_invariants(patch)
    patch.setattr(DelegateSet, "quorum", property(lambda self: len(self) - self.faults - 1))


def quorum_of_2f_plus_1(patch: Patch) -> None:
    """2 f + 1 where n is not 3 f + 1 (celo 253, klaytn 2026)."""
    _silence_invariants(patch)
    patch.setattr(DelegateSet, "quorum", property(lambda self: 2 * self.faults + 1))


def send_before_persist(patch: Patch) -> None:
    """A vote leaves before it is durable (malachite 864)."""

    def publish(self: core.Core, message: Signed, records: tuple[object, ...]) -> None:
        self.emit(Send(message))
        self.emit(Persist((*records, SentRecord(self.height.context.height, message))))  # type: ignore[arg-type]

    patch.setattr(core.Core, "_persist_and_send", publish)


def forgotten_journal(patch: Patch) -> None:
    """A restart does not read what was signed."""
    patch.setattr(Disk, "journal", lambda _self: ())


def lost_prepared_certificate(patch: Patch) -> None:
    """A view-change does not carry the prepared certificate (raijin 8)."""

    def forgetful(**fields: object) -> ViewChange:
        fields["prepared"] = None
        return ViewChange(**fields)  # type: ignore[arg-type]

    patch.setattr(failover, "ViewChange", forgetful)


def ignored_prepared_certificate(patch: Patch) -> None:
    """A new primary proposes afresh whatever the view-changes carry."""
    patch.setattr(failover, "choose", lambda _view_changes: None)


def unchecked_new_view(patch: Patch) -> None:
    """Any new-view is obeyed (raijin 7)."""

    def check(message: NewView, _judge: object, _held: object) -> tuple[ViewChange, ...]:
        return message.view_changes

    patch.setattr(failover, "check_new_view", check)


def digest_not_compared(patch: Patch) -> None:
    """Votes of a view are counted together, whatever they are for (Rustchain 2087)."""
    _silence_invariants(patch)

    def votes(self: Tally[messages.Commit], view: int, _digest: bytes) -> dict[bytes, messages.Commit]:
        return {key: vote for by in self._by_view.get(view, {}).values() for key, vote in by.items()}

    patch.setattr(Tally, "votes", votes)


def one_phase_for_two(patch: Patch) -> None:
    """Prepare and commit sign the same bytes (raijin 17)."""
    patch.setitem(messages.PHASE_OF, messages.Commit, Phase.PREPARE)


def certificate_not_checked(patch: Patch) -> None:
    """Blocks of others are taken over with whatever certificate they come."""
    _silence_invariants(patch)
    patch.setattr(standing, "check_certificate", lambda *_arguments: None)
    patch.setattr(three_phases, "check_certificate", lambda *_arguments: None)


def no_view_timer(patch: Patch) -> None:
    """A view never times out."""
    patch.setattr(failover, "keep_view_timer", lambda _core: None)


def effects_lost_at_sync(patch: Patch) -> None:
    """A shell that carries out nothing after a sync."""

    def perform(self: node.SimulatedNode, effect: Effect) -> None:
        del self, effect

    patch.setattr(node.SimulatedNode, "_perform", perform)


def _short(seed: int) -> Scenario:
    """A few seats, and faults that leave blocks which some have decided and others must find again."""
    scenario = draw(seed, 4 + seed % 3)
    kinds = ("lose kind", "lose kind", "starve", "partition", "crash", "crash at effect")
    liars = scenario.liars[: (scenario.seats - 1) // 3]
    return replace(
        scenario,
        liars=liars,
        kinds=kinds,
        faults=10,
        fault_phase_us=40 * SECOND_US,
        blocks=0,
        real_keys=False,
    )


def new_view_liar(scenario: Scenario) -> Scenario:
    """A scenario with more chances for an unchecked new-view to do harm: many views fail, with votes on both sides."""
    return replace(
        scenario,
        seats=4,
        spare_members=0,
        epoch_heights=None,
        faults=60,
        kinds=("lose kind", "one way", "crash"),
        transaction_interval_us=500_000,
        liars=(("lying new-view",),),
    )


def six_seats(scenario: Scenario) -> Scenario:
    """A scenario with six seats, where q = 5 and 2 f + 1 = 3."""
    return replace(scenario, seats=6, liars=scenario.liars[:1])


def forger(scenario: Scenario) -> Scenario:
    """A scenario in which certificates are forged."""
    return replace(scenario, liars=(("forger",),) * ((scenario.seats - 1) // 3))


def as_drawn(scenario: Scenario) -> Scenario:
    """What the seed says."""
    return scenario


Canary = tuple[Callable[[Patch], None], Callable[[Scenario], Scenario], int, tuple[str, ...]]
CANARIES: list[Canary] = [
    (small_quorum, as_drawn, 5, ("S3",)),
    (quorum_of_2f_plus_1, six_seats, 5, ("S3",)),
    (send_before_persist, as_drawn, 3, ("6.5",)),
    (forgotten_journal, as_drawn, 60, ("S4", "6.6")),
    (lost_prepared_certificate, as_drawn, 60, ("S5", "S1")),
    (ignored_prepared_certificate, as_drawn, 60, ("S5", "S1")),
    (unchecked_new_view, new_view_liar, 100, ("S5", "S1")),
    (digest_not_compared, as_drawn, 60, ("S", "L1")),
    (one_phase_for_two, as_drawn, 3, ("S3",)),
    (certificate_not_checked, forger, 60, ("S",)),
    (no_view_timer, as_drawn, 20, ("L1",)),
    (effects_lost_at_sync, as_drawn, 3, ("L1",)),
]
"""What is planted, in which scenarios, how many seeds may pass before it is found, and by which properties."""


@pytest.mark.parametrize(
    ("plant", "among", "seeds", "expected"), CANARIES, ids=[c[0].__name__ for c in CANARIES]
)
def test_a_planted_bug_is_found(
    monkeypatch: Patch,
    plant: Callable[[Patch], None],
    among: Callable[[Scenario], Scenario],
    seeds: int,
    expected: tuple[str, ...],
) -> None:
    plant(monkeypatch)
    monkeypatch.setattr(Obligations, "stepped", lambda *_arguments: None)
    for seed in range(1, seeds + 1):
        finding = simulate(among(_short(seed))).finding
        if finding is not None:
            assert finding.startswith(expected), f"seed {seed}: {finding}"
            return
    pytest.fail(f"{seeds} seeds did not find it")
