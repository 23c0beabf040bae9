"""How fast the checker is, how much it finds, and how often it is wrong: printed with what it ran on."""

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scripts.history.anomalies import ANOMALIES, NoPlace, Planted, plant
from scripts.history.generator import Generator, generate
from scripts.history.history import History, read_history, without_collector
from scripts.history.judge import judge
from scripts.history.records import Line
from scripts.history.verdict import Outcome

OPERATIONS: Final = 1_000_000
WITHIN_S: Final = 60.0
SEEDS_TRIED: Final = 20
"""An anomaly that finds no place in this many histories is a fault of the planter."""


def machine() -> str:
    """How fast this machine is today: the figures next to it mean nothing otherwise."""
    key, message = Ed25519PrivateKey.generate(), b"x" * 100
    signature, public = key.sign(message), key.public_key()
    begun = time.perf_counter()
    for _ in range(500):
        public.verify(signature, message)
    verifies = 500 / (time.perf_counter() - begun)
    block = b"x" * 64
    begun = time.perf_counter()
    for _ in range(100_000):
        sha256(block).digest()
    hashes = 100_000 / (time.perf_counter() - begun)
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}; "
        f"{verifies:.0f} Ed25519 verifications/s, {hashes:.0f} SHA-256/s"
    )


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """One JSON object a line."""
    encode = msgspec.json.Encoder().encode_into
    buffer = bytearray()
    with path.open("wb") as file:
        for line in lines:
            encode(line, buffer, -1 if not buffer else len(buffer))
            buffer += b"\n"
            if len(buffer) > 1_000_000:
                file.write(buffer)
                buffer.clear()
        file.write(buffer)


def bench(operations: int = OPERATIONS, seed: int = 2026) -> bool:
    """Print how long reading and judging a generated history takes; whether it is within the limit, and valid."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder, without_collector():
        path = Path(folder) / "history.jsonl"
        made = Generator(seed, operations, max(12, operations // 2_500), streams=1).make()
        write_lines(path, made.lines)
        print(
            f"{operations} operations, seed {seed}: {len(made.lines)} lines, {path.stat().st_size >> 20} MiB"
        )
        chain = made.chain
        del made
        begun, used = time.monotonic(), time.process_time()
        history = read_history(path)
        read_s = time.monotonic() - begun
        verdict = judge(history, chain)
        took_s, used_s = time.monotonic() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(verdict.text())
    print(
        f"{verdict.operations} operations judged in {took_s:.1f} s ({used_s:.1f} s of one core; {read_s:.1f} s "
        f"to read them), peak {peak} MiB; the limit is {WITHIN_S:g} s for {OPERATIONS}"
    )
    return verdict.outcome is Outcome.VALID and took_s <= WITHIN_S


def found(anomaly: Planted, seed: int) -> bool:
    """Whether the check that should finds ``anomaly``; `NoPlace`."""
    made = plant(anomaly, seed)
    verdict = judge(History.of(made.lines), made.chain)
    by = {report.check.split()[0] for report in verdict.reports if report.witnesses}
    return verdict.outcome is Outcome.INVALID and anomaly.check in by


def self_test(histories: int, seed: int = 0) -> bool:
    """Plant every anomaly, then judge good histories; whether all were found and none was a false alarm."""
    print(machine())
    missed: list[str] = []
    for anomaly in ANOMALIES:
        for attempt in range(SEEDS_TRIED):
            try:
                if not found(anomaly, seed + attempt):
                    missed.append(anomaly.name)
                break
            except NoPlace:
                continue
        else:
            missed.append(f"{anomaly.name} (no place for it in {SEEDS_TRIED} histories)")
    print(
        f"{len(ANOMALIES) - len(missed)} of {len(ANOMALIES)} planted anomalies found by the check that should"
    )
    alarms: list[int] = []
    begun = time.monotonic()
    for number in range(seed, seed + histories):
        made = generate(number)
        if judge(History.of(made.lines), made.chain).outcome is not Outcome.VALID:
            alarms.append(number)
    print(f"{len(alarms)} false alarms on {histories} good histories ({time.monotonic() - begun:.0f} s)")
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    for number in alarms:
        print(f"false alarm: seed {number}", file=sys.stderr)
    return not missed and not alarms
