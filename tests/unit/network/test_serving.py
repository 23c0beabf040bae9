"""Answers to requests for blocks: complete or large enough, never faster than a peer reads."""

from network.serving import MAX_WAITING_BYTES, MAX_WAITING_REQUESTS, SERVE_RATE, BlockServer, collect_blocks
from network.wire import BLOCKS_RESPONSE_TARGET_BYTES, BlocksRequest, BlocksResponse
from tests.unit.network.harness import FakeLinks, FakeScheduler, key

PEER = key(1)


class Scene:
    def __init__(self, block_bytes: int, height: int = 1_000) -> None:
        self.links = FakeLinks(PEER)
        self.scheduler = FakeScheduler()
        self.loads = 0
        self.server = BlockServer(self.links, self.scheduler, self._load)
        self._block = bytes(block_bytes)
        self._height = height

    def _load(self, height: int) -> bytes | None:
        self.loads += 1
        return self._block if height <= self._height else None

    def answers(self) -> list[BlocksResponse]:
        return [message for _, message in self.links.take(BlocksResponse)]


def test_small_blocks_are_all_given() -> None:
    scene = Scene(1_000)
    scene.server.request(PEER, BlocksRequest(5, 64))
    assert scene.answers() == [BlocksResponse(5, (bytes(1_000),) * 64)]


def test_large_blocks_end_the_answer_at_the_target() -> None:
    blocks = collect_blocks(BlocksRequest(1, 64), lambda height: bytes(400_000))
    assert len(blocks) == 3
    assert sum(map(len, blocks)) >= BLOCKS_RESPONSE_TARGET_BYTES


def test_the_answer_ends_where_the_ledger_does() -> None:
    assert collect_blocks(BlocksRequest(3, 64), lambda height: b"b" if height < 5 else None) == (b"b", b"b")
    scene = Scene(10, height=4)
    scene.server.request(PEER, BlocksRequest(9, 1))
    assert scene.answers() == [BlocksResponse(9, ())]


def test_above_the_rate_the_next_answer_waits_and_comes() -> None:
    scene = Scene(4 * 1_048_576)
    spent = 0
    for height in range(1, 20):
        scene.server.request(PEER, BlocksRequest(height, 1))
    while answers := scene.answers():
        spent += len(answers)
        if spent * 4 * 1_048_576 > SERVE_RATE.bytes_per_second:
            break
    waiting = MAX_WAITING_REQUESTS
    scene.scheduler.advance(2_000)
    assert len(scene.answers()) == waiting


def test_a_peer_that_does_not_read_gets_no_further_answer_until_it_does() -> None:
    scene = Scene(1_000)
    scene.links.waiting[PEER] = MAX_WAITING_BYTES
    scene.server.request(PEER, BlocksRequest(1, 1))
    scene.scheduler.advance(5_000)
    assert scene.answers() == []
    assert scene.loads == 0
    scene.links.waiting[PEER] = 0
    scene.scheduler.advance(100)
    assert len(scene.answers()) == 1


def test_waiting_requests_are_few_and_end_with_the_connection() -> None:
    scene = Scene(1_000)
    scene.links.waiting[PEER] = MAX_WAITING_BYTES
    for height in range(1, 100):
        scene.server.request(PEER, BlocksRequest(height, 1))
    scene.server.gone(PEER)
    scene.links.waiting[PEER] = 0
    scene.scheduler.advance(5_000)
    assert scene.answers() == []
    for height in range(1, 4):
        scene.server.request(PEER, BlocksRequest(height, 1))
    assert len(scene.answers()) == 3
    scene.server.stop()


def test_one_greedy_peer_does_not_slow_another() -> None:
    scene = Scene(1_000)
    other = key(2)
    scene.links.peers[other] = scene.links.peers[PEER]
    scene.links.waiting[PEER] = MAX_WAITING_BYTES
    scene.server.request(PEER, BlocksRequest(1, 1))
    scene.server.request(other, BlocksRequest(1, 1))
    assert [peer for peer, _ in scene.links.take(BlocksResponse)] == [other]
