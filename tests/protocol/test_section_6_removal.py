"""PROTOCOL 6.10: removing what f + 1 distinct primaries proposed in failed views."""

from collections.abc import Iterable

import msgspec
import pytest

from consensus.block import Discard, FailedProposal, Header, full_hash
from consensus.effects import BuildBatch
from consensus.encoding import encode
from consensus.errors import InvalidMessage
from consensus.hashing import tagged_hash
from consensus.judge import Judge
from consensus.merkle import leaf_hash, merkle_path
from consensus.messages import Accepted, Prepare, Proposal, ViewChange
from consensus.removal import FailedViews, RemovalCheck, is_disjoint, transaction_id, views_remembered
from tests.unit.consensus.bench import Bench, Cluster
from tests.unit.consensus.support import (
    Made,
    of_kind,
    pre_prepare,
    prepared,
    sent_of,
    transaction,
    view_change,
)

TARGET = transaction(7)


def failed(bench: Bench, view: int, *transactions: bytes) -> Made:
    """The fresh proposal of a view that failed."""
    return bench.propose(*(transactions or (transaction(1), TARGET, transaction(2))), view=view)


def witness(bench: Bench, rank: int, made: Made, accepted_view: int | None = None) -> ViewChange:
    """A view-change for the next view that names ``made`` as accepted."""
    view = made.proposal.vote.view
    named = Accepted(view if accepted_view is None else accepted_view, made.digest)
    return view_change(bench.signers[rank], 1, view + 1, None, (named,))


def proof(bench: Bench, made: Made, ranks: Iterable[int] = (0, 1)) -> FailedProposal:
    """One failed proposal with the view-changes of ``ranks``."""
    references = made.proposal.references
    path = merkle_path([leaf_hash(item) for item in references], references.index(full_hash(TARGET)))
    votes = tuple(encode(witness(bench, rank, made)) for rank in ranks)
    return FailedProposal(made.proposal.header, path, encode(made.proposal.vote), votes)


def removal(bench: Bench, views: Iterable[int] = (0, 1)) -> Discard:
    """A complete removal of `TARGET`."""
    return Discard(transaction_id(TARGET), TARGET, tuple(proof(bench, failed(bench, view)) for view in views))


def check(bench: Bench, *discards: Discard, view: int = 2) -> None:
    """Judge removals as every delegate does."""
    judge = Judge(bench.judge.chain_id, bench.context, bench.verifier)
    RemovalCheck(judge, view).check(discards)


# ---------------------------------------------------------------------- what everybody verifies


def test_6_10_a_complete_proof_holds() -> None:
    """6.10: f + 1 distinct u < v of distinct primaries, each with pre-prepare, header, path and f + 1 view-changes."""
    bench = Bench()
    check(bench, removal(bench))
    check(bench, removal(bench, (0, 3)), view=4)


def test_6_10_an_id_is_the_hash_of_the_body() -> None:
    """9.2: other signature bytes make no other id."""
    body = ("body", 7)
    assert transaction_id(encode((body, "one"))) == transaction_id(encode((body, "two")))
    assert transaction_id(encode((body, "one"))) == tagged_hash("transaction.body", encode(body))


def _broken(bench: Bench) -> dict[str, Discard]:
    """Proofs that lack one thing each."""
    good = removal(bench)
    first, second = good.proposals
    zero, one = failed(bench, 0), failed(bench, 1)
    without = failed(bench, 1, transaction(1), transaction(2))

    def having(item: FailedProposal) -> Discard:
        return msgspec.structs.replace(good, proposals=(first, item))

    def changed(**changes: object) -> Discard:
        return having(msgspec.structs.replace(second, **changes))

    def header(**changes: object) -> Header:
        return msgspec.structs.replace(second.header, **changes)

    unsigned = msgspec.structs.replace(one.proposal.vote, signature=bytes(64))
    stranger_vote = pre_prepare(bench.signers[2], 1, 1, one.digest)
    forged = msgspec.structs.replace(witness(bench, 1, one), signature=bytes(64))
    bad_nested = view_change(
        bench.signers[2],
        1,
        2,
        msgspec.structs.replace(prepared(bench.signers[:3], 1, 0, zero.digest), prepares=()),
        (Accepted(1, one.digest),),
    )
    return {
        "f proposals": msgspec.structs.replace(good, proposals=(first,)),
        "more than f + 1": msgspec.structs.replace(
            good, proposals=(first, second, proof(bench, failed(bench, 2)))
        ),
        "one view twice": msgspec.structs.replace(good, proposals=(first, first)),
        "one primary twice": removal(bench, (0, 4)),
        "another id": msgspec.structs.replace(good, transaction_id=bytes(32)),
        "another transaction": msgspec.structs.replace(
            good, transaction=transaction(8), transaction_id=transaction_id(transaction(8))
        ),
        "malformed": msgspec.structs.replace(good, transaction=b"\xc1"),
        "other path": changed(path=merkle_path([leaf_hash(b"x")], 0)),
        "not in it": having(msgspec.structs.replace(second, header=without.proposal.header)),
        "other header": changed(header=header(time_ms=1)),
        "header of another view": changed(header=header(view=0)),
        "header of another height": changed(header=header(height=2)),
        "unsigned": changed(pre_prepare=encode(unsigned)),
        "other signer": changed(pre_prepare=encode(stranger_vote)),
        "no pre-prepare": changed(pre_prepare=b""),
        "f view-changes": changed(view_changes=second.view_changes[:1]),
        "one sender twice": changed(view_changes=second.view_changes[:1] * 2),
        "forged view-change": changed(view_changes=(second.view_changes[0], encode(forged))),
        "bad nested part": changed(view_changes=(second.view_changes[0], encode(bad_nested))),
        "view-change for another view": changed(view_changes=(second.view_changes[0], first.view_changes[1])),
        "view-change for a later view": changed(
            view_changes=(
                second.view_changes[0],
                encode(view_change(bench.signers[2], 1, 3, None, (Accepted(1, one.digest),))),
            )
        ),
        "accepted another digest": changed(
            view_changes=(
                second.view_changes[0],
                encode(view_change(bench.signers[2], 1, 2, None, (Accepted(1, zero.digest),))),
            )
        ),
        "accepted nothing": changed(
            view_changes=(second.view_changes[0], encode(view_change(bench.signers[2], 1, 2)))
        ),
        "garbage": changed(view_changes=(second.view_changes[0], b"\x90")),
    }


@pytest.mark.parametrize("kind", list(_broken(Bench())))
def test_6_10_a_proof_that_lacks_anything_is_refused(kind: str) -> None:
    """6.10: and so is the proposal that lists it."""
    bench = Bench()
    with pytest.raises(InvalidMessage):
        check(bench, _broken(bench)[kind], view=5)


def test_6_10_a_failed_view_is_below_the_proposals() -> None:
    """6.10: u < v."""
    bench = Bench()
    with pytest.raises(InvalidMessage):
        check(bench, removal(bench), view=1)


def test_6_10_an_id_is_listed_once() -> None:
    """6.10: once decided it is final; twice says nothing more."""
    bench = Bench()
    with pytest.raises(InvalidMessage):
        check(bench, removal(bench), removal(bench))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_6_10_with_f_0_nothing_is_removed(size: int) -> None:
    """6.10: neither proven nor accepted."""
    bench = Bench(size, rank=0)
    with pytest.raises(InvalidMessage):
        check(bench, Discard(transaction_id(TARGET), TARGET, (proof(bench, failed(bench, 0), (0,)),)))
    views = FailedViews(bench.judge)
    made = failed(bench, 0)
    views.note_proposal(made.proposal)
    views.note_view_change(witness(bench, 0, made))
    assert views.removals(5, {made.digest: made.block}, 10**6) == ()


def test_6_10_shared_parts_are_verified_once() -> None:
    """Many removals of the same failed views cost no more signature checks than one."""
    bench = Bench()
    check(bench, removal(bench))
    one = bench.verifier.calls
    zero, first = failed(bench, 0), failed(bench, 1)

    def of(item: bytes) -> Discard:
        proposals = []
        for made in (zero, first):
            references = made.proposal.references
            path = merkle_path([leaf_hash(r) for r in references], references.index(full_hash(item)))
            proposals.append(msgspec.structs.replace(proof(bench, made), path=path))
        return Discard(transaction_id(item), item, tuple(proposals))

    check(bench, of(transaction(1)), of(TARGET), of(transaction(2)))
    assert bench.verifier.calls == 2 * one


# ---------------------------------------------------------------------- what a primary can prove


def remembered(
    bench: Bench, views: Iterable[int], ranks: Iterable[int] = (0, 1)
) -> tuple[FailedViews, dict[bytes, Made]]:
    """A delegate's memory of failed views."""
    memory, made_by = FailedViews(bench.judge), {}
    for view in views:
        made = failed(bench, view)
        made_by[made.digest] = made
        memory.note_proposal(made.proposal)
        for rank in ranks:
            memory.note_view_change(witness(bench, rank, made))
    return memory, made_by


def test_6_10_a_primary_proves_what_its_failed_views_show() -> None:
    """6.10: every transaction that f + 1 distinct primaries proposed; the proof convinces everybody."""
    bench = Bench()
    memory, made = remembered(bench, (0, 1))
    blocks = {digest: item.block for digest, item in made.items()}
    discards = memory.removals(2, blocks, 10**6)
    assert {item.transaction for item in discards} == {transaction(1), TARGET, transaction(2)}
    check(bench, *discards)


def test_6_10_f_failed_primaries_or_f_witnesses_prove_nothing() -> None:
    """6.10: f + 1 of each; never on a local timeout alone."""
    bench = Bench()
    for views, ranks in (((0,), (0, 1)), ((0, 1), (0,)), ((0, 4), (0, 1))):
        memory, made = remembered(bench, views, ranks)
        blocks = {digest: item.block for digest, item in made.items()}
        assert memory.removals(9, blocks, 10**6) == ()


def test_6_10_every_failed_list_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block holds thousands: hashing its list for each removal would take longer than a view lasts."""
    bench = Bench()
    memory, made = remembered(bench, (0, 1))
    hashed: list[bytes] = []

    def counted(data: bytes) -> bytes:
        hashed.append(data)
        return leaf_hash(data)

    monkeypatch.setattr("consensus.removal.leaf_hash", counted)
    discards = memory.removals(2, {digest: item.block for digest, item in made.items()}, 10**6)
    assert len(discards) == 3
    assert len(hashed) == sum(len(item.proposal.references) for item in made.values())


def test_6_10_what_does_not_fit_waits() -> None:
    """6.10: proofs count toward the block size; validity never asks for completeness."""
    bench = Bench()
    memory, made = remembered(bench, (0, 1))
    blocks = {digest: item.block for digest, item in made.items()}
    size = len(encode(memory.removals(2, blocks, 10**6)[0]))
    assert len(memory.removals(2, blocks, size)) == 1
    assert memory.removals(2, blocks, size - 1) == ()


def test_6_10_a_block_proposed_again_is_no_new_failure() -> None:
    """6.10: its header with header.view = u: only fresh proposals of a view count."""
    bench = Bench()
    memory = FailedViews(bench.judge)
    made = failed(bench, 0)
    second = msgspec.structs.replace(made.proposal, vote=pre_prepare(bench.signers[1], 1, 1, made.digest))
    for proposal in (made.proposal, second):
        memory.note_proposal(proposal)
    for view in (0, 1):
        for rank in (0, 1):
            named = (Accepted(view, made.digest),)
            memory.note_view_change(view_change(bench.signers[rank], 1, view + 1, None, named))
    assert memory.removals(5, {made.digest: made.block}, 10**6) == ()


def test_6_10_the_memory_of_failed_views_is_bounded() -> None:
    """Everything has a limit: the highest views are kept, whatever view-changes name."""
    bench = Bench()
    memory, _made = remembered(bench, range(100))
    assert len(memory._proposals) == len(memory._witnesses) == views_remembered(1)
    assert min(memory._proposals) == 100 - views_remembered(1)


def test_6_10_an_id_is_not_both_listed_and_included() -> None:
    """6.10: also under other signature bytes."""
    bench = Bench()
    block = failed(bench, 2, transaction(1)).block
    discards = (removal(bench),)
    assert is_disjoint(msgspec.structs.replace(block, discarded=discards))
    twin = encode((("body", 7), "other signatures"))
    both = msgspec.structs.replace(block, discarded=discards, transactions=(twin,))
    assert not is_disjoint(both)


def test_6_10_a_proposal_that_lists_and_includes_an_id_is_rejected() -> None:
    """6.10: by everybody who gathers it."""
    bench = Bench(rank=3)
    made = bench.propose(TARGET, transaction(3), view=2, discarded=(removal(bench),))
    bench.enter(2, [0, 1, 2])
    effects = bench.node.receive(made.proposal)
    assert not sent_of(effects, Prepare)
    assert sent_of(effects, ViewChange)


def test_6_10_a_proposal_with_a_proven_removal_is_prepared() -> None:
    """6.10: a fresh proposal of view v lists it; its proof stands in the block."""
    bench = Bench(rank=3)
    made = bench.propose(transaction(3), view=2, discarded=(removal(bench),))
    bench.enter(2, [0, 1, 2])
    assert sent_of(bench.node.receive(made.proposal), Prepare)


def test_6_10_a_proposal_with_an_unproven_removal_is_rejected() -> None:
    """6.10: verified by everybody."""
    bench = Bench(rank=3)
    unproven = msgspec.structs.replace(removal(bench), proposals=())
    made = bench.propose(transaction(3), view=2, discarded=(unproven,))
    bench.enter(2, [0, 1, 2])
    effects = bench.node.receive(made.proposal)
    assert not sent_of(effects, Prepare)
    assert sent_of(effects, ViewChange)


def test_6_10_removals_count_toward_the_block_size() -> None:
    """6.10: a block of removals larger than a block is invalid."""
    bench = Bench(rank=3)
    size = len(encode(removal(bench)))
    limit = msgspec.structs.replace(bench.node.parameters, max_block_bytes=size - 1)
    small = Bench(rank=3, parameters=limit)
    made = small.propose(transaction(3), view=2, discarded=(removal(small),))
    small.enter(2, [0, 1, 2])
    assert sent_of(small.node.receive(made.proposal), ViewChange)


def test_6_10_two_failed_primaries_in_a_cluster_get_a_transaction_removed() -> None:
    """6.10 end to end (n = 4): prepares are lost in views 0 and 1, the primary of view 2 removes what both proposed."""
    cluster = Cluster(4)
    cluster.submit(TARGET)
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Prepare))
    cluster.fire("view")
    cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Prepare))
    cluster.fire("view")
    cluster.deliver()
    proposal = cluster.nodes[2].sent(Proposal)[0]
    assert [item.transaction for item in proposal.discarded] == [TARGET]
    request = of_kind(cluster.nodes[2].effects, BuildBatch)[0]
    assert request.excluded == (transaction_id(TARGET),)
    assert request.max_bytes == cluster.parameters.max_block_bytes - len(encode(proposal.discarded[0]))
    for node in cluster.nodes:
        block = node.decided[0].block
        assert [item.transaction_id for item in block.discarded] == [transaction_id(TARGET)]
        assert block.transactions == ()


def test_6_10_a_removal_leaves_the_rest_of_the_block_to_others() -> None:
    """6.10: an empty batch is no reason to hold a removal back."""
    cluster = Cluster(4)
    cluster.submit(TARGET)
    for _ in range(2):
        cluster.deliver(drop=lambda _s, _t, message: isinstance(message, Prepare))
        cluster.fire("view")
    cluster.deliver()
    header = cluster.nodes[3].decided[0].block.header
    assert header.time_ms < cluster.nodes[3].at.wall_ms + 1
    assert header.view == 2
