"""Answering requests for certified blocks (PROTOCOL 10.1): as fast as a peer reads, never faster than the limit."""

from collections import deque
from collections.abc import Callable
from typing import Final

from consensus.types import PublicKey
from network.admission import RateMeter
from network.limits import RateLimit
from network.links import Links
from network.scheduler import Scheduled, Scheduler
from network.wire import BLOCKS_RESPONSE_TARGET_BYTES, BlocksRequest, BlocksResponse

SERVE_RATE: Final = RateLimit(bytes_per_second=32 * 1_048_576, messages_per_second=200)
"""To one peer: a request of 20 bytes may cost MiBs of reading."""
MAX_WAITING_BYTES: Final = 6 * 1_048_576
"""A peer with so much unread waits for its next answer: with that answer it stays below the transport's mark."""
MAX_WAITING_REQUESTS: Final = 4
"""Of one peer; an honest one has two under way (`SyncLimits.requests_per_peer`), and what is more is dropped."""
_RETRY_MS: Final = 50


class _Client:
    def __init__(self, now_ms: int) -> None:
        self.requests: deque[BlocksRequest] = deque()
        self.meter = RateMeter(SERVE_RATE, now_ms)
        self.timer: Scheduled | None = None


class BlockServer:
    """Requests of all peers, each with its own short queue."""

    def __init__(self, links: Links, scheduler: Scheduler, load_block: Callable[[int], bytes | None]) -> None:
        """``load_block`` gives the canonical bytes of the stored `CertifiedBlock` of a height, or None."""
        self._links = links
        self._scheduler = scheduler
        self._load_block = load_block
        self._clients: dict[PublicKey, _Client] = {}

    def request(self, peer: PublicKey, request: BlocksRequest) -> None:
        """Answer ``request``, at once if the peer is within its limits."""
        client = self._clients.setdefault(peer, _Client(self._scheduler.now_ms()))
        if len(client.requests) < MAX_WAITING_REQUESTS:
            client.requests.append(request)
            if client.timer is None:
                self._answer(peer, client)

    def gone(self, peer: PublicKey) -> None:
        """The peer is no longer connected."""
        client = self._clients.pop(peer, None)
        if client is not None and client.timer is not None:
            client.timer.cancel()

    def stop(self) -> None:
        """Answer nobody any more."""
        for peer in list(self._clients):
            self.gone(peer)

    def _answer(self, peer: PublicKey, client: _Client) -> None:
        client.timer = None
        while client.requests:
            wait_ms = client.meter.spend(0, 0, self._scheduler.now_ms())
            if self._links.waiting_bytes(peer) >= MAX_WAITING_BYTES:
                wait_ms = max(wait_ms, _RETRY_MS)
            if wait_ms:
                client.timer = self._scheduler.call_later_ms(wait_ms, lambda: self._answer(peer, client))
                return
            request = client.requests.popleft()
            blocks = collect_blocks(request, self._load_block)
            client.meter.spend(sum(map(len, blocks)), 1, self._scheduler.now_ms())
            self._links.send(peer, BlocksResponse(request.from_height, blocks))


def collect_blocks(request: BlocksRequest, load_block: Callable[[int], bytes | None]) -> tuple[bytes, ...]:
    """The answer to ``request``: consecutive blocks until it is complete, one is missing, or the target is reached."""
    blocks: list[bytes] = []
    size = 0
    for height in range(request.from_height, request.from_height + request.count):
        if size >= BLOCKS_RESPONSE_TARGET_BYTES:
            break
        block = load_block(height)
        if block is None:
            break
        blocks.append(block)
        size += len(block)
    return tuple(blocks)
