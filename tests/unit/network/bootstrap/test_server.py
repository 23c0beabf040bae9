"""The service over HTTP: routes, long polls, limits, problem documents (PROTOCOL 8.1)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from consensus.encoding import encode
from network.bootstrap.ballots import BallotBox
from network.bootstrap.chain import ChainPhase, EpochFacts, GroupsFixed, MemberStatus, PhaseEntered
from network.bootstrap.client import BootstrapClient
from network.bootstrap.coordinator import Coordinator
from network.bootstrap.directory import Directory
from network.bootstrap.errors import Refused, Unavailable
from network.bootstrap.limits import MAX_WAIT_MS, CoordinatorLimits, ServiceLimits
from network.bootstrap.records import acknowledge, sign_api_record
from network.bootstrap.routes import Routes, register_metrics
from network.bootstrap.server import MSGPACK, BootstrapServer
from network.bootstrap.service import BootstrapService, Coordination
from network.bootstrap.waiters import LongPolls
from network.bootstrap.watch import Watch
from network.limits import RateLimit
from tests.unit.network.bootstrap.fakes import FakeChain, url_of
from tests.unit.network.bootstrap.support import VERIFIER, Opened, eventually, key, registered
from tests.unit.network.bootstrap.test_coordinator import LIMITS, STRICT, Readable, Written

PEOPLE = sorted(key(number).address for number in range(1, 5))


class Bench:
    """A served bootstrap whose chain is a fake."""

    def __init__(self, home: Path, limits: ServiceLimits) -> None:
        self.opened = Opened(home)
        self.chain = FakeChain()
        self.polls = LongPolls(limits.max_waiters, limits.max_waiters_per_host)
        self.opened.formation._on_change = self.polls.wake
        self.service = BootstrapService(
            formation=self.opened.formation,
            directory=Directory(verifier=VERIFIER, log=self.opened.log, is_member=self._is_member),
            record_log=self.opened.log,
            polls=self.polls,
            coordinate=lambda genesis, apis, members: self.coordination(apis, members),
        )
        registry = CollectorRegistry()
        register_metrics(self.service, registry)
        self.server = BootstrapServer(Routes(self.service, lambda: 1_000).table(), registry, limits)

    def coordination(self, apis: Any, members: Any) -> Coordination:
        coordinator = Coordinator(
            chain=self.chain,
            transactions=Written(),
            box=BallotBox(Readable(), LIMITS),
            parameters=STRICT,
            apis=apis,
            limits=CoordinatorLimits(retry_ms=1, ballot_wait_ms=1),
        )
        watch = Watch(chain=self.chain, members=members, apis=apis, now_ms=lambda: 1_000)
        return Coordination(coordinator, watch, self.chain)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def _is_member(self, public_key: bytes) -> bool:
        return self.service.is_member(public_key)

    async def coordinated(self) -> Coordination:
        await eventually(lambda: self.service.coordination is not None)
        coordination = self.service.coordination
        assert coordination is not None
        return coordination

    def form(self) -> None:
        for number in (1, 2, 3, 4):
            self.opened.formation.register(registered(number))
        genesis_hash = self.opened.formation.genesis_hash or b""
        for number in (1, 2, 3, 4):
            self.opened.formation.acknowledge(encode(acknowledge(genesis_hash, key(number))))
            self.service.directory.post_api(
                encode(sign_api_record(key(number), 1, url_of(key(number).address)))
            )


@contextlib.asynccontextmanager
async def serving(
    home: Path, **limits: Any
) -> AsyncIterator[tuple[Bench, BootstrapClient, aiohttp.ClientSession]]:
    bench = Bench(home, ServiceLimits(**limits))
    await bench.server.start("127.0.0.1", 0)
    work = asyncio.create_task(bench.service.run())
    try:
        async with aiohttp.ClientSession() as session:
            yield bench, BootstrapClient(bench.url, session), session
    finally:
        bench.polls.close()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await bench.server.stop()
        bench.opened.log.close()


async def get(session: aiohttp.ClientSession, url: str, **options: Any) -> tuple[int, Any]:
    async with session.get(url, **options) as response:
        text = await response.text()
        return response.status, json.loads(text) if "json" in response.content_type else text


async def test_livez_and_readyz_answer_before_the_chain_forms(tmp_path: Path) -> None:
    async with serving(tmp_path) as (bench, _, session):
        assert await get(session, f"{bench.url}/livez") == (200, {"live": True})
        assert (await get(session, f"{bench.url}/readyz"))[0] == 200
        for path in ("/v1/election", "/v1/watch", f"/v1/reminders/{'00' * 20}"):
            status, problem = await get(session, bench.url + path)
            assert (status, problem["code"]) == (503, "not_formed")


async def test_formation_is_announced_as_it_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as (bench, client, session):
        announced, progress = await client.announcement()
        assert announced == bench.opened.formation.announcement
        assert (progress.stage, progress.registered, progress.genesis_hash) == ("registering", 0, None)
        await client.register(registered(1))
        await client.register(registered(1))
        assert (await client.announcement())[1].registered == 1
        with pytest.raises(Refused, match="signed by its key"):
            await client.register(registered(2)[:-1] + b"\x00")
        _, shown = await get(session, f"{bench.url}/v1/registrations")
        assert shown["items"] == [key(1).address.hex()]


async def test_a_long_poll_returns_when_the_genesis_appears(tmp_path: Path) -> None:
    async with serving(tmp_path) as (bench, client, _):
        assert await client.genesis(wait_ms=1) is None
        assert await client.acknowledgements() is None
        waiting = [asyncio.create_task(client.genesis(wait_ms=MAX_WAIT_MS)) for _ in range(5)]
        await eventually(lambda: bench.polls.waiting == 5)
        for number in (1, 2, 3, 4):
            await client.register(registered(number))
        found = await asyncio.gather(*waiting)
        assert set(found) == {bench.opened.formation.genesis}
        assert bench.polls.waiting == 0


async def test_too_many_waiters_are_sent_away_with_a_time(tmp_path: Path) -> None:
    async with serving(tmp_path, max_waiters_per_host=2) as (bench, client, session):
        waiting = [asyncio.create_task(client.genesis(wait_ms=MAX_WAIT_MS)) for _ in range(2)]
        await eventually(lambda: bench.polls.waiting == 2)
        async with session.get(f"{bench.url}/v1/genesis?wait_ms=1000") as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "2"
        bench.polls.close()
        assert await asyncio.gather(*waiting) == [None, None]


async def test_bad_requests_get_problem_documents(tmp_path: Path) -> None:
    async with serving(tmp_path, body_timeout_ms=50) as (bench, _, session):

        async def post(data: Any, content_type: str = MSGPACK) -> tuple[int, str]:
            headers = {"Content-Type": content_type}
            async with session.post(f"{bench.url}/v1/registrations", data=data, headers=headers) as response:
                assert response.content_type == "application/problem+json"
                return response.status, (await response.json(content_type=None))["code"]

        async def dribble() -> AsyncIterator[bytes]:
            yield b"\x94"
            await asyncio.sleep(0.5)
            yield b"\x00"

        assert await post(b"\x00") == (400, "malformed")
        assert await post(bytes(10_000)) == (413, "too_large")
        assert await post(b"{}", "application/json") == (415, "media_type")
        assert await post(dribble()) == (408, "body_timeout")
        assert (await get(session, f"{bench.url}/nowhere"))[1]["code"] == "not_found"
        assert (await get(session, f"{bench.url}/v1/ballots"))[1]["code"] == "method"
        assert (await get(session, f"{bench.url}/v1/genesis?wait_ms=99999999"))[1]["code"] == "parameter"
        assert (await get(session, f"{bench.url}/v1/addresses?after=zz"))[1]["code"] == "parameter"


async def test_one_address_cannot_ask_without_end(tmp_path: Path) -> None:
    slow = RateLimit(bytes_per_second=1_000, messages_per_second=5)
    async with serving(tmp_path, rate=slow) as (bench, client, session):
        statuses = [(await get(session, f"{bench.url}/livez"))[0] for _ in range(20)]
        assert statuses[:5] == [200] * 5
        assert statuses[-1] == 429
        with pytest.raises(Unavailable, match="too many requests"):
            await client.announcement()


async def test_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connections=10, max_connections_per_host=10) as (bench, _, session):
        silent = [await asyncio.open_connection("127.0.0.1", bench.server.port) for _ in range(30)]
        assert (await get(session, f"{bench.url}/livez"))[0] == 200
        async with asyncio.timeout(5):
            assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()


async def test_a_formed_chain_is_coordinated(tmp_path: Path) -> None:
    async with serving(tmp_path) as (bench, client, session):
        await bench.chain.grow()
        bench.chain.facts = EpochFacts(0, ChainPhase.RUNNING, None, (), (), tuple(PEOPLE[:2]))
        for place, address in enumerate(PEOPLE):
            bench.chain.statuses[url_of(address)] = MemberStatus(
                address, 1, 0, 0, ChainPhase.RUNNING, place != 1, "member", ()
            )
        bench.form()
        coordinator = (await bench.coordinated()).coordinator
        await eventually(lambda: coordinator.following is not None)
        view = coordinator.view
        assert (await get(session, f"{bench.url}/readyz"))[0] == 200
        await bench.chain.grow(PhaseEntered(0, ChainPhase.PLANNING))
        await bench.chain.grow(
            GroupsFixed(1, tuple(PEOPLE), (0, 0, 1, 1), 0, 0, False), PhaseEntered(0, ChainPhase.VOTING)
        )
        await eventually(lambda: view.height == 3)
        _, election = await get(session, f"{bench.url}/v1/election")
        assert election["phase"] == "voting"
        assert election["voting"]["until_ms"] == election["voting"]["from_ms"] + 5_000
        assert election["groups"][0]["not_voted"] == [address.hex() for address in PEOPLE]
        assert (await client.reminder(PEOPLE[0])).vote_due
        assert not (await client.reminder(bytes(20))).vote_due


async def test_ballots_are_taken_in_batches_and_answered_one_by_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as (bench, client, session):
        await bench.chain.grow()
        bench.form()
        coordinator = (await bench.coordinated()).coordinator
        coordinator.box.open(1, dict.fromkeys(sorted(key(number).address for number in range(1, 7)), 0))
        good, bad = bytes((0, 1, 1, 2)), bytes((0, 7, 1, 2))
        async with session.post(
            f"{bench.url}/v1/ballots", data=encode([good, bad]), headers={"Content-Type": MSGPACK}
        ) as response:
            assert response.status == 202
            answers = (await response.json())["ballots"]
        assert [one["taken"] for one in answers] == [True, False]
        assert answers[1]["code"] == "ballot_epoch"
        with pytest.raises(Refused, match="not for epoch 7"):
            await client.post_ballots([bad])
        with pytest.raises(Refused, match=r"not a valid encoding"):
            await client.post_ballots([good] * 129)
        await eventually(lambda: bool(bench.chain.submitted))
        assert bench.chain.submitted[0][1] == b"ballots:" + good


async def test_watch_and_metrics_are_readable(tmp_path: Path) -> None:
    async with serving(tmp_path) as (bench, _, session):
        bench.form()
        watch_of_members = (await bench.coordinated()).watch
        bench.chain.away = {url_of(address) for address in PEOPLE}
        await watch_of_members.look()
        _, watch = await get(session, f"{bench.url}/v1/watch")
        assert [line["condition"] for line in watch["members"]] == ["down"] * 4
        _, table = await get(session, f"{bench.url}/v1/watch?format=table")
        assert len(table.splitlines()) == 5
        _, metrics = await get(session, f"{bench.url}/metrics")
        assert "cgpbft_bootstrap_registered 4.0" in metrics
        assert "cgpbft_bootstrap_requests_total" in metrics
