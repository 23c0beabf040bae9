"""What must always hold (PROTOCOL 12), checked at every send and commit of an honest node.

Nothing here trusts the code under test: signed bytes are laid out anew, quorums and votes counted anew. A breach
raises `Finding` at the instant at which it happens.
"""

from collections import defaultdict
from typing import Final, TypeAlias

from consensus.block import Certificate, CertifiedBlock, full_hash
from consensus.effects import Report, ReportProposal, Send
from consensus.encoding import Codec
from consensus.merkle import leaf_hash, merkle_root
from consensus.messages import (
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PrePrepareVote,
    Proposal,
    ViewChange,
    Vote,
)
from consensus.types import Digest, PublicKey
from network.simulation.doors import Opener, Terms
from network.simulation.keys import KeyRing
from network.simulation.surroundings import Holder

COMMIT_PHASE: Final = 3
_votes: Final[Codec[Vote]] = Codec(PrePrepareVote | Prepare | Commit, 512)

Slot: TypeAlias = tuple[PublicKey, int, int, int, str]
"""(key, epoch, height, view, kind): where S4 allows one digest."""


class Finding(Exception):
    """A property of PROTOCOL 12 does not hold; the text begins with its name."""


def demand(holds: bool, text: str) -> None:
    """Raise `Finding` with ``text`` unless it holds."""
    if not holds:
        raise Finding(text)


def core_of(message: ConsensusMessage) -> Vote | ViewChange | NewView:
    """The signed part of a message."""
    return message.vote if isinstance(message, Proposal) else message


class Context:
    """What all checkers know: the rules' arithmetic and who is honest."""

    def __init__(
        self,
        chain_id: Digest,
        timetable: Terms,
        keys: KeyRing,
        honest: frozenset[PublicKey],
        opener: Opener,
        *,
        over_threshold: bool = False,
    ) -> None:
        self.chain_id = chain_id
        self.timetable = timetable
        self.keys = keys
        self.honest = honest
        self.open = opener
        self.over_threshold = over_threshold
        """More lie than PROTOCOL 6.2 bears: what one honest key signs is judged, what many decide is not."""

    def quorum(self, height: int) -> int:
        """q = n - (n - 1) // 3 of PROTOCOL 6.2."""
        seats = len(self.timetable.term(height).delegates.ranking)
        return seats - (seats - 1) // 3

    def byzantine_seats(self, height: int) -> int:
        """Delegates of a height that are not honest."""
        ranking = self.timetable.term(height).delegates.ranking
        return sum(delegate.public_key not in self.honest for delegate in ranking)


class OneDigest:
    """S4, persist before send (6.5), and nothing of a lower view after a view-change (6.6)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._signed: dict[Slot, Digest] = {}
        self._checked: set[Slot] = set()
        self._floors: dict[tuple[PublicKey, int], int] = defaultdict(int)
        self._late: dict[int, list[Digest]] = defaultdict(list)
        """Commits below the floor, allowed only for what is decided (6.4)."""
        self._decided: dict[int, Digest] = {}

    def sent(self, node: Holder, message: ConsensusMessage) -> None:
        """A node has just sent a message of its own."""
        core = core_of(message)
        digest = core.content() if isinstance(core, ViewChange | NewView) else core.digest
        slot = (core.signer, core.epoch, core.height, core.view, type(core).__name__)
        known = self._signed.setdefault(slot, digest)
        demand(known == digest, f"S4: {node.index} signed two digests for {slot[1:]}")
        demand(node.disk.ever_sent(message), f"6.5: {node.index} sent {slot[1:]} before it was durable")
        term = self._context.timetable.term(core.height)
        demand(
            core.epoch == term.epoch, f"6.5: {node.index} signed epoch {core.epoch} at height {core.height}"
        )
        seat = term.delegates.position_of_key(core.signer)
        demand(seat is not None, f"S11: {node.index} signed at height {core.height} without a seat")
        if slot not in self._checked:
            self._checked.add(slot)
            self._check_order(node, core, slot, digest)

    def _check_order(
        self, node: Holder, core: Vote | ViewChange | NewView, slot: Slot, digest: Digest
    ) -> None:
        place = (core.signer, core.height)
        floor = self._floors[place]
        if core.view < floor and not isinstance(core, ViewChange | NewView):
            allowed = isinstance(core, Commit)
            demand(allowed, f"6.6: {node.index} signed {slot[1:]} after something of view {floor}")
            self._late[core.height].append(digest)
            self._check_late(core.height)
            return
        self._floors[place] = max(floor, core.view)

    def decided(self, height: int, digest: Digest) -> None:
        """A height was decided for the first time."""
        self._decided[height] = digest
        self._check_late(height)

    def _check_late(self, height: int) -> None:
        decided = self._decided.get(height)
        if decided is not None:
            for digest in self._late.pop(height, ()):
                demand(digest == decided, f"6.4: a late commit of height {height} is for another block")


class Decisions:
    """S1 to S3, S8, S10, S11: one certified chain, each transaction at most once, in its window, not after removal."""

    def __init__(self, context: Context, one_digest: OneDigest) -> None:
        self._context = context
        self._one_digest = one_digest
        self.chain: list[CertifiedBlock] = []
        """What the first node to decide each height decided."""
        self._digests: list[Digest] = []
        self._finished: dict[Digest, int] = {}

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """An honest node decided and stored a block."""
        header = certified.block.header
        digest = header.digest()
        height = header.height
        self._check_certificate(certified.certificate, height, digest)
        if height <= len(self.chain):
            demand(
                digest == self._digests[height - 1],
                f"S1: {node.index} decided another block of height {height}",
            )
            return
        demand(
            height == len(self.chain) + 1, f"S2: {node.index} decided height {height} before the one below"
        )
        self._check_links(certified)
        self._check_transactions(certified)
        self.chain.append(certified)
        self._digests.append(digest)
        self._one_digest.decided(height, digest)

    def _check_certificate(self, certificate: Certificate, height: int, digest: Digest) -> None:
        term = self._context.timetable.term(height)
        keys = [delegate.public_key for delegate in term.delegates.ranking]
        message = b"".join(
            (
                b"cgpbft/consensus/1",
                bytes((COMMIT_PHASE,)),
                self._context.chain_id,
                term.epoch.to_bytes(8, "big"),
                height.to_bytes(8, "big"),
                certificate.view.to_bytes(8, "big"),
                digest,
            )
        )
        signers = [item.signer for item in certificate.signatures]
        sound = sum(
            self._context.keys.verify(item.signer, message, item.signature) and item.signer in keys
            for item in certificate.signatures
        )
        demand(
            len(set(signers)) == len(signers) == sound, f"S3: a signature at height {height} does not hold"
        )
        demand(sound >= self._context.quorum(height), f"S3: {sound} commits decide height {height}")

    def _check_links(self, certified: CertifiedBlock) -> None:
        block, height = certified.block, certified.block.header.height
        header, terms = block.header, self._context.timetable
        parent = self._digests[-1] if self._digests else self._context.chain_id
        demand(header.parent_hash == parent, f"S2: the block of height {height} has another parent")
        if self.chain:
            before = self.chain[-1].block.header
            demand(header.time_ms > before.time_ms, f"6.8: time stands still at height {height}")
            demand(block.last_commit is not None, f"9.1: no last-commit at height {height}")
        if block.last_commit is not None:
            self._check_certificate(block.last_commit, height - 1, parent)
        proper = (terms.term(height).delegates.hash(), terms.term(height + 1).delegates.hash())
        demand(
            (header.delegates_hash, header.next_delegates_hash) == proper,
            f"S11: the sets of height {height} are not the ledger's",
        )
        leaves = [leaf_hash(full_hash(data)) for data in block.transactions]
        demand(header.transactions_root == merkle_root(leaves), f"9.1: the root of height {height} is wrong")

    def _check_transactions(self, certified: CertifiedBlock) -> None:
        header = certified.block.header
        for data in certified.block.transactions:
            opened = self._context.open(data)
            self._finish(opened.transaction_id, header.height)
            inside = opened.valid_from_ms <= header.time_ms <= opened.valid_until_ms
            demand(
                opened.sound and inside,
                f"6.8: an invalid transaction was committed at height {header.height}",
            )
        for discard in certified.block.discarded:
            self._finish(discard.transaction_id, header.height)

    def _finish(self, identity: Digest, height: int) -> None:
        earlier = self._finished.setdefault(identity, height)
        demand(earlier == height, f"S8, S10: a transaction of height {earlier} is back at height {height}")

    def finished(self, identity: Digest) -> bool:
        """Whether a transaction was committed or discarded somewhere."""
        return identity in self._finished


class PossiblyDecided:
    """S5: what may have been decided in a view is what every honest node accepts in later views."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._commits: dict[tuple[int, int, Digest], set[PublicKey]] = defaultdict(set)
        self._decided: dict[int, dict[int, Digest]] = defaultdict(dict)
        """Per height: view to the digest that may have been decided in it."""
        self._accepted: dict[int, set[tuple[int, Digest]]] = defaultdict(set)

    def sent(self, message: ConsensusMessage) -> None:
        """An honest node has just sent a message of its own."""
        match message:
            case Proposal():
                self._accept(message.vote.height, message.vote.view, message.vote.digest)
            case Prepare():
                self._accept(message.height, message.view, message.digest)
            case Commit():
                self._commit(message)
            case _:
                return

    def _accept(self, height: int, view: int, digest: Digest) -> None:
        self._accepted[height].add((view, digest))
        for earlier, decided in self._decided[height].items():
            self._compare(height, earlier, decided, view, digest)

    def _commit(self, message: Commit) -> None:
        place = (message.height, message.view, message.digest)
        self._commits[place].add(message.signer)
        honest = len(self._commits[place])
        if honest + self._context.byzantine_seats(message.height) >= self._context.quorum(message.height):
            self._decided[message.height][message.view] = message.digest
            for view, digest in self._accepted[message.height]:
                self._compare(message.height, message.view, message.digest, view, digest)

    @staticmethod
    def _compare(height: int, earlier: int, decided: Digest, view: int, digest: Digest) -> None:
        demand(
            view <= earlier or digest == decided,
            f"S5: height {height} may be decided in view {earlier}, yet view {view} accepts another block",
        )


class NoFalseProof:
    """S13: no honest node is ever proven guilty."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.proofs = 0
        """Reports of equivocation or wrong blocks, all of them against Byzantine nodes."""

    def reported(self, effect: Report | ReportProposal) -> None:
        """A node found evidence."""
        if isinstance(effect, Report):
            first, second = _votes.decode(effect.first), _votes.decode(effect.second)
            same = (first.signer, first.epoch, first.height, first.view, type(first)) == (
                second.signer,
                second.epoch,
                second.height,
                second.view,
                type(second),
            )
            demand(same and first.digest != second.digest, "3.2: a report proves nothing")
            culprit = first.signer
        else:
            culprit = effect.pre_prepare.signer
        self.proofs += 1
        demand(culprit not in self._context.honest, "S13: an honest node was reported")


class Checkers:
    """All of them, told what honest nodes do."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._one_digest = OneDigest(context)
        self._possibly_decided = PossiblyDecided(context)
        self.decisions = Decisions(context, self._one_digest)
        self.proofs = NoFalseProof(context)

    def performed(self, node: Holder, effect: object) -> None:
        """A node carried out an effect."""
        if node.member.public_key not in self._context.honest:
            return
        match effect:
            case Send() if core_of(effect.message).signer == node.member.public_key:
                self._one_digest.sent(node, effect.message)
                if not self._context.over_threshold:
                    self._possibly_decided.sent(effect.message)
            case Report() | ReportProposal():
                self.proofs.reported(effect)
            case _:
                return

    def punished(self, node: Holder, culprit: PublicKey, reason: str) -> None:
        """A node banned a peer: no honest node sends what is banned for."""
        if self._context.over_threshold:
            return
        both = node.member.public_key in self._context.honest and culprit in self._context.honest
        demand(not both, f"10.1: {node.index} banned an honest peer: {reason}")

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A node stored a decided block."""
        if node.member.public_key in self._context.honest:
            self.decisions.applied(node, certified)
