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
    while _listens(place):
        if time.monotonic() > deadline:
            raise FaultError(
                f"{place.name} (process {place.pid}) still answers {END_TIMEOUT_S:.0f} s after SIGKILL"
            )
        time.sleep(POLL_S / 10)
    place.pid = 0
    return at_ms


def is_running(place: Place) -> bool:
    """Whether something listens where the node serves its API."""
    return place.pid > 0 and _listens(place)


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


def start(place: Place, behaviour: str = HONEST) -> None:
    """Start the node again as it was started, or a dishonest program with its home, keys and ports."""
    line = place.command
    if behaviour != HONEST:
        arguments = line[line.index("node") + 1 :]
        line = [sys.executable, "-m", BYZANTINE_PROGRAM, behaviour, *arguments]
    inherited = os.environ.get("PYTHONPATH")
    path = str(REPOSITORY) if not inherited else f"{REPOSITORY}{os.pathsep}{inherited}"
    with open(place.log, "ab") as log:
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    place.pid = process.pid
    place.behaviour = behaviour


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
