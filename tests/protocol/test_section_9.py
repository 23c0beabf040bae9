"""PROTOCOL 9.1-9.5 as far as execution goes: headers after the parent, ids, answers, encoding, the state tree."""

import msgspec
import pytest

from consensus.block import NO_CERTIFICATE_HASH, Discard, last_commit_hash
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.hashing import tagged_hash
from consensus.merkle import leaf_hash, merkle_path, verify_path
from contracts.engine import genesis_state
from contracts.receipts import BLOCK_RECEIPT_ID, ReasonCode, TransactionDiscarded, receipts_root
from contracts.state_tree import StateTree, verify_state_proof
from contracts.transaction import (
    MAX_TRANSACTION_BYTES,
    Leave,
    Readings,
    SignedTransaction,
    TradeOffer,
    TradeOpen,
    Transaction,
    Transfer,
    decode_transaction,
)
from contracts.validation import InvalidReason, InvalidTransaction, check_transaction, check_window
from tests.support.chain import VERIFIER, Chain, Key


def reason(chain: Chain, transaction: Transaction) -> InvalidReason:
    """Why ``transaction`` is in no valid block of ``chain``."""
    with pytest.raises(InvalidTransaction) as caught:
        check_transaction(
            transaction, chain_id=chain.chain_id, parameters=chain.parameters, verifier=VERIFIER
        )
    return caught.value.reason


# ---------------------------------------------------------------- 9.1


def test_9_1_block_1_follows_genesis() -> None:
    """9.1: parent hash = chain id, genesis time and roots, C(1) = C(2), no last-commit."""
    chain = Chain()
    context = chain.context()
    assert (context.height, context.epoch) == (1, 0)
    assert context.parent_hash == chain.chain_id == chain.genesis.hash()
    assert context.parent_time_ms == chain.genesis.time_ms
    assert context.state_root == genesis_state(chain.genesis, VERIFIER).tree.root
    assert context.receipts_root == receipts_root(())
    assert context.delegates == context.next_delegates
    assert (context.parent_certificate, context.previous_delegates) == (None, None)
    assert last_commit_hash(context.parent_certificate) == NO_CERTIFICATE_HASH


def test_9_1_a_header_carries_the_roots_after_its_parent() -> None:
    """9.1: of state and receipts, and the hashes of C(h) and C(h+1)."""
    chain = Chain()
    a, b = chain.members[:2]
    outcome = chain.block(chain.transaction(a, Transfer(b.address, 1)))
    following = chain.make_block().header
    assert (following.state_root, following.receipts_root) == (outcome.state_root, outcome.receipts_root)
    assert following.receipts_root == receipts_root(tuple(encode(item) for item in outcome.receipts))
    context = chain.context()
    assert following.delegates_hash == context.delegates.hash()
    assert following.next_delegates_hash == context.next_delegates.hash()
    assert context.previous_delegates is not None


def test_9_1_groups_and_first_delegates_are_no_part_of_the_genesis_hash() -> None:
    """9.1: the chain id is the hash of members, operators and rules alone."""
    chain = Chain()
    assert chain.chain_id == tagged_hash("genesis", encode(chain.genesis))
    assert "groups" not in [field for field in chain.genesis.__struct_fields__ if field != "parameters"]


# ---------------------------------------------------------------- 9.2


def test_9_2_the_id_is_the_hash_of_the_body_whatever_the_signature_bytes() -> None:
    """9.2: another signature over the same body makes the same id and another reference."""
    chain = Chain()
    a, b = chain.members[:2]
    one = chain.transaction(a, TradeOpen(chain.terms(a, b)), b)
    body = one.signed_bytes[len(b"cgpbft/transaction/1") :]
    swapped = decode_transaction(encode(SignedTransaction(msgspec.Raw(body), one.signatures[::-1])))
    assert one.id == swapped.id == tagged_hash("transaction.body", body)
    assert one.reference == tagged_hash("transaction.full", one.raw) != swapped.reference
    chain.block(one)
    with pytest.raises(InvalidTransaction) as caught:
        chain.validate((one,), (), chain.time_ms + 1)
    assert caught.value.reason is InvalidReason.ALREADY_ON_CHAIN


def test_9_2_header_time_lies_in_the_window() -> None:
    """9.2: valid_from <= header time <= valid_until, both ends included."""
    chain = Chain()
    a, b = chain.members[:2]
    transaction = chain.transaction(a, Transfer(b.address, 1), valid_from_ms=100, valid_until_ms=200)
    check_window(transaction, 100)
    check_window(transaction, 200)
    for time_ms, expected in ((99, InvalidReason.NOT_YET_VALID), (201, InvalidReason.EXPIRED)):
        with pytest.raises(InvalidTransaction) as caught:
            check_window(transaction, time_ms)
        assert caught.value.reason is expected


def test_9_2_a_window_is_at_most_tx_window_ms_long() -> None:
    """9.2: and not negative."""
    chain = Chain()
    a, b = chain.members[:2]
    longest = chain.parameters.tx_window_ms
    for length, good in ((longest, True), (longest + 1, False), (0, True), (-1, False)):
        until = chain.time_ms + length
        transaction = chain.transaction(a, Transfer(b.address, 1), valid_until_ms=until)
        if good:
            chain.validate((transaction,), (), chain.time_ms)
        else:
            assert reason(chain, transaction) is InvalidReason.WINDOW_WRONG


def test_9_2_a_rejected_id_is_kept_too() -> None:
    """9.2: what was rejected cannot be included again within its window, even if it could now succeed."""
    chain = Chain()
    a, b = chain.members[:2]
    rejected = chain.transaction(a, Transfer(b.address, 10**15 + 1))
    assert chain.block(rejected).receipts[0].code is ReasonCode.BALANCE_TOO_LOW
    chain.receipt(b, Transfer(a.address, 5))
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(rejected)
    assert caught.value.reason is InvalidReason.ALREADY_ON_CHAIN


def test_9_2_a_discarded_id_is_kept_too() -> None:
    """6.10, 9.2: once removed it never commits; the event names it."""
    chain = Chain()
    a, b = chain.members[:2]
    removed = chain.transaction(a, Transfer(b.address, 1))
    discard = Discard(removed.id, removed.raw, ())
    outcome = chain.block(discarded=(discard,))
    assert outcome.receipts[-1].events == (TransactionDiscarded(removed.id),)
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(removed)
    assert caught.value.reason is InvalidReason.ALREADY_ON_CHAIN
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(discarded=(discard,))
    assert caught.value.reason is InvalidReason.ALREADY_ON_CHAIN
    assert chain.account(b).balance == 10**15


def test_9_2_ids_are_kept_until_header_time_passes_valid_until() -> None:
    """9.2: in the block at valid_until the id is still known, in the next it is forgotten; also after a restart."""
    chain = Chain()
    a, b = chain.members[:2]
    short = chain.transaction(a, Transfer(b.address, 1), valid_until_ms=chain.time_ms + 500)
    long = chain.transaction(a, Transfer(b.address, 1), valid_until_ms=chain.time_ms + 800)
    chain.block(short)
    chain.block(long)
    chain.block(at=short.valid_until_ms)
    chain.reload()
    assert short.id in chain.state.known_ids
    chain.block(after_ms=1)
    assert (short.id in chain.state.known_ids, long.id in chain.state.known_ids) == (False, True)
    assert len(chain.state.identifiers) == 1
    chain.block(at=long.valid_until_ms + 1)
    assert (len(chain.state.identifiers), len(chain.state.known_ids)) == (0, 0)


def test_9_2_a_transaction_stands_once_in_a_block() -> None:
    """9.2: nor may it be both included and discarded."""
    chain = Chain()
    a, b = chain.members[:2]
    transaction = chain.transaction(a, Transfer(b.address, 1))
    discard = Discard(transaction.id, transaction.raw, ())
    cases = (
        ((transaction, transaction), (), InvalidReason.TWICE_IN_BLOCK),
        ((), (discard, discard), InvalidReason.TWICE_IN_BLOCK),
        ((transaction,), (discard,), InvalidReason.DISCARDED_IN_BLOCK),
    )
    for transactions, discarded, expected in cases:
        with pytest.raises(InvalidTransaction) as caught:
            chain.validate(transactions, discarded, chain.time_ms)
        assert caught.value.reason is expected


def test_9_2_a_transaction_of_another_chain_is_refused() -> None:
    """9.2: the body names the chain, so nothing can be replayed elsewhere."""
    chain = Chain()
    a, b = chain.members[:2]
    foreign = chain.transaction(a, Transfer(b.address, 1), chain_id=bytes(32))
    assert reason(chain, foreign) is InvalidReason.FOREIGN_CHAIN


# ---------------------------------------------------------------- 9.3


def test_9_3_every_transaction_has_a_receipt_and_the_block_one_of_its_own() -> None:
    """9.3: in block order; what no single transaction caused comes last, under the zero id."""
    chain = Chain()
    a, b = chain.members[:2]
    good = chain.transaction(a, Transfer(b.address, 1))
    bad = chain.transaction(a, Transfer(b.address, 10**16))
    receipts = chain.block(bad, good).receipts
    assert [receipt.transaction_id for receipt in receipts] == [bad.id, good.id, BLOCK_RECEIPT_ID]
    codes = [receipt.code for receipt in receipts]
    assert codes == [ReasonCode.BALANCE_TOO_LOW, ReasonCode.OK, ReasonCode.OK]


def test_9_3_a_rejected_transaction_changes_nothing_but_the_record_of_its_id() -> None:
    """9.3: two chains, one with a rejected transfer, differ in ids and receipts root only."""
    with_it, without = Chain(), Chain()
    a, b = with_it.members[:2]
    rejected = with_it.transaction(a, Transfer(b.address, 10**16))
    receipt = with_it.block(rejected).receipts[0]
    without.block()
    assert receipt.events == ()
    changed = {
        key[0]
        for key, value in dict(with_it.state.entries()).items()
        if dict(without.state.entries()).get(key) != value
    }
    chain_record = 32  # holds the block hash
    assert changed == {3, 4, chain_record}


def test_9_3_a_receipt_is_proven_by_the_next_header() -> None:
    """9.3: a Merkle path leads from the receipt to receipts_root of header h + 1."""
    chain = Chain()
    a, b = chain.members[:2]
    outcome = chain.block(*(chain.transaction(a, Transfer(b.address, 1)) for _ in range(5)))
    leaves = [leaf_hash(encode(receipt)) for receipt in outcome.receipts]
    root = chain.make_block().header.receipts_root
    for index, leaf in enumerate(leaves):
        assert verify_path(root, leaf, merkle_path(leaves, index))
        assert not verify_path(root, leaf, merkle_path(leaves, (index + 1) % 6))


# ---------------------------------------------------------------- 9.4


def test_9_4_decoding_then_encoding_gives_the_same_bytes_or_refusal() -> None:
    """9.4: other encodings of the same values, wrong types, floats and rests are refused, wherever they stand."""
    chain = Chain()
    a, b = chain.members[:2]
    good = chain.transaction(a, Transfer(b.address, 5)).raw
    assert decode_transaction(good).raw == good
    amount = good.rindex(b"\x92\xc4\x14" + b.address) + 23
    assert good[amount] == 5
    variants = {
        "a longer integer": good[:amount] + b"\xcc\x05" + good[amount + 1 :],
        "a float": good[:amount] + b"\xca\x40\xa0\x00\x00" + good[amount + 1 :],
        "a boolean": good[:amount] + b"\xc3" + good[amount + 1 :],
        "a text for bytes": good.replace(b"\xc4\x14" + b.address, b"\xd9\x14" + b.address),
        "a longer array header": b"\xdc\x00\x02" + good[1:],
        "a rest": good + b"\x00",
        "a missing end": good[:-1],
        "a map": b"\x82" + good[1:],
        "nothing": b"",
    }
    accepted = []
    for name, raw in variants.items():
        try:
            decode_transaction(raw)
        except MalformedInput:
            continue
        accepted.append(name)
    assert accepted == []


def test_9_4_size_is_checked_before_decoding() -> None:
    """9.4: one byte above the limit is refused whatever it holds."""
    with pytest.raises(MalformedInput, match="exceed the limit"):
        decode_transaction(b"\xc1" * (MAX_TRANSACTION_BYTES + 1))


@pytest.mark.parametrize("kind", [0, 19, 2**63])
def test_9_4_an_unknown_type_is_refused(kind: int) -> None:
    """9.4: exact types."""
    chain = Chain()
    a = chain.members[0]
    signatures = chain.transaction(a, Leave()).signatures
    body = encode((chain.chain_id, kind, a.address, 0, 0, 0, Leave()))
    with pytest.raises(MalformedInput):
        decode_transaction(encode(SignedTransaction(msgspec.Raw(body), signatures)))


@pytest.mark.parametrize("count", [1, 15, 16, 18])
def test_9_4_body_and_signatures_are_told_apart_however_many_signed(count: int) -> None:
    """9.2, 9.4: the header of sixteen signatures is longer than that of fifteen; nothing else in a list is accepted."""
    chain = Chain()
    body = encode((chain.chain_id, 2, chain.members[0].address, 0, 1, 2, Leave()))
    signatures = chain.transaction(chain.members[0], Leave()).signatures * count
    decoded = decode_transaction(encode(SignedTransaction(msgspec.Raw(body), signatures)))
    assert decoded.id == tagged_hash("transaction.body", body)
    assert decoded.signed_bytes == b"cgpbft/transaction/1" + body
    assert decoded.signatures == signatures
    for longer in (
        encode((msgspec.Raw(body), signatures, 0)),
        encode(SignedTransaction(msgspec.Raw(body), signatures)) + b"\0",
        encode((msgspec.Raw(body + b"\0"), signatures)),
    ):
        with pytest.raises(MalformedInput):
            decode_transaction(longer)


def test_9_4_a_payload_of_another_type_is_refused() -> None:
    """9.4: the type says how the payload is read."""
    chain = Chain()
    a = chain.members[0]
    signatures = chain.transaction(a, Leave()).signatures
    body = encode((chain.chain_id, 3, a.address, 0, 0, 0, Leave()))
    with pytest.raises(MalformedInput):
        decode_transaction(encode(SignedTransaction(msgspec.Raw(body), signatures)))


# ---------------------------------------------------------------- 9.5


def busy_chain() -> Chain:
    """A chain with a record in each of the trading tables."""
    chain = Chain(operators=1)
    a, b = chain.members[:2]
    slot = chain.time_ms // 1_000 + 1
    chain.block(
        chain.transaction(a, TradeOpen(chain.terms(a, b)), b),
        chain.transaction(a, TradeOffer(chain.terms(a, b, start_slot=slot + 500))),
    )
    chain.block(at=(slot + 1) * 1_000)
    chain.receipt(a, Readings((chain.reading(a, slot, 1, counter=1),)))
    return chain


def test_9_5_the_state_tree_holds_all_that_consensus_reads() -> None:
    """9.5: the tree over the stored entries has the committed root; every entry is proven, an absent key too."""
    chain = busy_chain()
    entries = dict(chain.state.entries())
    tree = StateTree()
    root = tree.update(entries)
    assert root == chain.state.tree.root == chain.make_block().header.state_root
    for key, value in entries.items():
        proof = chain.state.prove(key)
        assert proof.value == value
        assert verify_state_proof(root, proof)
        assert not verify_state_proof(root, msgspec.structs.replace(proof, value=value + b"\x00"))
        assert not verify_state_proof(root, msgspec.structs.replace(proof, value=None))
    stranger = chain.state.prove(bytes([1]) + Key(50).address)
    assert stranger.value is None
    assert verify_state_proof(root, stranger)
    assert not verify_state_proof(root, msgspec.structs.replace(stranger, value=b"\x00"))
    prefixes = {key[0] for key in entries}
    assert prefixes >= {1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12}


def test_9_5_a_proof_of_a_key_without_a_table_is_refused() -> None:
    """9.5: such a key can never hold anything."""
    with pytest.raises(MalformedInput):
        Chain().state.prove(b"\xff")


def test_9_5_a_state_loaded_from_its_entries_goes_on_alike() -> None:
    """9.5, S6: same roots and receipts as the chain that never stopped."""
    steady, restarted = busy_chain(), busy_chain()
    restarted.reload()
    assert restarted.state.tree.root == steady.state.tree.root
    for _ in range(14):
        one, other = steady.block(after_ms=700), restarted.block(after_ms=700)
        assert (one.state_root, one.receipts_root) == (other.state_root, other.receipts_root)
        restarted.reload()
    assert len(steady.state.contracts) == 0


def test_9_5_settled_contracts_leave_the_state_and_their_ids_stay_refused() -> None:
    """9.5: within its window the opening cannot be included again; afterwards no block takes it at all."""
    chain = Chain()
    a, b = chain.members[:2]
    opened = chain.transaction(a, TradeOpen(chain.terms(a, b)), b)
    chain.block(opened)
    chain.run_until(lambda: opened.id not in chain.state.contracts)
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(opened)
    assert caught.value.reason is InvalidReason.ALREADY_ON_CHAIN
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(opened, at=opened.valid_until_ms + 1)
    assert caught.value.reason is InvalidReason.EXPIRED


def test_9_5_readings_leave_the_state_once_no_window_can_cover_them() -> None:
    """9.5: 96 slots after the first open one; the last counter stays."""
    chain = busy_chain()
    member = chain.members[0]
    (key,) = chain.state.readings
    slot = int.from_bytes(key[:8], "big")
    chain.run_until(lambda: len(chain.state.readings) == 0, step_ms=1_000)
    assert chain.state.metering.require(b"").open_slot == slot + 96
    counter = chain.state.meters.require(member.address).last_counter
    assert counter is not None
    assert counter.counter == 1
