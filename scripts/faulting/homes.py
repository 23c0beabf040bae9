"""Faults of a node's disk and home: wiped, put back from an old copy, torn, flipped, full."""

import random
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from node.assembly import JOURNAL_DIRECTORY, LEDGER_DIRECTORY
from node.cli.localnet import Network, Place
from scripts.faulting import processes
from scripts.faulting.commands import Outcome, deed_of, end, now_ms, started
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, changing, read, resolve

BACKUPS: Final = "backups"
DATA: Final = (JOURNAL_DIRECTORY, LEDGER_DIRECTORY)
"""What a node writes while it runs; its keys are not among it."""
DEFAULT_TORN_BYTES: Final = 17
DEFAULT_FLIPS: Final = 8
ABSTAINS: Final = (
    "a lost or older journal: it signs nothing until two heights past what the others know (PROTOCOL 6.5)"
)


def _nodes(network: Network, overview: Overview, targets: Sequence[str]) -> list[Place]:
    places = resolve(network, overview, targets)
    if any(not place.peer_port for place in places):
        raise FaultError("the bootstrap's home is not touched here: kill or restart it")
    return places


def _while_down(
    fault: str, change: Callable[..., dict[str, Any]], watch: Sequence[str]
) -> Callable[..., Outcome]:
    """A command that ends nodes, changes something in their homes, and starts them again."""

    def do(
        home: Path, overview: Overview, targets: Sequence[str], *, wait: bool = True, **options: Any
    ) -> Outcome:
        with changing(home) as network:
            places = _nodes(network, overview, targets)
            end(places)
            details: dict[str, Any] = {}
            try:
                for place in places:
                    place.pid = 0
                    details |= change(home, place, **options)
            finally:
                for place in places:
                    processes.start(place)
            instants = [now_ms()] * len(places)
        lines = [line.format(place.url, place.log) for place in places for line in watch]
        outcome = started(fault, places, instants, overview, wait=wait, watch=lines)
        return Outcome(fault, outcome.deeds, outcome.watch, details)

    return do


# ---- lost and old data


def _wipe(home: Path, place: Place) -> dict[str, Any]:
    del home
    for name in DATA:
        shutil.rmtree(Path(place.home) / name, ignore_errors=True)
    return {"removed": ", ".join(DATA)}


def _copy_of(home: Path, place: Place) -> Path:
    return home / BACKUPS / place.name


def backup(home: Path, overview: Overview, targets: Sequence[str]) -> Outcome:
    """Copy what nodes have on disk, while they are stopped for it, as a snapshot of the machine would."""
    with changing(home) as network:
        places = _nodes(network, overview, targets)
        at_ms = now_ms()
        end(places)
        for place in places:
            place.pid = 0
            copy = _copy_of(home, place)
            shutil.rmtree(copy, ignore_errors=True)
            for name in DATA:
                shutil.copytree(Path(place.home) / name, copy / name)
            processes.start(place)
    for place in places:
        processes.wait_until_up(place)
    watch = [f"scripts/faults/restore {place.name} puts the old data back" for place in places]
    return Outcome("backup", [deed_of(place, overview, at_ms) for place in places], watch)


def _restore(home: Path, place: Place) -> dict[str, Any]:
    copy = _copy_of(home, place)
    if not copy.is_dir():
        raise FaultError(
            f"there is no copy of {place.name}: scripts/faults/backup {place.name} makes one first"
        )
    for name in DATA:
        shutil.rmtree(Path(place.home) / name, ignore_errors=True)
        shutil.copytree(copy / name, Path(place.home) / name)
    return {"restored": ", ".join(DATA)}


# ---- damaged data


def _newest_segment(place: Place) -> Path:
    segments = sorted(path for path in (Path(place.home) / JOURNAL_DIRECTORY).iterdir() if path.is_file())
    if not segments:
        raise FaultError(f"{place.name} has no journal to damage")
    return segments[-1]


def _tear(
    home: Path, place: Place, count: int = DEFAULT_TORN_BYTES, lost: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Leave ``count`` bytes of a write that a power cut stopped; ``lost``: take as many that were synced away."""
    del home
    path = _newest_segment(place)
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        if lost:
            file.truncate(max(0, size - count))
        else:
            file.write(random.Random(seed).randbytes(count))
    return {"file": path.name, "bytes": count, "lost": lost}


def _flip(
    home: Path, place: Place, where: str = "journal", flips: int = DEFAULT_FLIPS, seed: int = 0
) -> dict[str, Any]:
    del home
    draw = random.Random(seed)
    if where == "journal":
        path = _newest_segment(place)
    else:
        tables = (Path(place.home) / LEDGER_DIRECTORY).iterdir()
        files = sorted(
            path for path in tables if path.suffix in (".sst", ".blob", ".log") and path.stat().st_size
        )
        if not files:
            raise FaultError(f"{place.name} has no ledger to damage")
        path = draw.choice(files)
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        for _ in range(flips):
            position = draw.randrange(size)
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << draw.randrange(8)]))
    return {"file": f"{path.parent.name}/{path.name}", "bits_flipped": flips}


wipe = _while_down("wipe", _wipe, (ABSTAINS, "it fetches every block again: {0}/readyz, log {1}"))
restore = _while_down("restore", _restore, (ABSTAINS, "the log says how it noticed: {1}"))
tear = _while_down("tear", _tear, ("a torn tail, whose votes never left, is cut off: {1}",))
flip = _while_down("flip", _flip, ("damage is noticed at the start or at the read, and told: {1}",))


# ---- a full disk


def fill(home: Path, overview: Overview, targets: Sequence[str], *, room_bytes: int = 0) -> Outcome:
    """No file of the nodes may grow beyond its journal and ``room_bytes``: writing fails as on a full disk."""
    network = read(home)
    places = _nodes(network, overview, targets)
    at_ms = now_ms()
    for place in places:
        if not place.pid:
            raise FaultError(f"{place.name} does not run: scripts/faults/restart {place.name} starts it")
        limit = _newest_segment(place).stat().st_size + room_bytes
        try:
            resource.prlimit(place.pid, resource.RLIMIT_FSIZE, (limit, limit))
        except (OSError, ValueError, AttributeError) as error:
            raise FaultError(f"the file size limit of {place.name} cannot be set: {error}") from error
    watch = [
        f"it stops with a plain reason and has signed nothing it could not store: {place.log}"
        for place in places
    ]
    watch.append(f"scripts/faults/restart {' '.join(place.name for place in places)} gives it its disk back")
    details = {"room_bytes": room_bytes}
    return Outcome("fill", [deed_of(place, overview, at_ms) for place in places], watch, details)
