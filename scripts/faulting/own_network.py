"""A local network with proxies that a command starts for itself, and ends with itself."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.faulting.errors import FaultError
from scripts.faulting.processes import REPOSITORY

BASE_PORT: Final = 28_400
STOP_S: Final = 30.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the network is like."""
    parser.add_argument("--members", type=int, default=8, help="default 8")
    parser.add_argument("--groups", type=int, default=4, help="default 4")
    parser.add_argument(
        "--base-port", type=int, default=BASE_PORT, help=f"the bootstrap's (default {BASE_PORT})"
    )
    parser.add_argument("--via-base-port", type=int, help="of the proxies (default: 1 000 above)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a genesis parameter"
    )


@contextlib.contextmanager
def own_network(options: argparse.Namespace, out: Path) -> Iterator[Path]:
    """Its home, once every node is ready; `FaultError` if it does not start."""
    home = out / "net"
    line = [
        sys.executable, "-m", "scripts.faulting.localnet",
        "--members", str(options.members),
        "--groups", str(options.groups),
        "--base-port", str(options.base_port),
        *(["--via-base-port", str(options.via_base_port)] if options.via_base_port else []),
        "--home", str(home),
        *(part for one in options.set for part in ("--set", one)),
        "--json",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with (out / "localnet.log").open("wb") as file:
        process = subprocess.Popen(
            line, env=environment, stdout=subprocess.PIPE, stderr=file, start_new_session=True
        )
    told = process.stdout
    try:
        # The line comes when every node is ready, or, empty, when it ended.
        if told is None or not told.readline():
            raise FaultError(f"the network did not start: see {out / 'localnet.log'}")
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)
        if told is not None:
            told.close()
