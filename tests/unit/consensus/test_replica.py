"""The replica as a whole: its doors, what it refuses, what it remembers and shows."""

import random
from typing import Any

import msgspec
import pytest

from consensus.effects import (
    CancelTimer,
    CheckProposal,
    Decide,
    Effect,
    FetchBlock,
    Persist,
    Send,
    SetTimer,
    Trace,
)
from consensus.errors import InvariantViolation
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    BlockFetched,
    DecidedReceived,
    JournalLost,
    PoolChanged,
    Received,
    SyncState,
    Timer,
    TimerFired,
)
from consensus.messages import Commit, ConsensusMessage, Prepare, Proposal, ViewChange
from consensus.next_height import NextHeight, RateLimit
from consensus.replica import Replica
from consensus.tally import VIEWS_KEPT
from consensus.timers import KINDS
from tests.unit.consensus.bench import Bench, Cluster
from tests.unit.consensus.support import (
    CHAIN,
    KeyedSigner,
    certified,
    commit,
    events,
    make_proposal,
    new_view,
    of_kind,
    prepare,
    prepared,
    sent_of,
    transaction,
    view_change,
)


def only_traces(effects: list[Effect]) -> bool:
    return all(isinstance(effect, Trace) for effect in effects)


# ---------------------------------------------------------------------- doors


def test_a_replica_is_started_once_and_before_it_is_stepped() -> None:
    bench = Bench()
    fresh = Replica(
        chain_id=CHAIN,
        parameters=bench.node.parameters,
        signer=bench.signers[0],
        verifier=bench.verifier,
        context=bench.context,
        at=bench.node.at,
    )
    with pytest.raises(InvariantViolation):
        fresh.step(PoolChanged(bench.node.at, 0, None))
    fresh.start(bench.node.at)
    with pytest.raises(InvariantViolation):
        fresh.start(bench.node.at)


def test_two_replicas_with_the_same_inputs_have_the_same_effects() -> None:
    """Pure: no clock, no randomness, no order of sets."""
    first, second = Bench(), Bench()
    for bench in (first, second):
        made = bench.propose(transaction(1))
        bench.node.receive(made.proposal)
        bench.prepares(made, [2, 3])
        bench.view_changes(3, [0, 2, 3])
        bench.commits(made, [0, 2, 3])
    assert first.node.effects == second.node.effects
    assert len(first.node.effects) > 10


def test_an_unknown_timer_kind_is_our_bug() -> None:
    bench = Bench()
    timer = Timer("nonsense", 1, 0, 1)
    bench.replica._core.timers["nonsense"] = timer
    with pytest.raises(InvariantViolation):
        bench.node.step(TimerFired(bench.node.at, timer))


def test_every_timer_is_cancelled_when_the_height_is_decided() -> None:
    bench = Bench()
    bench.node.answers = False
    bench.replica._core.height.busy = True
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    for kind in KINDS:
        bench.replica._core.set_timer(kind, 1)
    bench.replica._core.take_effects()
    bench.replica._core.height.hold(made.block, made.digest)
    effects = bench.commits(made, [0, 2, 3])
    assert {effect.kind for effect in of_kind(effects, CancelTimer)} == set(KINDS)
    decided = next(index for index, effect in enumerate(effects) if isinstance(effect, Decide))
    assert not [effect for effect in effects[decided:] if isinstance(effect, SetTimer)]


def test_a_certified_block_still_being_gathered_is_given_a_moment_before_it_is_fetched() -> None:
    """The slowest delegate does not ask for whole blocks whose transactions it is just verifying."""
    bench = Bench()
    bench.node.answers = False
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    assert not of_kind(bench.commits(made, [0, 2, 3]), FetchBlock)
    assert bench.node.delays["gather"] == 500
    fetch = of_kind(bench.node.fire("gather"), FetchBlock)[0]
    assert set(fetch.holders) == {bench.signers[rank].public_key for rank in (0, 2, 3)}
    effects = bench.node.step(BlockFetched(bench.node.at, made.block))
    assert of_kind(effects, Decide)


def test_a_prepared_block_whose_bytes_never_come_is_fetched_whole() -> None:
    """A faulty primary that withholds bytes from one delegate does not keep it from committing."""
    bench = Bench()
    made = make_proposal(bench.context, bench.signers[0], transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2, 3])
    assert of_kind(bench.node.fire("gather"), FetchBlock)
    assert sent_of(bench.node.step(BlockFetched(bench.node.at, made.block)), Commit)


def test_a_certified_block_that_is_unknown_is_fetched_at_once() -> None:
    bench = Bench()
    made = bench.propose(transaction(1))
    assert of_kind(bench.commits(made, [0, 2, 3]), FetchBlock)
    assert of_kind(bench.node.step(BlockFetched(bench.node.at, made.block)), Decide)


def test_a_block_nobody_asked_for_is_not_kept() -> None:
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.step(BlockFetched(bench.node.at, made.block))
    assert bench.replica.undecided_block(made.digest) is None


# ---------------------------------------------------------------------- refusing


def _messages(bench: Bench) -> list[ConsensusMessage]:
    """One good message of each kind, none of which this replica has seen."""
    made = bench.propose(transaction(1))
    certificate = prepared([bench.signers[rank] for rank in (0, 2, 3)], 1, 0, made.digest)
    changes = [view_change(bench.signers[rank], 1, 2, certificate) for rank in (0, 2, 3)]
    return [
        made.proposal,
        prepare(bench.signers[2], 1, 0, made.digest),
        commit(bench.signers[2], 1, 0, made.digest),
        changes[0],
        new_view(bench.signers[2], 1, 2, changes),
    ]


def _mutate(message: Any, rng: random.Random) -> Any:
    """``message`` with one field, possibly a nested one, changed."""
    names = message.__struct_fields__
    name = rng.choice(names)
    value = getattr(message, name)
    if isinstance(value, msgspec.Struct):
        changed: Any = _mutate(value, rng)
    elif isinstance(value, tuple):
        items = list(value)
        action = rng.randrange(4)
        if items and action == 0:
            items.pop(rng.randrange(len(items)))
        elif items and action == 1:
            items.append(rng.choice(items))
        elif items and isinstance(items[0], msgspec.Struct):
            index = rng.randrange(len(items))
            items[index] = _mutate(items[index], rng)
        else:
            items.reverse()
        changed = tuple(items)
    elif isinstance(value, bytes):
        position = rng.randrange(len(value))
        changed = (
            value[:position] + bytes([value[position] ^ (1 << rng.randrange(8))]) + value[position + 1 :]
        )
    elif isinstance(value, int):
        changed = rng.choice([0, value + 1, max(0, value - 1), 2**62, 2**63 - 1])
    else:
        changed = None
    return msgspec.structs.replace(message, **{name: changed})


@pytest.mark.parametrize("kind", range(5))
def test_mutated_messages_never_stop_a_replica_nor_make_it_sign(kind: int) -> None:
    """A peer's fault is refused, changes nothing that is signed, and never trips an invariant."""
    rng = random.Random(kind)
    for _ in range(300):
        bench = Bench()
        original = _messages(bench)[kind]
        message: ConsensusMessage = _mutate(original, rng)
        if message == original:
            continue
        sender = rng.choice(bench.others).public_key
        effects = bench.node.step(Received(bench.node.at, sender, message))
        assert not of_kind(effects, Persist)
        assert not of_kind(effects, Decide)


@pytest.mark.parametrize("kind", range(5))
def test_the_unmutated_messages_are_good(kind: int) -> None:
    """The counterpart: none of the five is refused, so the mutations are what is refused."""
    bench = Bench()
    message = _messages(bench)[kind]
    signer = message.vote.signer if isinstance(message, Proposal) else message.signer
    assert "refused" not in events(bench.node.step(Received(bench.node.at, signer, message)))


def test_own_messages_that_come_back_change_nothing() -> None:
    """Also conflicting ones, as after a lost journal: nobody reports itself."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    own = bench.signers[1]
    for message in (
        prepare(own, 1, 0, bytes(32)),
        commit(own, 1, 0, bytes(32)),
        view_change(own, 1, 9),
        new_view(own, 1, 9, ()),
        bench.propose(transaction(2), view=1).proposal,
    ):
        assert only_traces(bench.node.step(Received(bench.node.at, own.public_key, message)))
    assert bench.replica.view == 0


def test_garbage_from_everywhere_fills_no_memory() -> None:
    """R1: every table keyed by peer data has a bound."""
    bench = Bench(7)
    rng = random.Random(5)
    made = bench.propose(transaction(1))
    for number in range(3_000):
        signer = rng.choice([*bench.others, KeyedSigner(rng.randrange(50, 500))])
        digest = rng.randbytes(32)
        height = rng.choice([0, 1, 1, 1, 2, 2, 9, 2**62])
        view = rng.choice([0, number, 2**61 + number])
        votes: list[ConsensusMessage] = [
            prepare(signer, height, view, digest),
            commit(signer, height, view, digest),
            made.proposal,
        ]
        message = rng.choice(votes)
        bench.node.step(Received(bench.node.at, signer.public_key, message))
    core = bench.replica._core
    places = 7 * VIEWS_KEPT
    assert sum(len(votes) for votes in core.height.prepares._by_signer.values()) <= places
    assert sum(len(votes) for votes in core.height.commits._by_signer.values()) <= places
    assert len(core.height.pre_prepares) <= VIEWS_KEPT
    assert len(core.height.view_changes) <= 7
    assert len(core.height.early) <= 7
    assert len(core.next_height.senders) <= 7
    assert len(core.answered._last_ms) <= 256
    assert len(core.last_votes) <= 7


def test_early_proposals_keep_one_place_a_sender() -> None:
    bench = Bench()
    for view in range(1, 400):
        made = bench.propose(transaction(1), view=view)
        if made.proposal.vote.signer != bench.node.key:
            bench.node.receive(made.proposal, sender=bench.signers[2].public_key)
    assert len(bench.replica._core.height.early) == 1
    stranger = bench.propose(transaction(2), view=4).proposal
    assert "refused" in events(bench.node.receive(stranger, sender=KeyedSigner(77).public_key))


def test_held_blocks_are_bounded_and_the_needed_ones_stay() -> None:
    bench = Bench()
    made = bench.propose(transaction(0))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2])
    height = bench.replica._core.height
    for number in range(1, 100):
        other = bench.propose(transaction(number))
        height.hold(other.block, other.digest)
    assert len(height.blocks) <= 16
    assert made.digest in height.blocks


def test_the_next_heights_messages_come_back_once() -> None:
    buffer = NextHeight()
    vote = prepare(KeyedSigner(1), 2, 3, bytes(32))
    buffer.keep(b"a", vote)
    buffer.keep(b"a", prepare(KeyedSigner(1), 2, 2, bytes(32)))
    buffer.keep(b"b", vote)
    assert buffer.senders == (b"a", b"b")
    assert buffer.take() == [(b"a", vote), (b"b", vote)]
    assert buffer.take() == []


def test_rate_limits_forget_the_oldest_key() -> None:
    limit = RateLimit(1_000, 2)
    assert limit.allow(b"a", 0)
    assert not limit.allow(b"a", 999)
    assert limit.allow(b"b", 10)
    assert limit.allow(b"c", 20)
    assert limit.allow(b"a", 30)
    assert len(limit._last_ms) == 2


# ---------------------------------------------------------------------- what it shows


def test_status_follows_a_height_through_its_phases() -> None:
    bench = Bench()
    assert (bench.replica.height, bench.replica.view, bench.replica.phase) == (1, 0, "idle")
    assert bench.replica.primary == bench.delegates.ranking[0].address
    made = bench.propose(transaction(1))
    bench.node.answers = False
    bench.node.receive(made.proposal)
    assert bench.replica.phase == "pre-prepared"
    bench.node.answers = True
    bench.node.check(of_kind(bench.node.effects, CheckProposal)[0])
    assert bench.replica.phase == "prepared"
    bench.prepares(made, [2])
    assert bench.replica.phase == "committed"
    bench.node.fire("view")
    assert (bench.replica.view, bench.replica.phase) == (1, "view-change")
    assert bench.replica.is_primary
    assert bench.replica.view_timeout_ms == 3_000
    bench.node.answers = False
    bench.commits(made, [0, 2, 3])
    assert bench.replica.phase == "decided"


def test_status_shows_each_delegates_last_votes() -> None:
    """LESSONS 21: who is at which view, from verified votes only."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2])
    bench.node.receive(view_change(bench.signers[3], 1, 6))
    unsigned = msgspec.structs.replace(commit(bench.signers[0], 1, 3, made.digest), signature=bytes(64))
    bench.node.receive(unsigned)
    ranking = bench.delegates.ranking
    assert bench.replica.last_votes == {
        ranking[0].address: (1, 0, "pre-prepare"),
        ranking[1].address: (1, 0, "commit"),
        ranking[2].address: (1, 0, "prepare"),
        ranking[3].address: (1, 6, "view-change"),
    }


def test_standing_is_shown() -> None:
    bench = Bench()
    assert bench.replica.voting
    bench.node.step(SyncState(bench.node.at, caught_up=False))
    assert (bench.replica.voting, bench.replica.abstaining) == (False, False)
    bench.node.step(SyncState(bench.node.at, caught_up=True))
    bench.node.step(JournalLost(bench.node.at))
    assert (bench.replica.voting, bench.replica.abstaining) == (False, True)
    bench.node.step(AbstainUntil(bench.node.at, 7))
    assert bench.replica._core.abstain_until == 9
    bench.node.step(AbstainUntil(bench.node.at, 1))
    assert bench.replica._core.abstain_until == 9


def test_an_observer_sets_no_timers_and_sends_nothing() -> None:
    bench = Bench()
    node = bench.node
    context = msgspec.structs.replace(
        bench.context,
        delegates=msgspec.structs.replace(bench.delegates, ranking=bench.delegates.ranking[2:]),
        head=bench.delegates.ranking[2].address,
    )
    node.effects.clear()
    node.boot(context)
    node.submit(transaction(1))
    for rank in (2, 3):
        node.receive(view_change(bench.signers[rank], 1, 5))
    assert bench.replica.phase == "observing"
    assert not [effect for effect in node.effects if isinstance(effect, SetTimer | Send | Persist)]


def test_a_decided_block_of_another_height_is_not_taken() -> None:
    bench = Bench()
    made = bench.propose(transaction(1))
    block = certified(made.block, bench.context, bench.signers[:3])
    bench.node.step(DecidedReceived(bench.node.at, block))
    assert bench.replica.height == 2
    effects = bench.node.step(DecidedReceived(bench.node.at, block))
    assert not of_kind(effects, Decide)


def test_old_news_of_the_ledger_changes_nothing() -> None:
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    assert only_traces(bench.node.step(Advanced(bench.node.at, bench.context)))
    assert bench.replica.phase == "prepared"


def test_a_ledger_that_went_on_by_itself_takes_the_replica_along() -> None:
    """Catching up may pass several heights at once; what was asked and timed before is void."""
    cluster = Cluster(4)
    cluster.submit(transaction(1))
    cluster.deliver()
    bench = Bench()
    bench.node.submit(transaction(2))
    context = msgspec.structs.replace(cluster.nodes[0].context, height=9)
    certificate = cluster.nodes[0].context.parent_certificate
    assert certificate is not None
    context = msgspec.structs.replace(
        context, parent_certificate=msgspec.structs.replace(certificate, height=8)
    )
    effects = bench.node.step(Advanced(bench.node.at, context))
    assert bench.replica.height == 9
    assert CancelTimer("view") in effects
    assert {timer.height for timer in bench.replica._core.timers.values()} == {9}


def test_a_commit_signed_late_after_a_restart_does_not_contradict_the_one_before() -> None:
    """S4: the certificate is of the view it committed in already: nothing is signed anew."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2])
    bench.node.boot(bench.context)
    effects = bench.commits(made, [0, 2, 3])
    assert of_kind(effects, Decide)
    assert len({vote.signature for vote in bench.node.sent(Commit)}) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 10, 13])
def test_a_cluster_decides_what_was_submitted(size: int) -> None:
    cluster = Cluster(size)
    for number in range(3):
        cluster.submit(transaction(number))
        cluster.deliver()
    for node in cluster.nodes:
        assert [item.block.transactions for item in node.decided] == [(transaction(i),) for i in range(3)]
        assert not sent_of(node.effects, ViewChange)
    assert sum(len(node.sent(Prepare)) for node in cluster.nodes) == 3 * (size - 1)
