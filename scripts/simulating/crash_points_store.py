"""Crash points of the ledger's store: its write-ahead log cut, zeroed and half-written (RELIABILITY G7, faults 4, 5).

The store's files are copied while it is open, as a dying process leaves them. Of the log every end of a block is cut,
every sector, and bytes drawn from the seed. Whatever is opened again must hold all blocks whose batch had reached the
disk, whole and in order, and nothing else.
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consensus.encoding import encode
from consensus.errors import ProtocolError
from node.store import RocksStore
from scripts.simulating.crash_points_chain import Chain, make_genesis, open_ledger

BLOCKS: Final = 12
SECTOR_BYTES: Final = 512
MAX_FINDINGS: Final = 20


@dataclass(frozen=True)
class StoreCrashResult:
    """Of `enumerate_store_points`."""

    points: dict[str, int]
    findings: tuple[str, ...]
    seconds: float
    log_bytes: int


@dataclass(frozen=True)
class KilledStore:
    """The files of a store whose process died."""

    directory: Path
    log: str
    """Name of the write-ahead log."""
    content: bytes
    """Of the log."""
    ends: tuple[int, ...]
    """Length of the log after genesis and after each block: so far it was synced."""
    blocks: tuple[bytes, ...]
    """Canonical bytes of the blocks."""


def kill_store(directory: Path, blocks: int = BLOCKS) -> KilledStore:
    """Grow a ledger in ``directory`` / live and copy it, open as it is, to ``directory`` / killed."""
    live, killed = directory / "live", directory / "killed"
    chain = Chain(RocksStore(live), make_genesis())
    [log] = [path for path in live.iterdir() if path.suffix == ".log"]
    ends = [log.stat().st_size]
    for _ in range(blocks):
        chain.grow()
        ends.append(log.stat().st_size)
    shutil.copytree(live, killed)
    chain.ledger.store.close()
    content = (killed / log.name).read_bytes()
    return KilledStore(killed, log.name, content, tuple(ends), tuple(encode(block) for block in chain.blocks))


def _cuts(store: KilledStore, rng: random.Random, samples: int) -> Iterator[tuple[str, bytes, int]]:
    """Kind, content of the log, and how many of its bytes are as they were written."""
    content, size = store.content, len(store.content)
    for end in store.ends:
        yield "cut at the end of a batch", content[:end], end
        yield "zeros behind a batch", content[:end] + bytes(size - end), end
    for cut in range(store.ends[-3] // SECTOR_BYTES * SECTOR_BYTES, size, SECTOR_BYTES):
        yield "cut at a sector", content[:cut], cut
        yield "zeros from a sector on", content[:cut] + bytes(size - cut), cut
        hole = min(SECTOR_BYTES, size - cut)
        yield (
            "a sector of the newest batches missing",
            content[:cut] + bytes(hole) + content[cut + hole :],
            cut,
        )
    for _ in range(samples):
        cut = rng.randrange(store.ends[0], size)
        yield "cut at a byte", content[:cut], cut


def judge_store(store: KilledStore, directory: Path, content: bytes, intact: int) -> str | None:
    """What is wrong with the ledger that opens when the log has ``content``; None if nothing is."""
    shutil.copytree(store.directory, directory, ignore=shutil.ignore_patterns("LOG*"))
    (directory / store.log).write_bytes(content)
    try:
        ledger = open_ledger(directory, make_genesis())
    except ProtocolError as error:
        return f"it does not open: {error}"
    finally_height = ledger.height
    try:
        expected = sum(end <= intact for end in store.ends) - 1
        if finally_height != max(0, expected):
            return f"{finally_height} blocks where {expected} were durable"
        for height in range(1, finally_height + 1):
            if ledger.certified_bytes(height) != store.blocks[height - 1]:
                return f"block {height} is not the one that was written"
    finally:
        ledger.store.close()
    return None


def enumerate_store_points(
    seed: int = 1, *, samples: int = 100, progress: Callable[[int], None] = lambda _: None
) -> StoreCrashResult:
    """All points; ``samples`` bytes at which the log is cut besides."""
    began = time.monotonic()
    points: Counter[str] = Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cgpbft-store-") as place:
        home = Path(place)
        store = kill_store(home)
        for kind, content, intact in _cuts(store, random.Random(f"{seed}/store"), samples):
            points[kind] += 1
            directory = home / "reopened"
            problem = judge_store(store, directory, content, intact)
            shutil.rmtree(directory)
            if problem is not None and len(findings) < MAX_FINDINGS:
                findings.append(f"{kind}, {intact} bytes: {problem}")
            progress(sum(points.values()))
    return StoreCrashResult(dict(points), tuple(findings), time.monotonic() - began, len(store.content))
