"""A chain made by hand: genesis with N keys, blocks at chosen times with chosen transactions, executed by the engine.

Every transaction and block list is validated before it is applied, as a node would; nothing here is random.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from nacl.signing import SigningKey

from consensus.block import (
    PROTOCOL_VERSION,
    Block,
    Certificate,
    CommitSignature,
    Discard,
    Header,
    discarded_root,
    last_commit_hash,
    transactions_root,
)
from consensus.delegates import DelegateSet
from consensus.ed25519 import Ed25519Verifier
from consensus.hashing import address_of
from consensus.inputs import HeightContext
from consensus.messages import Commit, sign_vote
from consensus.parameters import DEMO, Parameters, resolved
from consensus.types import Address, Digest, Wire
from contracts.engine import BlockOutcome, apply_block, genesis_state, height_context, new_state
from contracts.genesis import Admission, Genesis, sign_registration
from contracts.receipts import Receipt
from contracts.signatures import ballot_bytes, invite_bytes, meter_bytes, reading_bytes
from contracts.state import SINGLETON, Account, Totals
from contracts.transaction import (
    Ballot,
    Ballots,
    BuyerRule,
    Invite,
    Meter,
    Payload,
    Reading,
    Readings,
    Signature,
    Terms,
    Transaction,
    decode_transaction,
    encode_body,
    sign_body,
)
from contracts.validation import check_block_transactions, check_transaction

START_MS = 1_700_000_000_000
"""Genesis time, a whole number of demo slots."""
VERIFIER = Ed25519Verifier()


class Key:
    """An Ed25519 key made from a number."""

    def __init__(self, number: int) -> None:
        self._key = SigningKey(number.to_bytes(32, "big"))
        self.public_key = bytes(self._key.verify_key)
        self.address = address_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Signature of ``message``."""
        return self._key.sign(message).signature


class Chain:
    """A chain of one process; ``members`` are its founding keys in address order, ``meters`` theirs by address."""

    def __init__(
        self,
        members: int = 8,
        groups: int = 4,
        *,
        operators: int = 0,
        threshold: int | None = None,
        admission: Admission = Admission.OPEN,
        balance: int = 10**15,
        entry_balance: int = 0,
        time_ms: int = START_MS,
        base: Parameters = DEMO,
        **parameters: Any,
    ) -> None:
        """``parameters`` override fields of ``base``; the time bounds of PROTOCOL 4.4 are then filled in."""
        self.members = sorted((Key(1_000 + i) for i in range(members)), key=lambda key: key.address)
        self.operators = [Key(9_000 + i) for i in range(operators)]
        self.meters = {key.address: Key(5_000 + i) for i, key in enumerate(self.members)}
        self.keys = {key.address: key for key in self.members}
        rules = resolved(msgspec.structs.replace(base, groups=groups, **parameters), members)
        self.genesis = Genesis(
            version=1,
            chain_name="test",
            time_ms=time_ms,
            parameters=rules,
            admission=admission,
            founding_balance=balance,
            entry_balance=entry_balance,
            operators=tuple(key.public_key for key in self.operators),
            operator_threshold=operators if threshold is None else threshold,
            members=tuple(
                sign_registration("test", key, self.meters[key.address].public_key, rules.max_power_w)
                for key in self.members
            ),
        )
        self.chain_id: Digest = self.genesis.hash()
        self.state = genesis_state(self.genesis, VERIFIER)
        self.parameters = rules
        self.header: Header | None = None
        self.certificate: Certificate | None = None
        self.outcomes: list[BlockOutcome] = []
        self.blocks: list[Block] = []
        self._nonce = 0

    # ------------------------------------------------------------ reading

    @property
    def time_ms(self) -> int:
        """Time of the last block."""
        return self.genesis.time_ms if self.header is None else self.header.time_ms

    @property
    def height(self) -> int:
        """Height of the last block."""
        return 0 if self.header is None else self.header.height

    @property
    def totals(self) -> Totals:
        """The sums of the state."""
        return self.state.totals.require(SINGLETON)

    def account(self, key: Key) -> Account:
        """The account of ``key``."""
        return self.state.accounts.require(key.address)

    def context(self) -> HeightContext:
        """What the next height is decided on."""
        return height_context(
            self.state,
            genesis=self.genesis,
            chain_id=self.chain_id,
            header=self.header,
            certificate=self.certificate,
        )

    def events(self, kind: type[Wire], outcome: BlockOutcome | None = None) -> list[Any]:
        """Events of ``kind`` in ``outcome``, or in all blocks so far."""
        outcomes = self.outcomes if outcome is None else [outcome]
        return [
            event
            for each in outcomes
            for receipt in each.receipts
            for event in receipt.events
            if isinstance(event, kind)
        ]

    # ------------------------------------------------------------ blocks

    def block(
        self,
        *transactions: Transaction,
        at: int | None = None,
        after_ms: int = 100,
        view: int = 0,
        absent: Iterable[Address] = (),
        discarded: tuple[Discard, ...] = (),
        validate: bool = True,
    ) -> BlockOutcome:
        """Decide and apply one block at time ``at``, or ``after_ms`` after its parent.

        ``absent`` delegates are missing from this block's own certificate, so from the next block's last-commit.
        """
        block = self.make_block(*transactions, at=at, after_ms=after_ms, view=view, discarded=discarded)
        if validate:
            self.validate(transactions, discarded, block.header.time_ms)
        delegates = self.context().delegates
        outcome = apply_block(
            self.state,
            block,
            transactions,
            genesis=self.genesis,
            chain_id=self.chain_id,
            verifier=VERIFIER,
        )
        self.header = block.header
        self.certificate = self.certify(block.header, delegates, absent)
        self.blocks.append(block)
        self.outcomes.append(outcome)
        return outcome

    def make_block(
        self,
        *transactions: Transaction,
        at: int | None = None,
        after_ms: int = 100,
        view: int = 0,
        discarded: tuple[Discard, ...] = (),
    ) -> Block:
        """The next block, not applied."""
        context = self.context()
        header = Header(
            version=PROTOCOL_VERSION,
            chain_id=self.chain_id,
            height=context.height,
            epoch=context.epoch,
            view=view,
            parent_hash=context.parent_hash,
            time_ms=self.time_ms + after_ms if at is None else at,
            proposer=context.delegates.primary(context.head, view).address,
            transactions_root=transactions_root([t.reference for t in transactions]),
            last_commit_hash=last_commit_hash(context.parent_certificate),
            discarded_root=discarded_root(discarded),
            receipts_root=context.receipts_root,
            state_root=context.state_root,
            delegates_hash=context.delegates.hash(),
            next_delegates_hash=context.next_delegates.hash(),
        )
        raws = tuple(t.raw for t in transactions)
        return Block(header, raws, context.parent_certificate, discarded)

    def validate(
        self, transactions: Sequence[Transaction], discarded: Sequence[Discard], time_ms: int
    ) -> None:
        """As a delegate does before it prepares (PROTOCOL 6.8)."""
        for transaction in transactions:
            check_transaction(
                transaction, chain_id=self.chain_id, parameters=self.parameters, verifier=VERIFIER
            )
        check_block_transactions(
            self.state, transactions, discarded, time_ms=time_ms, parameters=self.parameters
        )

    def certify(self, header: Header, delegates: DelegateSet, absent: Iterable[Address] = ()) -> Certificate:
        """Commits of all of ``delegates`` but ``absent`` for ``header``, in ranking order."""
        missing = tuple(absent)
        digest = header.digest()
        shares = []
        for delegate in delegates:
            if delegate.address not in missing:
                key = self.keys[delegate.address]
                vote = sign_vote(Commit, self.chain_id, header.epoch, header.height, header.view, digest, key)
                shares.append(CommitSignature(vote.signer, vote.signature))
        return Certificate(header.epoch, header.height, header.view, digest, tuple(shares))

    def run_until(self, condition: Callable[[], bool], step_ms: int = 500, limit: int = 500) -> None:
        """Add empty blocks until ``condition`` holds."""
        for _ in range(limit):
            if condition():
                return
            self.block(after_ms=step_ms)
        raise AssertionError(f"the condition does not hold after {limit} blocks")

    def run_to(self, time_ms: int, step_ms: int = 500) -> None:
        """Add empty blocks until one stands at ``time_ms``."""
        while self.time_ms < time_ms:
            self.block(at=min(self.time_ms + step_ms, time_ms))

    # ------------------------------------------------------------ transactions

    def transaction(
        self,
        sender: Key,
        payload: Payload,
        *cosigners: Key,
        valid_from_ms: int | None = None,
        valid_until_ms: int | None = None,
        chain_id: bytes | None = None,
        claimed_sender: Address | None = None,
    ) -> Transaction:
        """A decoded transaction signed by ``sender`` and ``cosigners``; its window is the widest from now on."""
        start = self.time_ms if valid_from_ms is None else valid_from_ms
        end = start + self.parameters.tx_window_ms if valid_until_ms is None else valid_until_ms
        self._nonce += 1
        body = encode_body(
            self.chain_id if chain_id is None else chain_id,
            sender.address if claimed_sender is None else claimed_sender,
            start,
            end,
            self._nonce,
            payload,
        )
        return decode_transaction(sign_body(body, (sender, *cosigners)))

    def receipt(self, sender: Key, payload: Payload, *cosigners: Key, **block: Any) -> Receipt:
        """The receipt of one transaction alone in a block."""
        outcome = self.block(self.transaction(sender, payload, *cosigners), **block)
        return outcome.receipts[0]

    def terms(
        self,
        seller: Key,
        buyer: Key,
        *,
        quantity_wh: int = 1_000,
        price: int = 200_000,
        start_slot: int | None = None,
        slots: int = 1,
        penalty_bp: int = 1_000,
        buyer_rule: BuyerRule = BuyerRule.PAY_ACTUAL,
        expiry_ms: int | None = None,
        start_ms: int | None = None,
    ) -> Terms:
        """Acceptable terms; the window begins two slots ahead unless told."""
        slot_ms = self.parameters.slot_ms
        slot = self.time_ms // slot_ms + 2 if start_slot is None else start_slot
        start = slot * slot_ms if start_ms is None else start_ms
        return Terms(
            seller.address,
            buyer.address,
            quantity_wh,
            price,
            start,
            slots,
            penalty_bp,
            buyer_rule,
            start if expiry_ms is None else expiry_ms,
        )

    def reading(
        self,
        member: Key,
        slot: int,
        exported_wh: int = 0,
        imported_wh: int = 0,
        *,
        counter: int,
        meter: Key | None = None,
    ) -> Reading:
        """A reading signed by the member's meter, or by ``meter``."""
        key = self.meters[member.address] if meter is None else meter
        unsigned = Reading(member.address, slot, counter, exported_wh, imported_wh, key.public_key, bytes(64))
        signature = key.sign(reading_bytes(unsigned, self.chain_id))
        return msgspec.structs.replace(unsigned, signature=signature)

    def readings(self, *readings: Reading) -> Transaction:
        """A transaction that carries ``readings``, sent by the first member."""
        return self.transaction(self.members[0], Readings(readings))

    def ballot(self, voter: Key, epoch: int, sequence: int, *choices: Key) -> Ballot:
        """A signed ballot."""
        addresses = tuple(choice.address for choice in choices)
        unsigned = Ballot(voter.address, epoch, sequence, addresses, voter.public_key, bytes(64))
        signature = voter.sign(ballot_bytes(unsigned, self.chain_id))
        return msgspec.structs.replace(unsigned, signature=signature)

    def ballots(self, *ballots: Ballot) -> Transaction:
        """A transaction that carries ``ballots``, sent by the first member."""
        return self.transaction(self.members[0], Ballots(ballots))

    def meter(self, member: Key, key: Key, max_power_w: int = 10_000, approvers: Sequence[Key] = ()) -> Meter:
        """A meter for ``member``, approved by ``approvers``."""
        message = meter_bytes(key.public_key, max_power_w, member.address, self.chain_id)
        approvals = tuple(Signature(a.public_key, a.sign(message)) for a in approvers)
        return Meter(key.public_key, max_power_w, approvals)

    def invite(self, key: Key, last_time_ms: int, approvers: Sequence[Key]) -> Invite:
        """An invite for ``key``."""
        message = invite_bytes(key.public_key, last_time_ms, self.chain_id)
        approvals = tuple(Signature(a.public_key, a.sign(message)) for a in approvers)
        return Invite(key.public_key, last_time_ms, approvals)

    # ------------------------------------------------------------ restart

    def reload(self) -> None:
        """Go on with a state loaded from what was stored, as after a restart."""
        fresh = genesis_state(self.genesis, VERIFIER)
        entries: dict[bytes, bytes | None] = dict(fresh.entries())
        for outcome in self.outcomes:
            entries.update(outcome.changes)
        state = new_state(self.genesis)
        state.load({key: value for key, value in entries.items() if value is not None})
        self.state = state
