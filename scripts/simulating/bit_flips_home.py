"""A node's whole home with something in every durable file, and the shipped code that reads each of them back."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consensus.effects import JournalRecord, Persist
from consensus.encoding import encode
from contracts.genesis import Genesis, sign_registration
from network.address_book import sign_record
from network.bootstrap.records import AcknowledgementSet, acknowledge
from network.peer import Endpoint
from network.wire import AddressRecord
from node.assembly import ADDRESSES_FILE, JOURNAL_DIRECTORY, LEDGER_DIRECTORY
from node.config import CONFIG_FILE
from node.files import SystemFiles
from node.formation import announcement_of
from node.formation_store import DIRECTORY, FormationStore
from node.journal import Journal
from node.keystore import NODE_KEY_FILE, KeyPair, write_key
from node.store import RocksStore, Store
from scripts.simulating.crash_points_chain import CHAIN_NAME, Chain, make_genesis, member_key
from scripts.simulating.crash_points_recording import Recording

IDENTITY: Final = bytes(range(16))
SEGMENT_BYTES: Final = 3_000
CONFIG: Final = """\
bootstrap_urls = ["http://127.0.0.1:26655"]
verify_threads = 2
[api]
port = 26657
[peers]
port = 26656
[mempool]
max_transactions = 20000
"""
Rows = dict[bytes, bytes]


@dataclass(frozen=True)
class Home:
    """What stands in the files."""

    path: Path
    key: KeyPair
    genesis: Genesis
    journal: dict[Path, bytes]
    """The journal's segments."""
    records: tuple[JournalRecord, ...]
    """What the journal holds."""
    addresses: tuple[AddressRecord, ...]
    blocks: tuple[bytes, ...]
    """Canonical bytes of the certified blocks, as any peer has them."""
    rows: tuple[Rows, ...]
    """All rows of the store, after genesis and after each block."""

    @property
    def ledger(self) -> Path:
        """The store's directory."""
        return self.path / LEDGER_DIRECTORY


def make_home(path: Path, recording: Recording, *, effects: int = 60) -> Home:
    """A home in which each kind of file is in use; the journal holds the first ``effects`` of the recording."""
    key, genesis = member_key(1), make_genesis()
    write_key(path / NODE_KEY_FILE, key)
    (path / CONFIG_FILE).write_text(CONFIG, encoding="utf-8")
    _make_formation(path, key, genesis)
    members = [member_key(number) for number in range(1, 5)]
    addresses = tuple(sign_record(m, 1, Endpoint("127.0.0.1", 26_656 + n)) for n, m in enumerate(members))
    (path / ADDRESSES_FILE).write_bytes(encode(addresses))
    records = _make_journal(path / JOURNAL_DIRECTORY, recording, key, effects)
    blocks, rows = _make_ledger(path / LEDGER_DIRECTORY, genesis)
    segments = {p: p.read_bytes() for p in sorted((path / JOURNAL_DIRECTORY).iterdir())}
    return Home(path, key, genesis, segments, records, addresses, blocks, rows)


def _make_formation(path: Path, key: KeyPair, genesis: Genesis) -> None:
    store = FormationStore(path)
    store.put_announced(announcement_of(genesis))
    store.put_registration(sign_registration(CHAIN_NAME, key, key.public_key, 100_000))
    store.put_genesis(genesis)
    keys = {member_key(number).public_key: member_key(number) for number in range(1, 5)}
    signed = tuple(acknowledge(genesis.hash(), keys[member.public_key]) for member in genesis.members)
    store.put_acknowledgements(AcknowledgementSet(genesis.hash(), signed))


def _make_journal(path: Path, recording: Recording, key: KeyPair, effects: int) -> tuple[JournalRecord, ...]:
    journal = Journal.create(SystemFiles(path), key.public_key, IDENTITY)
    journal.segment_bytes = SEGMENT_BYTES
    for effect in recording.effects[:effects]:
        if isinstance(effect, Persist):
            journal.append(effect.records)
            journal.forget(0)
    journal.close()
    return Journal.load(SystemFiles(path), key.public_key).recovered


def _make_ledger(path: Path, genesis: Genesis) -> tuple[tuple[bytes, ...], tuple[Rows, ...]]:
    """Tables and a blob file from before a restart, and a log with newer blocks; closed by a death, so not flushed."""
    live = path.with_name("live")
    chain = Chain(RocksStore(live), genesis)
    rows = [rows_of(chain.ledger.store)]
    for number in range(6):
        chain.grow(transfers=60 if number == 2 else 1)
        rows.append(rows_of(chain.ledger.store))
    chain.ledger.store.close()
    chain.reopen(RocksStore(live))
    for _ in range(5):
        chain.grow()
        rows.append(rows_of(chain.ledger.store))
    shutil.copytree(live, path, ignore=shutil.ignore_patterns("LOG*", "LOCK"))
    chain.ledger.store.close()
    shutil.rmtree(live)
    return tuple(encode(block) for block in chain.blocks), tuple(rows)


def rows_of(store: Store) -> Rows:
    """All rows of a store."""
    return dict(store.scan(b""))


def formation_files(home: Home) -> tuple[Path, ...]:
    """Of formation."""
    return tuple(sorted((home.path / DIRECTORY).iterdir()))
