"""Forms of false plan (PROTOCOL 4.5), each against the shipped code: refused at the door, or for its reason."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.grouping import GroupingMember, Score, group_sizes, score
from consensus.parameters import Parameters
from consensus.planner import plan as built_in_assignment
from contracts.epoch_state import chain_of
from contracts.plans import best_score, grouping_members
from contracts.receipts import EpochPhase, ReasonCode
from contracts.signatures import signature_checks
from contracts.snapshot import group_total
from contracts.state import number_key
from contracts.transaction import (
    Plan,
    Signature,
    SignedTransaction,
    decode_transaction,
    encode_body,
    join_signatures,
)
from contracts.validation import InvalidTransaction, check_transaction, check_window
from network.simulation.system.bench import Bench
from network.simulation.system.planning import better_plan

BEATABLE: Final = 148
"""A seed whose built-in plan is not the best there is: about one in a hundred."""
MEMBERS: Final = 11
GROUPS: Final = 4
PARAMETERS: Final = Parameters(
    groups=GROUPS,
    run_ms=3_000,
    planning_ms=6_000,
    voting_ms=6_000,
    missed_ms=6_000,
    energy_tolerance_bp=0,
    credit_tolerance_bp=0,
    tx_window_ms=60_000,
    view_timeout_ms=500,
    request_timeout_ms=700,
    empty_block_interval_ms=1_000,
    max_drift_ms=300,
    slot_ms=1_000,
    meter_deadline_ms=5_000,
)


@dataclass(frozen=True)
class Refusal:
    """What became of one form."""

    form: str
    expected: str
    found: str

    @property
    def right(self) -> bool:
        """Whether it was refused, and for the reason that holds."""
        return self.found == self.expected


class _Stage:
    """A chain in planning, whose built-in plan can be beaten, and what a liar needs to know of it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"{seed}/false plans")
        self.bench = Bench(seed, MEMBERS, PARAMETERS)
        self.bench.set_energy([int(10 ** self.rng.uniform(0, 4)) for _ in range(MEMBERS)])
        self.bench.go_to(EpochPhase.PLANNING)
        better = better_plan(self.bench.state, PARAMETERS, self.rng)
        if better is None:
            raise ValueError(f"seed {seed} gives a built-in plan that is not beaten: take another")
        self.better = better
        self.epoch = chain_of(self.bench.state).epoch + 1
        snapshot = self.bench.state.epoch.snapshots.require(number_key(self.epoch))
        self.members: tuple[GroupingMember, ...] = grouping_members(snapshot)
        self.seed = snapshot.seed
        self.total = group_total(snapshot, PARAMETERS)
        self.sizes = group_sizes(len(self.members), self.total)
        self.built_in = built_in_assignment(self.members, self.total, self.seed, PARAMETERS)

    @property
    def best(self) -> Score:
        """What has to be beaten."""
        return best_score(self.bench.state, PARAMETERS, self.epoch)

    def score_of(self, assignment: tuple[int, ...]) -> Score:
        """The true score."""
        return score(self.members, assignment, self.total, PARAMETERS)

    def plan(self, assignment: tuple[int, ...], claim: Score | None = None, epoch: int | None = None) -> Plan:
        """With the claim that a liar would make: just below what has to be beaten."""
        told = self.tempting() if claim is None else claim
        return Plan(
            self.epoch if epoch is None else epoch, assignment, told.energy_excess, told.credit_excess
        )

    def tempting(self) -> Score:
        """The least claim that is read at all."""
        best = self.best
        if best.credit_excess:
            return Score(best.energy_excess, best.credit_excess - 1)
        return Score(best.energy_excess - 1, 0)

    def worst(self) -> tuple[int, ...]:
        """A partition of the right sizes that nobody wants: the richest together."""
        order = sorted(range(len(self.members)), key=lambda i: self.members[i].energy_wh)
        assignment = [0] * len(order)
        groups = [group for group, size in enumerate(self.sizes) for _ in range(size)]
        for index, group in zip(order, groups, strict=True):
            assignment[index] = group
        return tuple(assignment)

    def submit(self, plan: Plan, player: int = 0) -> str:
        """Commit it and read its receipt."""
        signer = self.bench.cast.players[player].signer
        data = self.bench.cast.transaction(plan, (signer,), self.bench.time_ms + 1_000)
        return self.bench.block(data).receipts[0].code.name


Form = Callable[[_Stage], tuple[str, str]]
"""(expected, found)."""


def _rejected(code: ReasonCode, make: Callable[[_Stage], Plan]) -> Form:
    return lambda stage: (code.name, stage.submit(make(stage)))


def _swapped(assignment: tuple[int, ...], one: int, other: int) -> tuple[int, ...]:
    """Two group numbers exchanged wherever they stand."""
    return tuple({one: other, other: one}.get(group, group) for group in assignment)


def _moved(stage: _Stage, source: int, target: int) -> tuple[int, ...]:
    """One member of a group put into another."""
    found = list(stage.better.assignment)
    found[found.index(source)] = target
    return tuple(found)


def _in_phase(phase: EpochPhase) -> Form:
    def form(stage: _Stage) -> tuple[str, str]:
        stage.bench.go_to(phase)
        return ReasonCode.PLAN_PHASE_WRONG.name, stage.submit(stage.better)

    return form


def _twice(stage: _Stage) -> tuple[str, str]:
    first = stage.submit(stage.better)
    found = stage.submit(stage.better) if first == "OK" else first
    return ReasonCode.PLAN_ALREADY_COMMITTED.name, found


def _second_equal(stage: _Stage) -> tuple[str, str]:
    """Of equal scores the first committed wins."""
    first = stage.submit(stage.better)
    found = stage.submit(stage.better, player=1) if first == "OK" else first
    return ReasonCode.PLAN_CLAIM_NOT_BETTER.name, found


def _second_between(stage: _Stage) -> tuple[str, str]:
    """Better than the built-in plan is no longer enough once a better one is committed."""
    claim = stage.tempting()
    first = stage.submit(stage.better)
    found = stage.submit(stage.plan(stage.built_in, claim), player=1) if first == "OK" else first
    return ReasonCode.PLAN_CLAIM_NOT_BETTER.name, found


def _of_the_epoch_before(stage: _Stage) -> tuple[str, str]:
    """Good once: the scores of the next snapshot are others."""
    old = stage.better
    stage.bench.go_to(EpochPhase.RUNNING)
    stage.bench.set_energy([player.index * 997 % 5_000 for player in stage.bench.cast.players[:MEMBERS]])
    stage.bench.go_to(EpochPhase.PLANNING)
    stage.epoch += 1
    return ReasonCode.PLAN_PHASE_WRONG.name, stage.submit(old)


def _other_seed(stage: _Stage) -> Plan:
    other = built_in_assignment(stage.members, stage.total, bytes(32), PARAMETERS)
    return stage.plan(other if stage.score_of(other) != stage.tempting() else stage.worst())


def _other_order(stage: _Stage) -> Plan:
    """Right, if only members stood in another order."""
    return stage.plan(tuple(reversed(_reversed_groups(stage))), stage.score_of(stage.better.assignment))


def _reversed_groups(stage: _Stage) -> tuple[int, ...]:
    found = stage.better.assignment
    for turn in range(len(found)):
        turned = (*found[turn:], *found[:turn])
        if stage.score_of(tuple(reversed(turned))) != stage.score_of(found):
            return turned
    return found


def _door(spoil: Callable[[_Stage], bytes], reason: str) -> Form:
    """A transaction that no valid block holds."""

    def form(stage: _Stage) -> tuple[str, str]:
        cast = stage.bench.cast
        try:
            transaction = decode_transaction(spoil(stage))
            check_transaction(transaction, chain_id=cast.chain_id, parameters=PARAMETERS, verifier=cast.ring)
            check_window(transaction, stage.bench.time_ms + 1_000)
        except InvalidTransaction as error:
            return reason, error.reason.value
        except MalformedInput:
            return reason, "malformed"
        return reason, "taken"

    return form


def _signed(stage: _Stage, payload: object, *, chain_id: bytes | None = None, begin_ms: int = 0) -> bytes:
    """Any payload under a plan's type, rightly signed."""
    cast = stage.bench.cast
    player = cast.players[0]
    begin = stage.bench.time_ms + begin_ms
    body = encode_body(chain_id or cast.chain_id, player.address, begin, begin + 20_000, 7, stage.better)
    if payload is not stage.better:
        fields = msgspec.msgpack.decode(body)
        fields[-1] = payload
        body = encode(fields)
    unsigned = join_signatures(body, (Signature(player.public_key, bytes(64)),))
    message = b""
    with suppress(MalformedInput):  # what is none is refused before anybody looks at its signature
        message = decode_transaction(unsigned).signed_bytes
    return join_signatures(body, (Signature(player.public_key, player.signer.sign(message)),))


def _raw_plan(stage: _Stage, assignment: list[object]) -> list[object]:
    claim = stage.tempting()
    return [stage.epoch, assignment, claim.energy_excess, claim.credit_excess]


def _bad_signature(stage: _Stage) -> bytes:
    envelope = msgspec.msgpack.decode(_signed(stage, stage.better), type=SignedTransaction)
    first = envelope.signatures[0]
    spoiled = first.signature[:-1] + bytes([first.signature[-1] ^ 1])
    return join_signatures(bytes(envelope.body), (Signature(first.public_key, spoiled),))


def _another_signer(stage: _Stage) -> bytes:
    data = _signed(stage, stage.better)
    other = stage.bench.cast.players[1]
    transaction = decode_transaction(data)
    _, message, _ = next(iter(signature_checks(transaction, stage.bench.cast.chain_id)))
    envelope = msgspec.msgpack.decode(data, type=SignedTransaction)
    return join_signatures(bytes(envelope.body), (Signature(other.public_key, other.signer.sign(message)),))


_P, _N = ReasonCode.PLAN_PHASE_WRONG, ReasonCode.PLAN_NO_PARTITION
_B, _C = ReasonCode.PLAN_CLAIM_NOT_BETTER, ReasonCode.PLAN_CLAIM_WRONG

FORMS: Final[dict[str, Form]] = {
    "stale epoch": _rejected(_P, lambda s: s.plan(s.better.assignment, epoch=s.epoch - 1)),
    "epoch too far ahead": _rejected(_P, lambda s: s.plan(s.better.assignment, epoch=s.epoch + 1)),
    "epoch at the end of time": _rejected(_P, lambda s: s.plan(s.better.assignment, epoch=2**63 - 1)),
    "too late: in voting": _in_phase(EpochPhase.VOTING),
    "too late: in the closing block": _in_phase(EpochPhase.CLOSING),
    "too late: in the next running phase": _in_phase(EpochPhase.RUNNING),
    "the plan of the epoch before": _of_the_epoch_before,
    "omitted member": _rejected(_N, lambda s: s.plan(s.better.assignment[:-1])),
    "invented member": _rejected(_N, lambda s: s.plan((*s.better.assignment, 0))),
    "duplicate member": _rejected(_N, lambda s: s.plan((s.better.assignment[0], *s.better.assignment))),
    "no members at all": _rejected(_N, lambda s: s.plan(())),
    "every member twice": _rejected(_N, lambda s: s.plan(s.better.assignment * 2)),
    "group number that does not exist": _rejected(_N, lambda s: s.plan((s.total, *s.better.assignment[1:]))),
    "group number at the end of numbers": _rejected(
        _N, lambda s: s.plan((2**63 - 1, *s.better.assignment[1:]))
    ),
    "group too large": _rejected(_N, lambda s: s.plan(_moved(s, 0, s.total - 1))),
    "group too small": _rejected(_N, lambda s: s.plan(_moved(s, s.total - 1, 1))),
    "empty group": _rejected(_N, lambda s: s.plan(tuple(g or 1 for g in s.better.assignment))),
    "one group for all": _rejected(_N, lambda s: s.plan((0,) * len(s.members))),
    "the larger groups first": _rejected(_N, lambda s: s.plan(_swapped(s.better.assignment, 0, s.total - 1))),
    "wrong groups under a tempting claim": _rejected(_C, lambda s: s.plan(s.worst())),
    "wrong order of members": _rejected(_C, _other_order),
    "planned from another seed": _rejected(_C, _other_seed),
    "the built-in plan praised": _rejected(_C, lambda s: s.plan(s.built_in)),
    "wrong groups that claim balance": _rejected(_C, lambda s: s.plan(s.worst(), Score(0, 0))),
    "a better plan undersold": _rejected(_C, lambda s: s.plan(s.better.assignment, _undersold(s))),
    "worse score, honestly": _rejected(_B, lambda s: s.plan(s.worst(), s.score_of(s.worst()))),
    "equal score": _rejected(_B, lambda s: s.plan(s.built_in, s.best)),
    "two plans of one member": _twice,
    "the same plan from another member": _second_equal,
    "better than the built-in, not than the best": _second_between,
    "for another chain": _door(lambda s: _signed(s, s.better, chain_id=bytes(32)), "foreign_chain"),
    "badly signed": _door(_bad_signature, "signature_wrong"),
    "signed by another": _door(_another_signer, "signer_wrong"),
    "window over": _door(lambda s: _signed(s, s.better, begin_ms=-30_000), "expired"),
    "window not open": _door(lambda s: _signed(s, s.better, begin_ms=30_000), "not_yet_valid"),
    "negative group number": _door(
        lambda s: _signed(s, _raw_plan(s, [-1, *s.better.assignment[1:]])), "malformed"
    ),
    "group number that is true": _door(
        lambda s: _signed(s, _raw_plan(s, [True, *s.better.assignment[1:]])), "malformed"
    ),
    "group numbers as text": _door(
        lambda s: _signed(s, _raw_plan(s, [str(g) for g in s.better.assignment])), "malformed"
    ),
    "a field too many": _door(
        lambda s: _signed(s, [*_raw_plan(s, list(s.better.assignment)), 0]), "malformed"
    ),
    "larger than any transaction": _door(lambda s: _signed(s, _raw_plan(s, [0] * 70_000)), "malformed"),
}
"""By name; each is tried on a fresh chain."""


def _undersold(stage: _Stage) -> Score:
    """A claim that would win and is worse than what the plan is worth."""
    true, best = stage.score_of(stage.better.assignment), stage.best
    above = Score(true.energy_excess, true.credit_excess + 1)
    return min(best, above)


def run_false_plans(seed: int = BEATABLE) -> Iterator[Refusal]:
    """Every form on a chain of its own; each must be refused for its own reason (G16)."""
    for name, form in FORMS.items():
        expected, found = form(_Stage(seed))
        yield Refusal(name, expected, found)
