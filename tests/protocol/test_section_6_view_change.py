"""PROTOCOL 6.6: view-changes, new-views, proposing again, answering who is late, and messages from ahead."""

import msgspec
import pytest

from consensus.block import CertifiedBlock
from consensus.effects import (
    BuildBatch,
    CheckProposal,
    Decide,
    Effect,
    FetchBlock,
    FetchDecided,
    Send,
    SendDecided,
)
from consensus.inputs import BlockFetched, Received, SyncState
from consensus.messages import (
    Accepted,
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PreparedCertificate,
    Proposal,
    ViewChange,
)
from tests.unit.consensus.bench import Bench, Cluster
from tests.unit.consensus.support import (
    KeyedSigner,
    Made,
    again,
    certified,
    commit,
    events,
    make_proposal,
    new_view,
    next_context,
    of_kind,
    pre_prepare,
    prepare,
    prepared,
    sent_of,
    transaction,
    view_change,
)


def certificate_of(
    bench: Bench, made: Made, ranks: tuple[int, ...] = (0, 2, 3), view: int = 0
) -> PreparedCertificate:
    """A prepared certificate of others: the first rank is the primary."""
    return prepared([bench.signers[rank] for rank in ranks], 1, view, made.digest)


# ---------------------------------------------------------------------- what a view-change says


def test_6_6_a_view_change_carries_the_highest_prepared_certificate_and_what_was_accepted() -> None:
    """6.6: view-change (h, w) carries its sender's highest prepared certificate of h and the digests it accepted."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2])
    message = sent_of(bench.node.fire("view"), ViewChange)[0]
    assert message.prepared is not None
    assert message.prepared.pre_prepare == made.proposal.vote
    assert message.accepted == (Accepted(0, made.digest),)


def test_6_6_without_certificate_a_view_change_carries_none() -> None:
    """6.6: or none; what it prepared is accepted all the same."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    message = sent_of(bench.node.fire("view"), ViewChange)[0]
    assert message.prepared is None
    assert message.accepted == (Accepted(0, made.digest),)


def test_6_6_accepted_is_what_a_primary_pre_prepared() -> None:
    """6.6: accepted = the digest it prepared or, as primary, pre-prepared in that view."""
    bench = Bench(rank=0)
    bench.node.submit(transaction(1))
    digest = bench.node.sent(Proposal)[0].vote.digest
    message = sent_of(bench.node.fire("view"), ViewChange)[0]
    assert message.accepted == (Accepted(0, digest),)


def test_6_6_a_certificate_of_a_view_not_reached_is_not_named() -> None:
    """6.6: view-change (h, 1) names lower views only, also if a certificate of view 5 was seen in another's."""
    bench = Bench()
    made = bench.propose(transaction(1), view=5)
    signers = [bench.signers[rank] for rank in (1, 2, 3)]
    other = Bench(rank=0)
    vote = prepared(signers, 1, 5, made.digest)
    other.node.receive(view_change(bench.signers[2], 1, 9, vote))
    other.node.submit(transaction(1))
    message = sent_of(other.node.fire("view"), ViewChange)[0]
    assert (message.view, message.prepared) == (1, None)


def test_6_6_a_certificate_completed_late_is_carried_by_the_next_view_change() -> None:
    """6.6: the *highest* prepared certificate it has, also when its last prepare came after the view was left."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    first = sent_of(bench.node.fire("view"), ViewChange)[0]
    assert first.prepared is None
    bench.prepares(made, [2])
    second = sent_of(bench.view_changes(4, [0, 3]), ViewChange)[0]
    assert second.view == 4
    assert second.prepared is not None


# ---------------------------------------------------------------------- after signing one


def test_6_6_after_a_view_change_nothing_of_a_lower_view_is_signed() -> None:
    """6.6: no pre-prepare, prepare or commit of a lower view."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.tell_pool()
    bench.node.fire("view")
    bench.node.receive(made.proposal)
    bench.prepares(made, [2, 3])
    assert not bench.node.sent(Prepare)
    assert not bench.node.sent(Commit)


def test_6_6_a_batch_that_comes_after_the_view_was_left_is_not_proposed() -> None:
    """6.6: nor does a primary pre-prepare in a view it left."""
    bench = Bench(rank=0)
    bench.node.answers = False
    request = of_kind(bench.node.submit(transaction(1)), BuildBatch)[0]
    bench.node.fire("view")
    bench.node.answer(request)
    assert not bench.node.sent(Proposal)


def test_6_6_anything_of_view_w_forbids_lower_views() -> None:
    """6.6: after a prepare of view 2, entered by its new-view, nothing of view 0 or 1 is signed."""
    bench = Bench()
    low = bench.propose(transaction(1))
    bench.enter(2, [0, 2, 3])
    high = bench.propose(transaction(2), view=2)
    assert sent_of(bench.node.receive(high.proposal), Prepare)
    bench.node.receive(low.proposal)
    bench.prepares(low, [2, 3])
    assert {vote.view for vote in bench.node.sent(Prepare)} == {2}
    assert not bench.node.sent(Commit)


def test_6_6_of_each_sender_only_the_highest_view_change_is_kept() -> None:
    """6.6: an older one does not replace it, and many of one sender count as one."""
    bench = Bench(7)
    for view in (5, 3, 9, 7):
        bench.node.receive(view_change(bench.signers[2], 1, view))
    kept = bench.replica._core.height.view_changes
    assert [message.view for message in kept.values()] == [9]
    assert bench.replica.view == 0


# ---------------------------------------------------------------------- joining


@pytest.mark.parametrize(("size", "faults"), [(4, 1), (5, 1), (7, 2), (10, 3)])
def test_6_6_f_plus_1_higher_view_changes_make_it_join_the_smallest_of_those(size: int, faults: int) -> None:
    """6.6: f do nothing; f + 1 pull it to the smallest."""
    bench = Bench(size)
    views = list(range(20, 20 - faults - 1, -1))
    effects: list[Effect] = []
    for rank, view in zip(range(2, size), views, strict=False):
        assert not sent_of(effects, ViewChange)
        effects += bench.node.receive(view_change(bench.signers[rank], 1, view))
    assert [message.view for message in sent_of(effects, ViewChange)] == [20 - faults]


def test_6_6_view_changes_not_above_the_own_do_not_pull() -> None:
    """6.6: f + 1 of them *above* the highest it has signed."""
    bench = Bench()
    bench.node.tell_pool()
    bench.view_changes(3, [0, 2])
    assert bench.replica.view == 3
    assert not sent_of(bench.view_changes(3, [3]), ViewChange)
    assert not sent_of(bench.node.receive(view_change(bench.signers[3], 1, 2)), ViewChange)
    assert bench.replica.view == 3


def test_6_6_one_liar_with_a_huge_view_drags_nobody() -> None:
    """6.6: a view jump needs f + 1; views stay in range and cost no loop."""
    bench = Bench()
    bench.node.receive(view_change(bench.signers[2], 1, 2**62))
    assert bench.replica.view == 0
    effects = bench.node.receive(view_change(bench.signers[3], 1, 2**63 - 1))
    assert "refused" in events(effects)
    effects = bench.view_changes(1, [0])
    assert [message.view for message in sent_of(effects, ViewChange)] == [1]
    assert bench.replica.view_timeout_ms == 3_000


# ---------------------------------------------------------------------- new-view


def test_6_6_q_view_changes_for_exactly_w_make_the_new_primarys_new_view() -> None:
    """6.6: view-changes for other views do not count, the own one does."""
    bench = Bench()
    bench.node.tell_pool()
    bench.node.receive(view_change(bench.signers[0], 1, 5))
    bench.node.receive(view_change(bench.signers[2], 1, 1))
    assert bench.replica.view == 1
    assert not bench.node.sent(NewView)
    message = sent_of(bench.node.receive(view_change(bench.signers[3], 1, 1)), NewView)[0]
    assert {item.signer for item in message.view_changes} == {s.public_key for s in bench.signers[1:]}
    assert {item.view for item in message.view_changes} == {1}


def test_6_6_only_the_new_primary_makes_a_new_view() -> None:
    """6.6: the others wait for it."""
    bench = Bench(rank=2)
    bench.view_changes(1, [0, 1, 3])
    assert bench.replica.view == 1
    assert not bench.node.sent(NewView)


def test_6_6_a_new_view_is_made_once() -> None:
    """S4: a fourth view-change for the same view makes no second new-view."""
    bench = Bench()
    bench.view_changes(1, [0, 2])
    bench.view_changes(1, [3])
    assert len(bench.node.sent(NewView)) == 1


def test_6_6_a_valid_new_view_moves_a_delegate_there() -> None:
    """6.6: for a view not below its own, also one it never asked for."""
    bench = Bench()
    effects = bench.enter(2, [0, 2, 3])
    assert bench.replica.view == 2
    assert "new-view" in events(effects)
    assert bench.replica.phase == "idle"


def test_6_6_a_new_view_below_the_own_view_is_ignored() -> None:
    """6.6: views never go backward, nor is a view entered twice."""
    bench = Bench()
    bench.enter(3, [0, 2, 3])
    assert "new-view" not in events(bench.enter(2, [0, 2, 3]))
    assert "new-view" not in events(bench.enter(3, [0, 2, 3]))
    assert bench.replica.view == 3
    bench.node.receive(view_change(bench.signers[2], 1, 1))
    assert bench.replica.view == 3


def test_6_6_a_new_view_below_the_view_asked_for_is_ignored() -> None:
    """6.6: a valid new-view for a view *not below its own*: it signed view-change 6 and does not go to 3."""
    bench = Bench()
    bench.view_changes(6, [0, 2])
    assert "new-view" not in events(bench.enter(3, [0, 2, 3]))
    assert (bench.replica.view, bench.replica.phase) == (6, "view-change")


def test_6_6_with_no_certificate_the_new_view_asks_for_a_fresh_block() -> None:
    """6.6: with none, a fresh one: header.view is the new view, the new primary is proposer."""
    bench = Bench()
    bench.node.submit(transaction(1))
    bench.view_changes(1, [0, 2])
    proposal = bench.node.sent(Proposal)[0]
    assert (proposal.vote.view, proposal.header.view) == (1, 1)
    assert proposal.header.proposer == bench.delegates.ranking[1].address
    assert [type(e.message) for e in bench.node.effects if isinstance(e, Send)][-2:] == [NewView, Proposal]


def test_6_6_the_block_with_the_highest_certificate_is_proposed_again_byte_for_byte() -> None:
    """6.6: the highest certificate view wins; the same header and references, signed by the new primary."""
    bench = Bench()
    low = bench.propose(transaction(1))
    bench.node.receive(low.proposal)
    high = bench.propose(transaction(2), view=2)
    bench.enter(2, [0, 2, 3])
    bench.node.receive(high.proposal)
    at_two = prepared([bench.signers[2], bench.signers[0], bench.signers[3]], 1, 2, high.digest)
    messages = [
        view_change(bench.signers[0], 1, 5, certificate_of(bench, low)),
        view_change(bench.signers[2], 1, 5, at_two),
    ]
    for message in messages:
        bench.node.receive(message)
    proposal = bench.node.sent(Proposal)[0]
    assert (proposal.vote.view, proposal.vote.digest) == (5, high.digest)
    assert proposal.vote == pre_prepare(bench.signers[1], 1, 5, high.digest)
    original = high.proposal
    assert msgspec.structs.replace(proposal, vote=original.vote) == original


def test_6_6_a_primary_that_lacks_the_chosen_block_fetches_it_first() -> None:
    """6.6, 6.5: it is asked from those who prepared it, and proposed when it is there."""
    bench = Bench()
    made = make_proposal(bench.context, bench.signers[0], transaction(1))
    bench.node.receive(view_change(bench.signers[0], 1, 1, certificate_of(bench, made)))
    effects = bench.node.receive(view_change(bench.signers[2], 1, 1))
    fetch = of_kind(bench.node.effects, FetchBlock)[0]
    assert fetch.digest == made.digest
    assert set(fetch.holders) == {bench.signers[2].public_key, bench.signers[3].public_key}
    assert sent_of(effects, NewView)
    assert not bench.node.sent(Proposal)
    effects = bench.node.step(BlockFetched(bench.node.at, made.block))
    assert sent_of(effects, Proposal)[0].vote.digest == made.digest


def test_6_6_a_fetched_block_that_is_not_whole_is_asked_for_again() -> None:
    """6.5: served by digest: the parts must be those of the header."""
    bench = Bench()
    made = make_proposal(bench.context, bench.signers[0], transaction(1))
    bench.prepares(made, [2, 3])
    hollow = msgspec.structs.replace(made.block, transactions=())
    effects = bench.node.step(BlockFetched(bench.node.at, hollow))
    assert bench.replica.undecided_block(made.digest) is None
    assert of_kind(effects, FetchBlock)[0].digest == made.digest


def test_6_6_every_delegate_recomputes_the_choice() -> None:
    """6.6: a new primary that proposes fresh although its own new-view holds a certificate is found out at once."""
    bench = Bench(rank=3)
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.enter(1, [0, 1, 2], certificate_of(bench, made, (0, 1, 2)))
    fresh = bench.propose(transaction(2), view=1)
    effects = bench.node.receive(fresh.proposal)
    assert not sent_of(effects, Prepare)
    assert [message.view for message in sent_of(effects, ViewChange)] == [2]


def test_6_6_no_other_block_of_a_lower_view_may_be_proposed_again() -> None:
    """6.6: the one with the *highest* certificate, not any that was once proposed."""
    bench = Bench(rank=3)
    made, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.enter(1, [0, 1, 2], certificate_of(bench, made, (0, 1, 2)))
    effects = bench.node.receive(again(other, bench.signers[1], 1))
    assert not sent_of(effects, Prepare)
    assert [message.view for message in sent_of(effects, ViewChange)] == [2]


def test_6_6_a_proposal_of_a_view_that_is_over_is_not_looked_at() -> None:
    """6.6: it neither takes the place of the entered view's proposal nor is prepared."""
    bench = Bench()
    low = bench.propose(transaction(1))
    bench.enter(2, [0, 2, 3])
    assert not of_kind(bench.node.receive(low.proposal), CheckProposal)
    high = bench.propose(transaction(2), view=2)
    assert sent_of(bench.node.receive(high.proposal), Prepare)


def test_6_6_a_new_view_does_not_replace_a_higher_view_change_of_a_sender() -> None:
    """6.6: of each sender only the highest is kept, wherever it comes from."""
    bench = Bench()
    bench.node.receive(view_change(bench.signers[2], 1, 9))
    bench.enter(2, [0, 2, 3])
    kept = bench.replica._core.height.view_changes
    assert kept[bench.signers[2].public_key].view == 9


def test_6_6_a_block_may_not_be_proposed_again_without_certificate() -> None:
    """6.6: a re-proposal is valid only under a new-view whose highest certificate names its digest."""
    bench = Bench(rank=3)
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.enter(1, [0, 1, 2])
    effects = bench.node.receive(again(made, bench.signers[1], 1))
    assert [message.view for message in sent_of(effects, ViewChange)] == [2]


def test_6_6_a_proposal_again_is_prepared_though_its_time_is_long_past() -> None:
    """6.6: its time is not judged; proposer and header.view are those of the first proposal."""
    bench = Bench(rank=3)
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.node.pass_ms(3_600_000)
    bench.enter(1, [0, 1, 2], certificate_of(bench, made, (0, 1, 2)))
    effects = bench.node.receive(again(made, bench.signers[1], 1))
    assert sent_of(effects, Prepare) == [prepare(bench.signers[3], 1, 1, made.digest)]
    assert not of_kind(effects, CheckProposal)


def test_6_6_no_proposal_of_a_later_view_is_prepared_before_its_new_view() -> None:
    """6.6: the pre-prepare that overtakes its new-view waits for it."""
    bench = Bench(rank=3)
    made = bench.propose(transaction(1), view=1)
    assert not sent_of(bench.node.receive(made.proposal), Prepare)
    effects = bench.enter(1, [0, 1, 2])
    assert sent_of(effects, Prepare) == [prepare(bench.signers[3], 1, 1, made.digest)]


def test_6_6_a_view_change_with_any_bad_part_does_not_count() -> None:
    """6.6: every nested message is verified: forged, mixed or padded certificates and lists are refused whole."""
    bench = Bench()
    made, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    good = certificate_of(bench, made)
    vote = good.pre_prepare
    bad = [
        msgspec.structs.replace(good, prepares=good.prepares[:1]),
        msgspec.structs.replace(good, prepares=(good.prepares[0], good.prepares[0])),
        msgspec.structs.replace(good, prepares=good.prepares[::-1]),
        msgspec.structs.replace(
            good, prepares=(prepare(bench.signers[0], 1, 0, made.digest), good.prepares[0])
        ),
        msgspec.structs.replace(
            good, prepares=(good.prepares[0], prepare(bench.signers[3], 1, 0, other.digest))
        ),
        msgspec.structs.replace(
            good, prepares=(good.prepares[0], prepare(bench.signers[3], 1, 1, made.digest))
        ),
        msgspec.structs.replace(
            good, prepares=(good.prepares[0], prepare(bench.signers[3], 2, 0, made.digest))
        ),
        msgspec.structs.replace(
            good, prepares=(good.prepares[0], prepare(KeyedSigner(9), 1, 0, made.digest))
        ),
        msgspec.structs.replace(good, prepares=(*good.prepares, prepare(KeyedSigner(9), 1, 0, made.digest))),
        msgspec.structs.replace(
            good,
            prepares=(good.prepares[0], msgspec.structs.replace(good.prepares[1], signature=bytes(64))),
        ),
        msgspec.structs.replace(good, pre_prepare=msgspec.structs.replace(vote, signature=bytes(64))),
        msgspec.structs.replace(good, pre_prepare=msgspec.structs.replace(vote, height=0)),
        msgspec.structs.replace(good, pre_prepare=pre_prepare(bench.signers[2], 1, 0, made.digest)),
    ]
    for certificate in bad:
        effects = bench.node.receive(view_change(bench.signers[2], 1, 1, certificate))
        assert "refused" in events(effects)
    late = prepared([bench.signers[rank] for rank in (1, 2, 3)], 1, 1, made.digest)
    others = [
        view_change(bench.signers[2], 1, 1, late),
        view_change(bench.signers[2], 1, 0),
        view_change(bench.signers[2], 1, 3, None, (Accepted(1, made.digest), Accepted(0, made.digest))),
        view_change(bench.signers[2], 1, 3, None, (Accepted(3, made.digest),)),
        view_change(bench.signers[2], 1, 99, None, tuple(Accepted(v, made.digest) for v in range(65))),
        msgspec.structs.replace(view_change(bench.signers[2], 1, 1), view=2),
        view_change(KeyedSigner(9), 1, 1),
    ]
    for message in others:
        assert "refused" in events(bench.node.receive(message))
    assert bench.replica._core.height.view_changes == {}
    bench.node.receive(view_change(bench.signers[2], 1, 1, good))
    assert len(bench.replica._core.height.view_changes) == 1


def _new_views(bench: Bench) -> list[NewView]:
    """New-views for view 1 that must not move anybody."""
    made = bench.propose(transaction(1))
    primary = bench.signers[1]
    plain = [view_change(bench.signers[rank], 1, 1) for rank in range(4)]
    forged = msgspec.structs.replace(plain[2], signature=bytes(64))
    bad_part = view_change(
        bench.signers[2], 1, 1, msgspec.structs.replace(certificate_of(bench, made), prepares=())
    )
    twin = view_change(bench.signers[2], 1, 1, None, (Accepted(0, made.digest),))
    return [
        new_view(primary, 1, 1, plain[:2]),
        new_view(primary, 1, 1, [plain[0], plain[2], plain[2]]),
        new_view(primary, 1, 1, [plain[0], plain[2], twin]),
        new_view(primary, 1, 1, [*plain, twin]),
        new_view(primary, 1, 1, [plain[0], plain[1], forged]),
        new_view(primary, 1, 1, [plain[0], plain[1], bad_part]),
        new_view(primary, 1, 1, [plain[0], plain[1], view_change(bench.signers[2], 1, 2)]),
        new_view(primary, 1, 1, [plain[0], plain[1], view_change(KeyedSigner(9), 1, 1)]),
        new_view(bench.signers[2], 1, 1, plain[:3]),
        msgspec.structs.replace(new_view(primary, 1, 1, plain[:3]), signature=bytes(64)),
        msgspec.structs.replace(new_view(primary, 1, 1, plain[:3]), view_changes=tuple(plain[1:])),
        new_view(bench.signers[0], 1, 0, plain[:3]),
    ]


@pytest.mark.parametrize("which", range(12))
def test_6_6_a_new_view_without_q_good_view_changes_moves_nobody(which: int) -> None:
    """6.6: at least q of distinct senders for exactly w, from the primary of w, each valid in every part."""
    bench = Bench(rank=3)
    bench.node.receive(_new_views(bench)[which])
    assert bench.replica.view == 0
    assert bench.replica.phase == "idle"


def test_6_6_one_bad_view_change_among_q_good_ones_does_not_spoil_a_new_view() -> None:
    """6.6: it does not count at all, and q must remain; so neither does its certificate steer the choice."""
    bench = Bench(rank=3)
    made = bench.propose(transaction(1))
    forged = msgspec.structs.replace(certificate_of(bench, made, (0, 1, 2)), prepares=())
    messages = [view_change(bench.signers[rank], 1, 1) for rank in range(3)]
    messages.append(view_change(bench.signers[3], 1, 1, forged))
    bench.node.receive(new_view(bench.signers[1], 1, 1, messages))
    assert bench.replica.view == 1
    fresh = bench.propose(transaction(2), view=1)
    assert sent_of(bench.node.receive(fresh.proposal), Prepare)


def test_6_6_a_certificate_seen_only_inside_a_new_view_binds() -> None:
    """S5: a possibly decided block is the one proposed in the later view: end to end, the commits of view 0 lost."""
    cluster = Cluster(4)
    cluster.submit(transaction(1))
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Commit))
    first = cluster.nodes[0].sent(Proposal)[0].vote.digest
    cluster.submit(transaction(2))
    cluster.fire("view")
    cluster.deliver()
    for node in cluster.nodes:
        assert node.decided[0].block.header.digest() == first


def test_6_6_the_primary_of_view_1_is_down_too() -> None:
    """6.6: with f silent primaries in a row (n = 7) the third proposes, and its block is decided."""
    cluster = Cluster(7)
    cluster.down |= {0, 1}
    cluster.submit(transaction(1))
    cluster.deliver()
    for _ in range(2):
        cluster.fire("view")
        cluster.deliver()
    for node in cluster.nodes[2:]:
        assert node.decided[0].block.header.view == 2


# ---------------------------------------------------------------------- late and early


def decide_first(bench: Bench) -> CertifiedBlock:
    """Height 1 is decided by the others' commits."""
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.commits(made, [0, 2, 3])
    assert bench.replica.height == 2
    return bench.node.decided[0]


def test_6_6_whoever_has_decided_answers_a_view_change_with_block_and_certificate() -> None:
    """6.6: whatever its role now."""
    bench = Bench()
    decide_first(bench)
    effects = bench.node.receive(view_change(bench.signers[3], 1, 1))
    assert of_kind(effects, SendDecided) == [SendDecided(1, bench.signers[3].public_key)]


def test_6_6_an_answer_goes_out_at_most_once_per_sender_and_view_timeout() -> None:
    """6.6: at most once per sender and view_timeout_ms."""
    bench = Bench()
    decide_first(bench)
    message = view_change(bench.signers[3], 1, 1)
    assert of_kind(bench.node.receive(message), SendDecided)
    bench.node.pass_ms(1_999)
    assert not of_kind(bench.node.receive(message), SendDecided)
    assert of_kind(bench.node.receive(view_change(bench.signers[2], 1, 1)), SendDecided)
    bench.node.pass_ms(1)
    assert of_kind(bench.node.receive(message), SendDecided)


def test_6_6_a_decided_height_is_answered_before_the_ledger_has_moved_on() -> None:
    """6.6: decided is decided, also while the block is still being executed."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.node.answers = False
    bench.commits(made, [0, 2, 3])
    assert bench.replica.phase == "decided"
    assert of_kind(bench.node.receive(view_change(bench.signers[3], 1, 1)), SendDecided)


def test_6_6_messages_of_the_next_height_are_kept_until_it_is_entered() -> None:
    """6.6: the next proposal overtakes this height's commits, and is prepared on entering."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    block = certified(made.block, bench.context, [bench.signers[i] for i in (0, 2, 3)])
    following = next_context(bench.context, block)
    ahead = make_proposal(following, bench.signers[0], transaction(2))
    bench.node.pool.update(zip(ahead.proposal.references, ahead.block.transactions, strict=True))
    bench.node.answers = False
    bench.node.receive(ahead.proposal)
    bench.node.receive(prepare(bench.signers[2], 2, 0, ahead.digest))
    bench.node.answers = True
    bench.node.answer(of_kind(bench.node.effects, Decide)[0])
    assert [vote.height for vote in bench.node.sent(Prepare)] == [1, 2]
    assert [vote.height for vote in bench.node.sent(Commit)] == [1, 2]


def test_6_6_of_the_next_height_the_highest_view_per_sender_and_kind_is_kept() -> None:
    """6.6: bounded: nobody fills more than one place a kind."""
    bench = Bench()
    for view in range(100):
        bench.node.receive(prepare(bench.signers[2], 2, view, bytes(32)))
        bench.node.receive(view_change(bench.signers[2], 2, view + 1))
    kept = bench.replica._core.next_height.take()
    assert sorted(message.view for _sender, message in kept if not isinstance(message, Proposal)) == [99, 100]


def test_6_6_only_delegates_of_the_next_height_fill_its_buffer() -> None:
    """6.6: no memory keyed by strangers."""
    bench = Bench()
    for index in range(10, 30):
        bench.node.receive(prepare(KeyedSigner(index), 2, 0, bytes(32)))
    assert bench.replica._core.next_height.take() == []


def test_6_6_a_message_of_a_higher_height_starts_a_fetch() -> None:
    """6.6: once per view_timeout_ms, from its sender."""
    bench = Bench()
    vote = prepare(bench.signers[2], 9, 0, bytes(32))
    fetch = of_kind(bench.node.receive(vote), FetchDecided)[0]
    assert (fetch.height, fetch.holders) == (1, (bench.signers[2].public_key,))
    assert not of_kind(bench.node.receive(vote), FetchDecided)
    bench.node.pass_ms(2_000)
    assert of_kind(bench.node.receive(vote), FetchDecided)


def test_6_6_f_plus_1_senders_of_the_next_height_start_a_fetch_too() -> None:
    """6.6: they have decided this one; one of them alone may be a liar."""
    bench = Bench()
    assert not of_kind(bench.node.receive(prepare(bench.signers[2], 2, 0, bytes(32))), FetchDecided)
    assert of_kind(bench.node.receive(prepare(bench.signers[3], 2, 0, bytes(32))), FetchDecided)


def test_6_6_the_next_heights_proposal_brings_this_heights_certificate() -> None:
    """6.4: q commits decide at any time: also those that the next proposal's last-commit carries."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    block = certified(made.block, bench.context, [bench.signers[i] for i in (0, 2, 3)])
    ahead = make_proposal(next_context(bench.context, block), bench.signers[0], transaction(2))
    effects = bench.node.receive(ahead.proposal)
    assert of_kind(effects, Decide)[0].certified.block == made.block


def test_6_6_a_forged_last_commit_ahead_decides_nothing() -> None:
    """6.12: and is refused like any other certificate."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    block = certified(made.block, bench.context, [bench.signers[i] for i in (0, 2, 3)])
    ahead = make_proposal(next_context(bench.context, block), bench.signers[0], transaction(2))
    certificate = msgspec.structs.replace(block.certificate, signatures=block.certificate.signatures[:2])
    effects = bench.node.receive(msgspec.structs.replace(ahead.proposal, last_commit=certificate))
    assert not of_kind(effects, Decide)
    assert "refused" in events(effects)


# ---------------------------------------------------------------------- resending


def _resent(effects: list[Effect]) -> list[ConsensusMessage]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def test_6_6_all_votes_of_the_undecided_height_are_resent_every_view_timeout() -> None:
    """6.6: a delegate resends all its votes every view_timeout_ms, the same bytes, no faster."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2])
    votes = [*bench.node.sent(Prepare), *bench.node.sent(Commit)]
    for _ in range(2):
        assert bench.node.delays["resend"] == 2_000
        assert _resent(bench.node.fire("resend")) == votes


def test_6_6_a_primary_resends_pre_prepare_and_new_view_with_the_view_changes() -> None:
    """6.6: who missed the new-view gets it, with the view-changes it proves itself by."""
    bench = Bench()
    bench.node.submit(transaction(1))
    bench.view_changes(1, [0, 2])
    sent = _resent(bench.node.fire("resend"))
    assert [type(message) for message in sent] == [ViewChange, NewView, Proposal]
    assert sent[1] == bench.node.sent(NewView)[0]
    assert sent[2] == bench.node.sent(Proposal)[0]


def test_6_6_nothing_is_resent_once_decided_or_when_nothing_was_signed() -> None:
    """6.6: of the *undecided* height; an idle chain is silent."""
    bench = Bench()
    assert "resend" not in bench.node.timers
    decide_first(bench)
    timer = bench.node.timers["resend"]
    bench.node.effects.clear()
    bench.node.fire("resend")
    assert timer.height == 1
    assert not _resent(bench.node.effects)


def test_6_6_lost_messages_are_made_good_by_resending() -> None:
    """6.6: everything lost once, also a new-view: the resent bytes decide the height."""
    cluster = Cluster(4)
    cluster.submit(transaction(1))
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Prepare))
    cluster.fire("view")
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, NewView))
    assert not any(node.decided for node in cluster.nodes)
    cluster.fire("resend")
    cluster.deliver()
    cluster.fire("resend")
    cluster.deliver()
    assert all(node.decided for node in cluster.nodes)


def test_6_6_a_replayed_view_change_of_an_older_view_changes_nothing() -> None:
    """Replays move no view backward and count for no other view or height."""
    bench = Bench()
    old = [view_change(bench.signers[rank], 1, 1) for rank in (0, 2)]
    for message in old:
        bench.node.receive(message)
    bench.view_changes(4, [0, 2])
    assert bench.replica.view == 4
    for message in old:
        bench.node.step(Received(bench.node.at, message.signer, message))
    assert bench.replica.view == 4


def test_6_6_a_node_that_is_behind_signs_no_view_change() -> None:
    """10.2: it has left voting."""
    bench = Bench()
    bench.node.step(SyncState(bench.node.at, caught_up=False))
    effects = bench.view_changes(3, [0, 2, 3])
    assert not sent_of(effects, ViewChange)
    assert "view" not in {timer.kind for timer in bench.replica._core.timers.values()}


def test_6_6_a_commit_of_a_delegate_in_a_later_view_still_counts_for_its_own_view() -> None:
    """6.4: votes of several views of one sender are kept side by side."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.node.receive(commit(bench.signers[0], 1, 0, made.digest))
    bench.node.receive(commit(bench.signers[0], 1, 3, made.digest))
    assert of_kind(bench.commits(made, [2, 3]), Decide)
