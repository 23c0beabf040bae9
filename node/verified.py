"""Reading a node without trusting it: every answer is checked against the genesis (PROTOCOL 9.5)."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from consensus.block import Certificate, Header, certificate_codec, header_codec
from consensus.delegates import Delegate
from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import Codec
from consensus.errors import MalformedInput
from consensus.merkle import MerklePath
from consensus.types import Value
from contracts.receipts import receipt_codec
from contracts.state import Account
from contracts.state_tree import StateProof, state_proof_codec
from contracts.trade_records import Contract, Offer
from contracts.transaction import Transaction, decode_transaction
from node.api import schema
from node.client import NodeClient
from node.client_errors import NotFound
from node.proofs import LedgerProver, ProofError, ProvenReceipt

_path_codec: Final[Codec[MerklePath]] = Codec(MerklePath, 65_536)
POLL_PAUSE_S: Final = 0.1
PAGE_ITEMS: Final = 100


class ProvenAccount(Value, frozen=True):
    """An account after block ``height``; None: proven to have none."""

    height: int
    account: Account | None


class ProvenTrade(Value, frozen=True):
    """A contract or open offer after block ``height``; None: proven not to be in force."""

    height: int
    trade: Contract | Offer | None


class VerifiedReader:
    """A client and the prover of its chain; `open` makes one."""

    def __init__(self, client: NodeClient, prover: LedgerProver) -> None:
        """The prover is advanced as needed."""
        self._client = client
        self._prover = prover

    @classmethod
    async def open(cls, client: NodeClient, genesis_hash: bytes | None) -> "VerifiedReader":
        """Pinned to ``genesis_hash``; None believes the node's genesis and proves what follows from it."""
        genesis = await client.genesis()
        return cls(client, LedgerProver(genesis, Ed25519Verifier(), genesis_hash))

    @property
    def chain_id(self) -> bytes:
        """The genesis hash."""
        return self._prover.chain_id

    async def advance(self) -> None:
        """Take all links of the chain of set hashes that the node has."""
        first, cursor = self._prover.next_link_height, None
        while True:
            page = await self._client.delegate_changes(first, cursor, PAGE_ITEMS)
            for item in page.items:
                with _readable():
                    header, certificate = _certified(item.header, item.certificate)
                    following = tuple(
                        Delegate(bytes.fromhex(one.address), bytes.fromhex(one.public_key))
                        for one in item.next_delegates
                    )
                self._prover.add_link(header, certificate, following)
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def transaction(
        self, transaction_id: bytes, *, raw: bytes | None = None, timeout_s: float = 60.0
    ) -> ProvenReceipt:
        """The proven receipt, once the block after it is decided; `TimeoutError` if that takes too long.

        With ``raw`` also that exactly these bytes are in the block.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                view = await self._client.transaction(transaction_id, proof=True)
            except NotFound:
                view = None
            if view is not None and view.proof is not None:
                await self.advance()
                return self._check(transaction_id, raw, view.proof)
            await asyncio.sleep(POLL_PAUSE_S)
        raise TimeoutError(f"transaction {transaction_id.hex()} is not proven after {timeout_s:g} s")

    def _check(
        self, transaction_id: bytes, raw: bytes | None, proof: schema.ReceiptProofText
    ) -> ProvenReceipt:
        with _readable():
            receipt = receipt_codec.decode(bytes.fromhex(proof.receipt))
            receipt_path = _path_codec.decode(bytes.fromhex(proof.receipt_path))
            header = header_codec.decode(bytes.fromhex(proof.header))
            next_header, certificate = _certified(proof.next_header, proof.next_certificate)
            path = None
            if proof.transaction_path is not None:
                path = _path_codec.decode(bytes.fromhex(proof.transaction_path))
            transaction: Transaction | None = None if raw is None else decode_transaction(raw)
        if receipt.transaction_id != transaction_id:
            raise ProofError("the receipt is another transaction's")
        return self._prover.check_receipt(
            receipt,
            receipt_path,
            header,
            next_header,
            certificate,
            transaction=transaction,
            transaction_path=path,
        )

    async def account(self, address: bytes) -> ProvenAccount:
        """A member's account after the newest block that a header proves."""
        answer = await self._client.member(address, proof=True)
        proof, header, certificate = await self._state(answer.proof)
        account = self._prover.check_account(address, proof, header, certificate)
        return ProvenAccount(header.height - 1, account)

    async def trade(self, trade_id: bytes) -> ProvenTrade:
        """A contract in force, or its absence, after the newest block that a header proves."""
        answer = await self._client.trade(trade_id, proof=True)
        proof, header, certificate = await self._state(answer.proof)
        return ProvenTrade(
            header.height - 1, self._prover.check_contract(trade_id, proof, header, certificate)
        )

    async def _state(self, text: schema.StateProofText | None) -> tuple[StateProof, Header, Certificate]:
        if text is None:
            raise ProofError("the node gave no proof")
        await self.advance()
        with _readable():
            return (
                state_proof_codec.decode(bytes.fromhex(text.proof)),
                *_certified(text.next_header, text.next_certificate),
            )


def _certified(header: str, certificate: str) -> tuple[Header, Certificate]:
    return header_codec.decode(bytes.fromhex(header)), certificate_codec.decode(bytes.fromhex(certificate))


@contextmanager
def _readable() -> Iterator[None]:
    """What a node sends instead of a proof is its fault, whatever is wrong with it."""
    try:
        yield
    except (MalformedInput, ValueError) as error:
        raise ProofError(f"a part of the proof cannot be read: {error}") from error
