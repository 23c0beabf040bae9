"""Crash points of journal, store and effects: the shipped code survives all of them, and planted bugs are found."""

from dataclasses import replace
from pathlib import Path

import pytest

from consensus.effects import Effect, Send
from network.simulation.disk import Disk
from node import assembly
from node.files import SystemAppendFile
from node.journal import Journal
from scripts.simulating.crash_points import check_recording
from scripts.simulating.crash_points_effects import EffectCrash, crash_once, crash_points_of
from scripts.simulating.crash_points_lost import enumerate_lost_points
from scripts.simulating.crash_points_recording import Recording, record
from scripts.simulating.crash_points_store import judge_store, kill_store


@pytest.fixture(scope="module")
def recording() -> Recording:
    whole = record(1, milliseconds=15_000)
    assert whole.view_changes
    return whole


def shortened(recording: Recording, effects: int) -> Recording:
    return replace(recording, effects=recording.effects[:effects])


def test_every_crash_point_of_a_short_run_is_survived(recording: Recording) -> None:
    result = check_recording(shortened(recording, 14))
    assert result.findings == ()
    assert result.total > 2_000
    assert result.temptations > 8
    assert set(result.points) >= {
        "killed after a call",
        "power lost, nothing unsynced kept",
        "names changed, unsynced content lost",
        "cut at a byte of the tail record",
        "cut at a sector",
        "zeros for all that was unsynced",
        "some sectors written, others not",
        "EIO of sync",
        "ENOSPC of write",
    }


def test_a_disk_that_lies_about_syncs_is_found(recording: Recording) -> None:
    found = check_recording(shortened(recording, 10), syncs=False).findings
    assert any("power lost" in finding for finding in found)


def test_a_journal_that_skips_its_sync_is_found(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "_sync", lambda _: None)
    found = check_recording(shortened(recording, 10)).findings
    assert any("were durable" in finding for finding in found)


def test_a_journal_that_believes_a_torn_tail_is_found(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believing(self: Journal, data: bytes, offset: int) -> tuple[int, bytes] | None:
        header = self._read_frame_header(data, offset)
        if header is None:
            return None
        kind, length, self._sequence, self._chain = header
        start = offset + 25
        return kind, data[start : start + length]

    monkeypatch.setattr(Journal, "_read_frame", believing)
    assert check_recording(shortened(recording, 10)).findings


def test_a_journal_that_drops_a_durable_record_is_found(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Journal._read_frame
    monkeypatch.setattr(
        Journal,
        "_read_frame",
        lambda self, data, offset: whole(self, data, offset) if len(data) - offset > 400 else None,
    )
    assert check_recording(shortened(recording, 10)).findings


def test_a_node_that_sends_before_it_persists_is_found(recording: Recording) -> None:
    effects: list[Effect] = []
    for effect in recording.effects:
        place = len(effects) - 1 if isinstance(effect, Send) and effects else len(effects)
        effects.insert(place, effect)
    found = check_recording(replace(recording, effects=tuple(effects[:16]))).findings
    assert any("S4" in finding or "6.6" in finding for finding in found), found


def test_a_node_that_goes_on_after_a_failed_sync_is_found(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SystemAppendFile.sync

    def forgiving(self: SystemAppendFile) -> None:
        try:
            whole(self)
        except OSError:
            return

    monkeypatch.setattr(SystemAppendFile, "sync", forgiving)
    found = check_recording(shortened(recording, 10)).findings
    assert any("the node went on" in finding for finding in found)


def test_a_lost_journal_is_never_followed_by_one_that_does_not_abstain(recording: Recording) -> None:
    result = enumerate_lost_points(recording)
    assert result.findings == ()
    assert sum(result.points.values()) > 100


def test_a_new_journal_that_does_not_abstain_is_found(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(Journal):
        @classmethod
        def create(cls, files, public_key, identity, records=()):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN206
            return Journal.create(files, public_key, identity)

    monkeypatch.setattr(assembly, "Journal", Forgetful)
    assert enumerate_lost_points(recording).findings


def test_a_crash_before_and_after_each_kind_of_effect_is_survived() -> None:
    points = list(crash_points_of(1, 6_000))
    chosen = {(point.kind, point.after): point for point in points}
    assert {(kind, after) for kind in ("Persist", "Send", "Decide") for after in (False, True)} <= set(chosen)
    assert [crash_once(point, 6_000) for point in chosen.values()] == [None] * len(chosen)


def test_a_disk_that_forgets_votes_is_found_by_crashes_at_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "sync", lambda self: self._written.clear())
    crash = EffectCrash(1, 0, 0, "SetTimer", after=True)
    assert "6.5" in (crash_once(crash, 6_000) or "")


def test_the_store_keeps_every_synced_block_at_every_end_of_a_batch(tmp_path: Path) -> None:
    store = kill_store(tmp_path, blocks=5)
    for end in store.ends:
        for cut in (end, end + 37):
            assert judge_store(store, tmp_path / f"cut-{cut}", store.content[:cut], cut) is None


def test_a_store_that_lost_a_synced_block_is_found(tmp_path: Path) -> None:
    store = kill_store(tmp_path, blocks=3)
    problem = judge_store(store, tmp_path / "cut", store.content[: store.ends[-1] - 9], store.ends[-1])
    assert problem == "2 blocks where 3 were durable"
