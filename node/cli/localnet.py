"""`cgpbft localnet`: the bootstrap service and N node processes on this machine, until Ctrl-C."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from node.cli.common import JsonOption, command, fail, home_of, note, print_json, write_atomically

BOOTSTRAP_PORT: Final = 26_650
API_OFFSET: Final = 11
"""Node i (from 1) serves its API at base + 10 + i and its peers at base + 50 + i."""
PEER_OFFSET: Final = 51
MAX_MEMBERS: Final = 40
"""The port ranges of API and peers stay apart, and one machine is enough for no more."""
LINKS_PER_NODE: Final = 100
"""With ``--via-base-port P`` node i dials node j at P + 100 * i + j; P itself is the proxies' control port."""
READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0
FILE: Final = "localnet.json"
HONEST: Final = "honest"
LOG_FILE: Final = "log"


class Place(msgspec.Struct):
    """One process of the network, as the fault scripts find it in localnet.json."""

    name: str
    pid: int
    url: str
    home: str
    log: str
    command: list[str]
    """How it was started; the same again restarts it."""
    peer_port: int = 0
    behaviour: str = HONEST
    """What runs there: `HONEST`, or what a fault script put in its place."""


class Network(msgspec.Struct):
    """localnet.json."""

    supervisor_pid: int
    members: int
    groups: int
    bootstrap: Place
    nodes: list[Place]
    via_base_port: int = 0
    """Where proxies stand on every link, see `LINKS_PER_NODE`; 0: the nodes dial one another."""


def link_port(via_base_port: int, dialler: int, listener: int) -> int:
    """Where node ``dialler`` finds node ``listener``, both counted from 1."""
    return via_base_port + LINKS_PER_NODE * dialler + listener


@command
def localnet(
    members: Annotated[int, typer.Option(min=1, max=MAX_MEMBERS)],
    groups: Annotated[int, typer.Option(min=0)],
    home: Annotated[Path, typer.Option("--home", help="Folder of all their homes and logs.")] = Path(
        "localnet"
    ),
    base_port: Annotated[
        int, typer.Option(min=1, max=65_000, help="The bootstrap's; others follow.")
    ] = BOOTSTRAP_PORT,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A genesis parameter.")
    ] = None,
    founding_balance: Annotated[str, typer.Option(help="Currency of each founder.")] = "1000",
    via_base_port: Annotated[
        int,
        typer.Option(
            min=0, max=60_000, help="Nodes dial one another through proxies that stand from here on."
        ),
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Start a bootstrap and N nodes here, and stop them all at the end."""
    folder = home_of(home).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_a_running_one(folder)
    net = Supervisor(folder, members, groups, base_port, via_base_port)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        net.start(_operator_key(folder), founding_balance, set_ or [])
        net.wait_until_ready()
        if json:
            print_json(net.network)
            sys.stdout.flush()
        else:
            net.tell()
        net.watch()
    except KeyboardInterrupt:
        note("stopping")
    finally:
        net.stop()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _refuse_a_running_one(folder: Path) -> None:
    try:
        found = msgspec.json.decode((folder / FILE).read_bytes(), type=Network)
        os.kill(found.supervisor_pid, 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError, msgspec.MsgspecError):
        return
    fail(
        f"a network runs in {folder} already, under process {found.supervisor_pid}: stop it, or use another --home"
    )


def _operator_key(folder: Path) -> str:
    """Public key of the network's one operator, made at the first start."""
    from node.keystore import new_key_pair, read_key, write_key

    path = folder / "operator.key"
    if not path.exists():
        write_key(path, new_key_pair())
    return read_key(path).public_key.hex()


class Supervisor:
    """The child processes. A node that is ended by a fault script stays ended: restarting it is the script's work."""

    def __init__(self, folder: Path, members: int, groups: int, base_port: int, via_base_port: int) -> None:
        self._folder = folder
        self._base_port = base_port
        self._via_base_port = via_base_port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        url = f"http://127.0.0.1:{base_port}"
        bootstrap = Place(
            "bootstrap", 0, url, str(folder / "bootstrap"), str(folder / "bootstrap" / LOG_FILE), []
        )
        nodes = [self._place(number, url, members) for number in range(1, members + 1)]
        self.network = Network(os.getpid(), members, groups, bootstrap, nodes, via_base_port)

    def _place(self, number: int, bootstrap_url: str, members: int) -> Place:
        name = f"node{number}"
        home = self._folder / name
        api_port = self._base_port + API_OFFSET + number - 1
        peer_port = peer_port_of(self._base_port, number)
        line = [
            *_program(), "join", bootstrap_url,
            "--home", str(home),
            "--api", f"127.0.0.1:{api_port}",
            "--listen", f"127.0.0.1:{peer_port}",
            *(part for one in self._proxies(number, members) for part in ("--via", one)),
        ]  # fmt: skip
        return Place(
            name, 0, f"http://127.0.0.1:{api_port}", str(home), str(home / LOG_FILE), line, peer_port
        )

    def _proxies(self, number: int, members: int) -> list[str]:
        """What node ``number`` dials instead of the other nodes' own peer ports."""
        if not self._via_base_port:
            return []
        return [
            f"127.0.0.1:{peer_port_of(self._base_port, other)}"
            f"=127.0.0.1:{link_port(self._via_base_port, number, other)}"
            for other in range(1, members + 1)
            if other != number
        ]

    def start(self, operator: str, founding_balance: str, overrides: list[str]) -> None:
        """Start the bootstrap, then every node."""
        place = self.network.bootstrap
        place.command = [
            *_program(), "bootstrap",
            "--members", str(self.network.members),
            "--groups", str(self.network.groups),
            "--home", place.home,
            "--port", str(self._base_port),
            "--demo", "--allow-open",
            "--operator", operator,
            "--founding-balance", founding_balance,
            *(part for one in overrides for part in ("--set", one)),
        ]  # fmt: skip
        for one in (place, *self.network.nodes):
            self._spawn(one)
        self._write()

    def _spawn(self, place: Place) -> None:
        Path(place.home).mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(place.log, "ab") as log:
            # A session of its own: the terminal's Ctrl-C reaches the supervisor, which then stops its children.
            process = subprocess.Popen(  # noqa: S603 - our own program
                place.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        place.pid = process.pid
        self._processes[place.name] = process

    def _write(self) -> None:
        write_atomically(
            self._folder / FILE, msgspec.json.format(msgspec.json.encode(self.network), indent=2) + b"\n"
        )

    def wait_until_ready(self) -> None:
        """Until every node answers ready; a process that ends meanwhile, or the time, fails it with the log's end."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        waiting = {node.name: node for node in self.network.nodes}
        last_told = 0.0
        while waiting:
            for place in (self.network.bootstrap, *self.network.nodes):
                if self._processes[place.name].poll() is not None:
                    fail(
                        f"{place.name} ended with {self._processes[place.name].returncode}: {_last_line(place.log)}"
                    )
            waiting = {name: node for name, node in waiting.items() if not _is_ready(node.url)}
            if time.monotonic() > deadline:
                name, node = next(iter(waiting.items()))
                fail(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s: {_last_line(node.log)}")
            if time.monotonic() - last_told > 5:
                note(f"{self.network.members - len(waiting)} of {self.network.members} nodes are ready")
                last_told = time.monotonic()
            time.sleep(0.2)

    def tell(self) -> None:
        """Where everything is."""
        from node.cli.tables import facts

        rows = [(node.name, f"{node.url}   {node.home}") for node in self.network.nodes]
        facts((("bootstrap", self.network.bootstrap.url), *rows, ("described in", self._folder / FILE)))
        print("Ctrl-C stops all", flush=True)

    def watch(self) -> None:
        """Tell once of every process that ends, until interrupted."""
        told: set[str] = set()
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None and name not in told:
                    told.add(name)
                    note(f"{name} (process {process.pid}) ended with {process.returncode}")
            time.sleep(0.5)

    def stop(self) -> None:
        """Ask all to stop, wait, then insist; also those that a fault script started anew."""
        for pid in self._pids():
            _signal(pid, signal.SIGCONT)
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline and any(_lives(pid) for pid in self._pids()):
            for process in self._processes.values():
                process.poll()
            time.sleep(0.05)
        for pid in self._pids():
            if _lives(pid):
                _signal(pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        (self._folder / FILE).unlink(missing_ok=True)

    def _pids(self) -> list[int]:
        """Of our own children that live, and of what localnet.json names since a script changed it."""
        own = [process.pid for process in self._processes.values() if process.returncode is None]
        try:
            found = msgspec.json.decode((self._folder / FILE).read_bytes(), type=Network)
        except (FileNotFoundError, msgspec.MsgspecError):
            return own
        ended = {process.pid for process in self._processes.values() if process.returncode is not None}
        named = [place.pid for place in (found.bootstrap, *found.nodes) if place.pid > 0]
        return list(dict.fromkeys([*own, *(pid for pid in named if pid not in ended)]))


def peer_port_of(base_port: int, number: int) -> int:
    """Peer port of node ``number``, counted from 1."""
    return base_port + PEER_OFFSET + number - 1


def _program() -> list[str]:
    return [sys.executable, "-m", "node"]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _last_line(path: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"see {path}"
    return f"{lines[-1] if lines else 'it said nothing'} (all in {path})"


def _is_ready(url: str) -> bool:
    """Asks without a proxy that the environment may name: this is our own machine."""
    import http.client
    from urllib.parse import urlsplit

    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
