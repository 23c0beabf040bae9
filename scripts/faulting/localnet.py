"""`cgpbft localnet` with a proxy on every link, so that scripts/faults/partition has something to cut.

Takes the options of `cgpbft localnet`.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from node.cli.localnet import BOOTSTRAP_PORT, peer_port_of
from scripts.faulting.processes import REPOSITORY

VIA_OFFSET: Final = 1_000
END_TIMEOUT_S: Final = 20.0


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the proxies need to know, and every other option for `cgpbft localnet`."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults/localnet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--base-port", type=int, default=BOOTSTRAP_PORT)
    parser.add_argument("--via-base-port", type=int, help="the proxies' (default: 1 000 above --base-port)")
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of localnet; both programs end together."""
    options, others = parse(sys.argv[1:] if arguments is None else arguments)
    via_base_port = options.via_base_port or options.base_port + VIA_OFFSET
    ports = [str(peer_port_of(options.base_port, number)) for number in range(1, options.members + 1)]
    proxies_line = [sys.executable, "-m", "scripts.faulting.links", "--base-port", str(via_base_port), *ports]
    network_line = [
        sys.executable, "-m", "node", "localnet",
        "--members", str(options.members),
        "--groups", str(options.groups),
        "--base-port", str(options.base_port),
        "--via-base-port", str(via_base_port),
        *others,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    proxies = subprocess.Popen(proxies_line, env=environment, start_new_session=True)
    network = subprocess.Popen(network_line, env=environment, start_new_session=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while network.poll() is None:
            if proxies.poll() is not None:
                print(
                    f"error: the proxies ended with {proxies.returncode}; stopping the network",
                    file=sys.stderr,
                )
                return 1
            time.sleep(0.2)
        return network.returncode
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            for process in (network, proxies):
                process.terminate()
                process.wait(END_TIMEOUT_S)


if __name__ == "__main__":
    sys.exit(main())
