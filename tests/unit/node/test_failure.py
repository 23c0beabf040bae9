"""A broken invariant leaves a file behind that says what was found, where the node stood, and what to do (G20)."""

import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from consensus.effects import Trace
from consensus.errors import InvariantViolation
from consensus.inputs import Instant, PoolChanged, Received, TimerFired
from consensus.inputs import Timer as ReplicaTimer
from consensus.messages import Prepare
from consensus.replica import Replica
from node.failure import told
from node.journal import JournalPosition
from node.process import NodeProcess
from scripts.simulating.crash_points_recording import record

AT = Instant(1_750_000_000_000, 5_000)
PREPARE = Prepare(1, 7, 2, bytes(32), bytes(range(32)), bytes(64))


def test_inputs_are_told_in_words() -> None:
    sender = bytes(range(32))
    assert told(Received(AT, sender, PREPARE)) == f"Prepare h=7 v=2 from {sender.hex()[:16]}"
    assert told(TimerFired(AT, ReplicaTimer("view", 7, 2, 1))) == "timer view h=7 v=2"
    assert "PoolChanged" in told(PoolChanged(AT, 3, None))


def stopped_runtime() -> Any:
    recording = record(1, milliseconds=15_000)
    replica = Replica(
        chain_id=recording.chain_id,
        parameters=recording.parameters,
        signer=recording.signer,
        verifier=recording.verifier,
        context=recording.contexts[0],
        at=AT,
    )
    return SimpleNamespace(
        ledger=SimpleNamespace(height=6, block_hash=bytes(32)),
        journal=SimpleNamespace(position=JournalPosition(bytes(16), 41)),
        replica=replica,
        inputs=deque([(4_000, told(Received(AT, bytes(32), PREPARE)))]),
        traces=deque([(4_500, Trace("pre-prepared", 7, 2, "again"))]),
    )


def test_the_dump_holds_state_inputs_and_advice(tmp_path: Path) -> None:
    process = SimpleNamespace(
        home=tmp_path,
        member=SimpleNamespace(runtime=stopped_runtime()),
        _clock=SimpleNamespace(now=lambda: AT),
    )
    path = NodeProcess.dump(cast(NodeProcess, process), InvariantViolation("two digests (S4)"))
    assert path is not None
    shown = json.loads(path.read_text(encoding="utf-8"))
    assert shown["error"] == "InvariantViolation: two digests (S4)"
    assert shown["replica"]["height"] == 1
    assert shown["replica"]["phase"] == "idle"
    assert len(shown["replica"]["delegates"]) == 4
    assert shown["inputs"] == ["-1000 ms Prepare h=7 v=2 from 0000000000000000"]
    assert shown["traces"] == ["-500 ms pre-prepared h=7 v=2 again"]
    assert any("ledger verify" in advice for advice in shown["what_to_do"])


def test_a_home_that_takes_no_file_is_no_second_failure(tmp_path: Path) -> None:
    process = SimpleNamespace(
        home=tmp_path / "missing",
        member=SimpleNamespace(runtime=stopped_runtime()),
        _clock=SimpleNamespace(now=lambda: AT),
    )
    assert NodeProcess.dump(cast(NodeProcess, process), InvariantViolation("x")) is None
