"""`scripts/load`: set-up, offered and committed rate, latency from submission to certified commit, CPU per process."""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import uvloop

from consensus.ed25519 import Ed25519Verifier
from node.cli.localnet import Network
from node.client import NodeClient
from node.keystore import NODE_KEY_FILE, KeyPair, read_key
from scripts.demo.run import await_network, say, start_network, stop_network
from scripts.loading.generator import Load, Outcome, idle_latencies
from scripts.loading.processes import cpu_seconds, resident_mib
from scripts.loading.transactions import PreparedTrade, prepare_trades

DRAIN_S: Final = 15.0
"""How long what was offered may still take to commit after the last batch left."""
MAX_SECONDS: Final = 100
"""Trades are signed beforehand and must stay in their window of 120 s."""
TRADE_SIGNATURES: Final = 2
"""Each delegate checks both parties' signatures of every trade once."""
LIBRARIES: Final = ("aiohttp", "uvloop", "msgspec", "PyNaCl", "rocksdict")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Command line of `scripts/load`."""
    parser = argparse.ArgumentParser(
        prog="scripts/load",
        description="Open-loop load of trades signed by both parties on a fresh local network.",
    )
    parser.add_argument("--members", type=int, default=4, help="node processes (default 4)")
    parser.add_argument("--groups", type=int, default=4, help="groups (default 4)")
    parser.add_argument("--rate", type=int, default=1_500, help="trades offered per second (default 1500)")
    parser.add_argument(
        "--seconds", type=int, default=30, help=f"how long, at most {MAX_SECONDS} (default 30)"
    )
    parser.add_argument(
        "--idle", type=int, default=50, help="trades sent one by one on the idle network before"
    )
    parser.add_argument("--base-port", type=int, default=26_650)
    parser.add_argument("--home", type=Path, help="folder of all homes and logs (default: a temporary one)")
    parser.add_argument(
        "--set", action="append", default=[], dest="rules", metavar="NAME=VALUE", help="a genesis parameter"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    if not 1 <= options.seconds <= MAX_SECONDS:
        parser.error(f"--seconds must be 1 to {MAX_SECONDS}: trades are signed beforehand and expire")
    options.links = False
    return options


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of them lie; not a number without values."""
    if not sorted_values:
        return float("nan")
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]


def signature_check_us(key: KeyPair, checks: int = 500) -> float:
    """CPU of one Ed25519 check here and now: machines differ, and a node pays two for each trade."""
    verifier, message = Ed25519Verifier(), bytes(250)
    signature = key.sign(message)
    begun = time.process_time()
    for _ in range(checks):
        verifier.verify(key.public_key, message, signature)
    return round((time.process_time() - begun) / checks * 1e6, 1)


def describe_set_up(
    options: argparse.Namespace, parameters: dict[str, Any], example: PreparedTrade
) -> dict[str, Any]:
    """What a reader needs to reproduce the figures."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "signature_check_us": signature_check_us(KeyPair(bytes(32))),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "members": options.members,
        "delegates": min(options.groups, options.members),
        "transaction": f"trade_open, {TRADE_SIGNATURES} Ed25519 signatures",
        "transaction_bytes": len(example.raw),
        "max_block_transactions": parameters["max_block_transactions"],
        "max_block_bytes": parameters["max_block_bytes"],
        "load_generator": "open loop, batches every 20 ms to the nodes in turn, on the same machine",
    }


class Usage:
    """CPU of every process between two readings."""

    def __init__(self, network: Network) -> None:
        self._pids = {place.name: place.pid for place in network.nodes} | {"generator": os.getpid()}
        self._before = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        self._since = time.monotonic()

    def figures(self, committed: int) -> dict[str, dict[str, float | None]]:
        """Cores in use, CPU for each of the ``committed`` trades, and resident memory, by process."""
        seconds = time.monotonic() - self._since
        table: dict[str, dict[str, float | None]] = {}
        for name, pid in self._pids.items():
            now, before = cpu_seconds(pid), self._before[name]
            used = None if now is None or before is None else now - before
            memory = resident_mib(pid)
            table[name] = {
                "cores": None if used is None else round(used / seconds, 3),
                "cpu_us_per_trade": None if used is None else round(used / max(1, committed) * 1e6, 1),
                "resident_mib": None if memory is None else round(memory, 1),
            }
        return table


def signature_ceiling(set_up: dict[str, Any], committed_per_s: float) -> dict[str, float]:
    """What this machine could commit if it did nothing but check signatures, and the share of it that was reached.

    All delegates run here and each checks every trade, so cores / (checks of a trade by all delegates * their cost) is
    a bound that no program passes: by the share of it, runs on machines of different speed can be compared.
    """
    checks = TRADE_SIGNATURES * set_up["delegates"]
    ceiling = set_up["cores"] / (checks * set_up["signature_check_us"] / 1e6)
    return {
        "signature_ceiling_per_s": round(ceiling, 1),
        "share_of_signature_ceiling": round(committed_per_s / ceiling, 3),
    }


def figures_of(outcome: Outcome, rate: int) -> dict[str, Any]:
    """Rates over the time from the first batch to the last commit; latencies in ms."""
    latencies = sorted(outcome.latencies_s)
    seconds = max(outcome.last_commit_at - outcome.begun_at, 1e-9)
    return {
        "offered_per_s": rate,
        "offered": len(outcome.sent_at),
        "accepted": outcome.accepted,
        "refused": outcome.refused,
        "committed": len(latencies),
        "committed_per_s": round(len(latencies) / seconds, 1),
        "seconds": round(seconds, 2),
        "blocks": len(outcome.blocks),
        "trades_per_block": round(len(latencies) / max(1, len(outcome.blocks)), 1),
        "latency_ms": {
            name: round(percentile(latencies, percent) * 1000, 1)
            for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))
        },
        "generator_blocked_ticks": outcome.blocked_ticks,
    }


async def measure(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Start a network, measure it idle and under load, stop it."""
    say(f"starting {options.members} nodes in {home}")
    process = start_network(options, home)
    clients: list[NodeClient] = []
    try:
        network = await await_network(process, home)
        clients = [NodeClient(place.url) for place in network.nodes]
        keys = [read_key(Path(place.home) / NODE_KEY_FILE) for place in network.nodes]
        return await _measure(options, network, clients, keys)
    finally:
        for client in clients:
            await client.close()
        await stop_network(process)


async def _measure(
    options: argparse.Namespace, network: Network, clients: list[NodeClient], keys: list[KeyPair]
) -> dict[str, Any]:
    view = await clients[0].parameters()

    def prepare(count: int, nonce: int) -> list[PreparedTrade]:
        slot_ms, window_ms = view.parameters["slot_ms"], view.parameters["tx_window_ms"]
        now_ms = time.time_ns() // 1_000_000
        return prepare_trades(keys, bytes.fromhex(view.chain_id), slot_ms, count, now_ms, window_ms, nonce)

    idle_trades = prepare(options.idle, 0)
    say(f"idle network: {options.idle} trades one by one")
    idle = sorted(await idle_latencies(clients[0], idle_trades, 0.05))
    count = options.rate * options.seconds
    say(f"signing {count} trades")
    trades = prepare(count, options.idle)
    say(f"load: {options.rate} trades/s for {options.seconds} s")
    usage = Usage(network)
    outcome = await Load(clients, trades).run(options.rate, DRAIN_S)
    processes = usage.figures(len(outcome.latencies_s))
    set_up, figures = describe_set_up(options, view.parameters, trades[0]), figures_of(outcome, options.rate)
    return {
        "set_up": set_up,
        "idle_latency_ms": {
            "trades": len(idle),
            "p50": round(statistics.median(idle) * 1000, 1) if idle else None,
            "p99": round(percentile(idle, 99) * 1000, 1),
        },
        **figures,
        **signature_ceiling(set_up, figures["committed_per_s"]),
        "processes": processes,
    }


def _print(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, inner in value.items():
                print(f"    {key:26} {inner}")
        else:
            print(f"{name:30} {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if everything that was accepted committed, and nothing was refused."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory(prefix="cgpbft-load-") as temporary:
        figures = uvloop.run(measure(options, Path(options.home or temporary).resolve()))
    _print(figures)
    if options.json:
        print(json.dumps(figures))
    return 0 if figures["committed"] == figures["offered"] else 1


if __name__ == "__main__":
    sys.exit(main())
