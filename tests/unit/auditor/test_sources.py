"""Where the auditor reads from: stores (whole, damaged, in use), exports, HTTP; and its command line."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from consensus.block import certified_block_codec
from node.auditor.cli import main
from node.auditor.driver import audit_source
from node.auditor.source import Unreadable, open_source
from node.ledger import Ledger
from node.store import RocksStore
from tests.support.chain import VERIFIER
from tests.unit.auditor.forging import found
from tests.unit.auditor.history import CertifiedChain, Market


@pytest.fixture(scope="module")
def chain() -> CertifiedChain:
    """A history of one epoch."""
    return Market(5).run(epochs=1)


@pytest.fixture
def store(chain: CertifiedChain, tmp_path: Path) -> Iterator[RocksStore]:
    """The ledger of a node in ``tmp_path``, as the node writes it, still open."""
    store = RocksStore(tmp_path / "ledger")
    ledger = Ledger(store, chain.genesis, VERIFIER)
    for data in chain.certified:
        ledger.apply(certified_block_codec.decode(data))
    yield store
    store.close()


def audited(home: Path) -> list[tuple[int, str]]:
    """Findings of the ledger in ``home``."""
    source = open_source(str(home))
    try:
        return found(audit_source(source))
    finally:
        source.close()


def key(prefix: bytes, height: int) -> bytes:
    """A row's key."""
    return prefix + height.to_bytes(8, "big")


# ------------------------------------------------------------ stores


def test_a_running_nodes_store_holds_and_is_left_as_it_is(
    store: RocksStore, chain: CertifiedChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path), "--genesis-hash", chain.chain_id.hex()]) == 0
    printed = capsys.readouterr().out
    assert chain.state.tree.root.hex() in printed
    assert f"blocks          {chain.height}\n" in printed
    assert "verdict         holds" in printed
    store.write({b"x": b"the node goes on writing"})
    assert audited(tmp_path) == []


def test_a_closed_store_can_be_named_by_its_own_directory(chain: CertifiedChain, tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "ledger")
    ledger = Ledger(store, chain.genesis, VERIFIER)
    for data in chain.certified[:5]:
        ledger.apply(certified_block_codec.decode(data))
    store.close()
    assert audited(tmp_path / "ledger") == []


def test_a_store_of_genesis_alone(chain: CertifiedChain, tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "ledger")
    Ledger(store, chain.genesis, VERIFIER)
    store.close()
    assert audited(tmp_path) == []


def test_a_corrupt_block(store: RocksStore, tmp_path: Path) -> None:
    data = bytearray(store.get(key(b"b", 7)) or b"")
    data[0] ^= 0xFF
    store.write({key(b"b", 7): bytes(data)})
    assert audited(tmp_path) == [(7, "9.4 block")]


def test_a_missing_block(store: RocksStore, tmp_path: Path) -> None:
    store.write({key(b"b", 7): None})
    assert audited(tmp_path) == [(7, "9.1 block")]


def test_blocks_cut_off_below_the_recorded_head(
    store: RocksStore, chain: CertifiedChain, tmp_path: Path
) -> None:
    store.write({key(b"b", chain.height): None})
    assert audited(tmp_path) == [(chain.height, "9.1 block")]


def test_a_stored_receipt_that_is_not_the_blocks(
    store: RocksStore, chain: CertifiedChain, tmp_path: Path
) -> None:
    rows = msgpack.unpackb(store.get(key(b"r", 6)) or b"")
    store.write({key(b"r", 6): msgpack.packb([*rows[:-1], rows[-1][:-1] + b"\x00"])})
    assert audited(tmp_path) == [(6, "9.3 stored receipts")]
    store.write({key(b"r", 6): b"\xc1"})
    assert audited(tmp_path) == [(6, "9.3 stored receipts")]


def test_a_stored_balance_that_no_block_gave(
    store: RocksStore, chain: CertifiedChain, tmp_path: Path
) -> None:
    member = chain.members[3].address
    row = list(msgpack.unpackb(store.get(b"s\x01" + member) or b""))
    row[1] += 10**9
    store.write({b"s\x01" + member: msgpack.packb(row)})
    assert audited(tmp_path) == [(chain.height, f"9.5 stored state entry 01{member.hex()}")]


def test_a_recorded_head_that_is_not_the_last_blocks(
    store: RocksStore, chain: CertifiedChain, tmp_path: Path
) -> None:
    head = list(msgpack.unpackb(store.get(b"mhead") or b""))
    head[2] = bytes(32)
    store.write({b"mhead": msgpack.packb(head)})
    assert audited(tmp_path) == [(chain.height, "9.1 stored head")]


def test_a_table_file_with_flipped_bytes(chain: CertifiedChain, tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "ledger")
    ledger = Ledger(store, chain.genesis, VERIFIER)
    for data in chain.certified:
        ledger.apply(certified_block_codec.decode(data))
    store.close()
    for file in (tmp_path / "ledger").iterdir():
        if file.suffix in (".sst", ".blob"):
            spoiled = bytearray(file.read_bytes())
            for place in range(len(spoiled) // 4, len(spoiled) - 100, 997):
                spoiled[place] ^= 0x55
            file.write_bytes(bytes(spoiled))
    assert main(["verify", str(tmp_path), "--quiet"]) in (1, 2)


# ------------------------------------------------------------ exports and nodes


def export(chain: CertifiedChain, path: Path, blocks: list[bytes]) -> Path:
    """An exported ledger."""
    path.write_bytes(b"".join((chain.genesis_bytes, *blocks)))
    return path


def test_an_export(chain: CertifiedChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = export(chain, tmp_path / "ledger.export", chain.certified)
    assert main(["verify", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["state_root"] == chain.state.tree.root.hex()
    assert report["chain_id"] == chain.chain_id.hex()
    assert report["blocks"] == chain.height
    assert report["elections"] == 1
    assert report["holds"]
    assert report["findings"] == []


def test_findings_of_an_export_are_named_and_the_exit_code_is_1(
    chain: CertifiedChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = list(chain.certified)
    blocks[8] = blocks[8][:-1] + bytes([blocks[8][-1] ^ 1])  # the last commit's signature
    path = export(chain, tmp_path / "ledger.export", blocks)
    assert main(["verify", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "block 9: 6.4 commit in the certificate: expected a valid signature" in printed
    assert "DOES NOT HOLD: 1 findings" in printed
    assert main(["verify", str(path), "--json", "--genesis-hash", "00" * 32]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [finding["rule"] for finding in report["findings"]] == ["9.1 genesis hash"]
    assert not report["complete"]


@pytest.fixture
def node(chain: CertifiedChain) -> Iterator[str]:
    """The URL of something that answers the two questions as a node does."""
    answers = {f"/v1/blocks/{n}/raw": data for n, data in enumerate(chain.certified, start=1)}
    parameters = {"height": chain.height, "genesis": chain.genesis_bytes.hex()}
    answers["/v1/parameters"] = json.dumps(parameters).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"{}")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_nodes_api(
    node: str, chain: CertifiedChain, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["verify", node]) == 0
    assert (
        f"transactions    {sum(len(block.transactions) for block in chain.blocks)} ("
        in capsys.readouterr().out
    )
    with pytest.raises(Unreadable):
        open_source(node + "/elsewhere")


# ------------------------------------------------------------ usage


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify"],
        ["verify", "/nonexistent"],
        ["verify", ".", "--genesis-hash", "xyz"],
        ["verify", ".", "--genesis-hash", "ab"],
        ["verify", ".", "--from-checkpoint", "yes"],
        ["verify", "http://127.0.0.1:1"],
    ],
)
def test_wrong_usage_is_2_and_says_why(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


def test_an_empty_file_is_no_export(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert main(["verify", str(path)]) == 2


@pytest.mark.parametrize("content", [b"hello", msgpack.packb([1]), b"\xc1"])
def test_a_file_of_something_else_has_no_genesis(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert main(["verify", str(path)]) == 1


def test_an_export_cut_off_within_a_block(chain: CertifiedChain, tmp_path: Path) -> None:
    path = export(chain, tmp_path / "ledger.export", chain.certified)
    path.write_bytes(path.read_bytes()[:-1])
    source = open_source(str(path))
    assert found(audit_source(source)) == [(chain.height, "9.4 block")]
    source.close()


def test_an_export_that_begins_later(chain: CertifiedChain, tmp_path: Path) -> None:
    path = export(chain, tmp_path / "ledger.export", chain.certified[3:])
    source = open_source(str(path))
    assert (1, "9.1 height") in found(audit_source(source))
    source.close()
