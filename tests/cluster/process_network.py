"""A network of real processes on this machine, driven from a plain (not asynchronous) test by command line and HTTP."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from typer.testing import CliRunner, Result

from node.cli.application import app
from node.cli.localnet import FILE, Network, Place

REPOSITORY: Final = Path(__file__).resolve().parents[2]
START_TIMEOUT_S: Final = 100.0
STOP_TIMEOUT_S: Final = 20.0
SHORT_EPOCHS: Final = ("run_ms=7000", "planning_ms=2700", "voting_ms=4000")
"""The demo's rules with epochs near the shortest that the genesis allows."""
PORTS_OF_A_NETWORK: Final = 60
FIRST_PORT, LAST_PORT = 24_000, 26_000
SLOT_MS: Final = 1_000


def free_base_port() -> int:
    """A base port above which a small network finds all its ports free."""
    # Two workers of one test run look in ranges of their own, or they could find the same ports free.
    half = (LAST_PORT - FIRST_PORT) // 2
    first = FIRST_PORT + half * (os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0")
    for _ in range(100):
        base = random.randrange(first, first + half - PORTS_OF_A_NETWORK)
        if all(is_free(port) for port in range(base, base + PORTS_OF_A_NETWORK)):
            return base
    raise AssertionError("no free range of ports")


def is_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def spawn(log: Path, *arguments: object, home: Path | None = None) -> subprocess.Popen[bytes]:
    """`cgpbft ARGUMENTS` as a process of its own session; ``home`` is its user's home folder."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "default"}
    if home is not None:
        environment["HOME"] = str(home)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "node", *(str(one) for one in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """Ask it to stop, then insist; its exit code."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def cgpbft(*arguments: object, code: int = 0, **environment: str) -> Result:
    """Run a command in this process; it has to end with ``code``."""
    clean = {"CGPBFT_HOME": "/nonexistent", "CGPBFT_NODE": "", "CGPBFT_API_TOKEN": ""} | environment
    given = {name: value or None for name, value in clean.items()}
    result = CliRunner().invoke(app, [str(one) for one in arguments], env=given, catch_exceptions=False)
    assert result.exit_code == code, f"{arguments}: {result.output}"
    return result


def shown(*arguments: object) -> Any:
    """What a command prints with `--json`."""
    return json.loads(cgpbft(*arguments, "--json").stdout)


def http(
    url: str, body: bytes | None = None, method: str | None = None, content_type: str = "application/json"
) -> tuple[int, Any]:
    """Status and JSON of one request."""
    headers = {"Content-Type": content_type} if body is not None else {}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def get(url: str) -> Any:
    status, body = http(url)
    assert status == 200, body
    return body


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen in {timeout_s:g} s")


def is_ready(url: str) -> bool:
    return http(f"{url}/readyz")[0] == 200


def next_start_ms(lead_ms: int) -> int:
    """Beginning of the slot that starts ``lead_ms`` from now, or up to a slot later."""
    return (time.time_ns() // 1_000_000 + lead_ms) // SLOT_MS * SLOT_MS + SLOT_MS


@dataclass
class Running:
    """A network and the processes that a test added to it."""

    folder: Path
    url: str
    """Of the bootstrap."""
    places: Sequence[Place]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def genesis_hash(self) -> str:
        return str(get(f"{self.places[0].url}/v1/parameters")["chain_id"])

    def address(self, number: int) -> str:
        """Address of node ``number``, from 1."""
        return str(shown("keys", "show", "--home", self.places[number - 1].home)[0]["address"])

    def add(self, log: Path, *arguments: object, home: Path | None = None) -> subprocess.Popen[bytes]:
        process = spawn(log, *arguments, home=home)
        self.processes.append(process)
        return process


@contextlib.contextmanager
def open_network(folder: Path, *parameters: str) -> Iterator[Running]:
    """`cgpbft localnet` with four members in four groups."""
    base, log = free_base_port(), folder / "localnet.log"
    overrides = [part for one in parameters for part in ("--set", one)]
    supervisor = spawn(
        log,
        "localnet",
        "--members",
        4,
        "--groups",
        4,
        "--home",
        folder / "net",
        "--base-port",
        base,
        *overrides,
    )
    running = Running(folder, f"http://127.0.0.1:{base}", ())
    try:
        file = folder / "net" / FILE

        def started() -> bool:
            assert supervisor.poll() is None, log.read_text(encoding="utf-8")
            return file.exists()

        until(started, "the start of the network", START_TIMEOUT_S)
        running.places = msgspec.json.decode(file.read_bytes(), type=Network).nodes
        for place in running.places:
            until(partial(is_ready, place.url), f"{place.name} ready", START_TIMEOUT_S)
        yield running
    finally:
        for process in running.processes:
            end(process)
        end(supervisor)


@contextlib.contextmanager
def invited_network(folder: Path, operators: Sequence[str], *parameters: str) -> Iterator[Running]:
    """A bootstrap with operators, who decide two together, and four founders."""
    base = free_base_port()
    running = Running(folder, f"http://127.0.0.1:{base}", ())
    overrides = [part for one in parameters for part in ("--set", one)]
    keys = [part for one in operators for part in ("--operator", one)]
    try:
        running.add(
            folder / "bootstrap.log", "bootstrap", "--members", 4, "--groups", 4, "--demo", "--admission", "invited",
            "--operator-threshold", 2, "--port", base, "--home", folder / "bootstrap", *keys, *overrides,
        )  # fmt: skip
        places = []
        for number in range(1, 5):
            home, api, peers = folder / f"node{number}", base + 10 + number, base + 50 + number
            running.add(
                folder / f"node{number}.log", "join", running.url, "--home", home,
                "--api", f"127.0.0.1:{api}", "--listen", f"127.0.0.1:{peers}",
            )  # fmt: skip
            log = str(folder / f"node{number}.log")
            places.append(Place(f"node{number}", 0, f"http://127.0.0.1:{api}", str(home), log, []))
        running.places = places
        for place in places:
            until(partial(is_ready, place.url), f"{place.name} ready", START_TIMEOUT_S)
        yield running
    finally:
        for process in reversed(running.processes):
            end(process)
