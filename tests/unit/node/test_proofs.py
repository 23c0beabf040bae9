"""Light verification: what a genesis and a chain of certified links prove, and every way to fake it (PROTOCOL 9.5)."""

import pytest
from msgspec.structs import replace

from consensus.delegates import DelegateSet
from consensus.ed25519 import Ed25519Verifier
from contracts.receipts import ReasonCode
from contracts.transaction import Transfer, decode_transaction
from node.proofs import LedgerProver, ProofError, ProofIncomplete
from tests.unit.node.mini_chain import MiniChain, key


@pytest.fixture
def chain() -> MiniChain:
    made = MiniChain()
    for nonce in range(2):
        made.decide(
            (
                made.transaction(Transfer(key(2).address, 1), key(1), nonce),
                made.transaction(Transfer(key(1).address, 1), key(2), nonce),
            )
        )
    made.decide()
    return made


def prover(chain: MiniChain, pinned: bytes | None = None) -> LedgerProver:
    return LedgerProver(chain.genesis, Ed25519Verifier(), pinned)


def turned(delegates: DelegateSet) -> DelegateSet:
    return DelegateSet((*delegates.ranking[1:], delegates.ranking[0]))


def test_a_pinned_genesis_must_be_that_one(chain: MiniChain) -> None:
    assert prover(chain, chain.chain_id).chain_id == chain.chain_id
    with pytest.raises(ProofError, match="pinned"):
        prover(chain, bytes(32))


def test_a_receipt_and_its_bytes_are_proven(chain: MiniChain) -> None:
    proof, receipt = chain.receipt_proof(1, 1), chain.receipts[1][1]
    raw = chain.blocks[0].block.transactions[1]
    proven = prover(chain).check_receipt(
        receipt,
        proof.receipt_path,
        proof.header,
        proof.next.header,
        proof.next.certificate,
        transaction=decode_transaction(raw),
        transaction_path=proof.transaction_path,
    )
    assert (proven.height, proven.index, proven.receipt) == (1, 1, receipt)


def test_forged_receipts_are_refused(chain: MiniChain) -> None:
    proof, receipt = chain.receipt_proof(1, 0), chain.receipts[1][0]
    other = chain.receipt_proof(2, 0)
    parts = (proof.receipt_path, proof.header, proof.next.header, proof.next.certificate)
    forged = replace(receipt, code=ReasonCode.BALANCE_TOO_LOW)
    with pytest.raises(ProofError, match="not among"):
        prover(chain).check_receipt(forged, *parts)
    with pytest.raises(ProofError, match="follow"):
        prover(chain).check_receipt(receipt, parts[0], other.header, *parts[2:])
    raw = decode_transaction(chain.blocks[0].block.transactions[1])
    with pytest.raises(ProofError, match="another transaction"):
        prover(chain).check_receipt(receipt, *parts, transaction=raw, transaction_path=proof.transaction_path)
    own = decode_transaction(chain.blocks[0].block.transactions[0])
    wrong_place = chain.receipt_proof(1, 1).transaction_path
    for path in (wrong_place, None):
        with pytest.raises(ProofError, match="places"):
            prover(chain).check_receipt(receipt, *parts, transaction=own, transaction_path=path)
    resigned = decode_transaction(own.raw[:-1] + bytes((own.raw[-1] ^ 1,)))
    with pytest.raises(ProofError, match="not in block"):
        prover(chain).check_receipt(
            receipt, *parts, transaction=resigned, transaction_path=proof.transaction_path
        )


def test_certificates_that_do_not_certify_are_refused(chain: MiniChain) -> None:
    header, certificate = chain.blocks[2].block.header, chain.blocks[2].certificate
    short = replace(certificate, signatures=certificate.signatures[:-1])
    twice = replace(certificate, signatures=(certificate.signatures[0],) * 3)
    swapped = replace(certificate, signatures=tuple(reversed(certificate.signatures)))
    bad = replace(certificate.signatures[0], signature=bytes(64))
    unsigned = replace(certificate, signatures=(bad, *certificate.signatures[1:]))
    for one in (short, twice, swapped, unsigned, replace(certificate, view=1), chain.blocks[1].certificate):
        with pytest.raises(ProofError):
            prover(chain).check_header(header, one)
    with pytest.raises(ProofError):
        prover(chain).check_header(replace(header, state_root=bytes(32)), certificate)
    with pytest.raises(ProofError, match="chain"):
        prover(chain).check_header(replace(header, chain_id=bytes(32)), certificate)


def test_links_lead_to_later_sets(chain: MiniChain) -> None:
    following = turned(chain.delegates)
    chain.decide(following=following)
    chain.decide()
    last = chain.certified(5)
    known = prover(chain)
    with pytest.raises(ProofIncomplete):
        known.check_header(last.header, last.certificate)
    link = chain.certified(4)
    known.add_link(link.header, link.certificate, following.ranking)
    known.check_header(last.header, last.certificate)
    assert (known.delegates_at(4), known.delegates_at(5)) == (chain.delegates, following)
    assert known.next_link_height == 5


def test_false_links_are_refused(chain: MiniChain) -> None:
    following = turned(chain.delegates)
    chain.decide(following=following)
    link = chain.certified(4)
    with pytest.raises(ProofError, match="names"):
        prover(chain).add_link(link.header, link.certificate, turned(following).ranking)
    with pytest.raises(ProofError, match="twice"):
        prover(chain).add_link(link.header, link.certificate, (following.ranking[0],) * 2)
    with pytest.raises(ProofError, match="twice"):
        prover(chain).add_link(link.header, link.certificate, ())
    stolen = replace(following.ranking[0], address=bytes(20))
    with pytest.raises(ProofError, match="address"):
        prover(chain).add_link(link.header, link.certificate, (stolen, *following.ranking[1:]))
    known = prover(chain)
    known.add_link(link.header, link.certificate, following.ranking)
    with pytest.raises(ProofError, match="after"):
        known.add_link(link.header, link.certificate, following.ranking)


def test_accounts_and_absence_are_proven(chain: MiniChain) -> None:
    prefix, known = chain.state.accounts.prefix, prover(chain)
    found = chain.state_proof(prefix + key(1).address)
    account = known.check_account(key(1).address, found.proof, found.next.header, found.next.certificate)
    assert account is not None
    assert account.balance == 1_000_000_000_000
    nobody = chain.state_proof(prefix + bytes(20))
    assert known.check_account(bytes(20), nobody.proof, nobody.next.header, nobody.next.certificate) is None
    with pytest.raises(ProofError, match="another entry"):
        known.check_account(key(2).address, found.proof, found.next.header, found.next.certificate)
    richer = replace(found.proof, value=bytes(found.proof.value or b"") + b"\x00")
    with pytest.raises(ProofError, match="not in the state"):
        known.check_account(key(1).address, richer, found.next.header, found.next.certificate)
    hidden = replace(found.proof, value=None)
    with pytest.raises(ProofError, match="not in the state"):
        known.check_account(key(1).address, hidden, found.next.header, found.next.certificate)


def test_a_contract_that_is_not_in_force_is_proven_absent(chain: MiniChain) -> None:
    contract_id = bytes([9]) * 32
    for prefix in (chain.state.contracts.prefix, chain.state.offers.prefix):
        absent = chain.state_proof(prefix + contract_id)
        parts = (absent.proof, absent.next.header, absent.next.certificate)
        assert prover(chain).check_contract(contract_id, *parts) is None
    account = chain.state_proof(chain.state.accounts.prefix + key(1).address)
    with pytest.raises(ProofError, match="another entry"):
        prover(chain).check_contract(
            contract_id, account.proof, account.next.header, account.next.certificate
        )
