"""scripts/faults/storm: load, faults within the budget, heal, quiesce, final reads, verdict.

Exit code 0 valid, 1 invalid or failed, 2 wrong usage, 3 unknown.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from node.auditor.source import open_source
from node.cli.localnet import Network
from node.client import NodeClient
from node.keystore import NODE_KEY_FILE, read_key
from scripts.faulting.__main__ import FAULTS
from scripts.faulting.errors import FaultError
from scripts.faulting.nemesis import Storm
from scripts.faulting.network import look, read
from scripts.faulting.own_network import add_options, own_network
from scripts.faulting.recipes import KINDS, Recipe
from scripts.history.history import read_history
from scripts.history.judge import judge
from scripts.history.ledger import read_chain
from scripts.history.recording import ending
from scripts.history.recording.clients import Client, Shared
from scripts.history.recording.everywhere import listen, read_everywhere
from scripts.history.recording.log import Log
from scripts.history.recording.market import Market
from scripts.history.records import Node, Setup
from scripts.history.verdict import Outcome, Verdict

QUIESCE_S: Final = 30.0
EXIT: Final = {Outcome.VALID: 0, Outcome.INVALID: 1, Outcome.UNKNOWN: 3}
VOTES: Final = "votes.jsonl"
GAP_VIEWS: Final = 3
"""A commit is due within f + 1 view timers and a fresh round; times this on a machine that does other things too."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="scripts/faults/storm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults go on (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, and what clients ask (default 1)")
    parser.add_argument("--clients", type=int, default=8, help="at a time (default 8)")
    parser.add_argument(
        "--only",
        type=_kinds,
        default=KINDS,
        metavar="FAULT,...",
        help="these of scripts/faults (default: all)",
    )
    add_options(parser)
    parser.add_argument("--gap-limit-ms", type=int, help="longest time without a commit that counts as live")
    parser.add_argument(
        "--out", type=Path, help="where history, ledger and logs are kept (default: a new folder)"
    )
    return parser.parse_args(arguments)


def _kinds(text: str) -> tuple[Recipe, ...]:
    names = text.split(",")
    unknown = sorted(set(names) - {recipe.fault for recipe in KINDS})
    if unknown:
        raise argparse.ArgumentTypeError(f"no fault of a storm: {', '.join(unknown)}")
    return tuple(recipe for recipe in KINDS if recipe.fault in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a storm and judge it."""
    options = parse(arguments)
    command = "scripts/faults/storm " + " ".join(sys.argv[1:] if arguments is None else arguments)
    out = options.out or Path(tempfile.mkdtemp(prefix="cgpbft-storm-"))
    out.mkdir(parents=True, exist_ok=True)
    try:
        with own_network(options, out) as home:
            storm = asyncio.run(_run(options, home, out, command))
        verdict = _judge(out)
    except (FaultError, TimeoutError) as error:
        print(f"error: {error} (all in {out})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    _tell(out, storm, verdict)
    return EXIT[verdict.outcome]


# ---- the run


async def _run(options: argparse.Namespace, home: Path, out: Path, command: str) -> Storm:
    network = read(home)
    log = Log(out / "history.jsonl")
    try:
        shared, limit_ms, faults = await _begin(options, network, log, command)
        tap = network.nodes[0]
        await asyncio.to_thread(FAULTS["tap"], home, await look(network), [tap.name])
        begun = ending.sizes([network.bootstrap, *network.nodes])
        storm = Storm(home, network.nodes[1:], faults, options.seed, log, options.only)
        tasks = _clients(options, shared)
        try:
            await asyncio.sleep(1)
            await storm.run(60 * options.minutes)
            await _heal(home)
            await _quiesce(home, limit_ms)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await ending.read_all(shared)
        ending.votes(log, Path(tap.home) / VOTES)
        ending.problems(log, read(home).nodes, begun)
        await shared.close()
        await ending.export(read(home).nodes, out / "ledger.export")
    finally:
        log.close()
    return storm


async def _begin(
    options: argparse.Namespace, network: Network, log: Log, command: str
) -> tuple[Shared, int, int]:
    """Set-up written; clients' knowledge, longest time without a commit, f."""
    keys = [read_key(Path(place.home) / NODE_KEY_FILE) for place in network.nodes]
    async with NodeClient(network.nodes[0].url) as node:
        view, seated = await node.parameters(), await node.delegates()
    rules = {name: int(value) for name, value in view.parameters.items()}
    faults = (len(seated.ranking) - 1) // 3
    timers_ms = sum(rules["view_timeout_ms"] * 3**v // 2**v for v in range(faults + 1))
    limit_ms = options.gap_limit_ms or GAP_VIEWS * timers_ms + 2 * rules["empty_block_interval_ms"] + 1_000
    nodes = [Node(place.name, key.address.hex()) for place, key in zip(network.nodes, keys, strict=True)]
    log.write(Setup(nodes, options.seed, command, limit_ms))
    chain_id = bytes.fromhex(view.chain_id)
    market = Market(keys, chain_id, rules["slot_ms"], rules["tx_window_ms"], options.seed)
    return Shared(network.nodes, market, log, options.seed), limit_ms, faults


def _clients(options: argparse.Namespace, shared: Shared) -> list[asyncio.Task[None]]:
    """Half pinned, half hopping; one that reads everywhere, two that listen."""
    tasks: list[asyncio.Task[None]] = []
    for process in range(options.clients):
        home = shared.places[process % len(shared.places)] if process % 2 == 0 else None
        tasks.append(asyncio.create_task(Client(shared, process, home).run(0.25)))
    tasks.append(asyncio.create_task(read_everywhere(shared, 1_000, 1.0)))
    tasks += [asyncio.create_task(listen(shared, 2_000 + n, shared.places[n], stays=not n)) for n in range(2)]
    return tasks


async def _heal(home: Path) -> None:
    """Whatever is still broken is made whole."""
    network = read(home)
    broken = [p.name for p in (network.bootstrap, *network.nodes[1:]) if not p.pid or p.behaviour != "honest"]
    overview = await look(network)
    if broken:
        await asyncio.to_thread(FAULTS["restart"], home, overview, broken)
    await asyncio.to_thread(FAULTS["heal"], home, overview, ["all"])


async def _quiesce(home: Path, limit_ms: int) -> None:
    """All ready and at one height but for a block or two; `FaultError` says who is not."""
    deadline = time.monotonic() + QUIESCE_S + limit_ms / 1_000
    while True:
        network = read(home)
        standings = (await look(network)).standings
        late = [p.name for p in network.nodes if p.name not in standings or not standings[p.name].ready]
        heights = [standing.height for standing in standings.values()]
        if not late and max(heights) - min(heights) <= 2:
            return
        if time.monotonic() > deadline:
            return  # the final reads tell what is missing: the verdict is unknown
        await asyncio.sleep(0.5)


# ---- the verdict


def _judge(out: Path) -> Verdict:
    source = open_source(str(out / "ledger.export"))
    try:
        verdict = judge(read_history(out / "history.jsonl"), read_chain(source))
    finally:
        source.close()
    (out / "verdict.json").write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))
    return verdict


def _tell(out: Path, storm: Storm, verdict: Verdict) -> None:
    total = sum(storm.done.values())
    print(
        f"{total} faults of {len(storm.done)} kinds: "
        + ", ".join(f"{n} {c}" for n, c in storm.done.most_common())
    )
    for refused in storm.refused:
        print(f"not as planned: {refused}")
    print(verdict.text())
    print(f"all in {out}; judge it again: scripts/faults/judge check {out}/history.jsonl {out}/ledger.export")


if __name__ == "__main__":
    sys.exit(main())
