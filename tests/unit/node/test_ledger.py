"""The ledger's store: whole blocks or nothing, the same after reopening, and what a decided block must agree with."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from consensus.block import CertifiedBlock
from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.errors import InvalidMessage, InvariantViolation
from contracts.transaction import Transfer
from node.journal import JournalPosition
from node.ledger import Ledger, LedgerDamaged
from node.ledger_rows import HEAD_KEY, Prefix, number
from node.store import RocksStore, StoreFailed
from tests.unit.node.ledger_chain import LedgerChain, make_genesis


@pytest.fixture
def chain(tmp_path: Path) -> LedgerChain:
    return LedgerChain(tmp_path / "ledger")


def transfer(chain: LedgerChain, amount: int = 1) -> bytes:
    return chain.transaction(Transfer(chain.members[1].address, amount), chain.members[0])


def test_new_ledger_stands_at_genesis(chain: LedgerChain) -> None:
    ledger = chain.ledger
    assert (ledger.height, ledger.block_hash, ledger.context.height) == (0, ledger.chain_id, 1)
    assert ledger.time_ms == chain.genesis.time_ms
    assert ledger.totals_money() == 4 * chain.genesis.founding_balance


@pytest.mark.parametrize("reopened", [False, True])
def test_applied_block_is_found_again_in_every_form(chain: LedgerChain, reopened: bool) -> None:
    """From memory while it is the newest, from the store later."""
    raw = transfer(chain, 5)
    applied = chain.decide(raw)
    if reopened:
        chain.reopen()
    ledger = chain.ledger
    certified = ledger.certified_block(1)
    assert certified is not None
    assert certified.block.transactions == (raw,)
    assert ledger.certified_bytes(1) == applied.certified == encode(certified)
    assert ledger.header_row(1).header == applied.header
    assert ledger.header_row(1).transactions == 1
    assert ledger.receipts(1) == applied.receipts
    assert ledger.receipt_bytes(1) == tuple(encode(item) for item in applied.receipts)
    assert [ledger.receipt(1, index) for index in (0, -1)] == list(applied.receipts)
    location = ledger.locate(chain.id_of(raw))
    assert location is not None
    assert (location.height, location.index, location.discarded) == (1, 0, False)


def test_reopened_ledger_is_the_same_and_goes_on(chain: LedgerChain) -> None:
    for amount in range(1, 6):
        chain.decide(transfer(chain, amount))
    before = (
        chain.ledger.height,
        chain.ledger.block_hash,
        chain.ledger.state.tree.root,
        chain.ledger.context,
    )
    chain.reopen()
    ledger = chain.ledger
    assert (ledger.height, ledger.block_hash, ledger.state.tree.root, ledger.context) == before
    chain.decide(transfer(chain, 9))
    assert chain.ledger.height == 6


def test_state_root_is_that_of_a_replay_in_another_ledger(chain: LedgerChain, tmp_path: Path) -> None:
    for amount in range(1, 5):
        chain.decide(transfer(chain, amount), transfer(chain, amount))
    other = LedgerChain(tmp_path / "replay", chain.genesis)
    for height in range(1, 5):
        certified = chain.ledger.certified_block(height)
        assert certified is not None
        other.ledger.check_certified(certified)
        other.ledger.apply(certified)
    assert other.ledger.context == chain.ledger.context


class FailingStore(RocksStore):
    """Takes a number of writes, then fails."""

    allowed = 10**9

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        if self.allowed == 0:
            raise StoreFailed("no space left")
        self.allowed -= 1
        super().write(changes)


def test_failed_write_leaves_the_block_out_altogether(tmp_path: Path) -> None:
    chain = LedgerChain(tmp_path / "ledger")
    chain.decide(transfer(chain))
    chain.ledger.store.close()
    store = FailingStore(tmp_path / "ledger")
    chain.ledger = Ledger(store, chain.genesis, Ed25519Verifier())
    store.allowed = 0
    raw = transfer(chain, 2)
    with pytest.raises(StoreFailed):
        chain.decide(raw)
    chain.reopen()
    assert chain.ledger.height == 1
    assert chain.ledger.locate(chain.id_of(raw)) is None
    assert chain.ledger.certified_bytes(2) is None
    chain.decide(raw)
    assert chain.ledger.height == 2


def test_foreign_genesis_is_refused(chain: LedgerChain, tmp_path: Path) -> None:
    chain.ledger.store.close()
    with pytest.raises(LedgerDamaged, match="another chain"):
        LedgerChain(tmp_path / "ledger", make_genesis(meter_deadline_ms=6_000))


def test_changed_state_row_is_noticed(chain: LedgerChain) -> None:
    chain.decide(transfer(chain))
    key, value = next(iter(chain.ledger.store.scan(Prefix.STATE + chain.ledger.state.accounts.prefix)))
    other = bytearray(value)
    other[-3] ^= 1
    chain.ledger.store.write({key: bytes(other)})
    chain.ledger.store.close()
    with pytest.raises(LedgerDamaged):
        chain.open()


def test_missing_state_row_is_noticed(chain: LedgerChain) -> None:
    chain.decide(transfer(chain))
    key, _ = next(iter(chain.ledger.store.scan(Prefix.STATE)))
    chain.ledger.store.write({key: None})
    chain.ledger.store.close()
    with pytest.raises(LedgerDamaged, match=r"root|read"):
        chain.open()


def test_changed_header_row_is_noticed(chain: LedgerChain) -> None:
    chain.decide(transfer(chain))
    chain.decide(transfer(chain))
    first = chain.ledger.store.get(Prefix.HEADER + number(1))
    chain.ledger.store.write({Prefix.HEADER + number(2): first})
    chain.ledger.store.close()
    with pytest.raises(LedgerDamaged, match="header"):
        chain.open()


def test_second_opener_is_told_why_it_cannot(chain: LedgerChain) -> None:
    with pytest.raises(StoreFailed, match="no other node uses this home"):
        chain.open()


def test_journal_position_is_stored_with_the_block(chain: LedgerChain) -> None:
    position = JournalPosition(bytes(range(16)), 77)
    chain.decide(journal=position)
    chain.reopen()
    assert chain.ledger.journal_position == position
    assert chain.ledger.store.get(HEAD_KEY) is not None


def changed(certified: CertifiedBlock, chain: LedgerChain, **fields: object) -> CertifiedBlock:
    header = msgspec.structs.replace(certified.block.header, **fields)
    return chain.certify(msgspec.structs.replace(certified.block, header=header))


@pytest.mark.parametrize(
    "field", ["state_root", "receipts_root", "parent_hash", "delegates_hash", "next_delegates_hash"]
)
def test_decided_header_that_contradicts_the_own_state_stops_the_node(chain: LedgerChain, field: str) -> None:
    """PROTOCOL 6.8: a replica stops only if a decided header's root differs from its own."""
    chain.decide()
    wrong = changed(chain.block(), chain, **{field: bytes(range(32))})
    with pytest.raises(InvariantViolation, match=field.replace("_", " ")):
        chain.ledger.apply(wrong)


def test_block_is_applied_only_with_its_certificate(chain: LedgerChain) -> None:
    """PROTOCOL 6.12."""
    good = chain.block((transfer(chain),))
    certificate = good.certificate
    for wrong in (
        msgspec.structs.replace(certificate, signatures=certificate.signatures[:2]),
        msgspec.structs.replace(certificate, signatures=certificate.signatures[:1] * 3),
        msgspec.structs.replace(certificate, view=1),
        msgspec.structs.replace(certificate, digest=bytes(32)),
        msgspec.structs.replace(certificate, height=2),
    ):
        with pytest.raises(InvalidMessage):
            chain.ledger.check_certified(CertifiedBlock(good.block, wrong))
    chain.ledger.check_certified(good)


def test_block_with_exchanged_parts_is_refused(chain: LedgerChain) -> None:
    good = chain.block((transfer(chain, 1),))
    swapped = msgspec.structs.replace(good.block, transactions=(transfer(chain, 2),))
    with pytest.raises(InvalidMessage, match="parts"):
        chain.ledger.check_certified(CertifiedBlock(swapped, good.certificate))
    chain.decide()
    with pytest.raises(InvalidMessage, match="is next"):
        chain.ledger.check_certified(good)


def test_no_row_of_undecided_heights_is_given_out(chain: LedgerChain) -> None:
    chain.decide()
    assert chain.ledger.certified_bytes(0) is None
    assert chain.ledger.certified_bytes(2) is None
    for height in (0, 2):
        with pytest.raises(LookupError):
            chain.ledger.header_row(height)
        with pytest.raises(LookupError):
            chain.ledger.receipts(height)
