"""Real processes: four of them serve HTTP, commit, survive SIGKILL, and end cleanly on SIGTERM."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from consensus.encoding import encode
from contracts.transaction import Transfer
from tests.cluster.local_cluster import LocalCluster, quick_parameters

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

PROGRAM = """
import sys
from pathlib import Path
import uvloop
from contracts.genesis import genesis_codec
from network.address_book import sign_record
from network.peer import Endpoint
from node.config import ApiConfig, NodeConfig, PeerConfig
from node.process import run_node
from tests.cluster.local_cluster import key
home, number, genesis, *ports = sys.argv[1:]
number, count = int(number), len(ports) // 2
peers, apis = [int(p) for p in ports[:count]], [int(p) for p in ports[count:]]
records = [sign_record(key(n + 1), 1, Endpoint("127.0.0.1", peers[n])) for n in range(count)]
config = NodeConfig(peers=PeerConfig(port=peers[number - 1]), api=ApiConfig(port=apis[number - 1]))
uvloop.run(run_node(home=Path(home), config=config, genesis=genesis_codec.decode(Path(genesis).read_bytes()),
                    key=key(number), records=records))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Processes:
    """Four node processes and a client."""

    def __init__(self, directory: Path) -> None:
        # Timers with room for four processes that start at once on a machine that does other things too.
        rules = quick_parameters(4, 4, view_timeout_ms=3_000, request_timeout_ms=4_000)
        self.cluster = LocalCluster(directory, 4, rules)
        self.genesis = directory / "genesis"
        self.genesis.write_bytes(encode(self.cluster.genesis))
        self.ports = free_ports(8)
        self.running: dict[int, asyncio.subprocess.Process] = {}
        self.http = aiohttp.ClientSession()

    async def start(self, number: int) -> None:
        home = self.cluster.nodes[number - 1].home
        self.running[number] = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, str(home), str(number), str(self.genesis), *map(str, self.ports),
            cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    def url(self, number: int, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[3 + number]}{path}"

    async def ready(self, number: int) -> None:
        async with asyncio.timeout(120):
            while True:
                try:
                    async with self.http.get(self.url(number, "/readyz")) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def transfer(self, number: int, amount: int) -> dict[str, object]:
        first, second = self.cluster.nodes[:2]
        raw = self.cluster.signed(Transfer(second.key.address, amount), first.key)
        url = self.url(number, "/v1/transactions?wait=committed&timeout_ms=20000")
        async with self.http.post(url, data=raw, headers={"Content-Type": "application/msgpack"}) as answer:
            body: dict[str, object] = await answer.json()
            return body

    async def end(self, number: int, how: signal.Signals) -> tuple[int, str]:
        process = self.running.pop(number)
        process.send_signal(how)
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, errors.decode()


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    made = Processes(tmp_path)
    for number in range(1, 5):
        await made.start(number)
    yield made
    await made.http.close()
    for process in made.running.values():
        process.kill()
        await process.communicate()


async def test_kill_restart_and_orderly_end(processes: Processes) -> None:
    await asyncio.gather(*(processes.ready(number) for number in range(1, 5)))
    assert (await processes.transfer(1, 5))["state"] == "committed"
    code, _ = await processes.end(4, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert (await processes.transfer(2, 6))["state"] == "committed"
    await processes.start(4)
    await processes.ready(4)
    assert (await processes.transfer(4, 7))["state"] == "committed"
    for number in range(1, 5):
        code, errors = await processes.end(number, signal.SIGTERM)
        assert code == 0, errors
        assert "Traceback" not in errors
        assert "never retrieved" not in errors
