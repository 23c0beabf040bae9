"""What this key signed at one height: nothing conflicting is ever signed (PROTOCOL 6.5, 6.6; S4 of 12).

Every signed message passes `record` before it is journaled and sent; `restore` rebuilds the same state from the
journal. A breach here is our bug, never a peer's doing, and stops the node.
"""

from typing import TypeAlias

from consensus.errors import fail, invariant
from consensus.messages import Accepted, Commit, NewView, Prepare, Proposal, ViewChange
from consensus.tally import VIEWS_KEPT
from consensus.view_change import MAX_ACCEPTED

Signed: TypeAlias = Proposal | Prepare | Commit | ViewChange | NewView


class OwnVotes:
    """The votes of one key at one height, at most one per phase and view."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.floor = 0
        """No pre-prepare, prepare or commit of a lower view is signed any more."""
        self.proposals: dict[int, Proposal] = {}
        self.prepares: dict[int, Prepare] = {}
        self.commits: dict[int, Commit] = {}
        self.new_views: dict[int, NewView] = {}
        self.view_change: ViewChange | None = None

    def record(self, message: Signed) -> None:
        """Note a message about to be journaled and sent; `InvariantViolation` if it breaks 6.5 or 6.6."""
        view = message.vote.view if isinstance(message, Proposal) else message.view
        match message:
            case ViewChange():
                invariant(view > self.floor, "a view-change leads to a higher view (6.6)")
            case NewView():
                invariant(view >= self.floor, "a new-view is not of a lower view (6.6)")
                invariant(self.view_change is not None, "a new primary signed a view-change itself (6.6)")
                invariant(view not in self.new_views, "one new-view a view is signed (S4)")
            case Proposal() | Prepare() | Commit():
                invariant(view >= self.floor, "nothing of a lower view is signed (6.6)")
        self._note(message, view)

    def record_decided(self, commit: Commit) -> None:
        """Note the commit of one that decides without having committed: the only exception to the floor (6.4)."""
        self._note(commit, commit.view, raise_floor=False)

    def restore(self, message: Signed) -> None:
        """Take over a journaled message."""
        view = message.vote.view if isinstance(message, Proposal) else message.view
        if isinstance(message, ViewChange) and self.view_change is not None and view < self.view_change.view:
            return
        self._note(message, view)

    def _note(self, message: Signed, view: int, *, raise_floor: bool = True) -> None:
        height = message.vote.height if isinstance(message, Proposal) else message.height
        invariant(height == self.height, "a vote is recorded at its own height")
        match message:
            case Proposal():
                invariant(_free(self.proposals.get(view), message), "one pre-prepare a view is signed (S4)")
                invariant(view not in self.prepares, "a primary signs no prepare in its own view (3.2b)")
                self.proposals[view] = message
            case Prepare():
                invariant(_free(self.prepares.get(view), message), "one prepare a view is signed (S4)")
                invariant(view not in self.proposals, "a primary signs no prepare in its own view (3.2b)")
                self.prepares[view] = message
            case Commit():
                invariant(_free(self.commits.get(view), message), "one commit a view is signed (S4)")
                self.commits[view] = message
            case ViewChange():
                self.view_change = message
            case NewView():
                self.new_views[view] = message
            case _:
                fail("an unknown kind of message is signed")
        if raise_floor:
            self.floor = max(self.floor, view)

    def accepted(self, below: int) -> tuple[Accepted, ...]:
        """The digest prepared or pre-prepared in each view below ``below``, ascending, the newest if too many (6.6)."""
        digests = {view: vote.digest for view, vote in self.prepares.items()}
        digests.update({view: proposal.vote.digest for view, proposal in self.proposals.items()})
        views = sorted(view for view in digests if view < below)
        return tuple(Accepted(view, digests[view]) for view in views[-MAX_ACCEPTED:])

    @property
    def signed_anything(self) -> bool:
        """Whether there is something to resend."""
        return self.view_change is not None or bool(self.proposals or self.prepares or self.commits)

    def to_resend(self) -> tuple[Signed, ...]:
        """The same bytes again: the view-change, what belongs to the current view, and the votes (PROTOCOL 6.6).

        Votes of more than `VIEWS_KEPT` views are of no use to anybody, who keeps no more either.
        """
        messages: list[Signed] = []
        if self.view_change is not None:
            messages.append(self.view_change)
        if self.floor in self.new_views:
            messages.append(self.new_views[self.floor])
        if self.floor in self.proposals:
            messages.append(self.proposals[self.floor])
        messages += [self.prepares[view] for view in sorted(self.prepares)[-VIEWS_KEPT:]]
        messages += [self.commits[view] for view in sorted(self.commits)[-VIEWS_KEPT:]]
        return tuple(messages)


def _free(held: Signed | None, message: Signed) -> bool:
    return held is None or held == message
