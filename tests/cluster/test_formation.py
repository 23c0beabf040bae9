"""Formation over real sockets: a bootstrap service and its members' formation clients (PROTOCOL 8.1b, 8.2)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.signing import GENESIS_DOMAIN
from contracts.genesis import sign_registration
from network.address_book import sign_record
from network.bootstrap.client import BootstrapClient
from network.peer import Endpoint
from node.bootstrap_process import BootstrapProcess, BootstrapSettings, bootstrap_settings
from node.errors import FormationError
from node.formation import FormedChain, Pins, form_or_fetch, load_formed
from node.keystore import KeyPair

pytestmark = pytest.mark.cluster
VERIFIER = Ed25519Verifier()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def keys(number: int) -> tuple[KeyPair, KeyPair]:
    return KeyPair(bytes((number,)) * 32), KeyPair(bytes((100 + number,)) * 32)


def settings(home: Path, port: int = 0, genesis_time_ms: int | None = None) -> BootstrapSettings:
    return bootstrap_settings(
        home=home,
        members=4,
        groups=4,
        port=port,
        demo=True,
        allow_open=True,
        chain_name="village",
        founding_balance=10**12,
        genesis_time_ms=genesis_time_ms,
    )


@contextlib.asynccontextmanager
async def bootstrap(wanted: BootstrapSettings) -> AsyncIterator[BootstrapProcess]:
    process = BootstrapProcess(wanted)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def member(number: int, home: Path, *urls: str, pins: Pins | None = None) -> FormedChain:
    node, meter = keys(number)
    return await form_or_fetch(
        urls,
        home=home / f"node{number}",
        signer=node,
        meter_public_key=meter.public_key,
        max_power_w=11_000,
        verifier=VERIFIER,
        now_ms=now_ms,
        record=sign_record(node, now_ms(), Endpoint("127.0.0.1", 20_000 + number)),
        pins=pins,
    )


async def until(url: str, **wanted: object) -> None:
    """Wait until the announcement shows these figures."""
    async with aiohttp.ClientSession() as session:
        client = BootstrapClient(url, session)
        async with asyncio.timeout(20):
            while True:
                _, progress = await client.announcement()
                if all(getattr(progress, name) == value for name, value in wanted.items()):
                    return
                await asyncio.sleep(0.02)


async def test_four_members_reach_the_same_genesis(tmp_path: Path) -> None:
    """PROTOCOL 8.1: all start from one genesis that all have acknowledged."""
    async with bootstrap(settings(tmp_path / "bootstrap")) as process:
        formed = await asyncio.gather(*(member(number, tmp_path, process.url) for number in range(1, 5)))
    assert len({chain.genesis_hash for chain in formed}) == 1
    genesis = formed[0].genesis
    assert [one.public_key for one in genesis.members] == sorted(
        (keys(number)[0].public_key for number in range(1, 5)), key=address_of
    )
    for chain in formed:
        assert chain.founder
        assert [one.public_key for one in chain.acknowledgements] == [
            one.public_key for one in genesis.members
        ]
        for one in chain.acknowledgements:
            assert VERIFIER.verify(one.public_key, GENESIS_DOMAIN + chain.genesis_hash, one.signature)
    known = {record.public_key for chain in formed for record in chain.records}
    assert known == {one.public_key for one in genesis.members}


async def test_the_bootstrap_restarts_in_the_middle_of_registration(tmp_path: Path) -> None:
    """PROTOCOL 8.2: what was registered before a restart stays registered; waiting members go on by themselves."""
    async with bootstrap(settings(tmp_path / "bootstrap")) as process:
        url, port = process.url, int(process.url.rsplit(":", 1)[1])
        early = [asyncio.create_task(member(number, tmp_path, url)) for number in (1, 2)]
        await until(url, registered=2)
    async with bootstrap(settings(tmp_path / "bootstrap", port)) as process:
        await until(url, registered=2, stage="registering")
        late = [asyncio.create_task(member(number, tmp_path, url)) for number in (3, 4)]
        formed = await asyncio.gather(*early, *late)
    assert len({chain.genesis_hash for chain in formed}) == 1


async def test_the_bootstrap_restarts_while_acknowledgements_are_missing(tmp_path: Path) -> None:
    """PROTOCOL 8.1: nobody starts before the last acknowledgement, and a restart publishes the same genesis."""
    async with bootstrap(settings(tmp_path / "bootstrap")) as process:
        url, port = process.url, int(process.url.rsplit(":", 1)[1])
        tasks = [asyncio.create_task(member(number, tmp_path, url)) for number in (1, 2, 3)]
        await until(url, registered=3)
        async with aiohttp.ClientSession() as session:
            node, meter = keys(4)
            own = sign_registration("village", node, meter.public_key, 11_000)
            await BootstrapClient(url, session).register(encode(own))
            await until(url, acknowledged=3, stage="acknowledging")
            before = await BootstrapClient(url, session).genesis()
        assert not any(task.done() for task in tasks)
    async with bootstrap(settings(tmp_path / "bootstrap", port)):
        await until(url, acknowledged=3, stage="acknowledging")
        async with aiohttp.ClientSession() as session:
            assert await BootstrapClient(url, session).genesis() == before
        formed = await asyncio.gather(*tasks, member(4, tmp_path, url))
    assert len({chain.genesis_hash for chain in formed}) == 1


async def test_a_member_restarts_and_needs_no_bootstrap_any_more(tmp_path: Path) -> None:
    """PROTOCOL 8.2: after formation a node starts from its own files."""
    async with bootstrap(settings(tmp_path / "bootstrap")) as process:
        formed = await asyncio.gather(*(member(number, tmp_path, process.url) for number in range(1, 5)))
    again = await member(1, tmp_path, "http://127.0.0.1:1")
    assert again.genesis_hash == formed[0].genesis_hash
    stored = load_formed(tmp_path / "node1", keys(1)[0].public_key, VERIFIER)
    assert stored is not None
    assert stored.acknowledgements == formed[0].acknowledgements


async def test_a_fifth_node_fetches_the_chain_and_is_no_founder(tmp_path: Path) -> None:
    """PROTOCOL 10.1: who comes later gets genesis, acknowledgements and peers; a wrong pin is refused."""
    async with bootstrap(settings(tmp_path / "bootstrap")) as process:
        founders = [asyncio.create_task(member(number, tmp_path, process.url)) for number in range(1, 5)]
        await until(process.url, registered=4)
        joiner = await member(5, tmp_path, process.url)
        formed = await asyncio.gather(*founders)
        with pytest.raises(FormationError, match="not the pinned one"):
            await member(6, tmp_path, process.url, pins=Pins(genesis_hash=bytes(32)))
    assert not joiner.founder
    assert joiner.genesis_hash == formed[0].genesis_hash
    assert {one.public_key for one in joiner.genesis.members} <= {
        record.public_key for record in joiner.records
    }


async def test_two_bootstraps_with_one_genesis_time_form_one_chain(tmp_path: Path) -> None:
    """PROTOCOL 8.2: several may run; one may even be away for a while."""
    time_ms = now_ms()
    async with (
        bootstrap(settings(tmp_path / "first", genesis_time_ms=time_ms)) as first,
        bootstrap(settings(tmp_path / "second", genesis_time_ms=time_ms)) as second,
    ):
        formed = await asyncio.gather(
            *(member(number, tmp_path, first.url, second.url) for number in (1, 2)),
            *(member(number, tmp_path, "http://127.0.0.1:1", second.url, first.url) for number in (3, 4)),
        )
    assert len({chain.genesis_hash for chain in formed}) == 1
