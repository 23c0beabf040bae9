"""Light verification: an answer checked against the genesis, without trusting the node that gave it (PROTOCOL 9.5).

genesis -> C(1) = C(2) -> links of the chain of set hashes -> a certified header -> receipts and state under its roots.
"""

from typing import Final, TypeVar

from consensus.block import Certificate, Header, full_hash
from consensus.certificate import Decision, check_certificate
from consensus.delegates import Delegate, DelegateSet
from consensus.encoding import Codec, encode
from consensus.errors import InvalidMessage, MalformedInput
from consensus.hashing import address_of
from consensus.merkle import MerklePath, leaf_hash, verify_path
from consensus.signing import Verifier
from consensus.types import Address, Digest, Value
from contracts.engine import genesis_state
from contracts.genesis import Genesis
from contracts.receipts import Receipt
from contracts.seats import delegate_set_at
from contracts.state import MAX_VALUE_BYTES, Account
from contracts.state_tree import StateProof, verify_state_proof
from contracts.trade_records import Contract, Offer
from contracts.transaction import Transaction
from node.errors import NodeError

T = TypeVar("T")

MAX_LINKS: Final = 1_000_000
"""Links held: 2 700 years of daily epochs, or 18 days of demo ones."""


class ProofError(NodeError):
    """A proof does not prove what it is said to; the node that gave it is wrong, or of another chain."""


class ProofIncomplete(ProofError):
    """Links of the chain of set hashes are missing: fetch /v1/delegates/changes first."""


class ProvenReceipt(Value, frozen=True):
    """A receipt that stands in the ledger for ever."""

    height: int
    index: int
    receipt: Receipt


class LedgerProver:
    """Knows the delegate sets of one chain, as far as links were shown to it, and checks what they certify."""

    def __init__(self, genesis: Genesis, verifier: Verifier, pinned_hash: Digest | None = None) -> None:
        """``pinned_hash`` is the chain id from a source that is trusted; `ProofError` if ``genesis`` is another."""
        self.chain_id: Final = genesis.hash()
        if pinned_hash is not None and pinned_hash != self.chain_id:
            raise ProofError(
                f"the genesis hashes to {self.chain_id.hex()}, not to the pinned {pinned_hash.hex()}"
            )
        self._verifier = verifier
        state = genesis_state(genesis, verifier)
        self._account_prefix = state.accounts.prefix
        self._contract_prefix = state.contracts.prefix
        self._offer_prefix = state.offers.prefix
        self._first_heights = [1]
        self._sets = [delegate_set_at(state, 1)]

    @property
    def next_link_height(self) -> int:
        """Links at heights from this one on are not known yet."""
        return self._first_heights[-1]

    def delegates_at(self, height: int) -> DelegateSet:
        """C(height) by the links so far."""
        for first, delegates in zip(reversed(self._first_heights), reversed(self._sets), strict=True):
            if first <= height:
                return delegates
        raise ProofError(f"no set decides height {height}")

    def add_link(
        self, header: Header, certificate: Certificate, next_delegates: tuple[Delegate, ...]
    ) -> None:
        """Take a link: ``header``, decided by C(h), names C(h + 1). Links come in ascending order of height."""
        if len(self._sets) >= MAX_LINKS:
            raise ProofError(f"more than {MAX_LINKS} links")
        if header.height < self.next_link_height:
            raise ProofError(
                f"the link of height {header.height} comes after one of {self.next_link_height - 1}"
            )
        self.check_header(header, certificate)
        if any(address_of(delegate.public_key) != delegate.address for delegate in next_delegates):
            raise ProofError("a delegate's address is not that of its key")
        if not next_delegates or len({delegate.address for delegate in next_delegates}) != len(
            next_delegates
        ):
            raise ProofError("the next set is empty or names a delegate twice")
        following = DelegateSet(next_delegates)
        if following.hash() != header.next_delegates_hash:
            raise ProofError(f"the next set is not the one that header {header.height} names")
        self._first_heights.append(header.height + 1)
        self._sets.append(following)

    def check_header(self, header: Header, certificate: Certificate) -> None:
        """That C(height) decided ``header``; `ProofIncomplete` if the set is one not seen yet."""
        if header.chain_id != self.chain_id:
            raise ProofError(f"the header is of chain {header.chain_id.hex()}")
        delegates = self.delegates_at(header.height)
        if header.delegates_hash != delegates.hash():
            raise ProofIncomplete(f"height {header.height} was decided by a set that no link led to yet")
        decision = Decision(header.epoch, header.height, header.digest(), delegates)
        try:
            check_certificate(certificate, decision, self.chain_id, self._verifier)
        except InvalidMessage as error:
            raise ProofError(f"the certificate of height {header.height}: {error}") from error

    def check_receipt(
        self,
        receipt: Receipt,
        receipt_path: MerklePath,
        header: Header,
        next_header: Header,
        next_certificate: Certificate,
        *,
        transaction: Transaction | None = None,
        transaction_path: MerklePath | None = None,
    ) -> ProvenReceipt:
        """That ``receipt`` is the ledger's, by the header after its block (PROTOCOL 9.1).

        With ``transaction`` also that exactly these bytes stand at the same place of the block.
        """
        self.check_header(next_header, next_certificate)
        if next_header.parent_hash != header.digest() or next_header.height != header.height + 1:
            raise ProofError("the two headers do not follow each other")
        if not verify_path(next_header.receipts_root, leaf_hash(encode(receipt)), receipt_path):
            raise ProofError(f"the receipt is not among those of block {header.height}")
        if transaction is not None:
            self._check_transaction(receipt, receipt_path, header, transaction, transaction_path)
        return ProvenReceipt(header.height, receipt_path.index, receipt)

    @staticmethod
    def _check_transaction(
        receipt: Receipt,
        receipt_path: MerklePath,
        header: Header,
        transaction: Transaction,
        path: MerklePath | None,
    ) -> None:
        if receipt.transaction_id != transaction.id:
            raise ProofError("the receipt is another transaction's")
        if path is None or path.index != receipt_path.index or path.count + 1 != receipt_path.count:
            raise ProofError("the transaction and its receipt stand at different places")
        if not verify_path(header.transactions_root, leaf_hash(full_hash(transaction.raw)), path):
            raise ProofError(f"the transaction is not in block {header.height}")

    def check_state(
        self, proof: StateProof, next_header: Header, next_certificate: Certificate
    ) -> tuple[bytes, bytes | None]:
        """Key and value (None: absent) after block ``next_header.height - 1``."""
        self.check_header(next_header, next_certificate)
        if not verify_state_proof(next_header.state_root, proof):
            raise ProofError(f"the entry is not in the state after block {next_header.height - 1}")
        return proof.key, proof.value

    def check_account(
        self, address: Address, proof: StateProof, next_header: Header, next_certificate: Certificate
    ) -> Account | None:
        """The account of ``address``, proven; None: proven to have none."""
        key, value = self.check_state(proof, next_header, next_certificate)
        if key != self._account_prefix + address:
            raise ProofError("the proof is about another entry than the account")
        return None if value is None else _decode(Account, value)

    def check_contract(
        self, contract_id: Digest, proof: StateProof, next_header: Header, next_certificate: Certificate
    ) -> Contract | Offer | None:
        """The contract or open offer, proven; None: proven not to be in force."""
        key, value = self.check_state(proof, next_header, next_certificate)
        if key == self._contract_prefix + contract_id:
            return None if value is None else _decode(Contract, value)
        if key == self._offer_prefix + contract_id:
            return None if value is None else _decode(Offer, value)
        raise ProofError("the proof is about another entry than the contract")


def _decode(kind: type[T], value: bytes) -> T:
    """A state value that a certified root binds; it decodes, unless this program is older than the chain."""
    try:
        return Codec(kind, MAX_VALUE_BYTES).decode(value)
    except MalformedInput as error:
        raise ProofError(f"the entry is proven, but unknown to this version: {error}") from error
