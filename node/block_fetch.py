"""Finding undecided blocks by digest: in the own journal, else at the peers that store them (PROTOCOL 6.4, 6.5)."""

import asyncio
from collections.abc import Callable
from typing import Final

from consensus.block import Block
from consensus.effects import FetchBlock
from consensus.types import Digest, PublicKey
from network.links import Links
from network.wire import UndecidedBlockRequest, UndecidedBlockResponse
from node.journal import Journal
from node.ledger import Ledger

RETRY_MS: Final = 300
"""After so long the next holder is asked: a block of 1 MiB at 50 Mbit/s takes 200 ms."""
MAX_FETCHES: Final = 16
"""Blocks of one height that are looked for at once."""
MAX_WAITING_BYTES: Final = 6 * 1_048_576
"""A peer with so much unread gets no further block; it will ask again."""


class _Fetch:
    def __init__(self, effect: FetchBlock, sources: list[PublicKey]) -> None:
        self.height = effect.height
        self.digest = effect.digest
        self.sources = sources
        """Who signed that it stores the block comes first, then the other delegates."""
        self.asked = 0
        self.timer: asyncio.TimerHandle | None = None


class BlockFetches:
    """The undecided blocks looked for, and the answers to those who look for ours."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        journal: Journal,
        links: Links,
        own_key: PublicKey,
        held: Callable[[Digest], Block | None],
        found: Callable[[Block], None],
    ) -> None:
        """``held`` asks the replica for a block in memory; ``found`` hands one over."""
        self._ledger = ledger
        self._journal = journal
        self._links = links
        self._own_key = own_key
        self._held = held
        self._found = found
        self._fetches: dict[Digest, _Fetch] = {}

    def fetch(self, effect: FetchBlock) -> None:
        """Look for a block until it is found or the height ends."""
        if effect.digest in self._fetches or len(self._fetches) >= MAX_FETCHES:
            return
        stored = self._journal.find_block(effect.digest)
        if stored is not None:
            self._found(stored)
            return
        others = [
            delegate.public_key
            for delegate in self._ledger.context.delegates
            if delegate.public_key != self._own_key and delegate.public_key not in effect.holders
        ]
        fetch = self._fetches[effect.digest] = _Fetch(effect, [*effect.holders, *others])
        self._ask(fetch)

    def entered_height(self) -> None:
        """The ledger moved on: what was looked for is decided or void."""
        for fetch in self._fetches.values():
            if fetch.timer is not None:
                fetch.timer.cancel()
        self._fetches.clear()

    def request(self, sender: PublicKey, request: UndecidedBlockRequest) -> None:
        """Serve a block of the undecided height from memory, else from the journal."""
        if self._links.waiting_bytes(sender) > MAX_WAITING_BYTES:
            return
        block = None
        if request.height == self._ledger.height + 1:
            block = self._held(request.digest) or self._journal.find_block(request.digest)
        self._links.send(sender, UndecidedBlockResponse(request.height, request.digest, block))

    def response(self, response: UndecidedBlockResponse) -> None:
        """Take a block that was looked for; the digest is the proof."""
        fetch = self._fetches.get(response.digest)
        if fetch is None:
            return
        block = response.block
        if block is None or block.header.digest() != response.digest:
            if fetch.timer is not None and fetch.asked % len(fetch.sources):
                fetch.timer.cancel()  # ask the next at once; after a whole round wait
                self._ask(fetch)
            return
        self._end(fetch)
        self._found(block)

    def _ask(self, fetch: _Fetch) -> None:
        """The next connected source; whether it answers or not, the one after it is asked in a while."""
        for _ in fetch.sources:
            source = fetch.sources[fetch.asked % len(fetch.sources)]
            fetch.asked += 1
            if self._links.send(source, UndecidedBlockRequest(fetch.height, fetch.digest)):
                break
        fetch.timer = asyncio.get_running_loop().call_later(RETRY_MS / 1_000, self._retry, fetch)

    def _retry(self, fetch: _Fetch) -> None:
        if self._fetches.get(fetch.digest) is fetch:
            self._ask(fetch)

    def _end(self, fetch: _Fetch) -> None:
        self._fetches.pop(fetch.digest, None)
        if fetch.timer is not None:
            fetch.timer.cancel()
