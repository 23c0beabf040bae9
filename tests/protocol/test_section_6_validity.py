"""PROTOCOL 6.8: what makes a proposal valid, and what its time does and does not do."""

from typing import Any

import msgspec
import pytest

from consensus.block import Block, discarded_root, last_commit_hash
from consensus.effects import BlockRecord, CheckProposal, Decide, Persist, ReportProposal, SetTimer
from consensus.errors import InvariantViolation
from consensus.inputs import Advanced, DecidedReceived, Offending, ProposalChecked
from consensus.merkle import leaf_hash, verify_path
from consensus.messages import Commit, Prepare, Proposal, ViewChange
from consensus.parameters import Parameters
from tests.unit.consensus.bench import Bench
from tests.unit.consensus.support import (
    START_MS,
    KeyedSigner,
    Made,
    certified,
    delegate_set,
    events,
    make_proposal,
    next_context,
    of_kind,
    pre_prepare,
    prepare,
    sent_of,
    transaction,
)


def judged(bench: Bench, proposal: Proposal) -> str:
    """What a replica makes of ``proposal``: prepared, view-change at once, or dropped."""
    effects = bench.node.receive(proposal)
    if sent_of(effects, Prepare):
        return "prepared"
    return "rejected" if sent_of(effects, ViewChange) else "dropped"


@pytest.mark.parametrize(
    "change",
    [
        {"parent_hash": bytes(32)},
        {"height": 2},
        {"epoch": 1},
        {"version": 2},
        {"chain_id": bytes(32)},
        {"proposer": bytes(20)},
        {"delegates_hash": bytes(32)},
        {"next_delegates_hash": bytes(32)},
        {"state_root": bytes(32)},
        {"receipts_root": bytes(32)},
        {"time_ms": START_MS},
        {"time_ms": START_MS - 1},
    ],
)
def test_6_8_a_header_that_is_wrong_in_any_field_is_invalid(change: dict[str, Any]) -> None:
    """6.8: parent, height, epoch, proposer, sets and roots are right, parent time < time."""
    bench = Bench()
    assert judged(bench, bench.propose(transaction(1), **change).proposal) == "rejected"


def test_6_8_a_fresh_headers_view_is_that_of_its_pre_prepare() -> None:
    """6.6: fresh: header.view = pre-prepare's view."""
    bench = Bench()
    header = msgspec.structs.replace(bench.propose(transaction(1)).proposal.header, view=4)
    vote = pre_prepare(bench.signers[0], 1, 0, header.digest())
    proposal = msgspec.structs.replace(bench.propose(transaction(1)).proposal, vote=vote, header=header)
    assert judged(bench, proposal) == "rejected"


def test_6_8_a_right_one_is_prepared() -> None:
    """6.8: the counterpart of all the refusals here."""
    bench = Bench()
    assert judged(bench, bench.propose(transaction(1)).proposal) == "prepared"


@pytest.mark.parametrize("change", [{"chain_id": bytes(32)}, {"version": 2}, {"epoch": 1}])
def test_6_8_a_fresh_header_of_wrong_origin_is_reported(change: dict[str, Any]) -> None:
    """3.2b: a header with wrong chain, version or epoch is evidence by itself."""
    bench = Bench()
    made = bench.propose(transaction(1), **change)
    report = of_kind(bench.node.receive(made.proposal), ReportProposal)
    assert report == [ReportProposal(made.proposal.vote, made.proposal.header, None, None)]


def test_6_8_a_wrong_root_is_no_evidence() -> None:
    """6.8: an own wrong root is (a) for the primary, never (b): a proposal with another root is merely invalid."""
    bench = Bench()
    effects = bench.node.receive(bench.propose(transaction(1), state_root=bytes(32)).proposal)
    assert sent_of(effects, ViewChange)
    assert not of_kind(effects, ReportProposal)


def test_6_8_a_transaction_that_proves_the_fault_is_reported_with_its_path() -> None:
    """3.2b: header and Merkle path to a transaction that is malformed, badly signed or out of its window."""
    bench = Bench()
    bench.node.answers = False
    made = bench.propose(transaction(1), transaction(2))
    bench.node.receive(made.proposal)
    offending = Offending(1, transaction(2))
    answer = ProposalChecked(bench.node.at, 1, 0, made.digest, None, "badly signed", (), None, offending)
    report = of_kind(bench.node.step(answer), ReportProposal)[0]
    assert report.transaction == transaction(2)
    assert report.path is not None
    assert verify_path(report.header.transactions_root, leaf_hash(made.proposal.references[1]), report.path)


def _mismatched(made: Made, bench: Bench) -> list[Proposal]:
    """The primary's signature over parts that somebody exchanged."""
    proposal = made.proposal
    other = bench.propose(transaction(9)).proposal
    certificate = certified(made.block, bench.context, bench.signers[:3]).certificate
    return [
        msgspec.structs.replace(proposal, references=other.references),
        msgspec.structs.replace(proposal, references=()),
        msgspec.structs.replace(proposal, header=other.header),
        msgspec.structs.replace(proposal, last_commit=certificate),
        msgspec.structs.replace(proposal, vote=msgspec.structs.replace(proposal.vote, digest=bytes(32))),
        msgspec.structs.replace(proposal, vote=msgspec.structs.replace(proposal.vote, signature=bytes(64))),
        msgspec.structs.replace(proposal, vote=pre_prepare(bench.signers[2], 1, 0, made.digest)),
        msgspec.structs.replace(proposal, vote=pre_prepare(KeyedSigner(9), 1, 0, made.digest)),
    ]


@pytest.mark.parametrize("which", range(8))
def test_6_8_parts_that_the_signature_does_not_bind_are_dropped_and_blamed_on_nobody(which: int) -> None:
    """6.4: the header binds everything; what does not fit it is not the primary's word, and the real one counts."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bad = _mismatched(made, bench)[which]
    effects = bench.node.receive(bad, sender=bench.signers[2].public_key)
    assert not sent_of(effects, ViewChange)
    assert not sent_of(effects, Prepare)
    assert not of_kind(effects, CheckProposal)
    assert judged(bench, made.proposal) == "prepared"


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("offset_ms", "outcome"),
    [(10_000, "prepared"), (10_001, "dropped"), (-10_000, "prepared"), (-10_001, "dropped")],
)
def test_6_8_a_time_out_of_bounds_only_withholds_the_prepare(offset_ms: int, outcome: str) -> None:
    """6.8: clock at entering the view - max_drift_ms <= time <= clock now + max_drift_ms; never a view-change."""
    bench = Bench()
    context = msgspec.structs.replace(bench.context, parent_time_ms=START_MS - 3_600_000)
    bench.node.boot(context)
    made = make_proposal(context, bench.signers[0], transaction(1), time_ms=bench.node.at.wall_ms + offset_ms)
    bench.node.pool.update(zip(made.proposal.references, made.block.transactions, strict=True))
    assert judged(bench, made.proposal) == outcome
    assert bench.replica.view == 0


def test_6_8_the_lower_bound_is_the_clock_at_entering_the_view_not_now() -> None:
    """6.8: a proposal that took long to arrive or to gather is judged as of the view's beginning."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.pass_ms(3_600_000)
    assert judged(bench, made.proposal) == "prepared"


def test_6_8_the_lower_bound_of_a_later_view_is_its_own_beginning() -> None:
    """6.8: signing its view-change, else accepting its new-view."""
    bench = Bench(rank=3)
    bench.node.pass_ms(20_000)
    bench.enter(1, [0, 1, 2])
    old = bench.propose(transaction(1), view=1)
    assert judged(bench, old.proposal) == "dropped"
    other = Bench(rank=3)
    other.node.pass_ms(5_000)
    other.view_changes(1, [0, 2])
    other.node.pass_ms(20_000)
    other.enter(1, [0, 1, 2])
    assert judged(other, other.propose(transaction(1), view=1).proposal) == "prepared"


def test_6_8_a_block_ahead_is_prepared_when_the_clock_reaches_it() -> None:
    """6.8: one ahead is withheld until the clock reaches it."""
    bench = Bench()
    made = bench.propose(transaction(1), time_ms=bench.node.at.wall_ms + 10_700)
    effects = bench.node.receive(made.proposal)
    assert [effect.delay_ms for effect in of_kind(effects, SetTimer) if effect.timer.kind == "clock"] == [700]
    assert sent_of(bench.node.fire("clock"), Prepare) == [prepare(bench.signers[1], 1, 0, made.digest)]


@pytest.mark.parametrize("offset_ms", [3_600_000, -60_000])
def test_6_8_time_never_hinders_a_commit(offset_ms: int) -> None:
    """6.8: with the prepares of others it commits and decides, though it never prepared."""
    bench = Bench()
    context = msgspec.structs.replace(bench.context, parent_time_ms=START_MS - 3_600_000)
    bench.node.boot(context)
    made = make_proposal(context, bench.signers[0], transaction(1), time_ms=bench.node.at.wall_ms + offset_ms)
    bench.node.pool.update(zip(made.proposal.references, made.block.transactions, strict=True))
    bench.node.receive(made.proposal)
    assert len(sent_of(bench.prepares(made, [2, 3]), Commit)) == 1
    assert of_kind(bench.commits(made, [2, 3]), Decide)
    assert not bench.node.sent(Prepare)


# ---------------------------------------------------------------------- last commit


def _second_height() -> tuple[Bench, Made]:
    """A node at height 2, and a valid proposal for it."""
    bench = Bench()
    made = bench.propose(transaction(1))
    block = certified(made.block, bench.context, [bench.signers[rank] for rank in (0, 1, 2)])
    bench.node.step(DecidedReceived(bench.node.at, block))
    bench.context = bench.replica.context
    return bench, bench.propose(transaction(2))


def _with_last_commit(bench: Bench, made: Made, certificate: object) -> Proposal:
    """``made`` with another last-commit, signed by the primary."""
    header = msgspec.structs.replace(made.proposal.header, last_commit_hash=last_commit_hash(certificate))  # type: ignore[arg-type]
    vote = pre_prepare(bench.signers[0], 2, 0, header.digest())
    return msgspec.structs.replace(made.proposal, vote=vote, header=header, last_commit=certificate)


def test_6_8_a_valid_last_commit_is_accepted_and_may_hold_more_than_q() -> None:
    """6.8, 9.1: its last-commit certificate is valid: at least q."""
    bench, made = _second_height()
    assert judged(bench, made.proposal) == "prepared"
    bench, made = _second_height()
    more = certified(bench.node.decided[0].block, Bench().context, bench.signers).certificate
    assert judged(bench, _with_last_commit(bench, made, more)) == "prepared"


@pytest.mark.parametrize(
    "kind", ["missing", "short", "twice", "forged", "order", "stranger", "padded", "other"]
)
def test_6_8_an_invalid_last_commit_makes_the_proposal_invalid(kind: str) -> None:
    """6.8, 9.1: in ranking order, one view, each signer once, at least q, all valid, for the parent."""
    bench, made = _second_height()
    good = made.proposal.last_commit
    assert good is not None
    items = good.signatures
    stranger = msgspec.structs.replace(items[0], signer=KeyedSigner(9).public_key)
    padding = msgspec.structs.replace(items[0], signer=bench.signers[3].public_key)
    first = bench.node.decided[0].block
    forged = {
        "missing": None,
        "short": msgspec.structs.replace(good, signatures=items[:2]),
        "twice": msgspec.structs.replace(good, signatures=(items[0], items[1], items[1])),
        "forged": msgspec.structs.replace(
            good, signatures=(*items[:2], msgspec.structs.replace(items[2], signature=bytes(64)))
        ),
        "order": msgspec.structs.replace(good, signatures=items[::-1]),
        "stranger": msgspec.structs.replace(good, signatures=(*items[:2], stranger)),
        "padded": msgspec.structs.replace(good, signatures=(*items, padding)),
        "other": certified(
            msgspec.structs.replace(
                first, header=msgspec.structs.replace(first.header, time_ms=START_MS + 77)
            ),
            Bench().context,
            bench.signers,
        ).certificate,
    }[kind]
    assert judged(bench, _with_last_commit(bench, made, forged)) == "rejected"


def test_6_8_commits_verified_as_votes_are_not_verified_again_in_the_last_commit() -> None:
    """One signature check per vote and node."""
    bench, made = _second_height()
    before = bench.verifier.calls
    bench.node.receive(made.proposal)
    assert bench.verifier.calls - before == 1


def test_9_1_block_1_has_no_last_commit() -> None:
    """9.1: empty in block 1."""
    bench = Bench()
    made = bench.propose(transaction(1))
    certificate = certified(made.block, bench.context, bench.signers[:3]).certificate
    header = msgspec.structs.replace(made.proposal.header, last_commit_hash=last_commit_hash(certificate))
    vote = pre_prepare(bench.signers[0], 1, 0, header.digest())
    proposal = msgspec.structs.replace(made.proposal, vote=vote, header=header, last_commit=certificate)
    assert judged(bench, proposal) == "rejected"


# ---------------------------------------------------------------------- contents


@pytest.mark.parametrize(("offset_ms", "outcome"), [(4_999, "rejected"), (5_000, "prepared")])
def test_6_8_an_empty_block_comes_at_least_the_interval_after_its_parent(
    offset_ms: int, outcome: str
) -> None:
    """6.8: a block without transactions, evidence or discards."""
    bench = Bench()
    assert judged(bench, bench.propose(time_ms=START_MS + offset_ms).proposal) == outcome


def test_6_8_sizes_are_within_limits() -> None:
    """6.8: by count, by bytes of transactions."""
    few = Bench(parameters=Parameters(max_block_transactions=2))
    assert judged(few, few.propose(*(transaction(i) for i in range(3))).proposal) == "rejected"
    small = Bench(parameters=Parameters(max_block_bytes=30))
    assert judged(small, small.propose(transaction(1)).proposal) == "prepared"
    small = Bench(parameters=Parameters(max_block_bytes=30))
    assert judged(small, small.propose(transaction(1), transaction(2)).proposal) == "rejected"


def test_6_8_a_transaction_listed_twice_is_invalid() -> None:
    """S8: at most once, and not twice in one block either."""
    bench = Bench()
    assert judged(bench, bench.propose(transaction(1), transaction(1)).proposal) == "rejected"


def test_6_8_an_invalid_transaction_makes_the_proposal_invalid() -> None:
    """6.8: every transaction is canonical, correctly signed, in its window, not on chain."""
    bench = Bench()
    bench.node.reject = lambda _proposal: "transaction 0 is on chain already"
    effects = bench.node.receive(bench.propose(transaction(1)).proposal)
    assert sent_of(effects, ViewChange)
    assert "invalid-proposal" in events(effects)


def test_6_8_while_bytes_are_missing_nothing_is_prepared_and_nobody_blamed() -> None:
    """6.4: who lacks those bytes fetches them; only the timer runs."""
    bench = Bench()
    made = make_proposal(bench.context, bench.signers[0], transaction(1))
    assert judged(bench, made.proposal) == "dropped"
    assert "view" in bench.node.timers


def test_6_8_a_checked_answer_for_another_proposal_changes_nothing() -> None:
    """An answer names height, view and digest; a late one is ignored."""
    bench = Bench()
    bench.node.answers = False
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    for height, view, digest in ((2, 0, made.digest), (1, 1, made.digest), (1, 0, bytes(32))):
        answer = ProposalChecked(bench.node.at, height, view, digest, made.block, None, (), None)
        assert not sent_of(bench.node.step(answer), Prepare)


# ---------------------------------------------------------------------- decided


@pytest.mark.parametrize(
    "change", [{"state_root": bytes(32)}, {"receipts_root": bytes(32)}, {"delegates_hash": bytes(32)}]
)
def test_6_8_a_replica_stops_only_if_a_decided_header_differs_from_its_own(change: dict[str, Any]) -> None:
    """6.8: q commits for another root than the own: stop, sign nothing more."""
    bench = Bench()
    made = bench.propose(transaction(1), **change)
    with pytest.raises(InvariantViolation):
        bench.node.step(
            DecidedReceived(bench.node.at, certified(made.block, bench.context, bench.signers[:3]))
        )


def test_6_8_a_ledger_that_continues_another_block_stops_the_replica() -> None:
    """S2: what the ledger says it applied is what was decided."""
    bench = Bench()
    made, other = bench.propose(transaction(1)), bench.propose(transaction(2))
    bench.node.receive(made.proposal)
    bench.node.answers = False
    bench.commits(made, [0, 2, 3])
    wrong = next_context(bench.context, certified(other.block, bench.context, bench.signers[:3]))
    with pytest.raises(InvariantViolation):
        bench.node.step(Advanced(bench.node.at, wrong))


def test_6_8_the_whole_block_is_what_is_stored() -> None:
    """6.5: with last-commit and transactions, as its header binds them."""
    bench, made = _second_height()
    effects = bench.node.receive(made.proposal)
    record = of_kind(effects, Persist)[0].records[0]
    assert record == BlockRecord(2, made.block)
    assert isinstance(made.block, Block)
    assert made.block.header.discarded_root == discarded_root(())
    assert made.block.header.delegates_hash == delegate_set(bench.signers).hash()
