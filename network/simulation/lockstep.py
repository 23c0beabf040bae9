"""Replicas in lock step: no delays and no randomness, only who hears whom in each round.

The small fast driver behind `twins` and `byzzfuzz`. A communication round delivers everything sent in the one before;
a view is rounds until nobody says anything more; then all timers run out at once and the next view begins. A node
between two views is a value: it can be copied and compared, so that runs with a common beginning share it.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from types import MethodType
from typing import Any, Final, TypeAlias

import msgspec

from consensus.block import Block, CertifiedBlock, full_hash
from consensus.delegates import Delegate, DelegateSet
from consensus.effects import (
    BuildBatch,
    CancelTimer,
    CheckProposal,
    Decide,
    Effect,
    FetchBlock,
    FetchDecided,
    Report,
    ReportProposal,
    Send,
    SendDecided,
    SetTimer,
)
from consensus.encoding import encode
from consensus.hashing import address_of, tagged_hash
from consensus.inputs import (
    Advanced,
    Batch,
    BlockFetched,
    DecidedReceived,
    HeightContext,
    Input,
    Instant,
    PoolChanged,
    ProposalChecked,
    Received,
    Timer,
    TimerFired,
)
from consensus.messages import Commit, ConsensusMessage, Prepare, Proposal
from consensus.parameters import Parameters
from consensus.removal import transaction_id
from consensus.replica import Replica
from consensus.timers import BATCH, CLOCK, GATHER, RESEND, VIEW
from consensus.types import Digest, PublicKey
from network.simulation.checkers import Finding, core_of, demand
from network.simulation.clock import GENESIS_MS
from network.simulation.keys import KeyedHashRing
from network.simulation.ledger import GENESIS_STATE, NO_RECEIPTS
from network.simulation.workload import SimulatedBody, make_transaction

PARAMETERS: Final = Parameters(
    view_timeout_ms=500, view_timeout_max_ms=4_000, empty_block_interval_ms=500, max_drift_ms=300
)
WALL_MS: Final = GENESIS_MS + 1_000
"""What every wall clock shows, always: clocks decide nothing here, and blocks of one origin are equal whenever made."""
MONOTONIC_STEP_MS: Final = 5_000
"""Per view; more than any interval between two answers to one asker, so that what happened in earlier views is past."""
RUN_OUT: Final = (RESEND, GATHER, CLOCK, BATCH, VIEW)
"""Timers that run out at the end of a view, in this order; blocks are never empty here."""
MOST_ROUNDS: Final = 200
"""A view that talks longer than this talks for ever: three phases, a change of view and a fetch take a dozen rounds."""

Told: TypeAlias = ConsensusMessage | CertifiedBlock | Block
"""What travels between nodes: messages, decided blocks for who is late, and undecided ones asked for by digest."""
Links: TypeAlias = Callable[[int, int, Told], bool]
"""Whether what one node says to another arrives."""
Twist: TypeAlias = Callable[[int, int, Told], Sequence[Told]]
"""What a node says to another instead."""
Slot: TypeAlias = tuple[int, int, str]
"""Height, view and kind of a signed message."""


class Table:
    """What all nodes of a run share and nothing changes: keys, seats and who holds which."""

    def __init__(
        self, seats: int, twins: Sequence[int] = (), liars: Sequence[int] = (), seed: int = 1
    ) -> None:
        """``twins`` are ranks whose holder runs a second node; they and ``liars`` are not honest."""
        self.ring = KeyedHashRing(seed)
        self.signers = tuple(self.ring.signer(f"member {index}") for index in range(seats))
        self.chain_id: Digest = tagged_hash("genesis", seed.to_bytes(16, "big"))
        keys = [signer.public_key for signer in self.signers]
        self.delegates = DelegateSet(tuple(Delegate(address_of(key), key) for key in keys))
        self.owners = (*range(seats), *twins)
        """Node to rank."""
        self.dishonest = frozenset((*twins, *liars))
        self.honest = tuple(node for node, rank in enumerate(self.owners) if rank not in self.dishonest)
        self.nodes_of = {
            key: tuple(n for n, r in enumerate(self.owners) if r == rank) for rank, key in enumerate(keys)
        }
        self.transactions: dict[Digest, bytes] = {}
        """Every transaction there ever was, by reference: whoever proposes also hands out the bytes."""

    @property
    def quorum(self) -> int:
        """q by the rule's own words, n - (n - 1) // 3."""
        seats = len(self.signers)
        return seats - (seats - 1) // 3

    def transaction(self, nonce: int) -> bytes:
        """A transaction that always holds."""
        data = make_transaction(SimulatedBody(nonce, 0, 2**62, True), b"")
        self.transactions[full_hash(data)] = data
        return data

    def first_context(self) -> HeightContext:
        """Of height 1."""
        return HeightContext(
            height=1,
            epoch=0,
            parent_hash=self.chain_id,
            parent_time_ms=GENESIS_MS,
            parent_certificate=None,
            delegates=self.delegates,
            next_delegates=self.delegates,
            head=self.delegates.ranking[0].address,
            previous_delegates=None,
            state_root=GENESIS_STATE,
            receipts_root=NO_RECEIPTS,
        )

    def check(self, certified: CertifiedBlock) -> None:
        """S3: raise `Finding` unless q distinct seats signed what a commit signs, laid out here anew."""
        certificate = certified.certificate
        signed = b"".join(
            (
                b"cgpbft/consensus/1\x03",
                self.chain_id,
                certificate.epoch.to_bytes(8, "big"),
                certificate.height.to_bytes(8, "big"),
                certificate.view.to_bytes(8, "big"),
                certified.block.header.digest(),
            )
        )
        sound = {
            item.signer
            for item in certificate.signatures
            if item.signer in self.nodes_of and self.ring.verify(item.signer, signed, item.signature)
        }
        count = len(certificate.signatures)
        demand(
            len(sound) == count >= self.quorum,
            f"S3: {len(sound)} of {count} commits decide height {certificate.height}",
        )


def instant(view: int) -> Instant:
    """Both clocks in the ``view``-th view of a run; every node has the same."""
    return Instant(WALL_MS, view * MONOTONIC_STEP_MS)


class LockstepNode:
    """The shipped replica with everything around it that answers at once."""

    def __init__(self, table: Table, index: int) -> None:
        self.table = table
        self.index = index
        self.rank = table.owners[index]
        self.public_key: PublicKey = table.signers[self.rank].public_key
        self.chain: tuple[CertifiedBlock, ...] = ()
        self.finished: frozenset[Digest] = frozenset()
        self.context = table.first_context()
        self.pool: tuple[bytes, ...] = ()
        self.signed: dict[Slot, Digest] = {}
        """What it ever signed (S4)."""
        self.outbox: list[tuple[tuple[int, ...], Told]] = []
        self.wanted: dict[Digest, FetchBlock] = {}
        self.behind = False
        self.timers: dict[str, Timer] = {}
        self.reports: list[Report | ReportProposal] = []
        self._replica = Replica(
            chain_id=table.chain_id,
            parameters=PARAMETERS,
            signer=table.signers[self.rank],
            verifier=table.ring,
            context=self.context,
            at=instant(0),
        )
        self._perform(instant(0), self._replica.start(instant(0)))

    @property
    def height(self) -> int:
        """Of the last block decided."""
        return len(self.chain)

    def view_begins(self, at: Instant, transactions: tuple[bytes, ...]) -> None:
        """Every timer that ran has run out, and transactions come in, which may start others."""
        ran = [self.timers[kind] for kind in RUN_OUT if kind in self.timers]
        for timer in ran:
            if self.timers.get(timer.kind) is timer:
                del self.timers[timer.kind]
                self.feed(TimerFired(at, timer))
        self.pool = tuple(data for data in self.pool if transaction_id(data) not in self.finished)
        self.pool = (*transactions, *self.pool)[:2]
        self.feed(PoolChanged(at, len(self.pool), at.monotonic_ms))

    def feed(self, item: Input) -> None:
        """One input, its effects, and the inputs that these bring at once."""
        self._perform(item.at, self._replica.step(item))

    def _perform(self, at: Instant, effects: list[Effect]) -> None:
        answers: list[Input] = []
        for effect in effects:
            match effect:
                case BuildBatch():
                    answers.append(self._batch(at, effect))
                case CheckProposal():
                    answers += self._checked(at, effect)
                case Decide():
                    answers += self._decide(at, effect.certified)
                case _:
                    self._obey(effect)
        for answer in answers:
            self.feed(answer)

    def _obey(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case SetTimer():
                self.timers[effect.timer.kind] = effect.timer
            case CancelTimer():
                self.timers.pop(effect.kind, None)
            case FetchBlock():
                self.wanted[effect.digest] = effect
            case FetchDecided():
                self.behind = True
            case SendDecided():
                if 0 < effect.height <= self.height:
                    self.outbox.append((self.table.nodes_of[effect.to], self.chain[effect.height - 1]))
            case Report() | ReportProposal():
                self.reports.append(effect)
            case _:
                return

    def _send(self, effect: Send) -> None:
        message = effect.message
        core = core_of(message)
        digest = core.digest if isinstance(message, Proposal | Prepare | Commit) else core.content()  # type: ignore[union-attr]
        slot = (core.height, core.view, type(core).__name__)
        known = self.signed.setdefault(slot, digest)
        demand(known == digest, f"S4: node {self.index} signed two digests for {slot}")
        keys = effect.to or tuple(self.table.nodes_of)
        targets = tuple(n for key in keys if key != self.public_key for n in self.table.nodes_of[key])
        self.outbox.append((targets, message))

    def _batch(self, at: Instant, effect: BuildBatch) -> Batch:
        chosen = tuple(data for data in self.pool[:1] if transaction_id(data) not in effect.excluded)
        return Batch(
            at,
            effect.height,
            effect.view,
            effect.generation,
            chosen,
            tuple(full_hash(data) for data in chosen),
        )

    def _checked(self, at: Instant, effect: CheckProposal) -> list[Input]:
        proposal, block = effect.proposal, effect.known
        if block is None:
            found = [self.table.transactions.get(reference) for reference in proposal.references]
            present = tuple(data for data in found if data is not None)
            if len(present) < len(found):
                return []
            block = Block(proposal.header, present, proposal.last_commit, proposal.discarded)
        ids = [transaction_id(data) for data in block.transactions]
        reason = "a transaction is on chain" if any(item in self.finished for item in ids) else None
        vote = proposal.vote
        good = block if reason is None else None
        return [ProposalChecked(at, vote.height, vote.view, vote.digest, good, reason, (), None)]

    def _decide(self, at: Instant, certified: CertifiedBlock) -> list[Input]:
        block = certified.block
        digest = block.header.digest()
        self.table.check(certified)
        parent = block.header.parent_hash
        demand(parent == self.context.parent_hash, f"S2: height {self.height + 1} has another parent")
        self.chain = (*self.chain, certified)
        gone = [transaction_id(data) for data in block.transactions]
        self.finished = self.finished.union(gone, (item.transaction_id for item in block.discarded))
        self.wanted.clear()
        self.behind = False
        self.context = msgspec.structs.replace(
            self.context,
            height=self.height + 1,
            parent_hash=digest,
            parent_time_ms=block.header.time_ms,
            parent_certificate=certified.certificate,
            head=block.header.proposer,
            previous_delegates=self.table.delegates,
            state_root=tagged_hash("state.node", self.context.state_root + digest),
            receipts_root=tagged_hash("state.leaf", digest),
        )
        return [PoolChanged(at, 0, None), Advanced(at, self.context)]

    def find_block(self, digest: Digest) -> Block | None:
        """A block it holds, decided or not."""
        held = self._replica.undecided_block(digest)
        if held is not None:
            return held
        decided = (item.block for item in self.chain if item.certificate.digest == digest)
        return next(decided, None)

    def copy(self) -> "LockstepNode":
        """A node in the same state that goes its own way."""
        copied: LockstepNode = _copied(self, {})
        return copied

    def fingerprint(self) -> bytes:
        """Equal for two nodes that will do the same for ever; its timers' numbers and what it shows people aside."""
        return hashlib.blake2b(encode(_tree(self)), digest_size=16).digest()


# ---------------------------------------------------------------------- a run


class Lockstep:
    """Some nodes (by default all of a table) that talk in rounds."""

    def __init__(self, table: Table, nodes: Iterable[LockstepNode] | None = None) -> None:
        self.table = table
        made = nodes if nodes is not None else (LockstepNode(table, i) for i in range(len(table.owners)))
        self.nodes = {node.index: node for node in made}
        self.at = instant(0)
        self.rounds = 0
        """Communication rounds so far."""

    def begin_view(self, view: int, transactions: Callable[[LockstepNode], tuple[bytes, ...]]) -> None:
        """All timers run out; what that makes nodes say waits for the next round."""
        self.at = instant(view)
        for node in self.nodes.values():
            node.view_begins(self.at, transactions(node))

    def talk(self, links: Links, twist: Twist | None = None) -> None:
        """Rounds until nobody says anything more."""
        for _ in range(MOST_ROUNDS):
            if not self.round(links, twist):
                return
        raise Finding(f"L1: nodes still talk after {MOST_ROUNDS} rounds of one view")

    def round(self, links: Links, twist: Twist | None = None) -> bool:
        """Deliver what was said in the last round; whether there was anything."""
        self.rounds += 1
        said = [
            (node.index, target, told)
            for node in self.nodes.values()
            for targets, told in node.outbox
            for target in targets
        ]
        for node in self.nodes.values():
            node.outbox.clear()
        for source, target, told in said:
            for piece in (told,) if twist is None else twist(source, target, told):
                if target in self.nodes and links(source, target, piece):
                    self._hear(source, self.nodes[target], piece)
        fetched = [self._fetch(node, links) for node in self.nodes.values() if node.behind or node.wanted]
        return bool(said) or any(fetched)

    def _hear(self, source: int, target: LockstepNode, told: Told) -> None:
        if isinstance(told, CertifiedBlock):
            target.feed(DecidedReceived(self.at, told))
        elif not isinstance(told, Block):
            target.feed(Received(self.at, self.nodes[source].public_key, told))

    def _fetch(self, node: LockstepNode, links: Links) -> bool:
        """What a node asked for, from those that can answer; whether it came."""
        came = False
        for peer in self.nodes.values():
            if peer.index == node.index:
                continue
            for digest in tuple(node.wanted):
                block = peer.find_block(digest)
                if block is not None and digest in node.wanted and links(peer.index, node.index, block):
                    del node.wanted[digest]
                    node.feed(BlockFetched(self.at, block))
                    came = True
            while node.behind and peer.height > node.height:
                certified = peer.chain[node.height]
                if not links(peer.index, node.index, certified):
                    break
                height = node.height
                node.feed(DecidedReceived(self.at, certified))
                if node.height == height:
                    break
                node.behind, came = True, True
        node.behind = False
        return came


# ---------------------------------------------------------------------- copies of mutable state

_UNCOPIED: Final = (Table, KeyedHashRing, Parameters)
_UNSEEN: Final = frozenset(
    {"table", "last_votes", "_generation", "reports", "verifier", "signer", "judge", "_judge"}
    | {"entered_ms", "oldest_waiting_ms", "_last_ms", "_primary_since_ms", "_since_ms", "_level"}
)
"""Attributes that follow from others, that only people see, that are the same in all nodes, or that are instants of
earlier views: all that is measured from those is over when the next begins."""


def _is_state(kind: type) -> bool:
    """Whether instances of ``kind`` change: classes of the replica and of this driver that are no frozen values."""
    ours = kind.__module__.startswith(("consensus.", __name__))
    return ours and not issubclass(kind, (msgspec.Struct, *_UNCOPIED)) and hasattr(kind, "__dict__")


_SIMPLE: Final = frozenset({int, bytes, bool, str, tuple, frozenset, type(None)})
_CHANGES: dict[type, bool] = {}


def _changes(kind: type) -> bool:
    known = _CHANGES.get(kind)
    if known is None:
        known = _CHANGES[kind] = _is_state(kind)
    return known


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy that shares everything frozen."""
    kind = type(value)
    if kind is dict:
        return _copied_dict(value, memo)
    if kind is list:
        return [_copied(item, memo) for item in value]
    if kind is MethodType:
        return MethodType(value.__func__, _copied(value.__self__, memo))
    if not _changes(kind):
        return value
    known = memo.get(id(value))
    if known is None:
        known = memo[id(value)] = object.__new__(kind)
        attributes = known.__dict__
        for name, item in value.__dict__.items():
            attributes[name] = item if type(item) in _SIMPLE else _copied(item, memo)
    return known


def _copied_dict(value: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    """Values of one dict are of one type, so the first says whether they are shared."""
    for first in value.values():
        kind = type(first)
        if kind is not dict and kind is not list and not _changes(kind):
            break
        return {key: _copied(item, memo) for key, item in value.items()}
    return value.copy()


def _tree(value: Any) -> Any:
    """What `encode` can write, the same for states that behave the same."""
    kind = type(value)
    if kind is dict:
        return [(_tree(key), _tree(item)) for key, item in value.items()]
    if kind is list or kind is tuple:
        return [_tree(item) for item in value]
    if kind is frozenset:
        return sorted(value)
    if kind is Timer:
        return (value.kind, value.height, value.view)
    if isinstance(value, type):
        return value.__name__
    if kind is MethodType or callable(value):
        return None
    if _changes(kind):
        return [_tree(item) for name, item in value.__dict__.items() if name not in _UNSEEN]
    return value
