"""Codecs of all wire types against a second implementation, byte for byte (RELIABILITY G10; PROTOCOL 9.4).

Of each type as many values as asked for are drawn from the seed. The shipped decoder must take what another library
packed, give the same bytes back, and read them as equal; a mutation of the bytes is refused, or is the canonical
encoding of another value; and where the auditor has a description of its own, both agree on what they take. The
SHA-256 over all encodings of a type is pinned, so that nobody changes a format without noticing.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from consensus.errors import MalformedInput
from node.auditor.encoding import Malformed
from scripts.simulating.codec_conformance_types import MAX_BYTES, Target, all_targets

SEED: Final = 1
FULL_CASES: Final = 65_536
SMALL_CASES: Final = 48
PINS_FILE: Final = Path(__file__).with_name("codec_conformance_pins.json")
HASH_SEEDS: Final = ("0", "1", "4242")
OTHER_PYTHONS: Final = ("python3.12", "python3.13", "python3.14")
MAX_FINDINGS: Final = 5
"""Of one type."""

_pack: Final[Callable[[Any], bytes]] = msgpack.Packer(use_bin_type=True).pack


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, use_list=False, strict_map_key=True)


@dataclass(frozen=True)
class TypeResult:
    """Of one type."""

    name: str
    cases: int
    sha256: str
    """Over all encodings, each behind its length in 4 bytes."""
    mutants_refused: int
    mutants_taken: int
    """Canonical encodings of other values."""
    audited: bool
    """Whether the auditor's description took part."""
    findings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class CodecResult:
    """Of `check_codecs`."""

    types: tuple[TypeResult, ...]
    changed: tuple[str, ...]
    """Types whose hash is not the pinned one."""
    unpinned: tuple[str, ...]
    """Types without a pin for this number of cases."""

    @property
    def findings(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(f"{item.name}: {finding}" for item in self.types for finding in item.findings)

    @property
    def cases(self) -> int:
        """Values of all types."""
        return sum(item.cases for item in self.types)


def check_codecs(
    cases: int = FULL_CASES,
    *,
    seed: int = SEED,
    names: Iterable[str] = (),
    jobs: int = 1,
    progress: Callable[[TypeResult], None] = lambda _: None,
) -> CodecResult:
    """Check all types, or those whose name holds one of ``names``; compare with the pins of ``cases``, if any."""
    pins = read_pins().get(str(cases), {}) if seed == SEED else {}
    wanted = tuple(names)
    chosen = [
        (target.name, cases, seed)
        for target in _targets().values()
        if not wanted or any(name in target.name for name in wanted)
    ]
    results = []
    for item in map(_check_named, chosen) if jobs == 1 else _in_processes(chosen, jobs):
        results.append(item)
        progress(item)
    changed = tuple(item.name for item in results if pins.get(item.name, item.sha256) != item.sha256)
    unpinned = tuple(item.name for item in results if item.name not in pins)
    return CodecResult(tuple(results), changed, unpinned)


def _in_processes(chosen: list[tuple[str, int, int]], jobs: int) -> Iterator[TypeResult]:
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_check_named, chosen)


def _check_named(item: tuple[str, int, int]) -> TypeResult:
    name, cases, seed = item
    return check_type(_targets()[name], cases, seed)


@functools.cache
def _targets() -> dict[str, Target]:
    return {target.name: target for target in all_targets()}


def check_type(target: Target, cases: int, seed: int = SEED) -> TypeResult:
    """One type."""
    began = time.monotonic()
    rng, twisting = random.Random(f"{seed}/{target.name}"), random.Random(f"{seed}/{target.name}/mutants")
    digest = hashlib.sha256()
    findings: list[str] = []
    taken = 0
    before = b"\x90"
    for number in range(cases):
        plain = target.make(rng)
        data = _pack(plain)
        digest.update(len(data).to_bytes(4, "big") + data)
        mutant = _pack(twisted(plain, twisting)) if number % 2 else mutate(data, before, twisting)
        problem = _misread(target, plain, data)
        taken_here, misjudged = _judge_mutant(target, mutant)
        taken += taken_here
        before = data
        if (problem or misjudged) and len(findings) < MAX_FINDINGS:
            findings.append(f"case {number}: {problem or misjudged}")
    return TypeResult(
        target.name,
        cases,
        digest.hexdigest(),
        cases - taken,
        taken,
        target.shape is not None,
        tuple(findings),
        time.monotonic() - began,
    )


def _misread(target: Target, plain: Any, data: bytes) -> str | None:
    """What is wrong with how the shipped codec reads and writes ``data``."""
    try:
        value = target.decode(data)
    except MalformedInput as error:
        return f"a valid value is refused ({error}): {data.hex()}"
    again = target.encode(value)
    if again != data:
        return f"{data.hex()} is encoded again as {again.hex()}"
    if target.decode(again) != value:
        return f"{data.hex()} is not read as an equal value twice"
    if _unpack(again) != plain:
        return f"the second decoder reads {data.hex()} otherwise"
    if target.shape is not None and not _audited(target, data):
        return f"the auditor refuses {data.hex()}"
    return None


def _judge_mutant(target: Target, data: bytes) -> tuple[bool, str | None]:
    """Whether it is taken, and what is wrong about that."""
    try:
        value = target.decode(data)
    except MalformedInput:
        if target.shape is not None and _audited(target, data):
            return False, f"only the auditor takes {data.hex()}"
        return False, None
    except Exception as error:  # noqa: BLE001 - anything but a refusal is the finding
        return False, f"{data.hex()} raises {type(error).__name__}: {error}"
    if target.encode(value) != data or _pack(_unpack(data)) != data:
        return True, f"{data.hex()} is taken and not canonical"
    if target.shape is not None and isinstance(value, target.kind) and not _audited(target, data):
        return True, f"the auditor refuses what the node takes: {data.hex()}"
    return True, None


def _audited(target: Target, data: bytes) -> bool:
    if target.shape is None or len(data) > MAX_BYTES:
        return False
    try:
        plain = _unpack(data)
        target.shape(plain)
    except (Malformed, ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return False
    return _pack(plain) == data


# ---- mutation


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """``data`` changed in one place, in a way that looks as much like an encoding as before."""
    place = rng.getrandbits(32) % len(data)
    match rng.getrandbits(3):
        case 0:
            return data[:place] + bytes((data[place] ^ 1 << rng.getrandbits(3),)) + data[place + 1 :]
        case 1:
            return data[:place]
        case 2:
            return data + bytes((rng.getrandbits(8),))
        case 3:
            return data[:place] + bytes((rng.getrandbits(8),)) + data[place + 1 :]
        case 4:
            return _widened(data, place)
        case 5:
            length = 1 + rng.getrandbits(3)
            return data[:place] + data[place : place + length] + data[place:]
        case 6:
            length = 1 + rng.getrandbits(3)
            return data[:place] + data[place + length :]
        case _:
            return data[:place] + other[rng.getrandbits(32) % len(other) :]


ODD: Final = (-1, 0, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, None, True, False, b"", "", (), 1.0)
"""Put in place of anything: bounds, and things that compare equal or look alike."""


def twisted(plain: Any, rng: random.Random) -> Any:
    """``plain`` with one item somewhere within it exchanged, lengthened, shortened, doubled or left out."""
    if not isinstance(plain, tuple) or not plain or not rng.getrandbits(3):
        return _odd(plain, rng)
    place = rng.getrandbits(32) % len(plain)
    match rng.getrandbits(4):
        case 0:
            return plain[:place] + plain[place + 1 :]
        case 1:
            return plain[: place + 1] + plain[place:]
        case 2:
            other = rng.getrandbits(32) % len(plain)
            return (*plain[:place], plain[other], *plain[place + 1 :])
        case _:
            return (*plain[:place], twisted(plain[place], rng), *plain[place + 1 :])


def _odd(item: Any, rng: random.Random) -> Any:
    if isinstance(item, bytes | str) and rng.getrandbits(1):
        return item[:-1] if rng.getrandbits(1) else item[:1] + item  # type: ignore[operator]
    if type(item) is int and rng.getrandbits(1):
        return max(-(2**63), min(2**64 - 1, item + (1 if rng.getrandbits(1) else -1)))
    return ODD[rng.getrandbits(32) % len(ODD)]


def _widened(data: bytes, place: int) -> bytes:
    """The byte at ``place``, if it is a small number, a short list or nil, in a longer or another form."""
    byte = data[place]
    if byte < 0x80:
        changed = bytes((0xCC, byte))
    elif 0x90 <= byte < 0xA0:
        changed = bytes((0xDC, 0, byte & 15))
    elif byte in (0xC0, 0xC2, 0xC3):
        changed = bytes(((byte + 1) & 0xFF,))
    elif byte == 0xC4 and place + 1 < len(data):
        return data[:place] + bytes((0xC5, 0)) + data[place + 1 :]
    else:
        changed = bytes((byte ^ 0x20,))
    return data[:place] + changed + data[place + 1 :]


# ---- pins, other hash seeds, other Pythons


def read_pins() -> dict[str, dict[str, str]]:
    """Number of cases to name to SHA-256."""
    if not PINS_FILE.exists():
        return {}
    pins: dict[str, dict[str, str]] = json.loads(PINS_FILE.read_text(encoding="utf-8"))
    return pins


def write_pins(result: CodecResult, cases: int) -> None:
    """Pin the hashes of a run with the standard seed; a deliberate change of a format."""
    pins = read_pins()
    pins.setdefault(str(cases), {}).update({item.name: item.sha256 for item in result.types})
    PINS_FILE.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class ElsewhereResult:
    """The hashes in another process."""

    where: str
    agrees: bool | None
    """None: not run, see ``detail``."""
    detail: str


def check_elsewhere(
    cases: int = SMALL_CASES, *, hash_seeds: Iterable[str] = HASH_SEEDS
) -> tuple[ElsewhereResult, ...]:
    """The same hashes under other hash seeds and, where one with the dependencies is found, other Pythons."""
    here = {item.name: item.sha256 for item in check_codecs(cases).types}
    results = [_compare(f"PYTHONHASHSEED={seed}", sys.executable, seed, cases, here) for seed in hash_seeds]
    for name in OTHER_PYTHONS:
        path = shutil.which(name)
        if path is None:
            results.append(ElsewhereResult(name, None, "skipped: not installed"))
        elif not _has_dependencies(path):
            results.append(ElsewhereResult(name, None, f"skipped: {path} lacks this project's dependencies"))
        else:
            results.append(_compare(name, path, "0", cases, here))
    return tuple(results)


def _has_dependencies(python: str) -> bool:
    imports = "import msgspec, msgpack, nacl, cryptography, aiohttp, rocksdict, structlog, typer, uvloop"
    return subprocess.run([python, "-c", imports], capture_output=True, check=False).returncode == 0


_PRINT: Final = (
    "import json, sys; from scripts.simulating.codec_conformance import check_codecs;"
    "print(json.dumps({t.name: t.sha256 for t in check_codecs(int(sys.argv[1])).types}))"
)


def _compare(where: str, python: str, hash_seed: str, cases: int, here: dict[str, str]) -> ElsewhereResult:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    command = [python, "-c", _PRINT, str(cases)]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=root, text=True)
    if done.returncode != 0:
        return ElsewhereResult(where, False, done.stderr.strip()[-400:])
    there: dict[str, str] = json.loads(done.stdout)
    differing = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    return ElsewhereResult(where, not differing, ", ".join(differing) or f"{len(there)} types agree")
