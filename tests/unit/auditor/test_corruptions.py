"""Planted corruptions, each found, and named by height and rule (PROTOCOL 12)."""

from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest

from consensus.block import Block, CommitSignature, Discard
from consensus.encoding import encode
from consensus.messages import Commit, sign_vote
from contracts.receipts import EpochPhase
from contracts.transaction import Heartbeat, Leave, TradeOpen, Transfer
from node.auditor.driver import audit_source
from tests.support.chain import Key
from tests.unit.auditor.forging import (
    ListSource,
    audit_of,
    decoded,
    found,
    recertified,
    removal,
    replace,
    resealed,
)
from tests.unit.auditor.history import CertifiedChain

AT = 4
"""The block most corruptions are planted in: it has three transactions."""


@pytest.fixture(scope="module")
def chain() -> CertifiedChain:
    """A short chain that holds; tests change copies of its blocks."""
    chain = CertifiedChain(members=8, groups=4)
    for _ in range(AT - 1):
        chain.block(after_ms=500)
    members = chain.members
    chain.block(
        chain.transaction(members[0], Transfer(members[1].address, 10**15)),
        chain.transaction(members[1], Transfer(members[2].address, 2 * 10**15)),
        chain.transaction(members[3], TradeOpen(chain.terms(members[3], members[4])), members[4]),
    )
    for _ in range(4):
        chain.block(after_ms=500)
    assert audit_of(chain).findings == []
    return chain


Change = Callable[[Block], Block]


def with_transactions(*order: int) -> Change:
    """The block's transactions in another order, or some of them twice."""
    return lambda block: replace(block, transactions=tuple(block.transactions[i] for i in order))


def same(block: Block) -> Block:
    """No change but that of header fields."""
    return block


# ------------------------------------------------------------ certificates


def test_a_flipped_bit_in_a_commit(chain: CertifiedChain) -> None:
    first, *rest = decoded(chain, AT).certificate.signatures
    flipped = replace(first, signature=bytes([first.signature[0] ^ 1]) + first.signature[1:])
    audit = audit_of(chain, {AT: recertified(chain, AT, signatures=(flipped, *rest))})
    assert (AT, "6.4 commit in the certificate") in found(audit)
    assert first.signer.hex() in audit.findings[0].found


def test_a_certificate_of_q_minus_1(chain: CertifiedChain) -> None:
    certificate = decoded(chain, AT).certificate
    audit = audit_of(chain, {AT: recertified(chain, AT, signatures=certificate.signatures[:2])})
    assert found(audit) == [(AT, "6.4 certificate")]
    assert audit.findings[0].expected == "3 distinct delegates (6.2)"


def test_q_signatures_of_which_two_are_one_delegates(chain: CertifiedChain) -> None:
    a, b, *_ = decoded(chain, AT).certificate.signatures
    audit = audit_of(chain, {AT: recertified(chain, AT, signatures=(a, b, b))})
    assert found(audit) == [(AT, "6.4 certificate")] * 2


def test_a_member_without_a_seat_signs(chain: CertifiedChain) -> None:
    certified = decoded(chain, AT)
    seated = {share.signer for share in certified.certificate.signatures}
    stranger = next(key for key in chain.members if key.public_key not in seated)
    header = certified.block.header
    place = (chain.chain_id, header.epoch, header.height, header.view, header.digest())
    vote = sign_vote(Commit, *place, stranger)
    shares = (*certified.certificate.signatures[:2], CommitSignature(vote.signer, vote.signature))
    audit = audit_of(chain, {AT: recertified(chain, AT, signatures=shares)})
    assert found(audit) == [(AT, "6.4 certificate")]
    assert audit.findings[0].found == stranger.address.hex()


def test_commits_out_of_ranking_order(chain: CertifiedChain) -> None:
    shares = decoded(chain, AT).certificate.signatures
    audit = audit_of(chain, {AT: recertified(chain, AT, signatures=shares[::-1])})
    assert found(audit) == [(AT, "6.4 certificate")]


def test_a_certificate_of_another_block(chain: CertifiedChain) -> None:
    other = decoded(chain, AT - 1).certificate
    forged = encode(replace(decoded(chain, AT), certificate=other))
    assert (AT, "6.4 certificate") in found(audit_of(chain, {AT: forged}))


def test_a_last_commit_that_is_not_the_headers(chain: CertifiedChain) -> None:
    certified = decoded(chain, AT)
    commit = certified.block.last_commit
    assert commit is not None
    thinner = replace(commit, signatures=commit.signatures[:2])
    forged = encode(replace(certified, block=replace(certified.block, last_commit=thinner)))
    audit = audit_of(chain, {AT: forged})
    assert (AT, "9.1 last-commit hash") in found(audit)
    assert (AT, "9.1 last-commit") in found(audit)


# ------------------------------------------------------------ transactions


def test_a_changed_byte_of_a_transaction(chain: CertifiedChain) -> None:
    certified = decoded(chain, AT)
    first, *rest = certified.block.transactions
    forged = replace(certified.block, transactions=(first[:-1] + bytes([first[-1] ^ 1]), *rest))
    audit = audit_of(chain, {AT: encode(replace(certified, block=forged))})
    assert (AT, "6.8 signature of transaction 0") in found(audit)
    assert (AT, "9.1 transaction root") in found(audit)


def test_transactions_in_another_order(chain: CertifiedChain) -> None:
    certified = decoded(chain, AT)
    forged = encode(replace(certified, block=with_transactions(1, 0, 2)(certified.block)))
    assert found(audit_of(chain, {AT: forged}))[0] == (AT, "9.1 transaction root")


def test_another_order_signed_by_all_delegates_shows_in_the_next_roots(chain: CertifiedChain) -> None:
    audit = audit_of(chain, resealed(chain, AT, with_transactions(1, 0, 2)))
    assert found(audit) == [(AT + 1, "9.1 receipts root"), (AT + 1, "9.1 state root")]
    assert audit.is_stopped()


def test_an_id_twice_in_a_block(chain: CertifiedChain) -> None:
    audit = audit_of(chain, resealed(chain, AT, with_transactions(0, 1, 2, 0)))
    assert found(audit)[0] == (AT, "9.2 ids at most once (S8)")


def test_an_id_again_in_a_later_block(chain: CertifiedChain) -> None:
    raw = decoded(chain, AT).block.transactions[0]
    audit = audit_of(chain, resealed(chain, AT + 2, lambda block: replace(block, transactions=(raw,))))
    assert found(audit)[0] == (AT + 2, "9.2 ids at most once (S8)")
    assert "again in this chain" in audit.findings[0].found


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"valid_until_ms": 1}, "6.8 transaction"),
        ({"chain_id": bytes(32)}, "6.8 transaction"),
        ({"claimed_sender": bytes(20)}, "6.8 transaction"),
        ({"valid_from_ms": 2_000_000_000_000}, "9.2 window"),
    ],
)
def test_a_transaction_that_no_block_may_hold(
    chain: CertifiedChain, options: dict[str, Any], rule: str
) -> None:
    raw = chain.transaction(chain.members[5], Leave(), **options).raw
    audit = audit_of(chain, resealed(chain, AT, lambda block: replace(block, transactions=(raw,))))
    assert (AT, rule) in found(audit)


def test_a_forged_signature_inside_a_payload(chain: CertifiedChain) -> None:
    member = chain.members[0]
    reading = chain.reading(member, chain.time_ms // 1_000 - 2, counter=1)
    forged = chain.readings(replace(reading, exported_wh=7)).raw
    audit = audit_of(chain, resealed(chain, AT, lambda block: replace(block, transactions=(forged,))))
    assert (AT, "6.8 signature of transaction 0") in found(audit)


def test_bytes_that_are_no_transaction(chain: CertifiedChain) -> None:
    audit = audit_of(chain, resealed(chain, AT, lambda block: replace(block, transactions=(b"\x93\x01",))))
    assert (AT, "9.4 transactions") in found(audit)
    assert audit.is_stopped()


# ------------------------------------------------------------ headers


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("state_root", bytes(32), "9.1 state root"),
        ("receipts_root", bytes(32), "9.1 receipts root"),
        ("delegates_hash", bytes(32), "7.2 delegates hash"),
        ("next_delegates_hash", bytes(32), "7.2 next delegates hash"),
        ("parent_hash", bytes(32), "9.1 parent hash"),
        ("chain_id", bytes(32), "9.1 chain id"),
        ("version", 2, "9.1 version"),
        ("epoch", 1, "4.4 epoch"),
        ("proposer", bytes(20), "6.3 proposer"),
        ("view", 1, "6.3 proposer"),
        ("discarded_root", bytes(32), "9.1 discarded root"),
        ("transactions_root", bytes(32), "9.1 transaction root"),
        ("time_ms", 1, "6.8 time"),
    ],
)
def test_a_wrong_field_of_a_signed_header(chain: CertifiedChain, field: str, value: Any, rule: str) -> None:
    audit = audit_of(chain, resealed(chain, AT, same, **{field: value}))
    assert found(audit)[0] == (AT, rule)


def test_an_empty_block_too_early(chain: CertifiedChain) -> None:
    before = decoded(chain, AT - 2).block.header.time_ms
    audit = audit_of(chain, resealed(chain, AT - 1, same, time_ms=before + 499))
    assert found(audit)[0] == (AT - 1, "6.9 empty block")


def test_a_view_of_the_certificate_below_the_headers(chain: CertifiedChain) -> None:
    header = decoded(chain, AT).block.header
    holders = [share.signer for share in decoded(chain, AT).certificate.signatures]
    proposer = {key.public_key: key.address for key in chain.members}[holders[1]]
    audit = audit_of(chain, resealed(chain, AT, same, view=header.view + 1, proposer=proposer))
    assert found(audit)[0] == (AT, "6.4 certificate")


# ------------------------------------------------------------ whole histories


def test_credit_that_came_from_nowhere() -> None:
    """All delegates collude: the engine goes on from a state in which one member has a credit more."""
    chain = CertifiedChain(members=8, groups=4)
    chain.block(after_ms=500)
    chain.set_account(chain.members[2], credit=50_001)
    for _ in range(3):
        chain.block(after_ms=500)
    assert found(audit_of(chain)) == [(2, "9.1 state root")]


def test_money_that_came_from_nowhere() -> None:
    chain = CertifiedChain(members=8, groups=4)
    chain.block(after_ms=500)
    chain.set_account(chain.members[2], balance=10**15 + 1)
    chain.block(chain.transaction(chain.members[2], Transfer(chain.members[0].address, 10**15 + 1)))
    assert found(audit_of(chain)) == [(2, "9.1 state root")]


def test_a_tally_that_counts_a_ballot_otherwise() -> None:
    """The set of the next epoch is another than the ballots elect."""
    chain = CertifiedChain(members=8, groups=4)
    chain.to_last_voting_block()
    epoch = chain.record.epoch + 1
    group = chain.group(chain.members[0], epoch)
    chain.block(chain.ballots(*(chain.ballot(key, epoch, 1, group[1]) for key in group)), after_ms=1_000)
    assert chain.record.phase is EpochPhase.CLOSING
    key = (chain.height + 2).to_bytes(8, "big")
    seats = chain.state.epoch.seat_sets.require(key)
    first, *rest = seats.ranking
    other = next(k for k in chain.group(chain.keys[first.holder], epoch) if k.address != first.holder)
    forged = msgspec.structs.replace(first, holder=other.address)
    chain.state.epoch.seat_sets.put(key, replace(seats, ranking=(forged, *rest)))
    chain.state.commit()
    last = chain.height
    chain.block(after_ms=500)
    rules = found(audit_of(chain))
    assert (last + 1, "9.1 state root") in rules
    assert (last + 1, "7.2 next delegates hash") in rules


def test_another_genesis(chain: CertifiedChain) -> None:
    other = replace(chain.genesis, founding_balance=chain.genesis.founding_balance + 1)
    audit = audit_of(chain, genesis=encode(other))
    assert (1, "9.1 chain id") in found(audit)
    assert (1, "9.1 state root") in found(audit)
    source = ListSource(encode(other), chain.certified)
    audit = audit_source(source, genesis_hash=chain.chain_id)
    assert found(audit) == [(0, "9.1 genesis hash")]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"version": 2}, "version"),
        ({"chain_name": "other"}, "registration"),
        ({"operator_threshold": 1}, "threshold"),
        ({"admission": 1}, "invited"),
        ({"entry_balance": 5}, "entry_balance"),
        ({"founding_balance": 10**18 + 1}, "10^18"),
        ({"members": ()}, "members"),
    ],
)
def test_a_genesis_that_breaks_a_rule(chain: CertifiedChain, change: dict[str, Any], broken: str) -> None:
    plain = msgspec.to_builtins(chain.genesis, builtin_types=(bytes,))
    names = type(chain.genesis).__struct_fields__
    for name, value in change.items():
        plain[names.index(name)] = list(value) if isinstance(value, tuple) else value
    audit = audit_of(chain, genesis=msgpack.packb(plain))
    assert all(height == 0 for height, _ in found(audit))
    assert any(broken in finding.expected for finding in audit.findings)
    assert audit.is_stopped()


# ------------------------------------------------------------ removals


def removing_chain(discard: Callable[[CertifiedChain], Discard], view: int = 2) -> CertifiedChain:
    """A chain whose second block removes something."""
    chain = CertifiedChain(members=8, groups=4)
    chain.block(after_ms=500)
    item = discard(chain)
    chain.block(after_ms=500, view=view, discarded=(item,), validate=False)
    chain.block(after_ms=500)
    return chain


def victim(chain: CertifiedChain) -> Any:
    """What is removed."""
    return chain.transaction(chain.members[0], Heartbeat(0, None))


def proof(chain: CertifiedChain, **options: Any) -> Discard:
    """A proof that holds."""
    return removal(chain, victim(chain), **options)


def without_view_changes(chain: CertifiedChain) -> Discard:
    item = proof(chain)
    first, *rest = item.proposals
    return replace(item, proposals=(replace(first, view_changes=first.view_changes[:1]), *rest))


def of_one_primary(chain: CertifiedChain) -> Discard:
    item = proof(chain)
    return replace(item, proposals=(item.proposals[0], item.proposals[0]))


def of_another_transaction(chain: CertifiedChain) -> Discard:
    other = chain.transaction(chain.members[0], Leave())
    return replace(proof(chain), transaction=other.raw, transaction_id=other.id)


def with_flipped_signature(chain: CertifiedChain) -> Discard:
    item = proof(chain)
    first, *rest = item.proposals
    changed = first.view_changes[0][:-1] + bytes([first.view_changes[0][-1] ^ 1])
    return replace(item, proposals=(replace(first, view_changes=(changed, *first.view_changes[1:])), *rest))


def of_a_view_not_below(chain: CertifiedChain) -> Discard:
    return proof(chain, views=(0, 2))


@pytest.mark.parametrize(
    ("discard", "rule"),
    [
        (without_view_changes, "6.10 removal"),
        (of_one_primary, "6.10 removal"),
        (of_another_transaction, "6.10 removal"),
        (with_flipped_signature, "6.10 removal"),
        (of_a_view_not_below, "6.10 removal"),
    ],
)
def test_a_forged_removal(discard: Callable[[CertifiedChain], Discard], rule: str) -> None:
    chain = removing_chain(discard)
    assert found(audit_of(chain))[0] == (2, rule)


def test_a_removal_that_lists_another_id() -> None:
    chain = removing_chain(proof)
    assert found(audit_of(chain)) == []
    item = replace(decoded(chain, 2).block.discarded[0], transaction_id=bytes(32))
    audit = audit_of(chain, resealed(chain, 2, lambda block: replace(block, discarded=(item,))))
    assert found(audit)[0] == (2, "6.10 removed id")


def test_a_removal_of_what_is_included() -> None:
    chain = CertifiedChain(members=8, groups=4)
    chain.block(after_ms=500)
    transaction = victim(chain)
    chain.block(transaction, view=2, discarded=(removal(chain, transaction),), validate=False)
    assert found(audit_of(chain))[0] == (2, "9.2 ids at most once (S8)")


# ------------------------------------------------------------ bytes


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data + b"\x00",
        lambda data: data[:-1],
        lambda data: b"\xdc\x00\x02" + data[1:],  # a longer length prefix than needed
        lambda data: b"",
        lambda data: b"\xc1" * 40,
        lambda data: msgpack.packb({1: 2}),
        lambda data: msgpack.packb([1.5, []]),
        lambda data: b"\x91" * 5_000,
    ],
)
def test_bytes_that_are_not_canonical(chain: CertifiedChain, spoil: Callable[[bytes], bytes]) -> None:
    audit = audit_of(chain, {AT: spoil(chain.certified[AT - 1])})
    assert found(audit) == [(AT, "9.4 block")]
    assert audit.summary().blocks == AT - 1
    assert audit.is_stopped()


def test_a_missing_block_and_one_in_anothers_place(chain: CertifiedChain) -> None:
    assert found(audit_of(chain, {AT: None})) == [(AT, "9.1 block")]
    audit = audit_of(chain, {AT: chain.certified[AT]})
    assert (AT, "9.1 height") in found(audit)


def test_keys_of_strangers_do_not_confuse_it(chain: CertifiedChain) -> None:
    """A certificate whose signer is a key that no member has."""
    shares = decoded(chain, AT).certificate.signatures
    strange = replace(shares[0], signer=Key(77).public_key)
    audit = audit_of(chain, {AT: recertified(chain, AT, signatures=(strange, *shares[1:]))})
    assert (AT, "6.4 certificate") in found(audit)
