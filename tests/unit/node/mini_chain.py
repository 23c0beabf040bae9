"""A chain of a few blocks made by hand: real keys, certificates, roots and proofs, without a running node."""

import msgspec

from consensus.block import (
    Block,
    Certificate,
    CertifiedBlock,
    Header,
    discarded_root,
    full_hash,
    last_commit_hash,
    transactions_root,
)
from consensus.certificate import Decision, make_certificate
from consensus.delegates import DelegateSet
from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.merkle import leaf_hash, merkle_path
from consensus.parameters import DEMO, resolved
from consensus.signing import Phase, consensus_bytes
from contracts.engine import genesis_state
from contracts.genesis import Admission, Genesis, sign_registration
from contracts.receipts import BLOCK_RECEIPT_ID, Event, ReasonCode, Receipt, receipts_root
from contracts.seats import delegate_set_at
from contracts.transaction import Payload, decode_transaction, encode_body, sign_body
from node.keystore import KeyPair
from node.service import CertifiedHeader, LedgerPosition, ReceiptProof, StateEntryProof

GENESIS_MS = 1_700_000_000_000
BLOCK_MS = 500


def key(number: int) -> KeyPair:
    return KeyPair(bytes([number]) * 32)


def make_genesis(members: int = 4, groups: int = 4) -> Genesis:
    registrations = [
        sign_registration("mini", key(number + 1), key(number + 101).public_key, 10_000)
        for number in range(members)
    ]
    return Genesis(
        version=1,
        chain_name="mini",
        time_ms=GENESIS_MS,
        parameters=resolved(msgspec.structs.replace(DEMO, groups=groups), members),
        admission=Admission.OPEN,
        founding_balance=1_000_000_000_000,
        entry_balance=0,
        operators=(key(201).public_key, key(202).public_key),
        operator_threshold=2,
        members=tuple(sorted(registrations, key=lambda registration: registration.address)),
    )


class MiniChain:
    """Blocks 1.. with chosen transactions; receipts say OK and carry chosen events."""

    def __init__(self, members: int = 4, groups: int = 4) -> None:
        self.genesis = make_genesis(members, groups)
        self.chain_id = self.genesis.hash()
        self.state = genesis_state(self.genesis, Ed25519Verifier())
        self.delegates: DelegateSet = delegate_set_at(self.state, 1)
        self.next_delegates = self.delegates
        self.keys = {key(number + 1).public_key: key(number + 1) for number in range(members)}
        self.blocks: list[CertifiedBlock] = []
        self.receipts: list[tuple[Receipt, ...]] = [()]
        self.sets = [self.delegates]

    @property
    def height(self) -> int:
        return len(self.blocks)

    def position(self) -> LedgerPosition:
        if not self.blocks:
            return LedgerPosition(0, self.chain_id, GENESIS_MS)
        header = self.blocks[-1].block.header
        return LedgerPosition(header.height, header.digest(), header.time_ms)

    def transaction(self, payload: Payload, signer: KeyPair, nonce: int = 0) -> bytes:
        start = GENESIS_MS
        body = encode_body(self.chain_id, signer.address, start, start + 60_000, nonce, payload)
        return sign_body(body, (signer,))

    def decide(
        self,
        transactions: tuple[bytes, ...] = (),
        events: tuple[Event, ...] = (),
        following: DelegateSet | None = None,
    ) -> CertifiedBlock:
        """The next block; its first receipt carries ``events``; ``following`` becomes C(height + 1)."""
        height = self.height + 1
        current = self.next_delegates
        after = following or current
        last = self.blocks[-1].certificate if self.blocks else None
        header = Header(
            version=1,
            chain_id=self.chain_id,
            height=height,
            epoch=0,
            view=0,
            parent_hash=self.position().block_hash,
            time_ms=GENESIS_MS + BLOCK_MS * height,
            proposer=current.ranking[0].address,
            transactions_root=transactions_root([full_hash(raw) for raw in transactions]),
            last_commit_hash=last_commit_hash(last),
            discarded_root=discarded_root(()),
            receipts_root=receipts_root(tuple(encode(item) for item in self.receipts[-1])),
            state_root=self.state.tree.root,
            delegates_hash=current.hash(),
            next_delegates_hash=after.hash(),
        )
        block = CertifiedBlock(Block(header, transactions, last, ()), self.certify(header, current))
        self.blocks.append(block)
        ids = [decode_transaction(raw).id for raw in transactions] + [BLOCK_RECEIPT_ID]
        self.receipts.append(
            tuple(
                Receipt(receipt_id, ReasonCode.OK, (), events if index == 0 else ())
                for index, receipt_id in enumerate(ids)
            )
        )
        self.sets.append(after)
        self.next_delegates = after
        return block

    def certify(self, header: Header, delegates: DelegateSet) -> Certificate:
        message = consensus_bytes(
            Phase.COMMIT, self.chain_id, header.epoch, header.height, 0, header.digest()
        )
        signers = delegates.ranking[: delegates.quorum]
        signatures = {one.public_key: self.keys[one.public_key].sign(message) for one in signers}
        return make_certificate(
            Decision(header.epoch, header.height, header.digest(), delegates), 0, signatures
        )

    def certified(self, height: int) -> CertifiedHeader:
        block = self.blocks[height - 1]
        return CertifiedHeader(block.block.header, block.certificate)

    def receipt_proof(self, height: int, index: int) -> ReceiptProof:
        block = self.blocks[height - 1].block
        references = [leaf_hash(full_hash(raw)) for raw in block.transactions]
        leaves = [leaf_hash(encode(receipt)) for receipt in self.receipts[height]]
        return ReceiptProof(
            header=block.header,
            transaction_path=merkle_path(references, index),
            receipt_path=merkle_path(leaves, index),
            next=self.certified(height + 1),
        )

    def state_proof(self, state_key: bytes) -> StateEntryProof:
        return StateEntryProof(self.state.prove(state_key), self.certified(self.height))
