"""Bad input of every kind is refused with a reason, in the room that it reaches first: where each kind has its test.

A table that names a test which is gone, renamed or moved fails. `tests/cluster/test_garbage.py` throws what can come
from outside at a running node.
"""

import ast
from pathlib import Path
from typing import Final

import pytest

from contracts.receipts import ReasonCode
from contracts.transaction import Readings, Transfer
from contracts.validation import InvalidReason, InvalidTransaction
from tests.support.chain import Chain

TESTS: Final = Path(__file__).resolve().parents[1]
PROTOCOL, CONTRACTS, NETWORK, NODE, CONSENSUS = (
    "protocol",
    "unit/contracts",
    "unit/network",
    "unit/node",
    "unit/consensus",
)
BALLOTS: Final = f"{PROTOCOL}/test_section_5_ballots.py"
PHASES: Final = f"{PROTOCOL}/test_section_4_phases.py"
SYNC: Final = f"{NETWORK}/test_sync.py"

SHOWN_BY: Final[dict[str, tuple[str, ...]]] = {
    # ---- transactions
    "malformed": (
        f"{NODE}/test_intake.py::test_malformed_and_oversize",
        f"{NODE}/test_intake.py::test_peer_that_passes_on_rubbish_is_punished",
        f"{NODE}/api/test_transactions.py::test_malformed_bytes_are_400",
        f"{PROTOCOL}/test_section_9.py::test_9_4_an_unknown_type_is_refused",
    ),
    "oversize": (
        f"{NODE}/test_intake.py::test_malformed_and_oversize",
        f"{NODE}/api/test_transactions.py::test_too_large_bodies_are_413_announced_or_not",
        f"{PROTOCOL}/test_section_9.py::test_9_4_size_is_checked_before_decoding",
        f"{CONTRACTS}/test_validation.py::test_a_block_holds_a_limited_count_of_bytes_removals_included",
    ),
    "non-canonical": (
        f"{PROTOCOL}/test_section_9.py::test_9_4_decoding_then_encoding_gives_the_same_bytes_or_refusal",
        f"{NETWORK}/test_hostile_peers.py::test_a_malformed_frame_costs_the_connection_and_a_ban_with_its_reason",
    ),
    "wrongly signed": (
        f"{NODE}/test_intake.py::test_bad_signature_and_wrong_signer",
        f"{CONTRACTS}/test_validation.py::test_a_wrong_signature_of_any_signer_is_found",
        f"{CONTRACTS}/test_validation.py::test_every_nested_signature_is_verified",
        f"{CONTRACTS}/test_validation.py::test_the_first_key_hashes_to_the_sender",
    ),
    "replayed": (
        f"{PROTOCOL}/test_section_9.py::test_9_2_ids_are_kept_until_header_time_passes_valid_until",
        f"{PROTOCOL}/test_section_9.py::test_9_2_a_rejected_id_is_kept_too",
        f"{PROTOCOL}/test_section_9.py::test_9_2_a_discarded_id_is_kept_too",
        f"{NODE}/test_intake.py::test_same_bytes_again_are_known_in_every_state",
        "protocol/test_bad_input.py::test_a_replay_is_fit_for_no_block_as_long_as_its_window_lasts",
    ),
    "expired": (
        f"{NODE}/test_intake.py::test_windows",
        f"{PROTOCOL}/test_section_9.py::test_9_2_header_time_lies_in_the_window",
        f"{PROTOCOL}/test_section_9.py::test_9_2_a_window_is_at_most_tx_window_ms_long",
    ),
    "foreign chain": (
        f"{NODE}/test_intake.py::test_foreign_chain",
        f"{PROTOCOL}/test_section_9.py::test_9_2_a_transaction_of_another_chain_is_refused",
        f"{CONTRACTS}/test_validation.py::test_nested_signatures_name_the_chain",
        f"{NETWORK}/test_transport.py::test_another_chain_parameters_or_version_are_refused",
    ),
    "duplicate": (
        f"{PROTOCOL}/test_section_9.py::test_9_2_a_transaction_stands_once_in_a_block",
        f"{PROTOCOL}/test_section_9.py::test_9_2_the_id_is_the_hash_of_the_body_whatever_the_signature_bytes",
        f"{NODE}/test_mempool.py::test_same_id_with_other_bytes_is_held_once",
    ),
    # ---- trades and readings
    "overdrawn escrow": (
        f"{PROTOCOL}/test_section_2.py::test_2_2_an_accept_without_balance_leaves_the_offer_open",
        f"{CONTRACTS}/test_engine.py::test_a_contract_that_drops_escrow_stops_the_node",
    ),
    "self-trade": (f"{PROTOCOL}/test_section_2.py::test_2_1_seller_and_buyer_are_different_members",),
    "window in the past": (
        f"{PROTOCOL}/test_section_2.py::test_2_2_every_way_in_needs_header_time_before_the_start",
    ),
    "reading by a wrong key": (
        f"{PROTOCOL}/test_section_2.py::test_2_4_anyone_may_carry_readings_which_the_meter_signed",
        "protocol/test_bad_input.py::test_a_reading_by_another_members_meter_is_refused_and_the_right_one_still_counts",
    ),
    "readings out of order": (
        f"{PROTOCOL}/test_section_2.py::test_2_4_counters_lie_between_those_of_the_neighbours",
        f"{PROTOCOL}/test_section_2.py::test_2_4_a_slot_is_read_once",
        f"{PROTOCOL}/test_section_2.py::test_2_4_the_slot_must_have_ended_by_header_time",
    ),
    "reading beyond capacity": (
        f"{PROTOCOL}/test_section_1.py::test_1_4_a_register_is_at_most_the_slots_capacity",
    ),
    # ---- elections and grouping
    "ballot for a non-member of the group": (
        f"{PROTOCOL}/test_section_5_ballots.py::test_5_2_choices_stand_in_the_voters_group_and_are_distinct",
    ),
    "old ballot brought back": (
        f"{BALLOTS}::test_5_2_the_highest_sequence_counts_and_an_old_ballot_cannot_be_brought_back",
    ),
    "plan that is no partition": (
        f"{PROTOCOL}/test_section_4_grouping.py::test_4_5_a_plan_that_is_no_partition_is_refused",
        f"{PHASES}::test_4_5_a_plan_is_a_group_number_per_eligible_member_and_its_true_score",
    ),
    "plan that is no better": (
        f"{PROTOCOL}/test_section_4_phases.py::test_4_5_a_claim_not_below_the_best_is_refused_unread",
    ),
    # ---- consensus
    "forged certificate": (
        f"{CONSENSUS}/test_certificate.py::test_a_forged_or_padded_certificate_is_refused",
        f"{PROTOCOL}/test_section_6_phases.py::test_6_12_a_decided_block_is_taken_only_with_its_certificate",
        f"{SYNC}::test_a_block_with_a_forged_certificate_costs_its_sender_and_is_fetched_elsewhere",
    ),
    "small-order keys": (
        f"{PROTOCOL}/test_section_1.py::test_1_3_small_order_and_non_canonical_keys_are_refused",
        f"{NETWORK}/test_tls.py::test_a_key_of_small_order_is_refused",
    ),
    # ---- sockets
    "frame of 4 GiB": (
        f"{NETWORK}/test_framing.py::test_a_frame_of_4_gib_is_refused_by_its_prefix_and_nothing_is_kept",
        f"{NETWORK}/test_hostile_peers.py::test_a_malformed_frame_costs_the_connection_and_a_ban_with_its_reason",
    ),
    "frame of zero": (f"{NETWORK}/test_framing.py::test_an_empty_frame_is_refused",),
    "half a frame": (
        f"{NETWORK}/test_hostile_peers.py::test_half_a_frame_and_the_end_changes_nothing",
        f"{NETWORK}/test_hostile_peers.py::test_a_frame_that_never_ends_is_given_up",
        f"{NETWORK}/test_framing.py::test_no_input_keeps_more_than_one_unfinished_frame",
    ),
    "1 000 idle sockets": (
        f"{NETWORK}/test_hostile_peers.py::test_1000_idle_sockets_do_no_harm_and_are_closed",
        f"{NODE}/api/test_server.py::test_a_thousand_idle_sockets_hinder_nobody",
    ),
    "all of it at a running node": (
        "cluster/test_garbage.py::test_a_node_under_fire_stays_ready_bounded_and_useful",
    ),
}


@pytest.mark.parametrize("kind", SHOWN_BY)
def test_every_kind_of_bad_input_has_its_test(kind: str) -> None:
    for place in SHOWN_BY[kind]:
        path, _, name = place.partition("::")
        tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
        defined = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
        [found] = [one for one in defined if one.name == name]
        checks = [one for one in ast.walk(found) if isinstance(one, ast.Assert | ast.With | ast.AsyncWith)]
        assert checks, f"{place} checks nothing"


# ---------------------------------------------------------------- what had no test elsewhere


def test_a_replay_is_fit_for_no_block_as_long_as_its_window_lasts() -> None:
    """9.2: the money moves once, however often and however late in its window the same bytes are offered."""
    chain = Chain()
    payer, payee = chain.members[:2]
    paid = chain.transaction(payer, Transfer(payee.address, 5))
    chain.block(paid)
    before = chain.account(payee).balance
    for at in (chain.time_ms + 1, paid.valid_until_ms):
        with pytest.raises(InvalidTransaction) as refused:
            chain.validate([paid], (), at)
        assert refused.value.reason is InvalidReason.ALREADY_ON_CHAIN
    with pytest.raises(InvalidTransaction) as refused:
        chain.validate([paid], (), paid.valid_until_ms + 1)
    assert refused.value.reason is InvalidReason.EXPIRED
    assert chain.account(payee).balance == before


def test_a_reading_by_another_members_meter_is_refused_and_the_right_one_still_counts() -> None:
    """2.4: only the member's own meter speaks for it; a refused reading takes up no slot and no counter."""
    chain = Chain()
    member, other = chain.members[:2]
    slot = chain.time_ms // chain.parameters.slot_ms + 1
    chain.run_to((slot + 2) * chain.parameters.slot_ms)
    forged = chain.reading(member, slot, 7, counter=900, meter=chain.meters[other.address])
    refused = chain.receipt(other, Readings((forged,)))
    assert (refused.code, refused.events) == (ReasonCode.READING_KEY_WRONG, ())
    right = chain.reading(member, slot, 7, counter=1)
    assert chain.receipt(other, Readings((right,))).code is ReasonCode.OK
