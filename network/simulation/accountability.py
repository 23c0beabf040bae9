"""Who is to blame for a fork: the keys that provably signed what no honest delegate signs (S13, RELIABILITY 47).

What is looked at are the statements of one height: every message that an honest delegate sent or received, and the two
certificates. No single one is trusted; a statement counts against its signer only. An honest delegate is never among
`Verdict.culprits`, nor are fewer than ``Group.at_least`` members of a group dishonest.

Theorem: if two certificates of one height name different digests, `Verdict.at_least` is f + 1 or more, whatever the
number of liars. In one view the quorums share f + 1 signers of two commits. Otherwise let d be decided in view v and
e in a later one. The q commits for e need q - 1 prepares of others and a pre-prepare, or their signers are to blame
(*unfounded commit*). These need a new-view that permits e, or theirs are (*unfounded vote*); q - 1 is at least f + 1.
The new-view holds q view-changes, so at least f + 1 signers of the first q commits for d are in it. Who does not show
a certificate of view v or above there is to blame (*hidden certificate*); if one shows it and e was permitted all the
same, then e was prepared in v, where prepares and pre-prepares are then doubled, or in a view between, where the
argument begins anew.

The late commit of PROTOCOL 6.4 is why there are groups. Whoever decides d without having committed signs a commit then,
possibly after a view-change that knew nothing of d. That takes q commits of others, so of u signers at least q were not
late; but which, the signatures do not tell. With exactly q signers none was, and each stands for himself.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from consensus.block import Certificate
from consensus.errors import InvalidMessage
from consensus.judge import Judge
from consensus.messages import (
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
    Vote,
)
from consensus.types import Digest, PublicKey
from consensus.view_change import MAX_ACCEPTED, check_new_view, check_view_change, choose

Statement: TypeAlias = PrePrepareVote | Prepare | Commit | ViewChange | NewView
"""Whatever a key signs."""


@dataclass(frozen=True)
class Proof:
    """Statements of one key that no honest delegate makes together, or at all."""

    culprit: PublicKey
    kind: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Group:
    """Keys of which at least so many are dishonest: all but those that may have committed late."""

    members: frozenset[PublicKey]
    at_least: int
    kind: str


@dataclass(frozen=True)
class Verdict:
    """What the statements of a height prove."""

    proofs: tuple[Proof, ...]
    groups: tuple[Group, ...]

    @property
    def culprits(self) -> frozenset[PublicKey]:
        """Keys proven dishonest one by one."""
        return frozenset(proof.culprit for proof in self.proofs)

    @property
    def at_least(self) -> int:
        """So many dishonest keys there are at least."""
        proven = self.culprits
        counts = [
            len(proven - group.members) + max(len(proven & group.members), group.at_least)
            for group in self.groups
        ]
        return max((len(proven), *counts))


def culprits(
    judge: Judge, messages: Iterable[ConsensusMessage], certificates: Iterable[Certificate] = ()
) -> Verdict:
    """What the statements in ``messages`` and ``certificates`` about ``judge``'s height prove.

    Complete only if everything is there that honest delegates sent or received (the theorem's premise): what is not
    there to justify a vote does not exist.
    """
    statements = _Statements(judge)
    for message in messages:
        statements.add(message)
    for certificate in certificates:
        statements.add_certificate(certificate)
    return _Inquiry(judge, statements).verdict()


class _Statements:
    """All verified statements of a height, nested ones included, each once."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._seen: set[tuple[PublicKey, bytes]] = set()
        self.pre_prepares: list[PrePrepareVote] = []
        self.prepares: list[Prepare] = []
        self.commits: list[Commit] = []
        self.view_changes: list[ViewChange] = []
        self.new_views: list[NewView] = []

    @property
    def accepting(self) -> list[PrePrepareVote | Prepare]:
        """Votes by which a delegate accepts a block in a view."""
        return [*self.pre_prepares, *self.prepares]

    def add(self, message: ConsensusMessage) -> None:
        """A message and all that is nested in it."""
        match message:
            case Proposal():
                self._add_vote(message.vote)
                if message.last_commit is not None:
                    self.add_certificate(message.last_commit)
            case ViewChange():
                if self._is_signed(message):
                    self.view_changes.append(message)
                self._add_prepared(message.prepared)
            case NewView():
                if self._is_signed(message):
                    self.new_views.append(message)
                for item in message.view_changes:
                    self.add(item)
            case _:
                self._add_vote(message)

    def add_certificate(self, certificate: Certificate) -> None:
        """The commits of a certificate."""
        place = (certificate.epoch, certificate.height, certificate.view, certificate.digest)
        for share in certificate.signatures:
            self._add_vote(Commit(*place, share.signer, share.signature))

    def _add_prepared(self, certificate: PreparedCertificate | None) -> None:
        if certificate is not None:
            self._add_vote(certificate.pre_prepare)
            for prepare in certificate.prepares:
                self._add_vote(prepare)

    def _add_vote(self, vote: Vote) -> None:
        if self._is_known(vote):
            return
        try:
            self._judge.check_vote(vote)
        except InvalidMessage:
            return
        self._note(vote)
        match vote:
            case PrePrepareVote():
                self.pre_prepares.append(vote)
            case Prepare():
                self.prepares.append(vote)
            case Commit():
                self.commits.append(vote)

    def _is_signed(self, message: ViewChange | NewView) -> bool:
        if self._is_known(message):
            return False
        try:
            self._judge.check_signature(message)
        except InvalidMessage:
            return False
        self._note(message)
        return True

    def _is_known(self, statement: Statement) -> bool:
        return (statement.signer, statement.signature) in self._seen

    def _note(self, statement: Statement) -> None:
        """Only what was verified: a copy with other fields must not hide the true one."""
        self._seen.add((statement.signer, statement.signature))


@dataclass
class _Inquiry:
    """The rules, one after the other."""

    judge: Judge
    said: _Statements
    proofs: list[Proof] = field(default_factory=list)

    def verdict(self) -> Verdict:
        """All that can be proven."""
        self._doubled()
        self._out_of_role()
        self._invalid()
        self._forgotten_votes()
        self._unfounded_votes()
        groups = self._commits()
        return Verdict(tuple(self.proofs), groups)

    def _accuse(self, kind: str, *statements: Statement) -> None:
        self.proofs.append(Proof(statements[0].signer, kind, statements))

    def _doubled(self) -> None:
        """S4: one digest, or one content, for each key, view and kind."""
        first: dict[tuple[PublicKey, int, str], Statement] = {}
        said = self.said
        everything: tuple[Iterable[Statement], ...] = (
            said.pre_prepares,
            said.prepares,
            said.commits,
            said.view_changes,
            said.new_views,
        )
        for statements in everything:
            for statement in statements:
                slot = (statement.signer, statement.view, type(statement).__name__)
                known = first.setdefault(slot, statement)
                if _content(known) != _content(statement):
                    self._accuse("two in one slot", known, statement)

    def _out_of_role(self) -> None:
        """6.4, 6.6: only a view's primary signs its pre-prepare and new-view, and it signs no prepare there."""
        for vote in self.said.pre_prepares:
            if vote.signer != self.judge.primary_key(vote.view):
                self._accuse("pre-prepare of a backup", vote)
        for prepare in self.said.prepares:
            if prepare.signer == self.judge.primary_key(prepare.view):
                self._accuse("prepare of the primary", prepare)

    def _invalid(self) -> None:
        """6.6: an honest delegate nests only what it has verified."""
        for message in self.said.view_changes:
            try:
                check_view_change(message, self.judge)
            except InvalidMessage:
                self._accuse("invalid view-change", message)
        for new_view in self.said.new_views:
            try:
                check_new_view(new_view, self.judge, {})
            except InvalidMessage:
                self._accuse("invalid new-view", new_view)

    def _forgotten_votes(self) -> None:
        """6.6: nothing of a lower view is signed after a view-change, and what was is named in it."""
        votes: dict[PublicKey, list[PrePrepareVote | Prepare]] = defaultdict(list)
        for vote in self.said.accepting:
            votes[vote.signer].append(vote)
        for message in self.said.view_changes:
            named = {item.view: item.digest for item in message.accepted}
            oldest = message.accepted[0].view if len(message.accepted) >= MAX_ACCEPTED else 0
            for vote in votes[message.signer]:
                if oldest <= vote.view < message.view and named.get(vote.view) != vote.digest:
                    self._accuse("vote that its view-change does not name", vote, message)

    def _unfounded_votes(self) -> None:
        """6.6: beyond view 0 what is pre-prepared and prepared is what a valid new-view permits."""
        permitted: dict[int, set[Digest | None]] = defaultdict(set)
        for message in self.said.new_views:
            try:
                chosen = choose(check_new_view(message, self.judge, {}))
            except InvalidMessage:
                continue
            permitted[message.view].add(None if chosen is None else chosen.pre_prepare.digest)
        for vote in self.said.accepting:
            if vote.view and not {None, vote.digest} & permitted[vote.view]:
                self._accuse("unfounded vote", vote)

    # ------------------------------------------------------------------ commits, and who may have been late

    def _commits(self) -> tuple[Group, ...]:
        signers: dict[tuple[int, Digest], dict[PublicKey, Commit]] = defaultdict(dict)
        for commit in self.said.commits:
            signers[commit.view, commit.digest][commit.signer] = commit
        groups = []
        for (view, digest), commits in signers.items():
            accused = self._suspects(view, digest, commits)
            late = len(commits) - self.judge.quorum
            if late <= 0:
                for kind, commit, others in accused.values():
                    self._accuse(kind, commit, *others)
            elif len(accused) > late:
                kinds = " and ".join(sorted({kind for kind, _commit, _others in accused.values()}))
                groups.append(Group(frozenset(accused), len(accused) - late, kinds))
        return tuple(groups)

    def _suspects(
        self, view: int, digest: Digest, commits: dict[PublicKey, Commit]
    ) -> dict[PublicKey, tuple[str, Commit, tuple[Statement, ...]]]:
        """Who cannot have signed its commit but late."""
        founded = self._is_prepared(view, digest)
        accused: dict[PublicKey, tuple[str, Commit, tuple[Statement, ...]]] = {}
        if not founded:
            accused = {key: ("unfounded commit", commit, ()) for key, commit in commits.items()}
        for message in self.said.view_changes:
            own = commits.get(message.signer)
            if own is not None and message.view > view and not _shows(message, view, digest):
                accused.setdefault(message.signer, ("hidden certificate", own, (message,)))
        return accused

    def _is_prepared(self, view: int, digest: Digest) -> bool:
        """Whether a pre-prepare and q - 1 prepares of others are there."""
        primary = self.judge.primary_key(view)
        proposed = any(
            (vote.view, vote.digest, vote.signer) == (view, digest, primary)
            for vote in self.said.pre_prepares
        )
        backups = {
            vote.signer
            for vote in self.said.prepares
            if (vote.view, vote.digest) == (view, digest) and vote.signer != primary
        }
        return proposed and len(backups) >= self.judge.quorum - 1


def _content(statement: Statement) -> bytes:
    return statement.content() if isinstance(statement, ViewChange | NewView) else statement.digest


def _shows(message: ViewChange, view: int, digest: Digest) -> bool:
    """Whether a view-change is that of one that had committed ``digest`` in ``view``."""
    if message.prepared is None:
        return False
    shown = message.prepared.pre_prepare
    return shown.view > view or (shown.view == view and shown.digest == digest)
