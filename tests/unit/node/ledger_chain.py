"""A ledger that grows by blocks made and certified by hand: all keys are here, no network, no replica."""

from pathlib import Path

import msgspec

from consensus.block import (
    Block,
    CertifiedBlock,
    Discard,
    Header,
    discarded_root,
    full_hash,
    last_commit_hash,
    transactions_root,
)
from consensus.certificate import Decision, make_certificate
from consensus.ed25519 import Ed25519Verifier
from consensus.parameters import DEMO, Parameters, resolved
from consensus.signing import Phase, consensus_bytes
from contracts.genesis import Admission, Genesis, sign_registration
from contracts.signatures import reading_bytes
from contracts.transaction import (
    BuyerRule,
    Payload,
    Reading,
    Readings,
    Terms,
    decode_transaction,
    encode_body,
    sign_body,
)
from node.journal import JournalPosition
from node.keystore import KeyPair
from node.ledger import AppliedBlock, Ledger
from node.store import RocksStore

GENESIS_MS = 1_700_000_000_000
STEP_MS = 500
MEMBERS = 4


def key(number: int) -> KeyPair:
    return KeyPair(bytes([number]) * 32)


def make_genesis(members: int = MEMBERS, **changes: int) -> Genesis:
    keys = sorted((key(n) for n in range(1, members + 1)), key=lambda k: k.address)
    parameters: Parameters = resolved(msgspec.structs.replace(DEMO, groups=4, **changes), members)
    return Genesis(
        version=1,
        chain_name="unit",
        time_ms=GENESIS_MS,
        parameters=parameters,
        admission=Admission.OPEN,
        founding_balance=10**15,
        entry_balance=0,
        operators=(),
        operator_threshold=0,
        members=tuple(sign_registration("unit", k, meter_of(k).public_key, 100_000) for k in keys),
    )


def meter_of(member: KeyPair) -> KeyPair:
    return KeyPair(bytes(byte ^ 0xA5 for byte in member.seed))


class LedgerChain:
    """A ledger and the means to decide its next block."""

    def __init__(self, path: Path, genesis: Genesis | None = None) -> None:
        self.path = path
        self.genesis = genesis or make_genesis()
        self.keys = {key(n).public_key: key(n) for n in range(1, 1 + len(self.genesis.members))}
        self.members = sorted(self.keys.values(), key=lambda k: k.address)
        self.nonce = 0
        self.applied: list[AppliedBlock] = []
        self.ledger = self.open()

    def open(self) -> Ledger:
        return Ledger(RocksStore(self.path), self.genesis, Ed25519Verifier())

    def reopen(self) -> None:
        self.ledger.store.close()
        self.ledger = self.open()

    def transaction(
        self, payload: Payload, *signers: KeyPair, window: tuple[int, int] | None = None
    ) -> bytes:
        self.nonce += 1
        start, end = window or (self.ledger.time_ms, self.ledger.time_ms + 60_000)
        body = encode_body(self.ledger.chain_id, signers[0].address, start, end, self.nonce, payload)
        return sign_body(body, signers)

    def terms(
        self, seller: KeyPair, buyer: KeyPair, start_in_ms: int = 2_000, quantity_wh: int = 1_000
    ) -> Terms:
        start_ms = (self.ledger.time_ms + start_in_ms) // 1_000 * 1_000
        return Terms(
            seller.address,
            buyer.address,
            quantity_wh,
            100,
            start_ms,
            2,
            1_000,
            BuyerRule.PAY_ACTUAL,
            start_ms,
        )

    def readings(self, member: KeyPair, first_slot: int, values: list[tuple[int, int]]) -> bytes:
        """Readings (exported, imported) of consecutive slots."""
        meter = meter_of(member)
        made = []
        for offset, (exported, imported) in enumerate(values):
            slot = first_slot + offset
            plain = Reading(member.address, slot, slot, exported, imported, meter.public_key, bytes(64))
            signature = meter.sign(reading_bytes(plain, self.ledger.chain_id))
            made.append(msgspec.structs.replace(plain, signature=signature))
        return self.transaction(Readings(tuple(made)), member)

    def block(
        self,
        transactions: tuple[bytes, ...] = (),
        discarded: tuple[Discard, ...] = (),
        step_ms: int = STEP_MS,
    ) -> CertifiedBlock:
        """The next block, not applied."""
        context = self.ledger.context
        header = Header(
            version=1,
            chain_id=self.ledger.chain_id,
            height=context.height,
            epoch=context.epoch,
            view=0,
            parent_hash=context.parent_hash,
            time_ms=context.parent_time_ms + step_ms,
            proposer=context.head,
            transactions_root=transactions_root([full_hash(raw) for raw in transactions]),
            last_commit_hash=last_commit_hash(context.parent_certificate),
            discarded_root=discarded_root(discarded),
            receipts_root=context.receipts_root,
            state_root=context.state_root,
            delegates_hash=context.delegates.hash(),
            next_delegates_hash=context.next_delegates.hash(),
        )
        block = Block(header, transactions, context.parent_certificate, discarded)
        return self.certify(block)

    def certify(self, block: Block) -> CertifiedBlock:
        header, context = block.header, self.ledger.context
        message = consensus_bytes(
            Phase.COMMIT, self.ledger.chain_id, header.epoch, header.height, 0, header.digest()
        )
        signatures = {
            delegate.public_key: self.keys[delegate.public_key].sign(message)
            for delegate in context.delegates
        }
        decision = Decision(header.epoch, header.height, header.digest(), context.delegates)
        return CertifiedBlock(block, make_certificate(decision, 0, signatures))

    def decide(
        self, *transactions: bytes, step_ms: int = STEP_MS, journal: JournalPosition | None = None
    ) -> AppliedBlock:
        certified = self.block(transactions, step_ms=step_ms)
        self.ledger.check_certified(certified)
        applied = self.ledger.apply(certified, journal=journal)
        self.applied.append(applied)
        return applied

    def pass_ms(self, duration_ms: int) -> None:
        until_ms = self.ledger.time_ms + duration_ms
        while self.ledger.time_ms < until_ms:
            self.decide()

    @staticmethod
    def id_of(raw: bytes) -> bytes:
        return decode_transaction(raw).id
