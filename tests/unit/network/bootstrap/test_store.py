"""The record log: torn tails are cut, damage is told, one process at a time."""

from pathlib import Path

import pytest

from network.bootstrap.errors import StoreUnusable
from network.bootstrap.store import RecordKind, RecordLog

RECORDS = [(RecordKind.ADDRESS, bytes((number,)) * (10 + number)) for number in range(5)]


def written(path: Path) -> bytes:
    log, _ = RecordLog.open(path)
    for kind, content in RECORDS:
        log.append(kind, content)
    log.close()
    return path.read_bytes()


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "home" / "log"
    written(path)
    log, records = RecordLog.open(path)
    assert records == RECORDS
    assert path.stat().st_mode & 0o077 == 0
    log.close()


def test_a_torn_tail_is_cut_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = written(path)
    last = 9 + len(RECORDS[-1][1])
    for cut in range(1, last):
        path.write_bytes(whole[:-cut])
        log, records = RecordLog.open(path)
        assert records == RECORDS[:-1]
        log.append(*RECORDS[-1])
        log.close()
        assert path.read_bytes() == whole


def test_damage_before_the_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = bytearray(written(path))
    whole[12] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StoreUnusable, match="damaged at byte 0"):
        RecordLog.open(path)


def test_a_home_is_used_by_one_process(tmp_path: Path) -> None:
    log, _ = RecordLog.open(tmp_path / "log")
    with pytest.raises(StoreUnusable, match="in use"):
        RecordLog.open(tmp_path / "log")
    log.rewrite(RECORDS[:2])
    with pytest.raises(StoreUnusable, match="in use"):
        RecordLog.open(tmp_path / "log")
    log.append(*RECORDS[2])
    log.close()
    log, records = RecordLog.open(tmp_path / "log")
    assert records == RECORDS[:3]
    log.close()


def test_no_rotten_bit_before_the_last_record_loses_what_is_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log, _ = RecordLog.open(path)
    log.append(RecordKind.ANNOUNCEMENT, b"first")
    log.append(RecordKind.REGISTRATION, b"second")
    start_of_last = log.size_bytes
    log.append(RecordKind.GENESIS, b"third")
    log.close()
    whole = path.read_bytes()
    for bit in range(start_of_last * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(StoreUnusable, match=r"damaged at byte|does not know"):
            RecordLog.open(path)
        assert path.read_bytes() == bytes(flipped), "nothing was cut off"
