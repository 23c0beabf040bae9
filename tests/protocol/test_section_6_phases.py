"""PROTOCOL 6.2-6.5: quorum, primaries, three phases, and what is durable before it leaves."""

from itertools import pairwise

import msgspec
import pytest

from consensus.delegates import next_head
from consensus.effects import (
    UNKNOWN_HEIGHT,
    AbstainRecord,
    BlockRecord,
    BuildBatch,
    Decide,
    Effect,
    FetchBlock,
    Forget,
    Persist,
    PreparedRecord,
    Report,
    ResumeRecord,
    Send,
    SentRecord,
)
from consensus.encoding import encode
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    BlockFetched,
    DecidedReceived,
    JournalLost,
    ProposalChecked,
    Resume,
    SyncState,
)
from consensus.messages import Commit, NewView, Prepare, PrePrepareVote, Proposal, ViewChange, vote_bytes
from consensus.signing import CONSENSUS_DOMAIN, Phase, consensus_bytes
from tests.unit.consensus.bench import Bench, Cluster
from tests.unit.consensus.support import (
    CHAIN,
    KeyedSigner,
    certified,
    commit,
    delegate_set,
    events,
    first_context,
    make_proposal,
    next_context,
    of_kind,
    pre_prepare,
    prepare,
    sent_of,
    transaction,
)

QUORUMS = {1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: 5, 7: 5, 8: 6, 9: 7, 10: 7, 11: 8, 12: 9, 13: 9}


# ---------------------------------------------------------------------- 6.2


@pytest.mark.parametrize(("size", "quorum"), QUORUMS.items())
def test_6_2_quorum_of_small_sets(size: int, quorum: int) -> None:
    """6.2: q = n - f; by hand, also where 2f + 1 would be too few (n = 5, 6)."""
    assert delegate_set(KeyedSigner(i) for i in range(size)).quorum == quorum


def test_6_2_quorums_intersect_in_an_honest_delegate_for_all_sizes() -> None:
    """6.2: any two quorums share more than f delegates, and q honest delegates exist, for n = 1..40."""
    for size in range(1, 41):
        delegates = delegate_set(KeyedSigner(i) for i in range(size))
        assert 2 * delegates.quorum - size > delegates.faults
        assert delegates.quorum <= size - delegates.faults


@pytest.mark.parametrize("size", range(1, 41))
def test_6_2_every_certificate_holds_exactly_as_many_commits_as_needed_to_decide(size: int) -> None:
    """6.2: a replica decides with the q-th commit, its own among them, and not one before, for n = 1..40."""
    bench = Bench(size, rank=size - 1)
    quorum = bench.delegates.quorum
    if size == 1:
        assert of_kind(bench.node.submit(transaction(1)), Decide)
        return
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, range(1, size - 1))
    assert len(bench.node.sent(Commit)) == 1
    for rank in range(quorum - 2):
        assert not of_kind(bench.commits(made, [rank]), Decide)
    decided = of_kind(bench.commits(made, [quorum - 2]), Decide)
    assert len(decided[0].certified.certificate.signatures) == quorum


def test_6_2_a_signer_counts_once() -> None:
    """6.2: q *distinct* delegates: the same commit again, or by another carrier, adds nothing."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    for _ in range(5):
        bench.commits(made, [0])
    bench.node.receive(commit(bench.signers[0], 1, 0, made.digest), sender=bench.signers[2].public_key)
    assert not bench.node.decided


def test_6_2_a_key_without_seat_does_not_count() -> None:
    """6.2: quorums are of delegates."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    effects: list[Effect] = []
    for index in range(10, 20):
        effects += bench.node.receive(commit(KeyedSigner(index), 1, 0, made.digest))
    assert not bench.node.decided
    assert events(effects).count("refused") == 10


def test_6_2_one_height_is_in_flight() -> None:
    """6.2: nothing of the next height is signed before this one is decided and applied."""
    bench = Bench()
    ahead = msgspec.structs.replace(bench.context, height=2)
    made = make_proposal(ahead, bench.signers[0], transaction(1))
    effects = bench.node.receive(made.proposal)
    assert not sent_of(effects, Prepare)
    assert bench.replica.height == 1


# ---------------------------------------------------------------------- 6.3


def test_6_3_head_of_an_epoch_is_the_first_in_ranking() -> None:
    """6.3: ranking[0] at an epoch's first height."""
    delegates = delegate_set(KeyedSigner(i) for i in range(4))
    proposer = delegates.ranking[2].address
    assert next_head(delegates, proposer, delegates, first_of_epoch=True) == delegates.ranking[0].address


def test_6_3_a_promoted_backup_stays_primary() -> None:
    """6.3: head(h) is the primary of h-1 in the header's view."""
    cluster = Cluster(4)
    cluster.down.add(0)
    for number in range(3):
        cluster.submit(transaction(number))
        cluster.deliver()
        if number == 0:
            cluster.fire("view")
            cluster.deliver()
    headers = [item.block.header for item in cluster.nodes[1].decided]
    assert [header.view for header in headers] == [1, 0, 0]
    assert {header.proposer for header in headers} == {cluster.delegates.ranking[1].address}


def test_6_3_the_next_seated_delegate_follows_one_that_lost_its_seat() -> None:
    """6.3: the next after it in C(h-1)'s ranking, cyclically, that is in C(h)."""
    signers = [KeyedSigner(i) for i in range(5)]
    before = delegate_set(signers[:4])
    after = delegate_set([signers[0], signers[1], signers[4]])
    assert (
        next_head(before, before.ranking[2].address, after, first_of_epoch=False) == before.ranking[0].address
    )


def test_6_3_the_primary_of_view_v_is_the_vth_after_the_head() -> None:
    """6.3: primary(h, v) is the v-th after head(h), cyclic."""
    bench = Bench(rank=3)
    bench.view_changes(5, [0, 2])
    assert bench.replica.view == 5
    assert bench.replica.primary == bench.delegates.ranking[5 % 4].address


def test_6_3_header_view_is_that_of_the_first_proposal() -> None:
    """6.3: header.view is the view in which the block was first proposed, never a certificate's."""
    cluster = Cluster(4)
    cluster.submit(transaction(1))
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Commit))
    cluster.fire("view")
    cluster.deliver()
    decided = cluster.nodes[2].decided[0]
    assert decided.certificate.view == 1
    assert decided.block.header.view == 0
    assert cluster.nodes[2].replica.primary == cluster.delegates.ranking[0].address


# ---------------------------------------------------------------------- 6.4


def test_6_4_the_primary_signs_the_digest_and_sends_header_and_references() -> None:
    """6.4: pre-prepare: the primary signs (h, v, digest) and sends header and transaction references."""
    bench = Bench(rank=0)
    proposal = sent_of(bench.node.submit(transaction(1), transaction(2)), Proposal)[0]
    assert proposal.vote.digest == proposal.header.digest()
    assert (proposal.vote.height, proposal.vote.view) == (1, 0)
    assert proposal.references == tuple(bench.node.pool)
    assert transaction(1) not in encode(proposal)


def test_6_4_a_delegate_that_finds_the_block_valid_prepares() -> None:
    """6.4: prepare signs (h, v, digest)."""
    bench = Bench()
    made = bench.propose(transaction(1))
    votes = sent_of(bench.node.receive(made.proposal), Prepare)
    assert votes == [prepare(bench.signers[1], 1, 0, made.digest)]


def test_6_4_a_delegate_prepares_nothing_before_the_check_answers() -> None:
    """6.4: only a delegate that *finds* the block valid signs."""
    bench = Bench()
    bench.node.answers = False
    made = bench.propose(transaction(1))
    assert not sent_of(bench.node.receive(made.proposal), Prepare)
    checked = ProposalChecked(bench.node.at, 1, 0, made.digest, made.block, None, (), 0)
    assert sent_of(bench.node.step(checked), Prepare)


def test_6_4_commit_needs_prepares_of_q_minus_1_others_than_the_primary() -> None:
    """6.4: a prepare of the primary is none."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    assert not sent_of(bench.prepares(made, [0]), Commit)
    votes = sent_of(bench.prepares(made, [2]), Commit)
    assert votes == [commit(bench.signers[1], 1, 0, made.digest)]


def test_6_4_prepares_of_another_digest_do_not_help() -> None:
    """6.4: the prepares are for the same (h, v, digest)."""
    bench = Bench()
    made, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.node.receive(made.proposal)
    assert not sent_of(bench.prepares(other, [2, 3]), Commit)


def test_6_4_prepares_of_two_views_are_not_added() -> None:
    """6.4: one view's prepares make a certificate."""
    bench = Bench(7)
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2, 3])
    assert not sent_of(bench.prepares(made, [4, 5], view=1), Commit)


def test_6_4_commits_of_two_views_are_not_added() -> None:
    """6.4: q commits of *one* view decide."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.commits(made, [0], view=1)
    bench.commits(made, [2], view=2)
    assert not of_kind(bench.commits(made, [3], view=3), Decide)


@pytest.mark.parametrize("view", [0, 1, 6])
def test_6_4_q_commits_decide_whatever_view_a_delegate_is_in(view: int) -> None:
    """6.4: q commits of one view decide h, at any time."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.node.fire("view")
    assert bench.replica.view == 1
    decided = of_kind(bench.commits(made, [0, 2, 3], view=view), Decide)
    assert decided[0].certified.certificate.view == view


def test_6_4_one_that_prepared_another_digest_commits_on_a_certificate() -> None:
    """6.4: a delegate that holds and has stored the block commits even if it prepared another digest in that view."""
    bench = Bench()
    mine, theirs = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.node.receive(mine.proposal)
    bench.node.receive(theirs.proposal)
    fetched = of_kind(bench.prepares(theirs, [2, 3]), FetchBlock)
    assert fetched[0].digest == theirs.digest
    effects = bench.node.step(BlockFetched(bench.node.at, theirs.block))
    assert [vote.digest for vote in bench.node.sent(Prepare)] == [mine.digest]
    assert [vote.digest for vote in sent_of(effects, Commit)] == [theirs.digest]
    records = [record for effect in of_kind(effects, Persist) for record in effect.records]
    assert records[0] == BlockRecord(1, theirs.block)


def test_6_4_one_that_decides_without_having_committed_still_signs_commit() -> None:
    """6.4: for the deciding view and digest, also after it left that view (the only exception to 6.5 and 6.6)."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.node.fire("view")
    effects = bench.commits(made, [0, 2, 3])
    assert sent_of(effects, Commit) == [commit(bench.signers[1], 1, 0, made.digest)]
    signers = {item.signer for item in of_kind(effects, Decide)[0].certified.certificate.signatures}
    assert bench.node.key in signers


def test_6_4_an_invalid_proposal_makes_a_delegate_sign_a_view_change_at_once() -> None:
    """6.4: no timer is waited for."""
    bench = Bench()
    bench.node.reject = lambda _proposal: "a transaction is badly signed"
    effects = bench.node.receive(bench.propose(transaction(1)).proposal)
    assert [message.view for message in sent_of(effects, ViewChange)] == [1]
    assert not sent_of(effects, Prepare)


def test_6_4_f_plus_1_prepares_for_an_unknown_digest_fetch_the_block() -> None:
    """6.4: f are not enough, f + 1 are, and the block is asked from those who stored it."""
    bench = Bench()
    made = make_proposal(bench.context, bench.signers[0], transaction(1))
    assert not of_kind(bench.prepares(made, [2]), FetchBlock)
    fetch = of_kind(bench.prepares(made, [3]), FetchBlock)[0]
    assert (fetch.height, fetch.digest) == (1, made.digest)
    assert set(fetch.holders) == {bench.signers[2].public_key, bench.signers[3].public_key}


def test_6_4_a_second_pre_prepare_of_a_view_is_not_accepted() -> None:
    """6.4, 3.2b: the first counts; two pre-prepares with different digests are evidence."""
    bench = Bench()
    first, second = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.node.receive(first.proposal)
    effects = bench.node.receive(second.proposal)
    assert not sent_of(effects, Prepare)
    report = of_kind(effects, Report)[0]
    assert (report.first, report.second) == (encode(first.proposal.vote), encode(second.proposal.vote))


@pytest.mark.parametrize("make", [prepare, commit])
def test_6_4_conflicting_votes_count_once_and_are_evidence(make: object) -> None:
    """3.2b: of two votes of one key the first counts, both are reported, once."""
    bench = Bench(7)
    made, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.node.receive(made.proposal)
    vote = prepare if make is prepare else commit
    first, second = vote(bench.signers[2], 1, 0, made.digest), vote(bench.signers[2], 1, 0, other.digest)
    bench.node.receive(first)
    effects = bench.node.receive(second)
    assert of_kind(effects, Report) == [Report(encode(first), encode(second))]
    assert not of_kind(bench.node.receive(second), Report)
    tally = bench.replica._core.height.prepares if make is prepare else bench.replica._core.height.commits
    assert bench.signers[2].public_key not in tally.votes(0, other.digest)
    assert bench.signers[2].public_key in tally.votes(0, made.digest)


def test_6_4_a_forged_second_vote_convicts_nobody() -> None:
    """S13: evidence is two signatures that hold."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.prepares(made, [2])
    forged = msgspec.structs.replace(prepare(bench.signers[2], 1, 0, bytes(32)), signature=bytes(64))
    effects = bench.node.receive(forged, sender=bench.signers[3].public_key)
    assert not of_kind(effects, Report)
    assert "refused" in events(effects)


def test_6_4_votes_beyond_the_quorum_are_not_checked() -> None:
    """The hot path: once the quorum stands no further vote of it costs a signature check."""
    bench = Bench(7)
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2, 3, 4])
    before = bench.verifier.calls
    bench.prepares(made, [5, 6])
    assert bench.verifier.calls == before


@pytest.mark.parametrize(
    "change", [{"epoch": 1}, {"height": 9}, {"view": 1}, {"digest": bytes(32)}, {"signature": bytes(64)}]
)
@pytest.mark.parametrize("make", [prepare, commit])
def test_6_5_a_vote_changed_in_any_field_is_refused_or_does_not_count(
    make: object, change: dict[str, object]
) -> None:
    """6.5: the signature binds domain, phase, chain, epoch, height, view and digest."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    vote = (prepare if make is prepare else commit)(bench.signers[2], 1, 0, made.digest)
    bench.node.receive(msgspec.structs.replace(vote, **change))
    height = bench.replica._core.height
    tally = height.prepares if make is prepare else height.commits
    assert not [
        v for view in (0, 1) for d in tally.digests(view) for v in tally.votes(view, d) if v == vote.signer
    ]


# ---------------------------------------------------------------------- 6.5


def test_6_5_signed_bytes_begin_with_domain_phase_chain_epoch_height_view() -> None:
    """6.5: every signed byte string begins with (domain, phase, chain id, epoch, h, v)."""
    signer = KeyedSigner(1)
    message = vote_bytes(commit(signer, 7, 3, bytes(32), epoch=5), CHAIN)
    head = CONSENSUS_DOMAIN + bytes([Phase.COMMIT]) + CHAIN
    numbers = b"".join(n.to_bytes(8, "big") for n in (5, 7, 3))
    assert message == head + numbers + bytes(32)


def test_6_5_no_two_phases_sign_the_same_bytes() -> None:
    """6.5: the phase is part of what is signed."""
    assert len({consensus_bytes(phase, CHAIN, 0, 1, 0, bytes(32)) for phase in Phase}) == len(Phase)


def test_6_5_a_prepare_does_not_pass_as_a_commit() -> None:
    """6.5: one phase's signature is no other's."""
    bench = Bench()
    made = bench.propose(transaction(1))
    vote = prepare(bench.signers[2], 1, 0, made.digest)
    effects = bench.node.receive(Commit(0, 1, 0, made.digest, vote.signer, vote.signature))
    assert "refused" in events(effects)


def _sends_follow_their_records(effects: list[Effect]) -> None:
    """Every message sent stands in a `Persist` before it."""
    stored = []
    for effect in effects:
        if isinstance(effect, Persist):
            stored += [record.message for record in effect.records if isinstance(record, SentRecord)]
        if isinstance(effect, Send):
            assert effect.message in stored


@pytest.mark.parametrize("size", [1, 4, 7])
def test_6_5_every_message_is_durable_before_it_leaves(size: int) -> None:
    """6.5: before any vote: the vote, in every run of a small cluster, view change included."""
    cluster = Cluster(size)
    cluster.submit(transaction(1))
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Commit))
    if size > 1:
        cluster.fire("view")
        cluster.deliver()
        assert any(node.sent(NewView) for node in cluster.nodes)
    for node in cluster.nodes:
        assert node.decided
        _sends_follow_their_records(node.effects)


def test_6_5_before_prepare_the_whole_block_is_stored() -> None:
    """6.5: in the same write, before the vote leaves."""
    bench = Bench()
    made = bench.propose(transaction(1))
    effects = bench.node.receive(made.proposal)
    records = of_kind(effects, Persist)[0].records
    assert records == (BlockRecord(1, made.block), SentRecord(1, sent_of(effects, Prepare)[0]))


def test_6_5_before_commit_the_prepared_certificate_is_stored() -> None:
    """6.5: before commit also the prepared certificate; the block is not written twice."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    effects = bench.prepares(made, [2])
    first, second = of_kind(effects, Persist)[0].records
    assert isinstance(first, PreparedRecord)
    assert first.certificate.pre_prepare == made.proposal.vote
    assert {vote.signer for vote in first.certificate.prepares} == {s.public_key for s in bench.signers[1:3]}
    assert second == SentRecord(1, sent_of(effects, Commit)[0])


def test_6_5_the_primary_stores_the_block_before_its_pre_prepare() -> None:
    """6.5: before any vote: the vote, and whoever is asked for the block has it."""
    bench = Bench(rank=0)
    effects = bench.node.submit(transaction(1))
    block, vote = of_kind(effects, Persist)[0].records
    assert isinstance(block, BlockRecord)
    assert vote == SentRecord(1, sent_of(effects, Proposal)[0])


def test_6_5_undecided_blocks_are_served_by_digest() -> None:
    """6.5: all are kept and served by digest until h is durable."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    assert bench.replica.undecided_block(made.digest) == made.block


def test_6_5_records_are_forgotten_only_below_the_last_decided_height() -> None:
    """6.5: kept until h and its certificate are durable; the last height's stay as floor for what may be signed."""
    cluster = Cluster(4)
    for number in range(3):
        cluster.submit(transaction(number))
        cluster.deliver()
        for node in cluster.nodes:
            if "batch" in node.timers:
                node.fire("batch")
        cluster.deliver()
    forgotten = [effect.height for effect in cluster.nodes[0].effects if isinstance(effect, Forget)]
    assert forgotten == [1, 2, 3]
    assert cluster.nodes[0].replica.height == 4


@pytest.mark.parametrize("rank", [0, 1])
def test_6_5_after_a_restart_the_same_bytes_are_resent(rank: int) -> None:
    """6.5: what was signed before the crash leaves again, byte for byte, and nothing else."""
    bench = Bench(rank=rank)
    made = bench.propose(transaction(1))
    if rank == 0:
        bench.node.submit(transaction(1))
    else:
        bench.node.receive(made.proposal)
        bench.prepares(made, [2])
    before = [item for kind in (Proposal, Prepare, Commit) for item in bench.node.sent(kind)]
    assert before
    bench.node.effects.clear()
    bench.node.boot(bench.context)
    after = [effect.message for effect in bench.node.effects if isinstance(effect, Send)]
    assert after == before


def test_6_5_after_a_restart_nothing_conflicting_is_signed() -> None:
    """6.5, S4: neither a second prepare in the view, nor anything of a view below the one left."""
    bench = Bench()
    first, second = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.node.receive(first.proposal)
    bench.node.boot(bench.context)
    bench.node.receive(second.proposal)
    bench.node.receive(first.proposal)
    assert {vote.digest for vote in bench.node.sent(Prepare)} == {first.digest}
    bench.node.fire("view")
    bench.node.boot(bench.context)
    assert bench.replica.view == 1
    bench.node.effects.clear()
    bench.node.receive(first.proposal)
    assert not sent_of(bench.prepares(first, [2, 3]), Commit)


def test_6_5_a_primary_that_restarts_proposes_nothing_else() -> None:
    """6.5, S4: one pre-prepare a view, also across a restart and with another pool."""
    bench = Bench(rank=0)
    bench.node.submit(transaction(1))
    bench.node.boot(bench.context)
    bench.node.submit(transaction(2))
    assert len({item.vote.digest for item in bench.node.sent(Proposal)}) == 1
    assert len(of_kind(bench.node.effects, BuildBatch)) == 1


def test_6_5_the_prepared_certificate_survives_a_restart() -> None:
    """6.5, 6.6: the view-change after a restart carries the certificate that was committed on before."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    bench.prepares(made, [2])
    bench.node.boot(bench.context)
    bench.node.tell_pool()
    message = sent_of(bench.node.fire("view"), ViewChange)[0]
    assert message.prepared is not None
    assert message.prepared.pre_prepare.digest == made.digest
    assert [(item.view, item.digest) for item in message.accepted] == [(0, made.digest)]


def test_6_5_heights_at_or_below_the_last_decided_are_never_signed_again() -> None:
    """6.5: a ledger restored from an old copy under a newer journal: no vote below the journal's height."""
    bench = Bench()
    made = bench.propose(transaction(1))
    journal = [SentRecord(5, prepare(bench.signers[1], 5, 0, made.digest))]
    behind = Bench(journal=journal)
    behind.node.pool.update(bench.node.pool)
    effects = behind.node.receive(made.proposal)
    assert not sent_of(effects, Prepare)
    assert not behind.replica.voting


def test_6_5_a_journal_ahead_of_the_ledger_is_kept_for_its_height() -> None:
    """6.5: the votes of the journal's height are known again when the ledger gets there."""
    cluster = Cluster(4)
    cluster.submit(transaction(1))
    cluster.deliver()
    context = cluster.nodes[1].context
    voted = make_proposal(context, cluster.signers[0], transaction(2))
    record = SentRecord(2, prepare(cluster.signers[1], 2, 0, voted.digest))
    bench = Bench(journal=[BlockRecord(2, voted.block), record])
    bench.node.answers = False
    bench.node.step(Advanced(bench.node.at, context))
    assert bench.replica.voting
    other = make_proposal(context, cluster.signers[0], transaction(3))
    bench.node.receive(other.proposal)
    checked = ProposalChecked(bench.node.at, 2, 0, other.digest, other.block, None, (), 0)
    assert not sent_of(bench.node.step(checked), Prepare)


def test_6_5_a_lost_journal_signs_nothing_until_m_is_known_and_up_to_m_plus_2() -> None:
    """6.5: nothing at heights up to M + 2, then votes again."""
    bench = Bench()
    effects = bench.node.step(JournalLost(bench.node.at))
    assert of_kind(effects, Persist)[0].records == (AbstainRecord(UNKNOWN_HEIGHT),)
    made = bench.propose(transaction(1))
    assert not sent_of(bench.node.receive(made.proposal), Prepare)
    effects = bench.node.step(AbstainUntil(bench.node.at, 0))
    assert of_kind(effects, Persist)[0].records == (AbstainRecord(2),)
    context, signed = bench.context, {}
    for height in (1, 2, 3):
        made = make_proposal(context, bench.signers[0], transaction(height))
        bench.node.pool.update(zip(made.proposal.references, made.block.transactions, strict=True))
        bench.node.receive(made.proposal)
        signed[height] = [vote for vote in bench.node.sent(Prepare) if vote.height == height]
        bench.node.step(DecidedReceived(bench.node.at, certified(made.block, context, bench.others)))
        context = bench.replica.context
        assert context.height == height + 1
    assert (bool(signed[1]), bool(signed[2]), bool(signed[3])) == (False, False, True)


@pytest.mark.parametrize(
    ("journal", "voting"),
    [
        ([AbstainRecord(UNKNOWN_HEIGHT)], False),
        ([AbstainRecord(UNKNOWN_HEIGHT), AbstainRecord(2)], False),
        ([AbstainRecord(0)], True),
        ([AbstainRecord(UNKNOWN_HEIGHT), ResumeRecord(1, 3)], True),
        ([ResumeRecord(1, 3), AbstainRecord(UNKNOWN_HEIGHT)], False),
    ],
)
def test_6_5_abstaining_survives_a_restart(journal: list[AbstainRecord | ResumeRecord], voting: bool) -> None:
    """6.5: the journal itself says that one was lost, and until when nothing is signed."""
    assert Bench(journal=journal).replica.voting == voting


def test_6_5_resume_lets_sign_from_the_operators_first_view_on() -> None:
    """6.5: `resume` (height, first view): the chain goes on at that view, and nothing below it is signed."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.step(JournalLost(bench.node.at))
    effects = bench.node.step(Resume(bench.node.at, 1, 7))
    assert of_kind(effects, Persist)[0].records == (ResumeRecord(1, 7),)
    assert [message.view for message in sent_of(effects, ViewChange)] == [7]
    assert "resumed" in events(effects)
    assert not sent_of(bench.node.receive(made.proposal), Prepare)


def test_6_5_halted_by_lost_journals_a_chain_resumes_at_the_operators_word() -> None:
    """6.5: more than f journals gone: halted until `resume`, then the height is decided."""
    cluster = Cluster(4)
    for node in cluster.nodes[:2]:
        node.step(JournalLost(node.at))
    cluster.submit(transaction(1))
    cluster.deliver()
    assert not any(node.decided for node in cluster.nodes)
    for node in cluster.nodes:
        node.step(Resume(node.at, 1, 4))
    cluster.deliver()
    assert [len(node.decided) for node in cluster.nodes] == [1, 1, 1, 1]
    assert cluster.nodes[0].decided[0].certificate.view == 4


def test_6_5_a_resume_for_a_passed_height_changes_nothing() -> None:
    """6.5: `resume` names the height that stands still."""
    bench = Bench()
    bench.node.step(JournalLost(bench.node.at))
    effects = bench.node.step(Resume(bench.node.at, 0, 7))
    assert not of_kind(effects, Persist)
    assert not bench.replica.voting


# ---------------------------------------------------------------------- 6.12, 7.3, 10.2


def test_6_12_a_decided_block_is_taken_only_with_its_certificate() -> None:
    """6.12: q valid commits of its own set, for this very block; everybody else is refused."""
    bench = Bench()
    made, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    good = certified(made.block, bench.context, bench.signers[:3])
    certificate = good.certificate
    signatures = certificate.signatures
    forgeries = [
        msgspec.structs.replace(good, block=other.block),
        msgspec.structs.replace(good, block=msgspec.structs.replace(made.block, transactions=())),
        *(
            msgspec.structs.replace(good, certificate=changed)
            for changed in (
                msgspec.structs.replace(certificate, signatures=signatures[:2]),
                msgspec.structs.replace(certificate, signatures=(*signatures[:2], signatures[1])),
                msgspec.structs.replace(certificate, signatures=signatures[::-1]),
                msgspec.structs.replace(certificate, view=1),
                certified(
                    made.block, msgspec.structs.replace(bench.context, epoch=1), bench.signers
                ).certificate,
                msgspec.structs.replace(certificate, epoch=1),
                msgspec.structs.replace(certificate, digest=other.digest),
            )
        ),
    ]
    for forged in forgeries:
        effects = bench.node.step(DecidedReceived(bench.node.at, forged))
        assert not of_kind(effects, Decide)
        assert "refused" in events(effects)
    assert of_kind(bench.node.step(DecidedReceived(bench.node.at, good)), Decide)


def test_6_12_a_certificate_is_not_of_a_view_before_the_block_was_proposed() -> None:
    """6.3: header.view is the first view it was proposed in; an annex to 9.1 says the same to auditors."""
    bench = Bench()
    made = bench.propose(transaction(1), view=2)
    early = certified(made.block, bench.context, bench.signers[:3], view=1)
    assert not of_kind(bench.node.step(DecidedReceived(bench.node.at, early)), Decide)
    late = certified(made.block, bench.context, bench.signers[:3], view=2)
    assert of_kind(bench.node.step(DecidedReceived(bench.node.at, late)), Decide)


def test_6_12_a_signature_over_another_digest_is_not_taken_for_known() -> None:
    """6.12: a commit verified for one digest is no commit for another, though its bytes are known."""
    bench = Bench(7)
    mine, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.commits(other, [2, 3, 4])
    good = certified(mine.block, bench.context, [bench.signers[i] for i in (0, 2, 3, 4, 5)])
    stolen = tuple(
        msgspec.structs.replace(item, signature=commit(bench.signers[rank], 1, 0, other.digest).signature)
        if rank in {2, 3, 4}
        else item
        for rank, item in zip((0, 2, 3, 4, 5), good.certificate.signatures, strict=True)
    )
    certificate = msgspec.structs.replace(good.certificate, signatures=stolen)
    forged = msgspec.structs.replace(good, certificate=certificate)
    assert not of_kind(bench.node.step(DecidedReceived(bench.node.at, forged)), Decide)


def test_6_12_an_observer_takes_over_decided_blocks_and_signs_nothing() -> None:
    """6.1, 6.12: consensus runs only inside the delegate set; a member checks the certificate and follows."""
    bench = Bench()
    observer = Bench(rank=1)
    context = msgspec.structs.replace(
        observer.context,
        delegates=delegate_set(observer.others),
        next_delegates=delegate_set(observer.others),
        head=delegate_set(observer.others).ranking[0].address,
    )
    observer.node.context = context
    observer.node.boot(context)
    made = make_proposal(context, bench.signers[0], transaction(1))
    observer.node.receive(made.proposal)
    quorum = observer.others[: context.delegates.quorum]
    effects = observer.node.step(DecidedReceived(observer.node.at, certified(made.block, context, quorum)))
    assert len(of_kind(effects, Decide)) == 1
    assert observer.replica.height == 2
    assert not of_kind(observer.node.effects, Send)
    assert not observer.replica.is_delegate


def test_7_3_with_more_than_f_down_the_chain_halts_and_loses_nothing() -> None:
    """7.3: two of four down: no commit, and the quorum does not shrink; it resumes when enough return."""
    cluster = Cluster(4)
    cluster.down |= {2, 3}
    for node in cluster.nodes:
        node.submit(transaction(1))
    cluster.deliver()
    for _ in range(3):
        cluster.fire("view")
        cluster.fire("resend")
        cluster.deliver()
    assert not any(node.decided for node in cluster.nodes)
    cluster.down.clear()
    for _ in range(6):
        cluster.pass_ms(500)
        cluster.fire("resend")
        cluster.deliver()
        cluster.fire("view")
        cluster.deliver()
    assert all(node.decided for node in cluster.nodes)
    assert cluster.nodes[0].decided[0].block.transactions == (transaction(1),)


def test_10_2_a_node_that_fell_behind_leaves_voting_and_returns() -> None:
    """10.2: behind, it signs nothing but follows; caught up, it votes on what it already holds."""
    bench = Bench()
    bench.node.step(SyncState(bench.node.at, caught_up=False))
    made = bench.propose(transaction(1))
    assert not sent_of(bench.node.receive(made.proposal), Prepare)
    assert not bench.replica.voting
    effects = bench.node.step(SyncState(bench.node.at, caught_up=True))
    assert sent_of(effects, Prepare) == [prepare(bench.signers[1], 1, 0, made.digest)]


def test_9_1_the_last_commit_also_carries_commits_that_came_late() -> None:
    """9.1, 3.2c: at least q; the slowest delegate, whose commit came after the decision, is not counted absent."""
    bench = Bench(rank=0)
    node = bench.node
    node.submit(transaction(1))
    made = sent_of(node.effects, Proposal)[0]
    for rank in (1, 2):
        node.receive(prepare(bench.signers[rank], 1, 0, made.vote.digest))
        node.receive(commit(bench.signers[rank], 1, 0, made.vote.digest))
    assert node.replica.height == 2
    node.receive(commit(bench.signers[3], 1, 0, made.vote.digest))
    node.submit(transaction(2))
    second = node.sent(Proposal)[-1]
    assert second.last_commit is not None
    assert len(second.last_commit.signatures) == 4
    follower = Bench(rank=1)
    follower.node.step(DecidedReceived(follower.node.at, node.decided[0]))
    follower.node.pool.update(node.pool)
    assert sent_of(follower.node.receive(second), Prepare)


def test_12_s2_heights_follow_each_other_without_gap() -> None:
    """S2: a cluster's decided blocks are one linked chain on every node."""
    cluster = Cluster(5)
    for number in range(4):
        cluster.submit(transaction(number))
        cluster.deliver()
        for node in cluster.nodes:
            if "batch" in node.timers:
                node.fire("batch")
        cluster.deliver()
    for node in cluster.nodes:
        assert [item.block.header.height for item in node.decided] == [1, 2, 3, 4]
        for below, above in pairwise(node.decided):
            assert above.block.header.parent_hash == below.block.header.digest()
        assert next_context(first_context(cluster.delegates), node.decided[0]).height == 2


def test_3_2b_a_primary_signs_no_prepare_in_its_own_view() -> None:
    """3.2b: nor does it count one."""
    bench = Bench(rank=0)
    bench.node.submit(transaction(1))
    made = bench.node.sent(Proposal)[0]
    assert isinstance(made.vote, PrePrepareVote)
    assert not bench.node.sent(Prepare)
    other = Bench(rank=1)
    effects = other.node.receive(prepare(other.signers[0], 1, 0, made.vote.digest))
    assert "refused" in events(effects)
    assert pre_prepare(bench.signers[0], 1, 0, made.vote.digest) == made.vote
