"""A small ledger on a real store, grown by blocks that are made and certified here: all keys are at hand."""

from pathlib import Path
from typing import Final

import msgspec

from consensus.block import (
    Block,
    CertifiedBlock,
    Header,
    discarded_root,
    full_hash,
    last_commit_hash,
    transactions_root,
)
from consensus.certificate import Decision, make_certificate
from consensus.ed25519 import Ed25519Verifier
from consensus.parameters import DEMO, resolved
from consensus.signing import Phase, consensus_bytes
from contracts.genesis import Admission, Genesis, sign_registration
from contracts.transaction import BuyerRule, Payload, Terms, TradeOpen, Transfer, encode_body, sign_body
from node.journal import JournalPosition
from node.keystore import KeyPair
from node.ledger import Ledger
from node.store import RocksStore, Store

GENESIS_MS: Final = 1_750_000_000_000
BLOCK_MS: Final = 500
MEMBERS: Final = 4
CHAIN_NAME: Final = "storage"
JOURNAL_IDENTITY: Final = bytes(range(16))


def member_key(number: int) -> KeyPair:
    """The key of member ``number``, from 1 on."""
    return KeyPair(bytes((number,)) * 32)


def make_genesis() -> Genesis:
    """Four founders, all of them delegates, with money."""
    keys = sorted((member_key(n) for n in range(1, MEMBERS + 1)), key=lambda key: key.address)
    return Genesis(
        version=1,
        chain_name=CHAIN_NAME,
        time_ms=GENESIS_MS,
        parameters=resolved(msgspec.structs.replace(DEMO, groups=MEMBERS), MEMBERS),
        admission=Admission.OPEN,
        founding_balance=10**15,
        entry_balance=0,
        operators=(),
        operator_threshold=0,
        members=tuple(
            sign_registration(CHAIN_NAME, key, KeyPair(bytes(b ^ 0xA5 for b in key.seed)).public_key, 100_000)
            for key in keys
        ),
    )


def open_ledger(path: Path, genesis: Genesis) -> Ledger:
    """The ledger in a directory, opened by the shipped code; closes the store again if it cannot be used."""
    store = RocksStore(path)
    try:
        return Ledger(store, genesis, Ed25519Verifier())
    except BaseException:
        store.close()
        raise


def apply_block(ledger: Ledger, certified: CertifiedBlock) -> None:
    """As a node does, with a journal position that follows from the height."""
    ledger.apply(certified, journal=JournalPosition(JOURNAL_IDENTITY, certified.block.header.height))


class Chain:
    """A ledger that grows by one block of a trade and a transfer at a time."""

    def __init__(self, store: Store, genesis: Genesis) -> None:
        self.ledger = Ledger(store, genesis, Ed25519Verifier())
        self.keys = {member_key(n).public_key: member_key(n) for n in range(1, MEMBERS + 1)}
        self.members = sorted(self.keys.values(), key=lambda key: key.address)
        self.blocks: list[CertifiedBlock] = []

    def reopen(self, store: Store) -> None:
        """Go on with what a store holds."""
        self.ledger = Ledger(store, self.ledger.genesis, Ed25519Verifier())

    def grow(self, transfers: int = 1) -> CertifiedBlock:
        """Decide the next block; durable when this returns."""
        height = self.ledger.height + 1
        sent = [self._transfer(height, number) for number in range(1, transfers + 1)]
        certified = self._certify(self._block((*sent, self._trade(height))))
        self.ledger.check_certified(certified)
        apply_block(self.ledger, certified)
        self.blocks.append(certified)
        return certified

    def _sign(self, nonce: int, payload: Payload, *signers: KeyPair) -> bytes:
        start_ms = self.ledger.time_ms
        sender = signers[0].address
        body = encode_body(self.ledger.chain_id, sender, start_ms, start_ms + 60_000, nonce, payload)
        return sign_body(body, signers)

    def _transfer(self, height: int, number: int) -> bytes:
        return self._sign(height, Transfer(self.members[1].address, number), self.members[0])

    def _trade(self, height: int) -> bytes:
        seller, buyer = self.members[height % 2], self.members[2 + height % 2]
        start_ms = (self.ledger.time_ms + 2_000) // 1_000 * 1_000
        terms = Terms(
            seller.address, buyer.address, 1_000, 100, start_ms, 2, 1_000, BuyerRule.PAY_ACTUAL, start_ms
        )
        return self._sign(height, TradeOpen(terms), seller, buyer)

    def _block(self, transactions: tuple[bytes, ...]) -> Block:
        context = self.ledger.context
        header = Header(
            version=1,
            chain_id=self.ledger.chain_id,
            height=context.height,
            epoch=context.epoch,
            view=0,
            parent_hash=context.parent_hash,
            time_ms=context.parent_time_ms + BLOCK_MS,
            proposer=context.head,
            transactions_root=transactions_root([full_hash(raw) for raw in transactions]),
            last_commit_hash=last_commit_hash(context.parent_certificate),
            discarded_root=discarded_root(()),
            receipts_root=context.receipts_root,
            state_root=context.state_root,
            delegates_hash=context.delegates.hash(),
            next_delegates_hash=context.next_delegates.hash(),
        )
        return Block(header, transactions, context.parent_certificate, ())

    def _certify(self, block: Block) -> CertifiedBlock:
        header, context = block.header, self.ledger.context
        place = (header.epoch, header.height, 0, header.digest())
        message = consensus_bytes(Phase.COMMIT, self.ledger.chain_id, *place)
        signatures = {d.public_key: self.keys[d.public_key].sign(message) for d in context.delegates}
        decision = Decision(header.epoch, header.height, header.digest(), context.delegates)
        return CertifiedBlock(block, make_certificate(decision, 0, signatures))
