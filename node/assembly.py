"""Putting a node together: store, ledger, journal, pool, transport, runtime (the one place that knows them all)."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from consensus.ed25519 import Ed25519Verifier
from consensus.effects import UNKNOWN_HEIGHT, AbstainRecord
from contracts.genesis import Genesis
from network.address_book import AddressBook, sign_record
from network.handshake import ChainIdentity, parameters_hash
from network.limits import TransportLimits
from network.peer import Endpoint
from network.scheduler import LoopScheduler
from network.tls import NodeIdentity
from network.transport import Transport
from network.wire import AddressRecord
from node.clock import Clock, SystemClock
from node.config import NodeConfig
from node.files import Files, SystemFiles
from node.journal import Journal, JournalLost
from node.keystore import KeyPair
from node.ledger import NO_JOURNAL, Ledger
from node.mempool import Mempool, PoolLimits
from node.peering import Peering
from node.runtime import Runtime
from node.store import RocksStore, Store

JOURNAL_DIRECTORY: Final = "journal"
LEDGER_DIRECTORY: Final = "ledger"
ADDRESSES_FILE: Final = "addresses"

log = structlog.get_logger("node.assembly")


def create_journal(home: Path, key: KeyPair) -> None:
    """Make the empty journal of a new key; called just before the key is written, never again (PROTOCOL 6.5).

    A journal without its key is no harm; a key without its journal means that the journal was lost.
    """
    files = SystemFiles(home / JOURNAL_DIRECTORY)
    identity = random.SystemRandom().randbytes(16)
    Journal.create(files, key.public_key, identity).close()


def open_journal(files: Files, key: KeyPair, ledger: Ledger) -> Journal:
    """The journal of ``key``; a lost one is set aside, and a new one abstains from its first instant (PROTOCOL 6.5)."""
    known = ledger.journal_position
    try:
        journal = Journal.load(files, key.public_key, at_least=None if known == NO_JOURNAL else known)
    except JournalLost as error:
        log.error(
            "the journal is lost: nothing is signed until the others say how far the chain is",
            reason=str(error),
        )
        if files.exists():
            files.set_aside("lost")
        identity = random.SystemRandom().randbytes(16)
        created = Journal.create(files, key.public_key, identity, (AbstainRecord(UNKNOWN_HEIGHT),))
        created.close()
        return Journal.load(files, key.public_key)
    if journal.dropped_bytes:
        log.warning("the journal's torn tail was cut off", bytes=journal.dropped_bytes)
    return journal


class NodeParts:
    """What a node is made of; `build` puts it together."""

    def __init__(
        self,
        *,
        home: Path,
        genesis: Genesis,
        key: KeyPair,
        config: NodeConfig,
        records: Iterable[AddressRecord] = (),
        clock: Clock | None = None,
        limits: TransportLimits | None = None,
        software: str = "cgpbft",
    ) -> None:
        self.home = home
        self.genesis = genesis
        self.key = key
        self.config = config
        self.records = records
        self.clock = clock or SystemClock()
        self.limits = limits
        self.software = software

    def build(self, store: Store | None = None, files: Files | None = None) -> Runtime:
        """A runtime ready for `start_listening`; must be called on a running loop.

        `LedgerDamaged`, `StoreFailed`, `JournalFailed` or `InvalidGenesis` where the home cannot be used.
        """
        verifier = Ed25519Verifier()
        home = self.home
        ledger = Ledger(store or RocksStore(home / LEDGER_DIRECTORY), self.genesis, verifier)
        journal = open_journal(files or SystemFiles(home / JOURNAL_DIRECTORY), self.key, ledger)
        pool = self.config.mempool
        book = AddressBook(verifier, lambda key: self._admits(ledger, key))
        peering = Peering(ledger, book, self.key.public_key, home / ADDRESSES_FILE, self.config.peers.via)
        peering.load(self.records, LoopScheduler().now_ms())
        return Runtime(
            ledger=ledger,
            journal=journal,
            signer=self.key,
            verifier=verifier,
            clock=self.clock,
            pool=Mempool(
                PoolLimits(pool.max_transactions, pool.max_bytes, pool.max_per_sender), ledger.is_member
            ),
            verify_threads=self.config.verify_threads,
            make_transport=self._transport,
            book=book,
            peering=peering,
            randomness=random.SystemRandom(),
        )

    @staticmethod
    def _admits(ledger: Ledger, key: bytes) -> bool:
        """Members' records are kept; before this node has caught up it knows only those of genesis, and takes any."""
        return ledger.account_of_key(key) is not None or ledger.height == 0

    def _transport(self, runtime: Runtime) -> Transport:
        rules = parameters_hash(self.genesis.parameters)
        return Transport(
            identity=NodeIdentity(self.key.seed),
            chain=ChainIdentity(runtime.ledger.chain_id, rules),
            software=self.software,
            admits=runtime.admits,
            on_message=runtime.on_message,
            on_peer=runtime.on_peer,
            randomness=random.SystemRandom(),
            limits=self.limits,
        )

    async def start(self, runtime: Runtime) -> int:
        """Listen for peers, announce where, and set the runtime going; the peer port."""
        peers = self.config.peers
        port = await runtime.transport.start(peers.host, peers.port)
        advertised = Endpoint(peers.advertise or peers.host, peers.advertise_port or port)
        sequence = max(1, self.clock.now().wall_ms)
        runtime.start()
        runtime.addresses.announce(sign_record(self.key, sequence, advertised))
        return port
