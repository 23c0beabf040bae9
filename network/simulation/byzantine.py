"""Members that hold real keys and break the rules: each mischief twists what its node sends, or adds to it.

The node itself runs the shipped replica, so a mischief lies from within a protocol that otherwise goes on. It may
sign anything with its own key and repeat anything it received; it cannot sign for others.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from consensus.block import (
    Block,
    CertifiedBlock,
    Header,
    certified_block_codec,
    full_hash,
    transactions_root,
)
from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.inputs import Instant
from consensus.messages import (
    Accepted,
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PrePrepareVote,
    Proposal,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from consensus.signing import Signer
from consensus.types import Digest
from network.simulation.intruders import INTRUDERS, forged_certificate
from network.simulation.letters import GiveBlock, GiveHeight, Letter, Relay
from network.wire import BlocksResponse, Decided, StatusAnnouncement

SOON_US = 50_000


class Liar(Protocol):
    """What a mischief knows of its node."""

    @property
    def index(self) -> int:
        """Of the node."""

    @property
    def signer(self) -> Signer:
        """Its real key."""

    def at(self) -> Instant:
        """Its clocks."""


class Mischief(Protocol):
    """One way to misbehave."""

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """What is sent instead of ``letter`` to one node: (delay in microseconds, letter) each."""


class Silent:
    """Sends nothing of some kinds; with all kinds it is as good as dead, with few it is primary in name only."""

    def __init__(self, rng: random.Random) -> None:
        kinds = ("Proposal", "Prepare", "Commit", "ViewChange", "NewView")
        self._kinds = frozenset(rng.sample(kinds, rng.randint(1, len(kinds))))

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Nothing, for its kinds."""
        return [] if type(letter).__name__ in self._kinds else [(0, letter)]


class Slow:
    """Sends everything late, just within or beyond what timers allow."""

    def __init__(self, rng: random.Random, view_timeout_ms: int) -> None:
        self._delay_us = rng.choice((view_timeout_ms * 300, view_timeout_ms * 950, view_timeout_ms * 2_000))

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Later."""
        return [(self._delay_us, letter)]


class Choosy:
    """Sends each letter to a random part of the others only."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Perhaps nothing."""
        return [(0, letter)] if self._rng.random() < 0.5 else []


class TwoFaced:
    """As primary shows different blocks to different halves, and votes for whatever its reader was shown."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id
        self._other: dict[Digest, Proposal] = {}

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The other block to the odd half, and commits that match it."""
        if isinstance(letter, Proposal):
            other = self._second(liar, letter)
            shown = other if target % 2 else letter
            return [(0, shown)] if self._rng.random() < 0.8 else [(0, letter), (0, other)]
        if isinstance(letter, Commit) and letter.digest in self._other and target % 2:
            return [(0, _resigned(letter, self._other[letter.digest].vote.digest, self._chain_id, liar))]
        return [(0, letter)]

    def _second(self, liar: Liar, first: Proposal) -> Proposal:
        known = self._other.get(first.vote.digest)
        if known is not None:
            return known
        references = first.references[1:]
        header = msgspec.structs.replace(
            first.header,
            time_ms=first.header.time_ms + self._rng.choice((0, 1, 7)),
            transactions_root=transactions_root(references),
        )
        second = _proposed(first, header, references, self._chain_id, liar)
        self._other[first.vote.digest] = second
        return second


class Censor:
    """As primary leaves out about half of all transactions, always the same ones, and does not even take them in:
    it goes on with the others as if nothing were the matter, until it is complained about (PROTOCOL 6.7)."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._bit = 1 << rng.randrange(8)
        self._chain_id = chain_id

    def ignores(self, letter: Letter) -> bool:
        """Whether its node does not hear of a transaction that others relay."""
        return isinstance(letter, Relay) and bool(full_hash(letter.transaction)[0] & self._bit)

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The same block without them; a block proposed again stays as it is."""
        if not isinstance(letter, Proposal) or letter.header.view != letter.vote.view:
            return [(0, letter)]
        kept = tuple(reference for reference in letter.references if not reference[0] & self._bit)
        if kept == letter.references:
            return [(0, letter)]
        header = msgspec.structs.replace(letter.header, transactions_root=transactions_root(kept))
        return [(0, _proposed(letter, header, kept, self._chain_id, liar))]


class ForkedVotes:
    """Prepares and commits one digest to some and another to others: one it has seen, or none that exists."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id
        self._seen: deque[Digest] = deque(maxlen=8)

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Another digest, or both."""
        if not isinstance(letter, Prepare | Commit):
            return [(0, letter)]
        if letter.digest not in self._seen:
            self._seen.append(letter.digest)
        digest = self._rng.choice((*self._seen, self._rng.randbytes(32)))
        if digest == letter.digest or self._rng.random() < 0.3:
            return [(0, letter)]
        forked = _resigned(letter, digest, self._chain_id, liar)
        return [(0, forked)] if self._rng.random() < 0.5 else [(0, letter), (0, forked)]


class LyingViewChange:
    """Hides what it prepared, names what it never accepted, jumps to far views, or mangles a certificate."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Another view-change, signed as if it were true."""
        if not isinstance(letter, ViewChange) or self._rng.random() < 0.2:
            return [(0, letter)]
        return [(0, self._lie(liar, letter))]

    def _lie(self, liar: Liar, told: ViewChange) -> ViewChange:
        match self._rng.randrange(5):
            case 0:
                told = msgspec.structs.replace(told, prepared=None)
            case 1:
                told = msgspec.structs.replace(told, prepared=None, accepted=())
            case 2:
                far = told.view + self._rng.choice((1, 2, 50, 2**40))
                told = msgspec.structs.replace(told, view=far)
            case 3:
                accepted = (Accepted(told.view - 1, self._rng.randbytes(32)),)
                told = msgspec.structs.replace(told, accepted=accepted)
            case _:
                told = self._mangled(told)
        signature = liar.signer.sign(view_change_bytes(told, self._chain_id))
        return msgspec.structs.replace(told, signature=signature)

    def _mangled(self, told: ViewChange) -> ViewChange:
        if told.prepared is None or not told.prepared.prepares:
            return told
        first = told.prepared.prepares[0]
        prepares = self._rng.choice(
            (
                told.prepared.prepares[1:],
                (first,) * len(told.prepared.prepares),
                tuple(msgspec.structs.replace(p, view=p.view + 1) for p in told.prepared.prepares),
                tuple(
                    msgspec.structs.replace(p, digest=self._rng.randbytes(32)) for p in told.prepared.prepares
                ),
            )
        )
        return msgspec.structs.replace(
            told, prepared=msgspec.structs.replace(told.prepared, prepares=tuple(prepares))
        )


class LyingNewView:
    """As new primary hides the view-changes that bind it and proposes a block of its own, or spoils the proof."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id
        self._told: dict[tuple[int, int], NewView] = {}
        self._unbound: dict[tuple[int, int], Proposal | None] = {}
        """Views in which certificates were hidden, with what is proposed there instead."""

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Another new-view, and the proposal that would follow if it were true; the same for all."""
        if isinstance(letter, NewView):
            place = (letter.height, letter.view)
            if place not in self._told:
                self._told[place] = self._lie(liar, letter)
            return [(0, self._told[place])]
        if isinstance(letter, Proposal) and (letter.vote.height, letter.vote.view) in self._unbound:
            return [(0, self._fresh(liar, letter))]
        return [(0, letter)]

    def _lie(self, liar: Liar, letter: NewView) -> NewView:
        shown = list(letter.view_changes)
        bound = [item for item in shown if item.prepared is not None]
        if bound and self._rng.random() < 0.8:
            self._unbound[(letter.height, letter.view)] = None
            shown = self._hidden(shown)
        else:
            match self._rng.randrange(4):
                case 0:
                    return letter
                case 1:
                    shown = shown[:-1] + shown[:1]
                case 2:
                    shown[0] = msgspec.structs.replace(
                        shown[0], accepted=(Accepted(0, self._rng.randbytes(32)),)
                    )
                case _:
                    shown.pop(self._rng.randrange(len(shown)))
        told = msgspec.structs.replace(letter, view_changes=tuple(shown))
        signature = liar.signer.sign(view_change_bytes(told, self._chain_id))
        return msgspec.structs.replace(told, signature=signature)

    def _hidden(self, shown: list[ViewChange]) -> list[ViewChange]:
        """Without certificates: left out, or cut out of signed messages, which makes these void."""
        if self._rng.random() < 0.5:
            return [item for item in shown if item.prepared is None]
        return [msgspec.structs.replace(item, prepared=None) for item in shown]

    def _fresh(self, liar: Liar, proposal: Proposal) -> Proposal:
        place = (proposal.vote.height, proposal.vote.view)
        known = self._unbound[place]
        if known is None:
            header = msgspec.structs.replace(
                proposal.header,
                view=proposal.vote.view,
                proposer=address_of(liar.signer.public_key),
                time_ms=max(liar.at().wall_ms, proposal.header.time_ms + 1),
            )
            known = _proposed(proposal, header, proposal.references, self._chain_id, liar)
            self._unbound[place] = known
        return known


class WrongBlocks:
    """As primary proposes blocks with a wrong root, time, epoch or set."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id
        self._told: dict[Digest, Proposal] = {}

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Mostly a wrong block, the same for all."""
        if not isinstance(letter, Proposal):
            return [(0, letter)]
        if letter.vote.digest not in self._told:
            self._told[letter.vote.digest] = self._wrong(liar, letter)
        return [(0, self._told[letter.vote.digest])]

    def _wrong(self, liar: Liar, proposal: Proposal) -> Proposal:
        header, rng = proposal.header, self._rng
        wrong = rng.choice(
            (
                header,
                msgspec.structs.replace(header, state_root=rng.randbytes(32)),
                msgspec.structs.replace(header, time_ms=header.time_ms + 3_600_000),
                msgspec.structs.replace(header, time_ms=1),
                msgspec.structs.replace(header, epoch=header.epoch + 1),
                msgspec.structs.replace(header, next_delegates_hash=rng.randbytes(32)),
                msgspec.structs.replace(header, view=header.view + 1),
            )
        )
        return _proposed(proposal, wrong, proposal.references, self._chain_id, liar)


class Replayer:
    """Sends again, at any later time, what it sent before: other heights, views and epochs included."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._kept: deque[ConsensusMessage] = deque(maxlen=200)

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The letter, and sometimes an old one."""
        told: list[tuple[int, Letter]] = [(0, letter)]
        if isinstance(letter, Proposal | Prepare | Commit | ViewChange | NewView):
            self._kept.append(letter)
            if self._rng.random() < 0.3:
                told.append((self._rng.randint(0, SOON_US), self._rng.choice(self._kept)))
        return told


class Forger:
    """Answers with blocks whose certificate is short, doubled or for another block, and with heights out of the air."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def twist(self, liar: Liar, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """A forged answer beside the true one or instead of it."""
        match letter:
            case Decided(height=height, certified=certified):
                return [(0, Decided(height, self._forged_bytes(certified)))]
            case BlocksResponse(from_height=height, blocks=blocks):
                return [(0, BlocksResponse(height, tuple(map(self._forged_bytes, blocks))))]
            case StatusAnnouncement():
                return [(0, self._boast(letter))]
            case GiveHeight():
                return [(0, self._rng.choice((letter, GiveHeight(0, bytes(32)))))]
            case GiveBlock():
                return [(0, GiveBlock(self._hollow(letter.block)))]
            case _:
                return [(0, letter)]

    def _boast(self, told: StatusAnnouncement) -> StatusAnnouncement:
        height = told.height + self._rng.choice((0, 0, -1, 1, 3, 1_000, 2**60))
        return StatusAnnouncement(max(0, height), told.block_hash, self._rng.choice((1, 1, told.height + 1)))

    def _forged_bytes(self, true: bytes) -> bytes:
        if self._rng.random() < 0.1:
            return true[: len(true) // 2]
        return encode(self._forged(certified_block_codec.decode(true)))

    def _forged(self, true: CertifiedBlock) -> CertifiedBlock:
        block = true.block
        match self._rng.randrange(4):
            case 0:
                return CertifiedBlock(self._other_block(true), true.certificate)
            case 1:
                return CertifiedBlock(self._hollow(block), true.certificate)
            case 2:
                return true
            case _:
                return CertifiedBlock(block, forged_certificate(self._rng, true.certificate))

    @staticmethod
    def _hollow(block: Block) -> Block:
        """The same header, as if it bound less."""
        if block.transactions:
            return msgspec.structs.replace(block, transactions=block.transactions[1:])
        return msgspec.structs.replace(block, last_commit=None)

    @staticmethod
    def _other_block(true: CertifiedBlock) -> Block:
        header = msgspec.structs.replace(true.block.header, time_ms=true.block.header.time_ms + 1)
        return msgspec.structs.replace(true.block, header=header)


def _resigned(vote: Prepare | Commit, digest: Digest, chain_id: Digest, liar: Liar) -> Prepare | Commit:
    if isinstance(vote, Prepare):
        return sign_vote(Prepare, chain_id, vote.epoch, vote.height, vote.view, digest, liar.signer)
    return sign_vote(Commit, chain_id, vote.epoch, vote.height, vote.view, digest, liar.signer)


def _proposed(
    proposal: Proposal, header: Header, references: tuple[Digest, ...], chain_id: Digest, liar: Liar
) -> Proposal:
    vote = proposal.vote
    signed = sign_vote(
        PrePrepareVote, chain_id, vote.epoch, vote.height, vote.view, header.digest(), liar.signer
    )
    return Proposal(signed, header, references, proposal.last_commit, proposal.discarded)


MISCHIEF: Final[Mapping[str, Callable[[random.Random, Digest, int], Mischief]]] = {
    "silent": lambda rng, _chain_id, _timeout_ms: Silent(rng),
    "slow": lambda rng, _chain_id, timeout_ms: Slow(rng, timeout_ms),
    "choosy": lambda rng, _chain_id, _timeout_ms: Choosy(rng),
    "two-faced": lambda rng, chain_id, _timeout_ms: TwoFaced(rng, chain_id),
    "censor": lambda rng, chain_id, _timeout_ms: Censor(rng, chain_id),
    "forked votes": lambda rng, chain_id, _timeout_ms: ForkedVotes(rng, chain_id),
    "lying view-change": lambda rng, chain_id, _timeout_ms: LyingViewChange(rng, chain_id),
    "lying new-view": lambda rng, chain_id, _timeout_ms: LyingNewView(rng, chain_id),
    "wrong blocks": lambda rng, chain_id, _timeout_ms: WrongBlocks(rng, chain_id),
    "replayer": lambda rng, _chain_id, _timeout_ms: Replayer(rng),
    "forger": lambda rng, _chain_id, _timeout_ms: Forger(rng),
    **INTRUDERS,
}
"""All kinds by name, made from a stream of randomness, the chain id and view_timeout_ms."""


def draw_mischief(rng: random.Random) -> tuple[str, ...]:
    """One to three ways to misbehave, applied one after the other."""
    return tuple(rng.sample(tuple(MISCHIEF), rng.randint(1, 3)))


def twisted(
    mischief: Sequence[Mischief], liar: Liar, target: int, letter: Letter
) -> list[tuple[int, Letter]]:
    """``letter`` after all of ``mischief``, with the delays added up."""
    told: list[tuple[int, Letter]] = [(0, letter)]
    for kind in mischief:
        told = [
            (before + delay, twist)
            for before, piece in told
            for delay, twist in kind.twist(liar, target, piece)
        ]
    return told
