"""A chain door that tells what a test wants."""

import asyncio
from collections.abc import AsyncIterator

from consensus.types import Address
from network.bootstrap.chain import ChainBlock, ChainEvent, ChainPhase, EpochFacts, MemberFacts, MemberStatus
from network.bootstrap.errors import Unavailable


class FakeChain:
    """`ChainDoor` with one ledger behind all URLs; those in ``away`` do not answer."""

    def __init__(self) -> None:
        self.blocks: list[ChainBlock] = []
        self.facts = EpochFacts(0, ChainPhase.RUNNING, None, (), (), ())
        self.people: tuple[MemberFacts, ...] = ()
        self.statuses: dict[str, MemberStatus] = {}
        self.away: set[str] = set()
        self.submitted: list[tuple[str, bytes]] = []
        self.followed: list[str] = []
        self._grown = asyncio.Condition()
        self.closed = False

    @property
    def height(self) -> int:
        return len(self.blocks)

    async def grow(self, *events: ChainEvent) -> None:
        height = self.height + 1
        self.blocks.append(ChainBlock(height, bytes((height,)) * 32, height * 1_000, events))
        async with self._grown:
            self._grown.notify_all()

    async def lose(self, url: str) -> None:
        self.away.add(url)
        async with self._grown:
            self._grown.notify_all()

    def _check(self, url: str) -> None:
        if url in self.away:
            raise Unavailable(f"{url} is away")

    async def status(self, url: str) -> MemberStatus:
        self._check(url)
        if url in self.statuses:
            return self.statuses[url]
        return MemberStatus(
            bytes(20), self.height, 0, self.facts.epoch, ChainPhase.RUNNING, True, "member", ()
        )

    async def epoch(self, url: str, number: int) -> EpochFacts:
        self._check(url)
        return self.facts

    async def members(self, url: str) -> tuple[MemberFacts, ...]:
        self._check(url)
        return self.people

    async def follow(self, url: str, from_height: int) -> AsyncIterator[ChainBlock]:
        self.followed.append(url)
        given = from_height - 1

        def has_more() -> bool:
            return self.height > given or url in self.away

        while True:
            async with self._grown:
                await self._grown.wait_for(has_more)
            self._check(url)
            given += 1
            yield self.blocks[given - 1]

    async def submit(self, url: str, transaction: bytes) -> None:
        self._check(url)
        self.submitted.append((url, transaction))

    async def close(self) -> None:
        self.closed = True


def url_of(address: Address) -> str:
    return f"http://{address.hex()[:8]}.example"
