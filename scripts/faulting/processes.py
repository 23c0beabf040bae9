"""Ending, starting and stopping the network's processes."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from node.cli.localnet import HONEST, Place
from scripts.faulting.errors import FaultError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
END_TIMEOUT_S: Final = 10.0
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05
BYZANTINE_PROGRAM: Final = "tests.byzantine.member"
LYING_BOOTSTRAP: Final = "tests.byzantine.bootstrap"


def send_signal(place: Place, number: signal.Signals) -> int:
    """Signal the process; the instant, wall clock ms. `FaultError` if it does not run."""
    at_ms = time.time_ns() // 1_000_000
    try:
        if not place.pid:
            raise ProcessLookupError
        os.kill(place.pid, number)
    except ProcessLookupError:
        raise FaultError(
            f"{place.name} does not run: scripts/faults/restart {place.name} starts it"
        ) from None
    return at_ms


def kill(place: Place) -> int:
    """SIGKILL, and wait until its ports are free; the instant of the signal, wall clock ms."""
    at_ms = send_signal(place, signal.SIGKILL)
    deadline = time.monotonic() + END_TIMEOUT_S
    while is_running(place):
        if time.monotonic() > deadline:
            raise FaultError(
                f"{place.name} (process {place.pid}) still answers {END_TIMEOUT_S:.0f} s after SIGKILL"
            )
        time.sleep(POLL_S / 10)
    place.pid = 0
    return at_ms


def is_running(place: Place) -> bool:
    """Whether its process lives, also before it listens, or something listens where it serves its API."""
    return place.pid > 0 and (_lives(place) or _listens(place))


def _lives(place: Place) -> bool:
    """Whether the process is still this node's: its number may be another's by now. False without a /proc."""
    try:
        line = Path(f"/proc/{place.pid}/cmdline").read_bytes()
        state = Path(f"/proc/{place.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    # One that has ended, or only just begins, has no command line.
    return state != "Z" and (not line or os.fsencode(place.home) in line.split(b"\0"))


def _listens(place: Place) -> bool:
    url = urlsplit(place.url)
    with socket.socket() as probe:
        probe.settimeout(1.0)
        try:
            probe.connect((url.hostname, url.port))
        except ConnectionError:
            return False
        except TimeoutError:
            return True
    return True


def start(place: Place) -> None:
    """Start it again as it was started."""
    process = _spawn(place, place.command, subprocess.DEVNULL)
    place.pid, place.behaviour = process.pid, HONEST


class Substitute:
    """A dishonest program with a node's home, keys and ports, loaded before the node is ended.

    It takes over at once: a program that loads while nothing runs there would lose its seat as down first.
    """

    def __init__(self, place: Place, behaviour: str, program: str = BYZANTINE_PROGRAM) -> None:
        arguments = place.command[place.command.index("node") + 1 :]
        line = [sys.executable, "-m", program, behaviour, *arguments]
        self._place, self._behaviour = place, behaviour
        self._gate, gate = socket.socketpair()
        with gate:
            self._process = _spawn(place, line, gate.fileno())

    def wait_until_loaded(self) -> None:
        """`FaultError` if it ends instead."""
        self._gate.settimeout(READY_TIMEOUT_S)
        try:
            loaded = self._gate.recv(1)
        except TimeoutError:
            loaded = b""
        if not loaded:
            self._process.kill()
            self._process.wait()
            raise FaultError(
                f"the dishonest program for {self._place.name} did not start: see {self._place.log}"
            )

    def take_over(self) -> None:
        """The honest process has ended: go."""
        self._gate.sendall(b"1")
        self._gate.close()
        self._place.pid, self._place.behaviour = self._process.pid, self._behaviour


def _spawn(place: Place, line: list[str], stdin: int) -> subprocess.Popen[bytes]:
    inherited = os.environ.get("PYTHONPATH")
    path = str(REPOSITORY) if not inherited else f"{REPOSITORY}{os.pathsep}{inherited}"
    with open(place.log, "ab") as log:
        return subprocess.Popen(
            line,
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )


def wait_until_up(place: Place, timeout_s: float = READY_TIMEOUT_S) -> float:
    """Seconds until a node answers ready, or the bootstrap answers at all."""
    begun = time.monotonic()
    path = "/readyz" if place.peer_port else "/"
    while not _answers(place, path):
        if _has_ended(place.pid):
            raise FaultError(f"{place.name} ended at once: see {place.log}")
        if time.monotonic() - begun > timeout_s:
            raise FaultError(
                f"{place.name} is not ready after {timeout_s:.0f} s: see {place.url}{path} and {place.log}"
            )
        time.sleep(POLL_S)
    return time.monotonic() - begun


def _has_ended(pid: int) -> bool:
    """Whether our own child ended; one that an earlier command started is not ours to wait for."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _answers(place: Place, path: str) -> bool:
    """Asks without a proxy that the environment may name: this is our own machine."""
    url = urlsplit(place.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=2)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return False
    else:
        return status == 200 or (not place.peer_port and status < 500)
    finally:
        connection.close()
