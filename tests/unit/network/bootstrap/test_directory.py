"""The directory: newest signed records win, strangers are few (PROTOCOL 8.1a)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.encoding import encode
from network.address_book import sign_record
from network.bootstrap.directory import Directory
from network.bootstrap.errors import Refused
from network.bootstrap.limits import ADDRESS_PAGE, DirectoryLimits
from network.bootstrap.records import ApiRecord, is_api_url, sign_api_record
from network.bootstrap.store import RecordLog
from network.peer import Endpoint
from network.wire import AddressRecord
from tests.unit.network.bootstrap.support import VERIFIER, key

MEMBERS = frozenset(key(number).public_key for number in range(1, 5))


def opened(path: Path, max_strangers: int = 2) -> tuple[Directory, RecordLog]:
    log, records = RecordLog.open(path)
    directory = Directory(
        verifier=VERIFIER,
        log=log,
        is_member=MEMBERS.__contains__,
        limits=DirectoryLimits(max_strangers=max_strangers),
    )
    directory.restore(records)
    return directory, log


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    made, log = opened(tmp_path / "log")
    yield made
    log.close()


def record(number: int, sequence: int = 1, port: int = 26_656) -> AddressRecord:
    return sign_record(key(number), sequence, Endpoint("node.example", port))


def refused(directory: Directory, raw: bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        directory.post_address(raw)
    return caught.value.status, caught.value.code


def test_the_highest_number_wins_in_any_order(directory: Directory) -> None:
    assert directory.post_address(encode(record(1, 5, 5_000)))
    assert not directory.post_address(encode(record(1, 5, 5_000)))
    assert not directory.post_address(encode(record(1, 4, 4_000)))
    assert directory.post_address(encode(record(1, 6, 6_000)))
    assert [(one.sequence, one.port) for one in directory.addresses()] == [(6, 6_000)]


def test_forged_records_are_refused(directory: Directory) -> None:
    good = record(1)
    moved = AddressRecord(good.public_key, good.sequence, "evil.example", good.port, good.signature)
    assert refused(directory, encode(moved)) == (422, "record_invalid")
    weak = AddressRecord(bytes(32), 1, "node.example", 1, good.signature)
    assert refused(directory, encode(weak)) == (400, "malformed")
    assert refused(directory, b"\x90") == (400, "malformed")
    assert len(directory) == 0


def test_strangers_are_few_and_members_stay(directory: Directory) -> None:
    for number in range(1, 9):
        directory.post_address(encode(record(number)))
    kept = {one.public_key for one in directory.addresses()}
    assert kept == MEMBERS | {key(7).public_key, key(8).public_key}


def test_pages_are_in_key_order(tmp_path: Path) -> None:
    directory, log = opened(tmp_path / "log", max_strangers=400)
    for number in range(1, 301):
        directory.post_address(encode(record(number)))
    first = directory.addresses()
    second = directory.addresses(first[-1].public_key)
    assert (len(first), len(second)) == (ADDRESS_PAGE, 300 - ADDRESS_PAGE)
    keys = [one.public_key for one in first + second]
    assert keys == sorted(keys)
    log.close()


def test_records_outlive_a_restart(tmp_path: Path) -> None:
    directory, log = opened(tmp_path / "log")
    directory.post_address(encode(record(1, 1)))
    directory.post_address(encode(record(1, 2)))
    directory.post_api(encode(sign_api_record(key(1), 1, "http://127.0.0.1:26657")))
    log.close()
    directory, log = opened(tmp_path / "log")
    assert [one.sequence for one in directory.addresses()] == [2]
    assert [url for _, url in directory.apis()] == ["http://127.0.0.1:26657"]
    log.close()


def test_api_addresses_are_signed_plain_and_of_members(directory: Directory) -> None:
    good = sign_api_record(key(1), 1, "http://127.0.0.1:26657")
    elsewhere = ApiRecord(good.public_key, 2, "http://evil.example", good.signature)
    with pytest.raises(Refused, match="not signed"):
        directory.post_api(encode(elsewhere))
    with pytest.raises(Refused, match="no path"):
        directory.post_api(encode(sign_api_record(key(1), 2, "http://127.0.0.1/admin?x")))
    assert directory.post_api(encode(good))
    assert not directory.post_api(encode(good))
    assert directory.post_api(encode(sign_api_record(key(9), 1, "http://stranger.example")))
    assert [url for _, url in directory.apis()] == ["http://127.0.0.1:26657"]


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://127.0.0.1:26657", True),
        ("https://node.example/", True),
        ("http://[::1]:80", True),
        ("file:///etc/passwd", False),
        ("http://user:secret@host", False),
        ("http://host/path", False),
        ("http://host?query", False),
        ("http://host:99999", False),
        ("http://", False),
        ("nonsense", False),
    ],
)
def test_only_plain_urls(url: str, plain: bool) -> None:
    assert is_api_url(url) is plain
