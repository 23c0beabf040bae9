# mypy: disable-error-code="explicit-override"
"""More members that lie: what a liar can do with what it hears, with other members' names, and beside its own duties.

`byzantine` twists what a node would have sent; here messages are made that no replica would send. Each kind aims at
one check that every delegate has to make (PROTOCOL 6.4-6.6, 6.8, 6.10), so that a delegate without it is found out.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from consensus.block import Certificate, Discard, Header, discarded_root, last_commit_hash, transactions_root
from consensus.hashing import address_of, tagged_hash
from consensus.messages import (
    Accepted,
    Commit,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from consensus.signing import Signer
from consensus.types import Digest, PublicKey
from network.simulation.letters import Letter

FLOOD: Final = 120
"""Messages of a flooder for one of its own."""
SOON_US: Final = 400_000
"""After the others decided, before the next block is proposed."""
WORTHLESS: Final = bytes(64)
"""A signature of nobody."""

Told: TypeAlias = list[tuple[int, Letter]]


class Intruder(Protocol):
    """What an intruder knows of its node."""

    @property
    def index(self) -> int:
        """Of the node."""

    @property
    def signer(self) -> Signer:
        """Its real key."""


class Ears:
    """What a liar has heard of late: others' messages, and who there is."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id
        self._proposal: Proposal | None = None
        self._certificates: deque[PreparedCertificate] = deque(maxlen=8)
        self._prepares: dict[tuple[int, int, Digest], dict[PublicKey, Prepare]] = {}
        self._view_changes: dict[PublicKey, ViewChange] = {}
        self._keys: dict[PublicKey, None] = {}
        self._removals: tuple[Discard, ...] = ()

    def hear(self, letter: Letter) -> None:
        """Something came in, or goes out."""
        match letter:
            case Proposal():
                self._proposal = letter
                self._keys[letter.vote.signer] = None
                self._removals = letter.discarded or self._removals
            case Prepare():
                self._keys[letter.signer] = None
                place = (letter.height, letter.view, letter.digest)
                self._prepares.setdefault(place, {})[letter.signer] = letter
                while len(self._prepares) > 16:
                    del self._prepares[next(iter(self._prepares))]
            case Commit():
                self._keys[letter.signer] = None
            case ViewChange():
                self._view_changes[letter.signer] = letter
                if letter.prepared is not None and letter.prepared not in self._certificates:
                    self._certificates.append(letter.prepared)
            case _:
                return

    def others(self, liar: Intruder) -> list[PublicKey]:
        """Keys of others that were heard of."""
        return [key for key in self._keys if key != liar.signer.public_key]

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The letter and what this kind adds to it."""
        self.hear(letter)
        return [(0, letter), *self.added(liar, target, letter)]

    def added(self, liar: Intruder, target: int, letter: Letter) -> Told:
        """What is sent beside ``letter``."""
        raise NotImplementedError

    def signed(self, liar: Intruder, message: ViewChange) -> ViewChange:
        """A view-change under the liar's name."""
        named = msgspec.structs.replace(message, signer=liar.signer.public_key)
        return msgspec.structs.replace(
            named, signature=liar.signer.sign(view_change_bytes(named, self._chain_id))
        )

    def announced(self, liar: Intruder, message: NewView) -> NewView:
        """A new-view under the liar's name."""
        named = msgspec.structs.replace(message, signer=liar.signer.public_key)
        return msgspec.structs.replace(
            named, signature=liar.signer.sign(view_change_bytes(named, self._chain_id))
        )

    def proposed(self, liar: Intruder, proposal: Proposal, header: Header) -> Proposal:
        """A proposal of ``header`` under the liar's name."""
        vote = proposal.vote
        own = sign_vote(
            PrePrepareVote, self._chain_id, vote.epoch, vote.height, vote.view, header.digest(), liar.signer
        )
        return msgspec.structs.replace(proposal, vote=own, header=header)


class Impostor(Ears):
    """Speaks in the names of others, with signatures that are worth nothing."""

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Some of its own commits come late and worthless; all else as it is, and more of it."""
        if isinstance(letter, Commit) and self._rng.random() < 0.2:
            self.hear(letter)
            return [(SOON_US, msgspec.structs.replace(letter, signature=WORTHLESS))]
        return super().twist(liar, target, letter)

    def added(self, liar: Intruder, target: int, letter: Letter) -> Told:
        """Each of its votes again, from everybody."""
        others = self.others(liar)
        match letter:
            case Prepare() | Commit():
                digest = self._rng.choice((letter.digest, letter.digest, self._rng.randbytes(32)))
                told: Told = [
                    (0, msgspec.structs.replace(letter, signer=key, digest=digest, signature=WORTHLESS))
                    for key in others
                ]
                return told + self._false_proposal(letter)
            case ViewChange():
                view = letter.view + self._rng.choice((0, 0, 1, 9))
                told = [
                    (0, msgspec.structs.replace(letter, signer=key, view=view, signature=WORTHLESS))
                    for key in others
                ]
                return told + [(0, self._false_new_view(letter, key)) for key in others]
            case NewView():
                later = msgspec.structs.replace(letter, view=letter.view + 1, signature=WORTHLESS)
                return [(0, msgspec.structs.replace(later, signer=key)) for key in others]
            case _:
                return []

    def _false_new_view(self, told: ViewChange, key: PublicKey) -> NewView:
        """What the new primary may be about to say, before it does."""
        place = (told.height, told.view)
        shown = {
            item.signer: item for item in self._view_changes.values() if (item.height, item.view) == place
        }
        view_changes = tuple((shown | {told.signer: told}).values())
        return NewView(told.epoch, told.height, told.view, view_changes, key, WORTHLESS)

    def _false_proposal(self, vote: Prepare | Commit) -> Told:
        heard = self._proposal
        if heard is None or heard.vote.height != vote.height:
            return []
        header = msgspec.structs.replace(heard.header, time_ms=heard.header.time_ms + 1)
        core = msgspec.structs.replace(heard.vote, digest=header.digest(), signature=WORTHLESS)
        later = msgspec.structs.replace(core, view=core.view + self._rng.choice((0, 1)))
        return [(0, msgspec.structs.replace(heard, vote=later, header=header))]


class Misplacer(Ears):
    """Signs for places where it has no business: another epoch, height or view, or another signer's."""

    def added(self, liar: Intruder, target: int, letter: Letter) -> Told:
        """Its votes again, shifted by one somewhere, rightly signed."""
        by = self._rng.choice((-1, 1))
        match letter:
            case Prepare() | Commit():
                place = self._shifted(letter.epoch, letter.height, letter.view, by)
                if min(place) < 0:
                    return []
                kind = type(letter)
                if kind is Prepare:
                    return [(0, sign_vote(Prepare, self._chain_id, *place, letter.digest, liar.signer))]
                return [(0, sign_vote(Commit, self._chain_id, *place, letter.digest, liar.signer))]
            case ViewChange():
                epoch, height, view = self._shifted(letter.epoch, letter.height, letter.view, by)
                if min(epoch, height, view) < 0:
                    return []
                moved = msgspec.structs.replace(letter, epoch=epoch, height=height, view=view)
                return [(0, self.signed(liar, moved))]
            case _:
                return []

    def _shifted(self, epoch: int, height: int, view: int, by: int) -> tuple[int, int, int]:
        return self._rng.choice(
            ((epoch + by, height, view), (epoch, height + by, view), (epoch, height, view + by))
        )

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The shifted one first, so that it is what counts where nobody looks."""
        self.hear(letter)
        added = self.added(liar, target, letter)
        return [*added, (0, letter)] if self._rng.random() < 0.7 else added


class Usurper(Ears):
    """Acts as primary where it is none, and as backup where it is primary."""

    def added(self, liar: Intruder, target: int, letter: Letter) -> Told:
        """A proposal beside its prepare, a prepare beside its proposal, a new-view beside its view-change."""
        match letter:
            case Prepare():
                heard = self._proposal
                if heard is None or heard.vote.height != letter.height or heard.vote.view != letter.view:
                    return []
                proposer = self._rng.choice((heard.header.proposer, address_of(liar.signer.public_key)))
                header = msgspec.structs.replace(
                    heard.header, time_ms=heard.header.time_ms + 1, proposer=proposer
                )
                return [(0, self.proposed(liar, heard, header))]
            case Proposal():
                vote = letter.vote
                place = (vote.epoch, vote.height, vote.view, vote.digest)
                return [(0, sign_vote(Prepare, self._chain_id, *place, liar.signer))]
            case ViewChange():
                shown = [
                    item
                    for item in self._view_changes.values()
                    if (item.height, item.view) == (letter.height, letter.view)
                ]
                new_view = NewView(
                    letter.epoch, letter.height, letter.view, tuple(shown), letter.signer, WORTHLESS
                )
                return [(0, self.announced(liar, new_view))]
            case _:
                return []


class Tamperer(Ears):
    """Exchanges what a signature covers only by way of a digest: its own proposals and those it hears."""

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """A changed proposal before the true one or instead of it."""
        heard = self._proposal
        self.hear(letter)
        if isinstance(letter, Proposal):
            return [(0, self._changed(letter)), (0, letter)] if self._rng.random() < 0.7 else [(0, letter)]
        if isinstance(letter, Prepare) and heard is not None and self._rng.random() < 0.5:
            return [(0, letter), (0, self._changed(heard))]
        return [(0, letter)]

    def _changed(self, proposal: Proposal) -> Proposal:
        header = proposal.header
        match self._rng.randrange(4):
            case 0:
                later = msgspec.structs.replace(header, time_ms=header.time_ms + 1)
                return msgspec.structs.replace(proposal, header=later)
            case 1:
                return msgspec.structs.replace(proposal, references=proposal.references[1:])
            case 2:
                shares = () if proposal.last_commit is None else proposal.last_commit.signatures[1:]
                cut = (
                    None
                    if proposal.last_commit is None
                    else msgspec.structs.replace(proposal.last_commit, signatures=shares)
                )
                return msgspec.structs.replace(proposal, last_commit=cut)
            case _:
                false = Discard(tagged_hash("transaction.body", b"none"), b"", ())
                return msgspec.structs.replace(proposal, discarded=(*proposal.discarded, false))


class WrongParts(Ears):
    """As primary binds what is not valid: time, order, last-commit, removals, sizes; one fault at a time."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        super().__init__(rng, chain_id)
        self._told: dict[Digest, Proposal] = {}
        self._own_times: dict[int, int] = {}

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Mostly a wrong block, the same for all."""
        self.hear(letter)
        if not isinstance(letter, Proposal):
            return [(0, letter)]
        if letter.vote.digest not in self._told:
            fresh = letter.header.view == letter.vote.view
            self._told[letter.vote.digest] = (
                self._wrong(liar, letter) if fresh else self._afresh(liar, letter)
            )
            while len(self._told) > 16:
                del self._told[next(iter(self._told))]
        return [(0, self._told[letter.vote.digest])]

    def _afresh(self, liar: Intruder, proposal: Proposal) -> Proposal:
        """A block of its own where an older one has to be proposed again."""
        header = msgspec.structs.replace(
            proposal.header,
            view=proposal.vote.view - self._rng.choice((0, 0, 1)),
            proposer=address_of(liar.signer.public_key),
            time_ms=proposal.header.time_ms + 1,
        )
        return self.proposed(liar, proposal, header)

    def _wrong(self, liar: Intruder, proposal: Proposal) -> Proposal:
        header, references = proposal.header, proposal.references
        last_commit, discarded = proposal.last_commit, proposal.discarded
        if discarded and self._rng.random() < 0.8:
            return self._bound(
                liar, proposal, header, references, last_commit, (self._false_removal(proposal),)
            )
        match self._rng.randrange(12):
            case 0:
                header = msgspec.structs.replace(
                    header,
                    time_ms=header.time_ms + self._rng.choice((-1_000, -2_000, -4_000, 400, 3_000, 30_000)),
                )
            case 1:
                references = references + references[:1]
            case 2:
                references = tuple(self._rng.randbytes(32) for _ in range(20))
            case 3:
                references, discarded = (), ()
            case 4 | 5 | 10 | 11:
                last_commit = self._forged(last_commit)
            case 6 | 7:
                discarded = (self._false_removal(proposal),)
            case 8:
                header = msgspec.structs.replace(header, parent_hash=self._rng.randbytes(32))
            case _:
                header = self._rng.choice(
                    (
                        msgspec.structs.replace(header, receipts_root=self._rng.randbytes(32)),
                        msgspec.structs.replace(header, delegates_hash=self._rng.randbytes(32)),
                        msgspec.structs.replace(header, height=header.height + 1),
                        msgspec.structs.replace(header, proposer=bytes(20)),
                        msgspec.structs.replace(header, view=max(0, header.view - 1)),
                    )
                )
        return self._bound(liar, proposal, header, references, last_commit, discarded)

    def _bound(
        self,
        liar: Intruder,
        proposal: Proposal,
        header: Header,
        references: tuple[Digest, ...],
        last_commit: Certificate | None,
        discarded: tuple[Discard, ...],
    ) -> Proposal:
        header = msgspec.structs.replace(
            header,
            transactions_root=transactions_root(references),
            last_commit_hash=last_commit_hash(last_commit),
            discarded_root=discarded_root(discarded),
        )
        whole = Proposal(proposal.vote, header, references, last_commit, discarded)
        return self.proposed(liar, whole, header)

    def _forged(self, true: Certificate | None) -> Certificate | None:
        if true is None or not true.signatures:
            return true
        return forged_certificate(self._rng, true)

    def _false_removal(self, proposal: Proposal) -> Discard:
        # Another liar's false removal may hold no proposals.
        heard = [item for item in self._removals if item.proposals]
        if not heard or self._rng.random() < 0.3:
            data = self._rng.choice((b"\x92\x90\x90", b"", b"\xc1"))
            return Discard(tagged_hash("transaction.body", b"none"), data, ())
        true = self._rng.choice(heard)
        first = true.proposals[0]
        shown = self._rng.choice(
            (
                true.proposals[1:],
                (first,) * len(true.proposals),
                tuple(
                    msgspec.structs.replace(item, view_changes=item.view_changes[:1] * len(item.view_changes))
                    for item in true.proposals
                ),
                tuple(
                    msgspec.structs.replace(item, view_changes=item.view_changes[1:])
                    for item in true.proposals
                ),
                (*true.proposals, first),
                true.proposals,
            )
        )
        identity = true.transaction_id if shown != true.proposals else self._rng.randbytes(32)
        return msgspec.structs.replace(true, transaction_id=identity, proposals=shown)


class CertificateForger(Ears):
    """Shows prepared certificates and view-changes that only look like proofs."""

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """Forged ones instead of its own view-changes and new-views, the same for all."""
        self.hear(letter)
        match letter:
            case ViewChange() if self._rng.random() < 0.9:
                forged = self._forged(liar, letter)
                return [(0, forged)]
            case NewView() if self._rng.random() < 0.8:
                return [(0, self._spoiled(liar, letter)), (0, letter)]
            case _:
                return [(0, letter)]

    def _forged(self, liar: Intruder, told: ViewChange) -> ViewChange:
        rng = self._rng
        match rng.randrange(12):
            case 0:
                told = msgspec.structs.replace(told, prepared=self._out_of_the_air(liar, told))
            case 1 | 2 | 3 | 7 | 8 | 9 | 10:
                told = msgspec.structs.replace(told, prepared=self._nearly(liar, told))
            case 4:
                if self._certificates:
                    told = msgspec.structs.replace(told, prepared=rng.choice(self._certificates))
            case 5:
                digest = rng.randbytes(32)
                wrong = rng.choice(((told.view,), (told.view + 1,), (0, 0)))
                accepted = tuple(Accepted(view, digest) for view in wrong)
                told = msgspec.structs.replace(told, accepted=accepted)
            case 6:
                told = msgspec.structs.replace(told, view=0)
            case _:
                pass
        return self.signed(liar, told)

    def _out_of_the_air(self, liar: Intruder, told: ViewChange) -> PreparedCertificate | None:
        """Votes of everybody for a block of its own, none of them signed."""
        heard = self._proposal
        if heard is None:
            return None
        place = (told.epoch, told.height, told.view - 1, self._rng.randbytes(32))
        primary = heard.vote.signer
        vote = PrePrepareVote(*place, primary, WORTHLESS)
        prepares = tuple(Prepare(*place, key, WORTHLESS) for key in self._keys if key != primary)
        return PreparedCertificate(vote, prepares)

    def _nearly(self, liar: Intruder, told: ViewChange) -> PreparedCertificate | None:
        """A true certificate with one thing wrong."""
        true, rng = told.prepared, self._rng
        if true is None:
            return self._incomplete(liar, told)
        vote, prepares = true.pre_prepare, true.prepares
        place = (vote.epoch, vote.height, vote.view)
        forms: list[PreparedCertificate] = [
            PreparedCertificate(vote, prepares[1:]),
            PreparedCertificate(vote, (prepares[0], *prepares[:-1])),
            PreparedCertificate(vote, (*prepares[:-1], prepares[-2])) if len(prepares) > 1 else true,
            PreparedCertificate(
                vote, (*prepares[:-1], msgspec.structs.replace(prepares[-1], signature=WORTHLESS))
            ),
            PreparedCertificate(msgspec.structs.replace(vote, signature=WORTHLESS), prepares),
            PreparedCertificate(
                sign_vote(PrePrepareVote, self._chain_id, *place, vote.digest, liar.signer), prepares
            ),
        ]
        forms += [
            self._with_own(liar, true, sign_vote(Prepare, self._chain_id, *other, liar.signer))
            for other in (
                (*place, rng.randbytes(32)),
                (vote.epoch, vote.height, vote.view + 1, vote.digest),
                (vote.epoch + 1, vote.height, vote.view, vote.digest),
            )
        ]
        return rng.choice(forms)

    def _with_own(self, liar: Intruder, true: PreparedCertificate, own: Prepare) -> PreparedCertificate:
        """Its own prepare in place of the one it has in the certificate, or of the last."""
        signers = [prepare.signer for prepare in true.prepares]
        prepares = list(true.prepares)
        prepares[signers.index(own.signer) if own.signer in signers else -1] = own
        return PreparedCertificate(true.pre_prepare, tuple(prepares))

    def _incomplete(self, liar: Intruder, told: ViewChange) -> PreparedCertificate | None:
        """What it heard of a view that did not prepare."""
        heard = self._proposal
        if heard is None or heard.vote.height != told.height or heard.vote.view >= told.view:
            return None
        vote = heard.vote
        prepares = self._prepares.get((vote.height, vote.view, vote.digest), {})
        return PreparedCertificate(vote, tuple(prepares.values()))

    def _spoiled(self, liar: Intruder, told: NewView) -> NewView:
        shown, rng = list(told.view_changes), self._rng
        match rng.randrange(5):
            case 0:
                far = told.view + rng.choice((4, 5, 6, 7, 10))
                return self.announced(liar, msgspec.structs.replace(told, view=far))
            case 1:
                shown.pop(rng.randrange(len(shown)))
            case 2:
                shown[rng.randrange(len(shown))] = shown[0]
            case 3:
                place = rng.randrange(len(shown))
                shown[place] = msgspec.structs.replace(shown[place], prepared=None, signature=WORTHLESS)
            case _:
                place = rng.randrange(len(shown))
                shown[place] = msgspec.structs.replace(shown[place], view=told.view + 1)
        return self.announced(liar, msgspec.structs.replace(told, view_changes=tuple(shown)))


class Flooder(Ears):
    """Fills every place it can find: votes and view-changes for many views of this height and the next."""

    def added(self, liar: Intruder, target: int, letter: Letter) -> Told:
        """Dozens of messages for one."""
        if not isinstance(letter, Prepare) or self._rng.random() < 0.7:
            return []
        told: Told = []
        for step in range(FLOOD):
            height, digest = letter.height + step % 2, self._rng.randbytes(32)
            view = letter.view + self._rng.randint(1, 10**6)
            place = (letter.epoch, height, view, digest)
            told.append((0, sign_vote(Prepare, self._chain_id, *place, liar.signer)))
            told.append((0, sign_vote(Commit, self._chain_id, *place, liar.signer)))
            unsigned = ViewChange(letter.epoch, height, view, None, (), letter.signer, WORTHLESS)
            told.append((0, self.signed(liar, unsigned)))
        return told


def forged_certificate(rng: random.Random, true: Certificate) -> Certificate:
    """Like ``true``, yet proving nothing."""
    shares = true.signatures[: len(true.signatures) - rng.choice((0, 1))]
    if len(shares) < 3:
        return true
    worthless = msgspec.structs.replace(shares[-1], signature=WORTHLESS)
    forms = (
        msgspec.structs.replace(true, signatures=shares[: 2 * len(shares) // 3]),
        msgspec.structs.replace(true, signatures=shares[:-1]),
        msgspec.structs.replace(true, signatures=(*shares[:-1], shares[-2])),
        msgspec.structs.replace(true, signatures=(*shares[:-1], shares[0])),
        msgspec.structs.replace(true, signatures=(*shares[:-1], worthless)),
        msgspec.structs.replace(true, view=true.view + 1),
        msgspec.structs.replace(true, digest=rng.randbytes(32)),
    )
    return rng.choice(forms)


INTRUDERS: Final[Mapping[str, Callable[[random.Random, Digest, int], Ears]]] = {
    "impostor": lambda rng, chain_id, _timeout_ms: Impostor(rng, chain_id),
    "misplacer": lambda rng, chain_id, _timeout_ms: Misplacer(rng, chain_id),
    "usurper": lambda rng, chain_id, _timeout_ms: Usurper(rng, chain_id),
    "tamperer": lambda rng, chain_id, _timeout_ms: Tamperer(rng, chain_id),
    "wrong parts": lambda rng, chain_id, _timeout_ms: WrongParts(rng, chain_id),
    "certificate forger": lambda rng, chain_id, _timeout_ms: CertificateForger(rng, chain_id),
    "flooder": lambda rng, chain_id, _timeout_ms: Flooder(rng, chain_id),
}
"""All kinds by name, made like those of `byzantine.MISCHIEF`, among which they are."""
