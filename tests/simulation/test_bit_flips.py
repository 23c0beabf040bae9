"""Bit flips in every durable file are refused, repaired or without effect; planted carelessness is found (G8)."""

import shutil
from pathlib import Path

import pytest

from node import keystore
from node.files import SystemFiles
from node.journal import Journal
from node.ledger import LedgerDamaged
from node.store import RocksStore
from scripts.simulating.bit_flips import (
    ABSTAINS,
    HARMLESS,
    REFUSED,
    REPAIRED,
    SILENT,
    Flips,
    flip_bits,
    flip_journal,
    flip_settings,
    judge_store,
)
from scripts.simulating.bit_flips_home import Home, make_home
from scripts.simulating.crash_points_recording import Recording, record

FILES = {
    "node.key",
    "config.toml",
    "formation/genesis",
    "addresses",
    "ledger/sst",
    "ledger/log",
    "ledger/blob",
}


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record(1, milliseconds=15_000)


@pytest.fixture
def home(tmp_path: Path, recording: Recording) -> Home:
    return make_home(tmp_path / "home", recording, effects=16)


def test_no_flip_is_believed() -> None:
    result = flip_bits(1, flips=Flips(journal=200, store=36, other=40))
    assert result.findings == ()
    assert set(result.outcomes) >= FILES
    assert sum(counts.get(SILENT, 0) for counts in result.outcomes.values()) == 0
    met = {outcome for counts in result.outcomes.values() for outcome in counts}
    assert met >= {REFUSED, ABSTAINS, REPAIRED, HARMLESS}
    assert "| journal/" in result.table()


def test_a_journal_that_ignores_its_checksums_is_found(
    home: Home, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.journal._chained", lambda *_: 0)
    shutil.rmtree(home.path / "journal")
    files = SystemFiles(home.path / "journal")
    journal = Journal.create(files, home.key.public_key, bytes(16))
    for item in home.records:
        journal.append((item,))
    journal.close()
    careless = Home(
        home.path,
        home.key,
        home.genesis,
        {path: path.read_bytes() for path in (home.path / "journal").iterdir()},
        home.records,
        home.addresses,
        home.blocks,
        home.rows,
    )
    findings = flip_journal(careless, recording, 300).findings
    assert any(SILENT in finding for finding in findings)


def test_a_key_file_without_its_first_line_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "_preamble", lambda _: b"")
    path = home.path / "node.key"
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    findings = flip_settings(home, 200).findings
    assert any("another key" in finding for finding in findings)


def spoil_row(home: Home, prefix: bytes) -> None:
    """Change a row as the store itself would: its checksums are right."""
    store = RocksStore(home.ledger)
    key, value = next(store.scan(prefix))
    store.write({key: value[:-1] + bytes((value[-1] ^ 1,))})
    store.close()


def test_a_store_with_one_wrong_row_is_found(home: Home) -> None:
    spoil_row(home, b"i")
    assert judge_store(home, home.ledger)[0] == SILENT
    spoil_row(home, b"s")
    with pytest.raises(LedgerDamaged, match="move the ledger directory away"):
        judge_store(home, home.ledger)
