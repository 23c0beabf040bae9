"""From the service's values to the structs of `schema`; nothing is looked up here."""

import enum
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from consensus.delegates import Delegate
from consensus.encoding import encode
from contracts.receipts import BalanceChanged, Event, GroupTallied, Receipt
from contracts.transaction import Terms, decode_transaction
from node import service
from node.api import schema

T = TypeVar("T")
V = TypeVar("V")

_MONEY_FIELDS: Final = frozenset(
    {"amount", "balance", "paid", "seller_penalty", "buyer_penalty", "founding_balance", "entry_balance"}
)
"""Fields of wire values that hold nano-units; `BalanceChanged.delta` besides."""


def name_of(value: enum.Enum) -> str:
    """An enumeration's value as the API writes it: its name in lower case."""
    return value.name.lower()


@functools.cache
def _type_name(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def plain(value: object) -> Any:
    """Any wire value as JSON would have it: objects by field name, hex, lower-case names, money as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, enum.Enum):
        return name_of(value)
    if isinstance(value, msgspec.Struct):
        return {name: _field(value, name) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _field(value: msgspec.Struct, name: str) -> Any:
    item = getattr(value, name)
    if name in _MONEY_FIELDS or (name == "delta" and isinstance(value, BalanceChanged)):
        return str(item)
    return plain(item)


def tagged(value: msgspec.Struct) -> dict[str, Any]:
    """`plain`, with the kind of value under ``type``."""
    return {"type": _type_name(type(value)), **plain(value)}


def event_name(event: Event) -> str:
    """Kind of an event, such as ``credit_changed``."""
    return _type_name(type(event))


def position(at: service.LedgerPosition) -> schema.Position:
    """Where an answer was read."""
    return schema.Position(height=at.height, block_hash=at.block_hash.hex(), time_ms=at.time_ms)


def listing(page: service.Page[T], render: Callable[[T], V]) -> schema.Listing[V]:
    """A page, each item rendered."""
    return schema.Listing(
        height=page.at.height,
        block_hash=page.at.block_hash.hex(),
        items=[render(item) for item in page.items],
        next_cursor=page.next_cursor,
    )


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _hexes(values: Iterable[bytes]) -> list[str]:
    return [value.hex() for value in values]


def _same(kind: type[V], value: msgspec.Struct, **others: Any) -> V:
    """A struct whose fields are those of ``value`` in JSON's terms, but for ``others``."""
    fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
    return kind(**{name: _field(value, name) for name in fields if name not in others}, **others)


# ---- transactions


def receipt(value: Receipt) -> schema.ReceiptView:
    """A receipt with its events."""
    return schema.ReceiptView(
        transaction_id=value.transaction_id.hex(),
        code=name_of(value.code),
        rejections=[plain(item) for item in value.rejections],
        events=[tagged(event) for event in value.events],
    )


def receipt_proof(proof: service.ReceiptProof, value: Receipt) -> schema.ReceiptProofText:
    """A receipt's proof in canonical encodings."""
    return schema.ReceiptProofText(
        header=encode(proof.header).hex(),
        transaction_path=None if proof.transaction_path is None else encode(proof.transaction_path).hex(),
        receipt=encode(value).hex(),
        receipt_path=encode(proof.receipt_path).hex(),
        next_header=encode(proof.next.header).hex(),
        next_certificate=encode(proof.next.certificate).hex(),
    )


def transaction_body(raw: bytes) -> dict[str, Any]:
    """A stored transaction, decoded for people."""
    transaction = decode_transaction(raw)
    return {
        "type": name_of(transaction.type),
        "sender": transaction.sender.hex(),
        "valid_from_ms": transaction.valid_from_ms,
        "valid_until_ms": transaction.valid_until_ms,
        "payload": plain(transaction.payload),
        "signers": [signature.public_key.hex() for signature in transaction.signatures],
    }


def transaction(value: service.TransactionStatus, block_hash: bytes | None) -> schema.TransactionView:
    """A transaction's status; ``block_hash`` is that of its block."""
    proof = None
    if value.proof is not None and value.receipt is not None:
        proof = receipt_proof(value.proof, value.receipt)
    return schema.TransactionView(
        at=position(value.at),
        id=value.id.hex(),
        state=str(value.state),
        height=value.height,
        block_hash=_hex(block_hash),
        index=value.index,
        reason=value.reason,
        holders=value.holders,
        receipt=None if value.receipt is None else receipt(value.receipt),
        transaction=None if value.raw is None else transaction_body(value.raw),
        raw=_hex(value.raw),
        proof=proof,
    )


def state_proof(value: service.StateEntryProof) -> schema.StateProofText:
    """A state entry's proof in canonical encodings."""
    return schema.StateProofText(
        proof=encode(value.proof).hex(),
        next_header=encode(value.next.header).hex(),
        next_certificate=encode(value.next.certificate).hex(),
    )


# ---- members, groups, epochs


def member(value: service.MemberView) -> schema.MemberInfo:
    """A member."""
    return _same(schema.MemberInfo, value)


def member_answer(
    value: service.MemberAnswer, proof: service.StateEntryProof | None
) -> schema.MemberAnswerView:
    """One member, perhaps proven."""
    return schema.MemberAnswerView(
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        member=member(value.member),
        proof=None if proof is None else state_proof(proof),
    )


def credit_entry(value: service.CreditEntry) -> schema.CreditEntryInfo:
    """A change of credit."""
    return _same(schema.CreditEntryInfo, value)


def groups(value: service.GroupsAnswer) -> schema.GroupsView:
    """The current groups."""
    return schema.GroupsView(
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        epoch=value.epoch,
        groups=[_same(schema.GroupInfo, group) for group in value.groups],
    )


def _tally(value: GroupTallied) -> schema.TallyInfo:
    return _same(schema.TallyInfo, value)


def epoch(value: service.EpochAnswer) -> schema.EpochView:
    """An epoch."""
    return _same(
        schema.EpochView,
        value,
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        tallies=[_tally(item) for item in value.tallies],
    )


def delegate(value: Delegate) -> schema.DelegateInfo:
    """A seat's holder."""
    return schema.DelegateInfo(address=value.address.hex(), public_key=value.public_key.hex())


def delegates(value: service.DelegatesAnswer) -> schema.DelegatesView:
    """A delegate set."""
    return _same(
        schema.DelegatesView,
        value,
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        for_height=value.height,
        ranking=[delegate(item) for item in value.ranking],
    )


def delegate_change(value: service.DelegateChange) -> schema.DelegateChangeInfo:
    """A link of the chain of set hashes."""
    return schema.DelegateChangeInfo(
        height=value.certified.header.height,
        header=encode(value.certified.header).hex(),
        certificate=encode(value.certified.certificate).hex(),
        next_delegates=[delegate(item) for item in value.next_delegates],
    )


def parameters(value: service.ParametersAnswer) -> schema.ParametersView:
    """Genesis and the rules in it."""
    genesis = value.genesis
    return schema.ParametersView(
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        chain_id=value.chain_id.hex(),
        chain_name=genesis.chain_name,
        version=genesis.version,
        genesis_time_ms=genesis.time_ms,
        admission=name_of(genesis.admission),
        founding_balance=str(genesis.founding_balance),
        entry_balance=str(genesis.entry_balance),
        operators=_hexes(genesis.operators),
        operator_threshold=genesis.operator_threshold,
        members=len(genesis.members),
        parameters=plain(genesis.parameters),
        genesis=encode(genesis).hex(),
    )


# ---- blocks


def block_summary(value: service.BlockSummary) -> schema.BlockInfo:
    """A line of the block list."""
    return _same(schema.BlockInfo, value)


def block(value: service.BlockAnswer) -> schema.BlockView:
    """A block: its header, how its transactions ended, and what no transaction caused."""
    last_commit = value.block.last_commit
    return schema.BlockView(
        at=position(value.at),
        height=value.block.header.height,
        block_hash=value.hash.hex(),
        header=plain(value.block.header),
        transactions=[
            schema.BlockTransaction(id=transaction_id.hex(), code=name_of(result.code))
            for transaction_id, result in zip(value.transaction_ids, value.receipts, strict=False)
        ],
        discarded=[item.transaction_id.hex() for item in value.block.discarded],
        last_commit=None if last_commit is None else plain(last_commit),
        events=[tagged(event) for event in value.receipts[-1].events],
    )


def certificate(value: service.CertificateAnswer) -> schema.CertificateView:
    """A certificate with the set that made it."""
    certified = value.certified
    by_key = {item.public_key: item.address.hex() for item in value.ranking}
    return schema.CertificateView(
        at=position(value.at),
        height=certified.header.height,
        block_hash=certified.certificate.digest.hex(),
        epoch=certified.certificate.epoch,
        view=certified.certificate.view,
        signers=[by_key.get(item.signer, item.signer.hex()) for item in certified.certificate.signatures],
        ranking=[delegate(item) for item in value.ranking],
        header=encode(certified.header).hex(),
        certificate=encode(certified.certificate).hex(),
    )


# ---- trades


def terms(value: Terms) -> schema.TermsInfo:
    """A trade's terms."""
    return _same(schema.TermsInfo, value)


def trade_summary(value: service.TradeSummary) -> schema.TradeInfo:
    """A line of the trade list."""
    return _same(schema.TradeInfo, value, terms=terms(value.terms))


def trade(value: service.TradeAnswer, proof: service.StateEntryProof | None) -> schema.TradeView:
    """One trade with history, slot table and settlement."""
    settlement = None
    if value.settlement is not None:
        settlement = _same(
            schema.SettlementInfo,
            value.settlement,
            seller_credit_delta=value.seller_credit_delta,
            buyer_credit_delta=value.buyer_credit_delta,
        )
    return schema.TradeView(
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        id=value.id.hex(),
        state=name_of(value.state),
        terms=terms(value.terms),
        escrow=str(value.escrow),
        history=[_same(schema.TransitionInfo, item) for item in value.history],
        slots=[_same(schema.SlotInfo, item) for item in value.slots],
        settlement=settlement,
        proof=None if proof is None else state_proof(proof),
    )


def quote(value: service.Quote, agreed: Terms) -> schema.QuoteView:
    """What a trade would bind and risk."""
    return schema.QuoteView(
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        terms=terms(agreed),
        value=str(value.value),
        buyer_escrow=str(value.buyer_escrow),
        seller_escrow=str(value.seller_escrow),
        seller_worst_credit=value.seller_worst_credit,
        buyer_worst_credit=value.buyer_worst_credit,
    )


# ---- the node


def status(value: service.StatusAnswer) -> schema.StatusView:
    """What the node does and, if it does not decide, why."""
    votes = [_same(schema.VotesInfo, item) for item in value.delegates]
    return _same(
        schema.StatusView,
        value,
        height=value.at.height,
        block_hash=value.at.block_hash.hex(),
        block_time_ms=value.at.time_ms,
        role=str(value.role),
        primary=next((item.address for item in votes if item.primary), None),
        consensus=schema.ConsensusInfo(
            height=value.height, view=value.view, phase=value.consensus_phase, delegates=votes
        ),
        peers=[_same(schema.PeerInfo, item) for item in value.peers],
        pool=_same(schema.PoolInfo, value.pool),
    )


def health(value: service.Health) -> schema.HealthView:
    """Liveness and readiness."""
    return _same(schema.HealthView, value)


def block_event(value: service.BlockEvents) -> dict[str, Any]:
    """The first event of every block."""
    return {
        "type": "block",
        "height": value.height,
        "sequence": 0,
        "block_hash": value.block_hash.hex(),
        "time_ms": value.time_ms,
        "transactions": value.transactions,
    }


def record_event(record: service.EventRecord, block_hash: bytes) -> dict[str, Any]:
    """An event of a block; its sequence is one above the record's, since the block itself comes first."""
    return {
        "type": event_name(record.event),
        "height": record.height,
        "sequence": record.sequence + 1,
        "block_hash": block_hash.hex(),
        "transaction_id": _hex(record.transaction_id),
        "data": plain(record.event),
    }
