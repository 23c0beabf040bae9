"""A userspace proxy for every link of a local network, so that links can be cut, held or slowed without root.

Node i (1, 2, ...) dials node j through port ``base + 100 * i + j``, which passes bytes on to j's peer port. The nodes'
TLS is pinned to their keys, so a proxy can delay and hold, but neither read nor change. ``GET /`` on ``base`` tells the
rules, ``POST /`` with ``[{"from": i, "to": j, "held": true, "delay_ms": 0}]`` changes them, for what i sends to j.

A link is a stream: what a lossy route does to it is to stall it for a retransmission, or to cut it; nothing arrives
twice or in another order. Those are faults of messages, which only a member can do (tests/byzantine).
"""

import argparse
import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from node.cli.localnet import link_port

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65_536
RETRANSMISSION_S: Final = 0.2
"""The least that a common TCP waits before it sends a lost segment again."""


class Rule(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What happens to bytes on their way from one node to another."""

    from_: int
    to: int
    held: bool = False
    """Nothing passes; connections stay open, as behind a lost route."""
    delay_ms: int = 0
    bytes_per_s: int = 0
    """No more than this passes; 0: no limit."""
    lost_per_mille: int = 0
    """Of the pieces that pass, so many wait for a retransmission first."""
    cut: bool = False
    """Close what is connected now, once; new connections pass."""


class Links:
    """All links of one network."""

    def __init__(self, base: int, peer_ports: Sequence[int]) -> None:
        """``peer_ports``: the nodes' own peer ports, node 1 first."""
        self._base = base
        self._ports = tuple(peer_ports)
        self._rules: dict[tuple[int, int], Rule] = {}
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._joined: dict[asyncio.Task[None], tuple[int, int]] = {}
        self._draw = random.Random(base)

    async def start(self) -> None:
        """Listen for every pair of nodes."""
        numbers = range(1, len(self._ports) + 1)
        for dialler in numbers:
            for listener in numbers:
                if dialler != listener:
                    await self._listen(dialler, listener)

    async def _listen(self, dialler: int, listener: int) -> None:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._join(dialler, listener, reader, writer))
            self._joined[task] = (dialler, listener)
            task.add_done_callback(lambda done: self._joined.pop(done, None))
            await asyncio.wait((task,))

        port = link_port(self._base, dialler, listener)
        self._servers.append(await asyncio.start_server(accepted, HOST, port))

    async def _join(
        self, dialler: int, listener: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._ports[listener - 1])
        except OSError:
            writer.close()
            return
        directions = (
            asyncio.create_task(self._pass(dialler, listener, reader, far_writer)),
            asyncio.create_task(self._pass(listener, dialler, far_reader, writer)),
        )
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()

    async def _pass(
        self, sender: int, receiver: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                while (rule := self._rules.get((sender, receiver))) is not None and rule.held:
                    await self._changed.wait()
                if rule is not None:
                    await asyncio.sleep(self._wait_s(rule, len(data)))
                writer.write(data)
                await writer.drain()

    def _wait_s(self, rule: Rule, size: int) -> float:
        """How long ``rule`` keeps a piece of ``size`` bytes."""
        wait_s = rule.delay_ms / 1000
        if rule.bytes_per_s:
            wait_s += size / rule.bytes_per_s
        if rule.lost_per_mille and self._draw.randrange(1_000) < rule.lost_per_mille:
            wait_s += RETRANSMISSION_S
        return wait_s

    def change(self, rules: Sequence[Rule]) -> None:
        """Replace the rules of the pairs named; `Rule.cut` is done at once and not kept."""
        for rule in rules:
            self._rules[(rule.from_, rule.to)] = msgspec.structs.replace(rule, cut=False)
            if rule.cut:
                for task, ends in tuple(self._joined.items()):
                    if ends in ((rule.from_, rule.to), (rule.to, rule.from_)):
                        task.cancel()
        released, self._changed = self._changed, asyncio.Event()
        released.set()

    def rules(self) -> list[Rule]:
        """Rules that differ from passing everything on at once."""
        return [rule for rule in self._rules.values() if rule != Rule(rule.from_, rule.to)]

    async def close(self) -> None:
        """Stop listening and drop what is connected."""
        for server in self._servers:
            server.close()
        for task in tuple(self._joined):
            task.cancel()
        await asyncio.gather(*self._joined, return_exceptions=True)

    # ---- control

    async def answer(self, request: web.Request) -> web.Response:
        """GET and POST of the control port."""
        if request.method == "POST":
            try:
                self.change(msgspec.json.decode(await request.read(), type=list[Rule]))
            except msgspec.MsgspecError as error:
                return web.json_response({"problem": str(error)}, status=400)
        return web.Response(body=msgspec.json.encode(self.rules()), content_type="application/json")


async def serve(base: int, peer_ports: Sequence[int]) -> None:
    """Run until cancelled; the control port opens last, when every link listens."""
    links = Links(base, peer_ports)
    await links.start()
    application = web.Application()
    application.router.add_route("*", "/", links.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, base).start()
    await asyncio.Event().wait()


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Proxies for every link of a local network.")
    parser.add_argument("--base-port", type=int, required=True)
    parser.add_argument("peer_ports", type=int, nargs="+", help="the nodes' peer ports, node 1 first")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.base_port, arguments.peer_ports))


if __name__ == "__main__":
    main()
