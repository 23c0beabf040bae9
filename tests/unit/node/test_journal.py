"""The journal: durable before it leaves, torn tails cut, damage never taken for a torn tail (PROTOCOL 6.5)."""

from pathlib import Path

import pytest

from consensus.block import Block, Header
from consensus.effects import AbstainRecord, BlockRecord, JournalRecord, ResumeRecord, SentRecord
from consensus.messages import Prepare
from node import journal as journal_module
from node.files import SystemFiles
from node.journal import Journal, JournalFailed, JournalLost, JournalPosition
from tests.unit.node.memory_files import MemoryFiles

KEY = bytes(range(32))
IDENTITY = bytes(range(100, 116))


def record(height: int, view: int = 0) -> SentRecord:
    return SentRecord(height, Prepare(1, height, view, bytes(32), KEY, bytes([view % 256]) * 64))


def block(height: int) -> Block:
    header = Header(1, bytes(32), height, 0, 0, bytes(32), height, bytes(20), *(bytes(32) for _ in range(7)))
    return Block(header, (bytes(300),), None, ())


def written(count: int) -> tuple[MemoryFiles, list[JournalRecord]]:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    records = [record(height) for height in range(1, count + 1)]
    for item in records:
        journal.append((item,))
    return files, list(records)


def only_segment(files: MemoryFiles) -> tuple[str, bytes]:
    [(name, data)] = files.written.items()
    return name, data


def recovered(files: MemoryFiles) -> list[JournalRecord]:
    return list(Journal.load(files, KEY).recovered)


def test_what_was_appended_is_found_again_in_order() -> None:
    files, records = written(5)
    assert recovered(files.after_power_loss()) == records


def test_appending_goes_on_behind_a_reload() -> None:
    files, records = written(3)
    again = Journal.load(files.after_kill(), KEY)
    again.append((record(9), record(10)))
    third = Journal.load(MemoryFiles(again._files.written), KEY)  # type: ignore[attr-defined]
    assert list(third.recovered) == [*records, record(9), record(10)]


def test_append_returns_only_after_the_sync() -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    journal.append((record(7),))
    assert recovered(files.after_power_loss()) == [record(7)]


def test_every_cut_of_the_last_frame_drops_it_alone() -> None:
    before, records = written(3)
    _, short = only_segment(before)
    after, _ = written(4)
    name, whole = only_segment(after)
    frame_end = whole.rindex(journal_module._FRAME_MAGIC)  # the last mark begins where frame 4 ends
    for length in range(len(short), frame_end):
        files = MemoryFiles({name: whole[:length]})
        journal = Journal.load(files, KEY)
        assert list(journal.recovered) == records, f"cut at byte {length}"
        journal.append((record(50),))
        assert recovered(MemoryFiles(files.written))[-1] == record(50)


def test_every_zeroed_sector_of_an_unsynced_frame_drops_it_alone() -> None:
    before, records = written(3)
    _, short = only_segment(before)
    files, _ = written(3)
    journal = Journal.load(files, KEY)
    journal.append(tuple(record(4, view) for view in range(20)))
    name, whole = only_segment(files)
    whole = whole[: whole.rindex(journal_module._FRAME_MAGIC)]
    first = len(short) // 512 + 1
    assert len(whole) // 512 > first, "the frame must span sectors"
    for sector in range(first, (len(whole) - 1) // 512 + 1):
        torn = (
            whole[: sector * 512] + bytes(min(512, len(whole) - sector * 512)) + whole[(sector + 1) * 512 :]
        )
        assert recovered(MemoryFiles({name: torn})) == records


def test_every_cut_of_the_last_mark_keeps_everything() -> None:
    files, records = written(3)
    name, whole = only_segment(files)
    start = whole.rindex(journal_module._FRAME_MAGIC)
    for length in range(start, len(whole)):
        assert recovered(MemoryFiles({name: whole[:length]})) == records


def test_every_bit_flip_is_noticed_or_harmless() -> None:
    files, records = written(3)
    name, whole = only_segment(files)
    last_mark = whole.rindex(journal_module._FRAME_MAGIC)
    for position in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            damaged = MemoryFiles({name: bytes(flipped)})
            if position >= last_mark:
                assert recovered(damaged) == records
            else:
                with pytest.raises(JournalLost):
                    Journal.load(damaged, KEY)


def test_bytes_that_look_like_a_frame_inside_a_torn_block_do_not_make_it_damage() -> None:
    files, records = written(2)
    name, whole = only_segment(files)
    forged = journal_module._FRAME_HEADER.pack(journal_module._FRAME_MAGIC, 2, 0, 99, 0) + bytes(4)
    assert recovered(MemoryFiles({name: whole + b"\x01torn" + forged + b"tail"})) == records


def test_missing_journal_is_a_lost_one() -> None:
    with pytest.raises(JournalLost, match="missing"):
        Journal.load(MemoryFiles(), KEY)


def test_anothers_journal_is_a_lost_one() -> None:
    files, _ = written(1)
    with pytest.raises(JournalLost, match="another node's key"):
        Journal.load(files, bytes(32))


def test_older_copy_than_the_ledger_knows_is_a_lost_one() -> None:
    old, _ = written(2)
    new, _ = written(5)
    position = Journal.load(new, KEY).position
    assert Journal.load(new, KEY, at_least=position).recovered
    with pytest.raises(JournalLost, match="older copy"):
        Journal.load(old, KEY, at_least=position)
    with pytest.raises(JournalLost, match="another journal"):
        Journal.load(new, KEY, at_least=JournalPosition(bytes(16), 1))


@pytest.mark.parametrize("torn_at", [0, 1, 30, 100])
def test_full_disk_stops_the_journal_for_good_and_leaves_a_torn_tail(torn_at: int) -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    journal.append((record(1),))
    files.fail_at["write"] = files.steps["write"] + 1
    files.torn_at = torn_at
    with pytest.raises(JournalFailed, match="No space left"):
        journal.append((record(2),))
    with pytest.raises(JournalFailed, match="stops before it signs"):
        journal.append((record(3),))
    assert recovered(files.after_kill()) == [record(1)]


def test_failed_sync_stops_the_journal_for_good() -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    files.fail_at["sync"] = 1
    with pytest.raises(JournalFailed, match="mend or free the disk"):
        journal.append((record(1),))
    with pytest.raises(JournalFailed):
        journal.append((record(1),))
    assert recovered(files.after_power_loss()) == []


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 2_000)


@pytest.mark.usefixtures("small_segments")
def test_forgetting_keeps_the_journal_small_and_complete() -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    largest = 0
    for height in range(1, 300):
        journal.append((record(height), record(height, 1)))
        journal.forget(height)
        largest = max(largest, sum(map(len, files.written.values())))
    assert largest < 3 * 2_000 + 1_000
    found = recovered(files.after_power_loss())
    assert found[-2:] == [record(299), record(299, 1)]
    assert len(files.written) <= 3


@pytest.mark.usefixtures("small_segments")
def test_a_stored_block_is_found_until_it_is_forgotten_and_another_costs_no_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    blocks = {height: block(height) for height in range(1, 9)}
    for height, item in blocks.items():
        journal.append((BlockRecord(height, item), record(height)))
        journal.forget(height - 2)
    again = Journal.load(MemoryFiles(dict(files.written)), KEY)
    for opened in (journal, again):
        assert opened.find_block(blocks[8].header.digest()) == blocks[8]
        assert opened.find_block(blocks[6].header.digest()) == blocks[6]
        assert opened.find_block(blocks[1].header.digest()) is None
        monkeypatch.setattr(opened, "_files", None)
        assert opened.find_block(bytes(32)) is None


@pytest.mark.usefixtures("small_segments")
def test_abstention_and_resumption_survive_compaction() -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY, (AbstainRecord(-1),))
    journal.append((AbstainRecord(40),))
    journal.append((ResumeRecord(12, 3),))
    for height in range(41, 200):
        journal.append((record(height),))
        journal.forget(height)
    standing = [item for item in recovered(files) if not isinstance(item, SentRecord)]
    assert standing[-2:] == [AbstainRecord(40), ResumeRecord(12, 3)]
    assert AbstainRecord(-1) not in standing


@pytest.mark.usefixtures("small_segments")
def test_missing_or_swapped_segments_are_noticed() -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    for height in range(1, 100):
        journal.append((record(height),))
        journal.forget(1)
    names = files.names()
    assert len(names) > 3
    for gone in names[:-1]:
        rest = {name: data for name, data in files.written.items() if name != gone}
        with pytest.raises(JournalLost):
            Journal.load(MemoryFiles(rest), KEY)
    swapped = dict(files.written)
    swapped[names[1]], swapped[names[2]] = swapped[names[2]], swapped[names[1]]
    with pytest.raises(JournalLost):
        Journal.load(MemoryFiles(swapped), KEY)
    rolled_back = dict(files.written) | {names[1]: files.written[names[1]][:-60]}
    with pytest.raises(JournalLost, match="later segments"):
        Journal.load(MemoryFiles(rolled_back), KEY)


@pytest.mark.usefixtures("small_segments")
def test_deletion_cut_short_by_a_crash_is_finished_at_the_next_start() -> None:
    files = MemoryFiles()
    journal = Journal.create(files, KEY, IDENTITY)
    for height in range(1, 60):
        journal.append((record(height),))
        journal.forget(1)
    files.fail_at["remove"] = 2
    with pytest.raises(JournalFailed):
        journal.forget(59)
    left = files.names()
    again = files.after_kill()
    Journal.load(again, KEY)
    assert len(again.names()) < len(left)
    assert recovered(again)[-1] == record(59)


def test_damaged_journal_set_aside_is_followed_by_one_that_abstains_from_its_first_instant() -> None:
    files, _ = written(2)
    files.set_aside("lost")
    Journal.create(files, KEY, IDENTITY, (AbstainRecord(-1),))
    assert recovered(files.after_power_loss()) == [AbstainRecord(-1)]


def test_on_a_real_directory(tmp_path: Path) -> None:
    files = SystemFiles(tmp_path / "journal")
    journal = Journal.create(files, KEY, IDENTITY)
    journal.append((record(1),))
    journal.close()
    [path] = (tmp_path / "journal").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    with path.open("ab") as file:
        file.write(b"torn")
    again = Journal.load(files, KEY)
    assert again.dropped_bytes == 4
    again.append((record(2),))
    again.close()
    assert list(Journal.load(files, KEY).recovered) == [record(1), record(2)]
    files.set_aside("lost")
    assert (tmp_path / "journal.lost").is_dir()
    assert not files.exists()
    with pytest.raises(JournalLost):
        Journal.load(files, KEY)
