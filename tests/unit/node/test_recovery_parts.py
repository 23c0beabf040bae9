"""Finding undecided blocks by digest, and learning how far a lost journal may have signed (PROTOCOL 6.4, 6.5)."""

from pathlib import Path

import msgspec
import pytest

from consensus.block import Block
from consensus.effects import BlockRecord, FetchBlock
from contracts.transaction import Transfer
from network.wire import (
    CertifiedHeightRequest,
    CertifiedHeightResponse,
    UndecidedBlockRequest,
    UndecidedBlockResponse,
)
from node.abstention import Abstention
from node.block_fetch import MAX_WAITING_BYTES, BlockFetches
from node.journal import Journal
from tests.unit.node.fake_links import FakeLinks
from tests.unit.node.ledger_chain import LedgerChain
from tests.unit.node.memory_files import MemoryFiles

IDENTITY = bytes(16)


class Bench:
    """A ledger with three other delegates as peers."""

    def __init__(self, path: Path) -> None:
        self.chain = LedgerChain(path)
        keys = [d.public_key for d in self.chain.ledger.context.delegates]
        self.own, self.others = keys[0], keys[1:]
        self.links = FakeLinks(*self.others)
        self.journal = Journal.create(MemoryFiles(), self.own, IDENTITY)
        self.found: list[Block] = []
        self.held: dict[bytes, Block] = {}
        self.learned: list[int] = []
        self.fetches = BlockFetches(
            ledger=self.chain.ledger,
            journal=self.journal,
            links=self.links,
            own_key=self.own,
            held=self.held.get,
            found=self.found.append,
        )
        self.abstention = Abstention(
            ledger=self.chain.ledger,
            links=self.links,
            own_key=self.own,
            randomness=bytes,
            learned=self.learned.append,
        )

    def block(self, amount: int = 1) -> Block:
        raw = self.chain.transaction(Transfer(self.chain.members[1].address, amount), self.chain.members[0])
        return self.chain.block((raw,)).block

    def answer(self, sender: bytes, height: int, nonce: bytes = bytes(16)) -> CertifiedHeightResponse:
        certificate = self.chain.ledger.header_row(height).certificate if height else None
        response = CertifiedHeightResponse(nonce, height, certificate)
        self.abstention.response(sender, response)
        return response


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ledger")


async def test_own_journal_is_asked_first(bench: Bench) -> None:
    block = bench.block()
    bench.journal.append((BlockRecord(1, block),))
    bench.fetches.fetch(FetchBlock(1, block.header.digest(), ()))
    assert bench.found == [block]
    assert bench.links.sent == []


async def test_holders_are_asked_before_others_and_only_the_right_block_is_taken(bench: Bench) -> None:
    block, wrong = bench.block(1), bench.block(2)
    digest = block.header.digest()
    holder = bench.others[2]
    bench.fetches.fetch(FetchBlock(1, digest, (holder,)))
    assert bench.links.take() == [(holder, UndecidedBlockRequest(1, digest))]
    bench.fetches.response(UndecidedBlockResponse(1, digest, wrong))
    [(second, _)] = bench.links.take()
    assert second != holder
    bench.fetches.response(UndecidedBlockResponse(1, digest, None))
    [(third, _)] = bench.links.take()
    assert {holder, second, third} == set(bench.others)
    bench.fetches.response(UndecidedBlockResponse(1, digest, None))
    assert bench.links.take() == [], "a whole round of refusals is followed by a pause"
    bench.fetches.response(UndecidedBlockResponse(1, digest, block))
    bench.fetches.response(UndecidedBlockResponse(1, digest, block))
    assert bench.found == [block]


async def test_search_ends_with_the_height(bench: Bench) -> None:
    block = bench.block()
    bench.fetches.fetch(FetchBlock(1, block.header.digest(), ()))
    bench.fetches.entered_height()
    bench.fetches.response(UndecidedBlockResponse(1, block.header.digest(), block))
    assert bench.found == []


async def test_blocks_are_served_from_memory_and_journal_to_who_reads(bench: Bench) -> None:
    in_memory, in_journal = bench.block(1), bench.block(2)
    bench.held[in_memory.header.digest()] = in_memory
    bench.journal.append((BlockRecord(1, in_journal),))
    peer = bench.others[0]
    for block in (in_memory, in_journal):
        digest = block.header.digest()
        bench.fetches.request(peer, UndecidedBlockRequest(1, digest))
        assert bench.links.take() == [(peer, UndecidedBlockResponse(1, digest, block))]
    for height, digest in ((1, bytes(32)), (2, in_memory.header.digest())):
        bench.fetches.request(peer, UndecidedBlockRequest(height, digest))
        assert bench.links.take() == [(peer, UndecidedBlockResponse(height, digest, None))]
    bench.links.unread[peer] = MAX_WAITING_BYTES + 1
    bench.fetches.request(peer, UndecidedBlockRequest(1, in_memory.header.digest()))
    assert bench.links.take() == []


def test_q_other_delegates_have_to_answer_and_the_largest_counts(bench: Bench) -> None:
    for _ in range(3):
        bench.chain.decide()
    bench.abstention.begin()
    assert [key for key, _ in bench.links.take()] == bench.others
    bench.answer(bench.others[0], 1)
    bench.answer(bench.others[1], 3)
    bench.answer(bench.others[1], 3)
    assert bench.learned == []
    bench.answer(bench.others[2], 2)
    assert bench.learned == [3]
    assert not bench.abstention.asking


def test_height_that_the_own_ledger_does_not_hold_counts_once_it_does(bench: Bench) -> None:
    bench.abstention.begin()
    ahead = LedgerChain(bench.chain.path.with_name("ahead"), bench.chain.genesis)
    certificate = ahead.block().certificate
    for peer in bench.others:
        bench.abstention.response(peer, CertifiedHeightResponse(bytes(16), 1, certificate))
    assert bench.learned == []
    bench.chain.decide()
    bench.abstention.tick()
    assert bench.learned == [1]


def test_invented_heights_and_foreign_answers_never_count(bench: Bench) -> None:
    bench.chain.decide()
    bench.abstention.begin()
    certificate = bench.chain.ledger.header_row(1).certificate
    forged = msgspec.structs.replace(certificate, digest=bytes(32))
    far = msgspec.structs.replace(certificate, height=10**9)
    bench.abstention.response(bench.others[0], CertifiedHeightResponse(bytes(16), 1, forged))
    bench.abstention.response(bench.others[1], CertifiedHeightResponse(bytes(16), 10**9, far))
    bench.abstention.response(bench.others[2], CertifiedHeightResponse(bytes(16), 1, None))
    bench.answer(bytes(32), 1)
    bench.answer(bench.own, 1)
    for peer in bench.others:
        bench.answer(peer, 1, nonce=bytes([1]) * 16)
    bench.abstention.tick()
    assert bench.learned == []
    for peer in bench.others:
        bench.answer(peer, 1)
    assert bench.learned == [1]


def test_own_height_is_told_with_its_certificate(bench: Bench) -> None:
    nonce = bytes([3]) * 16
    bench.abstention.request(bench.others[0], CertifiedHeightRequest(nonce))
    assert bench.links.take() == [(bench.others[0], CertifiedHeightResponse(nonce, 0, None))]
    bench.chain.decide()
    bench.abstention.request(bench.others[0], CertifiedHeightRequest(nonce))
    [(_, answer)] = bench.links.take()
    assert isinstance(answer, CertifiedHeightResponse)
    assert (answer.height, answer.certificate) == (1, bench.chain.ledger.certificate)
