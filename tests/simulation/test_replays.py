"""Bugs that other projects shipped, each put back into this code and found (RELIABILITY G6, section 1).

Most are found by the simulator: seeds run on the code with the bug in it until one has a finding, and the same
seeds find nothing on the code as shipped. The others are shown at the door they came through, beside the shipped code.
"""

from collections.abc import Callable, Iterator

import pytest

from consensus import grouping, next_height, removal, view_change
from consensus.block import Discard
from consensus.errors import InvalidMessage, MalformedInput
from consensus.judge import Judge
from consensus.messages import Accepted
from network import sync
from network.sync_effects import LeaveOut
from scripts.simulating.mutants import Ground, check_shipped, hunt
from scripts.simulating.replays import BUGS, code_with
from tests.unit.consensus import support
from tests.unit.consensus.support import CHAIN, KeyedSigner, KeyedVerifier

PutBack = Callable[[str], None]
MOST_SEEDS = 60


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as opened:
        yield opened


@pytest.fixture
def put_back(ground: Ground) -> PutBack:
    """Demands that the bug is found, and that nothing is without it."""

    def demand(name: str) -> None:
        killed = hunt(BUGS[name], ground, most_seeds=MOST_SEEDS)
        assert killed.finding is not None, f"{killed.seeds} seeds of {killed.family} did not find it"
        check_shipped([killed], ground)

    return demand


def _judge() -> tuple[list[KeyedSigner], Judge]:
    signers = [KeyedSigner(index) for index in range(4)]
    context = support.first_context(support.delegate_set(signers))
    return signers, Judge(CHAIN, context, KeyedVerifier())


# ---------------------------------------------------------------------- signatures and digests


def test_fisco_bcos_2448_digest_not_recomputed(put_back: PutBack) -> None:
    """FISCO-BCOS #2448: the hash in a decoded message was believed instead of recomputed."""
    put_back("header-not-bound")


def test_fisco_bcos_2448_forged_view_change(put_back: PutBack) -> None:
    """FISCO-BCOS #2448, second part: forged view messages were accepted."""
    put_back("view-changes-unsigned")


def test_fisco_bcos_2307_header_not_checked(put_back: PutBack) -> None:
    """FISCO-BCOS #2307: delegates voted before they had checked the header."""
    put_back("header-unchecked")


def test_rustchain_2086_unsigned_new_view(put_back: PutBack) -> None:
    """Rustchain #2086: whoever could reach the node could change its view."""
    put_back("new-view-unsigned")


def test_rustchain_2087_digest_not_compared(put_back: PutBack) -> None:
    """Rustchain #2087: votes were counted whatever block they were for."""
    put_back("digest-not-compared")


def test_rustchain_4218_leaders_result_not_recomputed(put_back: PutBack) -> None:
    """Rustchain #4218: what the leader computed, a split of rewards, was taken over unchecked."""
    put_back("state-root-not-compared")


def test_rustchain_7363_anybody_proposes(put_back: PutBack) -> None:
    """Rustchain #7363: whoever could reach a node could propose."""
    put_back("anybody-proposes")


def test_raijin_5_prepares_unverified(put_back: PutBack) -> None:
    """raijin #5: the signatures of prepares were not verified."""
    put_back("prepares-unverified")


def test_raijin_6_commits_unverified(put_back: PutBack) -> None:
    """raijin #6: the signatures of commits were not verified."""
    put_back("commits-unverified")


def test_raijin_17_two_phases_sign_the_same_bytes(put_back: PutBack) -> None:
    """raijin #17: prepare and commit signed identical bytes."""
    put_back("prepare-signs-as-commit")


# ---------------------------------------------------------------------- view changes


def test_fisco_bcos_2312_huge_view(put_back: PutBack) -> None:
    """FISCO-BCOS #2312: a node followed a huge view and was stuck there."""
    put_back("farthest-view-joined")


def test_fisco_bcos_2211_one_view_change_drags_all(put_back: PutBack) -> None:
    """FISCO-BCOS #2211: a single view-change for a large view dragged every node along."""
    put_back("f-view-changes-pull")


def test_platon_389_forged_prepared_certificate(put_back: PutBack) -> None:
    """PlatON #389: a view-change with a forged prepared certificate poisoned the new view."""
    put_back("prepared-unchecked")


def test_platon_389_certificate_of_another_height(put_back: PutBack) -> None:
    """PlatON #389, second part: what a view-change showed was of another height."""
    put_back("height-of-messages-unchecked")


def test_concord_bft_50_one_bad_part_hides_good_ones() -> None:
    """concord-bft #50: one bad certificate hid the valid ones beside it."""
    signers, judge = _judge()
    changes = [support.view_change(signer, 1, 1) for signer in signers]
    bad = support.view_change(signers[3], 1, 1, accepted=(Accepted(5, bytes(32)),))
    message = support.new_view(signers[1], 1, 1, (*changes[:3], bad))
    assert view_change.check_new_view(message, judge, {}) == tuple(changes[:3])
    with pytest.raises(InvalidMessage, match="accepted views"):
        code_with("bad-part-spoils-the-whole").check_new_view(message, judge, {})


def test_concord_bft_1399_late_delegate(put_back: PutBack) -> None:
    """concord-bft #1399, indy-plenum #1506: a delegate without the others' last decision asked for views for ever."""
    put_back("late-delegate-not-answered")


def test_raijin_7_any_new_view_obeyed(put_back: PutBack) -> None:
    """raijin #7: any new-view was obeyed, whoever sent it."""
    put_back("new-view-by-anybody")


def test_raijin_7_view_changes_counted_twice(put_back: PutBack) -> None:
    """raijin #7, second part: view-changes of one sender were counted more than once."""
    put_back("new-view-sender-twice")


def test_raijin_8_prepared_block_lost(put_back: PutBack) -> None:
    """raijin #8: a prepared block was lost in a view change."""
    put_back("certificate-not-carried")


def test_raijin_18_view_goes_backward(put_back: PutBack) -> None:
    """raijin #18: a replayed message moved the view backward."""
    put_back("view-goes-backward")


def test_ibft_1_prepared_block_not_locked(put_back: PutBack) -> None:
    """IBFT 1 (Saltini): a block that may be decided was given up, so the protocol was neither safe nor live."""
    put_back("nothing-chosen")


# ---------------------------------------------------------------------- quorums


def test_celo_253_quorum_of_2f_plus_1(put_back: PutBack) -> None:
    """celo #253: 2 f + 1 where n is not 3 f + 1."""
    put_back("quorum-2f-plus-1")


def test_klaytn_2026_quorum_of_two_thirds(put_back: PutBack) -> None:
    """klaytn #2026: two thirds rounded up where n is not 3 f + 1."""
    put_back("quorum-two-thirds-rounded-up")


def test_quorum_ibft_commit_quorum(put_back: PutBack) -> None:
    """Quorum IBFT: only the commits were counted against 2 f + 1."""
    put_back("commit-quorum-2f-plus-1")


# ---------------------------------------------------------------------- durable before it leaves


def test_malachite_864_vote_before_it_is_durable(put_back: PutBack) -> None:
    """malachite #864: a vote was sent before it was durable, so that a crash made an honest node equivocate."""
    put_back("send-before-persist")


def test_telcoin_934_vote_not_durable_at_all(put_back: PutBack) -> None:
    """telcoin #934: after a restart a node did not know what it had voted for."""
    put_back("vote-not-journaled")


def test_cometbft_5668_double_sign_check_off_by_one(put_back: PutBack) -> None:
    """CometBFT (Tendermint) #5668: the check for double signing ended one height early."""
    put_back("abstention-ends-early")


def test_besu_8307_wiped_node_stalls(put_back: PutBack) -> None:
    """besu #8307: nodes that had lost their data never came back."""
    put_back("wiped-node-silent-for-ever")


# ---------------------------------------------------------------------- bounds and malformed input


def test_cometbft_asa_2025_003_shares_do_not_fit_the_set(put_back: PutBack) -> None:
    """CometBFT ASA-2025-003: a certificate whose shares do not fit the validators was taken."""
    put_back("certificate-signer-twice")


def test_cometbft_asa_2025_001_lowered_height() -> None:
    """CometBFT ASA-2025-001: a peer lowered its height and the sync waited for it for ever."""
    peer = bytes(32)
    for session, barred in (
        (sync.SyncSession(0), True),
        (code_with("lowered-height-believed").SyncSession(0), False),
    ):
        session.status(peer, 40, 1, 0)
        effects = session.status(peer, 7, 1, 10)
        assert any(isinstance(effect, LeaveOut) for effect in effects) is barred


def test_cometbft_asa_2024_011_index_out_of_range() -> None:
    """CometBFT ASA-2024-011: an index from a message was used unchecked."""
    with pytest.raises(MalformedInput):
        grouping.check_plan((0, 1, 0, 99), 4, 2)
    with pytest.raises(IndexError):
        code_with("group-number-out-of-range").check_plan((0, 1, 0, 99), 4, 2)


def test_fabric_2022_31121_malformed_message_kills() -> None:
    """Fabric CVE-2022-31121, CVE-2021-43669: a malformed message ended the process that read it."""
    _, judge = _judge()
    false = (Discard(bytes(32), b"\xc1", ()),)
    with pytest.raises(InvalidMessage):
        removal.RemovalCheck(judge, 1).check(false)
    with pytest.raises(MalformedInput):
        code_with("malformed-removal-raises").RemovalCheck(judge, 1).check(false)


def test_starkware_14500_future_votes_unbounded() -> None:
    """starkware sequencer #14500: votes for later heights were kept without a bound."""
    signer = KeyedSigner(0)
    for shipped, module in ((True, next_height), (False, code_with("next-height-unbounded"))):
        kept = module.NextHeight()
        for view in range(100):
            kept.keep(signer.public_key, support.prepare(signer, 2, view, bytes(32)))
        assert (len(kept.take()) == 1) is shipped


def test_near_mpc_2247_votes_of_a_peer_unbounded(put_back: PutBack) -> None:
    """near/mpc #2247: the window was tested by height alone, so a peer could fill it with views."""
    put_back("views-of-a-sender-unbounded")


# ---------------------------------------------------------------------- sets and epochs


def test_diem_897_set_changes_one_block_early(put_back: PutBack) -> None:
    """diem #897: blocks after a reconfiguration were decided by the wrong set."""
    put_back("set-one-block-early")


def test_bsc_2113_set_switched_before_it_was_final(put_back: PutBack) -> None:
    """bsc #2113: the set was switched before the block that changed it was confirmed."""
    put_back("recount-one-block-early")


def test_diem_6094_state_carried_over_an_epoch_change(put_back: PutBack) -> None:
    """diem #6094: what belonged to one epoch was still at work in the next; only long runs over epochs showed it."""
    put_back("missed-counted-across-epochs")
