"""What an honest node must and must not do in answer to what it was told (PROTOCOL 6.4-6.8, 6.10, 10.2).

`checkers` judge what a whole network decided. Here each step of each replica is judged by itself: every signature it
makes must follow from what reached it in this life or stands in its journal, and what PROTOCOL obliges it to do it
must do within the step. So a mistake shows where it is made, not where it happens to do harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from consensus.block import Block, full_hash
from consensus.effects import (
    UNKNOWN_HEIGHT,
    AbstainRecord,
    BlockRecord,
    CancelTimer,
    CheckProposal,
    Decide,
    Effect,
    FetchDecided,
    Forget,
    JournalRecord,
    Persist,
    PreparedRecord,
    ResumeRecord,
    SendDecided,
    SentRecord,
    SetTimer,
    Trace,
)
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    Input,
    Instant,
    JournalLost,
    ProposalChecked,
    Received,
    Resume,
    SyncState,
    Timer,
    TimerFired,
)
from consensus.messages import Commit, NewView, Prepare, PreparedCertificate, Proposal, ViewChange
from consensus.parameters import Parameters
from consensus.types import Digest, PublicKey
from network.simulation.checkers import Finding, demand
from network.simulation.proofs import MOST_ACCEPTED, Proofs
from network.simulation.surroundings import Holder

ABSTAINED: Final = 2
"""Heights above the highest certified one at which a node without its journal stays silent (PROTOCOL 6.5)."""
NO_HEIGHT: Final = 2**70
Signed: TypeAlias = Proposal | Prepare | Commit | ViewChange | NewView


@dataclass
class Life:
    """One life of a process, as far as its replica was told and has answered."""

    height: int
    floor: int = 0
    """The highest height that its journal shows it voted at: below, everything was decided (PROTOCOL 6.5)."""
    view: int = 0
    """The highest view it signed a view-change for or entered."""
    entered: int = 0
    entered_wall_ms: int = 0
    """Its clock at entering ``view`` (PROTOCOL 6.8)."""
    decided_wall_ms: int | None = None
    """Its clock at deciding ``height``, once it has."""
    caught_up: bool = True
    level: int = 0
    """Step of the timeout of view 0 (PROTOCOL 6.7)."""
    journal: dict[int, list[JournalRecord]] = field(default_factory=dict)
    """What the disk held when it began, by height."""
    timers: dict[str, Timer] = field(default_factory=dict)
    told_late: dict[PublicKey, int] = field(default_factory=dict)
    fetched_ms: int | None = None
    # Of this height:
    accepted: dict[int, Digest] = field(default_factory=dict)
    own: set[tuple[str, int]] = field(default_factory=set)
    own_view_change: int = 0
    prepared: int | None = None
    """View of the highest prepared certificate journaled."""
    choices: dict[int, set[Digest | None]] = field(default_factory=dict)
    """Per view what its new-views demand."""
    judged: dict[int, Digest] = field(default_factory=dict)
    """Per view the proposal whose check was asked for."""
    invalid: int | None = None
    """The view whose proposal was found invalid."""
    blocks: dict[Digest, Block] = field(default_factory=dict)
    """Those journaled, or on their way into the journal."""
    held: dict[PublicKey, int] = field(default_factory=dict)
    """Highest view-change of each sender that reached the replica at this height."""
    # Of this height and the next:
    proposals: dict[tuple[int, int, Digest], Proposal] = field(default_factory=dict)
    view_changes: dict[tuple[int, PublicKey], int] = field(default_factory=dict)
    new_views: dict[int, dict[int, NewView]] = field(default_factory=dict)
    """Per height those received, by identity."""

    def at_height(self, height: int, wall_ms: int) -> None:
        """A height begins."""
        passed = self.decided_wall_ms if height == self.height + 1 else None
        self.height, self.view, self.entered = height, 0, 0
        self.entered_wall_ms = wall_ms if passed is None else passed
        self.decided_wall_ms = None
        self.own_view_change, self.prepared, self.invalid = 0, None, None
        self.timers.clear()
        self.accepted, self.own, self.choices = {}, set(), {}
        self.judged, self.blocks, self.held = {}, {}, {}
        self.proposals = {place: item for place, item in self.proposals.items() if place[0] >= height}
        self.view_changes = {place: view for place, view in self.view_changes.items() if place[0] >= height}
        self.new_views = {place: held for place, held in self.new_views.items() if place >= height}


class Obligations:
    """Told of each start and step of each honest node's replica; raises `Finding`."""

    def __init__(self, proofs: Proofs, parameters: Parameters) -> None:
        self._proofs = proofs
        self._parameters = parameters
        self._lives: dict[int, Life] = {}
        self._abstained: dict[int, int] = {}
        """Per node up to which height it may sign nothing; outlives its lives."""
        self._resumed: dict[int, int] = {}
        steps = [parameters.view_timeout_ms]
        while steps[-1] < parameters.view_timeout_max_ms:
            steps.append(min(parameters.view_timeout_max_ms, max(steps[-1] + 1, steps[-1] * 3 // 2)))
        self._steps = steps

    # ------------------------------------------------------------------ lives and steps

    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica took in ``item``, or was made from the node's disk if there is none, and asks for ``effects``."""
        if item is None:
            self._starts(node, node.at(), effects)
            return
        life = self._lives[node.index]
        told_ms = life.told_late.get(item.sender) if isinstance(item, Received) else None
        self._take_in(node, life, item)
        self._answer(node, life, item, item.at, effects)
        self._owes_an_answer(node, life, item, effects, told_ms)

    def _starts(self, node: Holder, at: Instant, effects: Sequence[Effect]) -> None:
        life = Life(node.disk.height + 1, entered_wall_ms=at.wall_ms)
        for record in node.disk.journal():
            if not isinstance(record, AbstainRecord | ResumeRecord):
                life.journal.setdefault(record.height, []).append(record)
            if isinstance(record, SentRecord):
                life.floor = max(life.floor, record.height)
        self._lives[node.index] = life
        self._remember(node, life)
        self._answer(node, life, None, at, effects)

    def _remember(self, node: Holder, life: Life) -> None:
        """What the journal says of the height in flight."""
        for record in life.journal.pop(life.height, ()):
            match record:
                case BlockRecord():
                    life.blocks[record.block.header.digest()] = record.block
                case PreparedRecord():
                    self._note_prepared(life, record.certificate)
                case SentRecord():
                    self._note_signed(node, life, record.message)
                    if isinstance(record.message, Commit):
                        life.view = max(life.view, record.message.view)
                case _:
                    continue
        life.entered = 0
        if ("NewView", life.view) in life.own:
            life.entered = life.view

    def _take_in(self, node: Holder, life: Life, item: Input) -> None:
        match item:
            case Received():
                self._received(node, life, item.message)
            case Advanced():
                if item.context.height > life.height:
                    life.at_height(item.context.height, item.at.wall_ms)
                    self._remember(node, life)
            case SyncState():
                life.caught_up = item.caught_up
            case JournalLost():
                self._abstained[node.index] = NO_HEIGHT
                self._resumed.pop(node.index, None)
            case AbstainUntil():
                if self._abstained.get(node.index) == NO_HEIGHT:
                    self._abstained[node.index] = item.certified_height + ABSTAINED
            case Resume():
                if item.height >= life.height:
                    self._resumed[node.index] = item.height
            case ProposalChecked():
                short = [o for o in item.overlooked if o.held_ms < self._parameters.request_timeout_ms]
                demand(not short, f"6.7: {node.index} complains about what it held for a moment")
            case _:
                return

    def _received(self, node: Holder, life: Life, message: Signed) -> None:
        height = message.vote.height if isinstance(message, Proposal) else message.height
        if not life.height <= height <= life.height + 1:
            return
        match message:
            case Proposal() if self._proofs.holds(message):
                life.proposals[(height, message.vote.view, message.vote.digest)] = message
            case ViewChange():
                if message.signer != node.member.public_key and self._proofs.holds(message):
                    self._note_view_change(life, message, sure=True)
            case NewView():
                life.new_views.setdefault(height, {})[id(message)] = message
            case _:
                return

    def _note_view_change(self, life: Life, message: ViewChange, *, sure: bool) -> None:
        place = (message.height, message.signer)
        life.view_changes[place] = max(life.view_changes.get(place, 0), message.view)
        if sure and message.height == life.height and life.decided_wall_ms is None:
            life.held[message.signer] = max(life.held.get(message.signer, 0), message.view)

    @staticmethod
    def _note_prepared(life: Life, certificate: PreparedCertificate) -> None:
        life.prepared = max(life.prepared if life.prepared is not None else -1, certificate.pre_prepare.view)

    def _note_signed(self, node: Holder, life: Life, message: Signed) -> None:
        view = message.vote.view if isinstance(message, Proposal) else message.view
        life.own.add((type(message).__name__, view))
        if not isinstance(message, Commit):
            life.view = max(life.view, view)
        match message:
            case Proposal():
                life.accepted[view] = message.vote.digest
            case Prepare():
                life.accepted.setdefault(view, message.digest)
            case ViewChange():
                life.own_view_change = max(life.own_view_change, view)
                if message.prepared is not None:
                    self._note_prepared(life, message.prepared)
            case NewView():
                life.choices.setdefault(view, set()).add(self._proofs.choice(message.view_changes))
                for item in message.view_changes:
                    if item.signer != node.member.public_key:
                        self._note_view_change(life, item, sure=True)
            case Commit():
                return

    # ------------------------------------------------------------------ what was answered

    def _answer(  # noqa: C901 - one case a kind of effect
        self, node: Holder, life: Life, item: Input | None, at: Instant, effects: Sequence[Effect]
    ) -> None:
        if not effects and not isinstance(item, TimerFired):
            self._owes(node, life, effects)
            return
        decided = next((effect.certified for effect in effects if isinstance(effect, Decide)), None)
        digest = None if decided is None else decided.certificate.digest
        may_leave = self._reasons_to_leave(life, item, effects)
        for effect in effects:
            match effect:
                case Persist():
                    for record in effect.records:
                        if isinstance(record, SentRecord):
                            self._signs(node, life, at, record.message, effect.records, digest, may_leave)
                        else:
                            self._journals(life, record)
                case Trace():
                    self._traces(node, life, effect, at)
                case Decide():
                    self._decides(node, life, effect, at)
                case SetTimer():
                    self._sets(node, life, effect)
                case CancelTimer():
                    life.timers.pop(effect.kind, None)
                case CheckProposal():
                    vote = effect.proposal.vote
                    judged = life.judged.setdefault(vote.view, vote.digest)
                    demand(judged == vote.digest, f"6.4: {node.index} judges two proposals of one view")
                case Forget():
                    demand(effect.height < life.height, f"6.5: {node.index} forgets an undecided height")
                case SendDecided() | FetchDecided():
                    self._repeats(node, life, effect, at)
                case _:
                    continue
        self._owes(node, life, effects)

    def _decides(self, node: Holder, life: Life, effect: Decide, at: Instant) -> None:
        """A height ends: with the own commit on record, and the timeout one step lower (PROTOCOL 6.4, 6.7)."""
        signed = ("Commit", effect.certified.certificate.view) in life.own
        demand(
            signed or not self._may_sign(node, life),
            f"6.4: {node.index} decides {life.height} without signing",
        )
        life.level = max(0, min(life.level + life.view, len(self._steps) - 1) - 1)
        life.decided_wall_ms = at.wall_ms

    def _journals(self, life: Life, record: JournalRecord) -> None:
        if isinstance(record, BlockRecord):
            life.blocks[record.block.header.digest()] = record.block
        elif isinstance(record, PreparedRecord):
            self._note_prepared(life, record.certificate)

    def _traces(self, node: Holder, life: Life, effect: Trace, at: Instant) -> None:
        if effect.event == "new-view":
            self._enters(node, life, effect.view, at)
        elif effect.event == "invalid-proposal":
            life.invalid = effect.view

    def _reasons_to_leave(self, life: Life, item: Input | None, effects: Sequence[Effect]) -> list[int]:
        """Views this step may ask for without f + 1 others that do: each once (PROTOCOL 6.4, 6.7)."""
        left = [effect for effect in effects if isinstance(effect, Trace) and effect.event == "view-change"]
        views = []
        if isinstance(item, TimerFired) and life.timers.get("view") == item.timer:
            views.append(life.view + 1)
        if isinstance(item, Advanced) and any(effect.detail == "complaint" for effect in left):
            views.append(1)
        if isinstance(item, TimerFired) and life.timers.get(item.timer.kind) == item.timer:
            del life.timers[item.timer.kind]
        return views

    def _may_sign(self, node: Holder, life: Life) -> bool:
        silent = self._abstained.get(node.index, 0) >= life.height
        resumed = self._resumed.get(node.index)
        allowed = not silent or (resumed is not None and life.height >= resumed)
        allowed = allowed and life.height >= life.floor
        return allowed and life.caught_up and node.member.public_key in self._proofs.seats(life.height)

    def _signs(
        self,
        node: Holder,
        life: Life,
        at: Instant,
        message: Signed,
        records: Sequence[JournalRecord],
        decided: Digest | None,
        may_leave: list[int],
    ) -> None:
        """A new signature: it must be allowed, and follow from what is known."""
        name = f"{node.index} signs a {type(message).__name__}"
        demand(self._may_sign(node, life), f"6.5, 10.2: {name} while it may not vote")
        place = (type(message).__name__, message.vote.view if isinstance(message, Proposal) else message.view)
        demand(place not in life.own, f"6.5: {name} again")
        match message:
            case Proposal():
                self._proposes(node, life, message)
            case Prepare():
                self._prepares(node, life, at, message)
            case Commit():
                self._commits(node, life, message, records, decided)
            case ViewChange():
                self._leaves(node, life, at, message, may_leave)
            case NewView():
                demand(self._proofs.holds(message), f"6.6: {name} that proves nothing")
        self._note_signed(node, life, message)

    @staticmethod
    def _stored(node: Holder, life: Life, digest: Digest) -> Block:
        """The block that a vote is for: written before the vote is (PROTOCOL 6.5)."""
        block = life.blocks.get(digest)
        if block is None:
            raise Finding(
                f"6.5: {node.index} votes at height {life.height} for a block that it has not stored"
            )
        return block

    def _proposes(self, node: Holder, life: Life, message: Proposal) -> None:
        vote, name = message.vote, f"{node.index} proposes at height {life.height}"
        demand(
            vote.signer == self._proofs.primary(life.height, vote.view), f"6.3: {name} without being primary"
        )
        demand(vote.digest == message.header.digest(), f"9.1: {name} another digest than its header's")
        block = self._stored(node, life, vote.digest)
        references = tuple(full_hash(data) for data in block.transactions)
        demand(references == message.references, f"6.4: {name} other references than its block's")
        self._in_its_role(life, message, name)
        if message.header.view == vote.view:
            self._is_valid(message, name)

    def _prepares(self, node: Holder, life: Life, at: Instant, vote: Prepare) -> None:
        name = f"{node.index} prepares at height {life.height}"
        proposal = life.proposals.get((life.height, vote.view, vote.digest))
        if proposal is None:
            raise Finding(f"6.4: {name} what nobody proposed")
        right = self._proofs.holds(proposal.vote)
        right = right and proposal.vote.signer == self._proofs.primary(life.height, vote.view)
        demand(right, f"6.4: {name} what the primary did not propose")
        block = self._stored(node, life, vote.digest)
        references = tuple(full_hash(data) for data in block.transactions)
        demand(references == proposal.references, f"6.4: {name} other transactions than proposed")
        self._in_its_role(life, proposal, name)
        if proposal.header.view == vote.view:
            self._is_valid(proposal, name)
            drift_ms = self._parameters.max_drift_ms
            earliest_ms, latest_ms = life.entered_wall_ms - drift_ms, at.wall_ms + drift_ms
            demand(earliest_ms <= proposal.header.time_ms <= latest_ms, f"6.8: {name} out of time")

    def _in_its_role(self, life: Life, proposal: Proposal, name: str) -> None:
        """Fresh where it may be, and the chosen block where it must be (PROTOCOL 6.6)."""
        vote, header = proposal.vote, proposal.header
        choices = {None} if vote.view == 0 else life.choices.get(vote.view, set())
        fresh = header.view == vote.view
        allowed = None in choices if fresh else vote.digest in choices and header.view < vote.view
        demand(allowed, f"6.6: {name} in view {vote.view} what no new-view allows")
        proposer = self._proofs.proposer(life.height, header.view)
        demand(header.proposer == proposer, f"6.6: {name} in the name of another")

    def _is_valid(self, proposal: Proposal, name: str) -> None:
        """PROTOCOL 6.8 of a fresh block, as far as no ledger is needed."""
        header, parameters = proposal.header, self._parameters
        parent = self._proofs.parent(header.height)
        wrong = self._proofs.misplaced(header)
        demand(wrong is None, f"6.8: {name} a header with a wrong {wrong}")
        count = len(proposal.references)
        sized = count <= parameters.max_block_transactions and len(set(proposal.references)) == count
        demand(sized, f"6.8: {name} too many transactions, or one twice")
        if not count and not proposal.discarded:
            early = (
                parent is not None and header.time_ms - parent.time_ms < parameters.empty_block_interval_ms
            )
            demand(not early, f"6.9: {name} an empty block before its time")
        if parent is not None:
            right = proposal.last_commit is not None and self._proofs.decides(
                proposal.last_commit, header.height - 1, header.parent_hash
            )
            demand(right, f"9.1: {name} a last-commit that proves nothing")
        identities = [item.transaction_id for item in proposal.discarded]
        proven = len(set(identities)) == len(identities) and all(
            self._proofs.removed(item, header.height, proposal.vote.view) for item in proposal.discarded
        )
        demand(proven, f"6.10: {name} a removal without proof")

    def _commits(
        self,
        node: Holder,
        life: Life,
        vote: Commit,
        records: Sequence[JournalRecord],
        decided: Digest | None,
    ) -> None:
        name = f"{node.index} commits at height {vote.height}"
        self._stored(node, life, vote.digest)
        if vote.digest == decided:
            return
        shown = [item.certificate for item in records if isinstance(item, PreparedRecord)]
        proven = any(
            (item.pre_prepare.height, item.pre_prepare.view, item.pre_prepare.digest)
            == (vote.height, vote.view, vote.digest)
            and self._proofs.holds(item)
            for item in shown
        )
        demand(proven, f"6.4: {name} without a prepared certificate in the journal")

    def _leaves(
        self, node: Holder, life: Life, at: Instant, message: ViewChange, may_leave: list[int]
    ) -> None:
        name = f"{node.index} asks for view {message.view} of height {life.height}"
        demand(self._proofs.holds(message), f"6.6: {name} with a message that proves nothing")
        shown = -1 if message.prepared is None else message.prepared.pre_prepare.view
        journaled = -1 if life.prepared is None else life.prepared
        demand(shown >= journaled, f"6.6: {name} without its highest prepared certificate")
        below = sorted((view, digest) for view, digest in life.accepted.items() if view < message.view)
        told = [(item.view, item.digest) for item in message.accepted]
        demand(told == below[-MOST_ACCEPTED:], f"6.6: {name} and does not say what it accepted")
        if life.invalid == life.view == life.entered:
            may_leave.append(life.view + 1)
        pulled = self._above(life.view_changes, life, message.view - 1) > self._proofs.faults(life.height)
        ordered = self._resumed.get(node.index) == life.height
        if not pulled and not ordered:
            demand(message.view in may_leave, f"6.6: {name} for no reason")
            may_leave.remove(message.view)
        life.entered_wall_ms = at.wall_ms

    @staticmethod
    def _above(view_changes: dict[tuple[int, PublicKey], int], life: Life, view: int) -> int:
        return sum(1 for (height, _), to in view_changes.items() if height == life.height and to > view)

    def _enters(self, node: Holder, life: Life, view: int, at: Instant) -> None:
        """A view begins: some new-view for it holds, received or its own (PROTOCOL 6.6)."""
        name = f"{node.index} enters view {view} of height {life.height}"
        demand(view >= life.view and view > life.entered, f"6.6: {name} after view {life.view}")
        for message in life.new_views.get(life.height, {}).values():
            if message.view == view and self._proofs.holds(message):
                counting = self._proofs.counting(message)
                life.choices.setdefault(view, set()).add(self._proofs.choice(counting))
                for item in counting:
                    if item.signer != node.member.public_key:
                        self._note_view_change(life, item, sure=False)
        demand(view in life.choices, f"6.6: {name} without a new-view that holds")
        if view > life.view:
            life.entered_wall_ms = at.wall_ms
        life.view = life.entered = view

    def _sets(self, node: Holder, life: Life, effect: SetTimer) -> None:
        timer = effect.timer
        life.timers[timer.kind] = timer
        if timer.kind != "view":
            return
        name = f"{node.index} times view {timer.view} of height {life.height}"
        demand(timer.view == life.view, f"6.7: {name} while it is in view {life.view}")
        expected_ms = self._steps[min(life.level + timer.view, len(self._steps) - 1)]
        demand(
            effect.delay_ms == expected_ms, f"6.7: {name} by {effect.delay_ms} ms instead of {expected_ms}"
        )
        if timer.view > 0:
            behind = self._above(life.view_changes, life, timer.view - 1) + (
                life.own_view_change >= timer.view
            )
            demand(behind >= self._proofs.quorum(life.height), f"6.7: {name}, for which only {behind} asked")

    def _owes_an_answer(
        self, node: Holder, life: Life, item: Input, effects: Sequence[Effect], told_ms: int | None
    ) -> None:
        """Whoever has decided h answers a view-change for h; that a node is silent is journaled (PROTOCOL 6.5, 6.6)."""
        if isinstance(item, Received) and isinstance(item.message, ViewChange):
            passed = item.message.height < life.height and item.sender != node.member.public_key
            due = told_ms is None or item.at.monotonic_ms - told_ms >= self._parameters.view_timeout_ms
            if passed and due:
                answered = any(
                    isinstance(effect, SendDecided) and effect.to == item.sender for effect in effects
                )
                demand(answered, f"6.6: {node.index} leaves a late delegate at height {item.message.height}")
        elif isinstance(item, AbstainUntil | JournalLost):
            silent = self._abstained.get(node.index, 0)
            known = UNKNOWN_HEIGHT if silent == NO_HEIGHT else silent
            written = [
                record.height
                for effect in effects
                if isinstance(effect, Persist)
                for record in effect.records
                if isinstance(record, AbstainRecord)
            ]
            demand(known in written, f"6.5: {node.index} does not journal that it is silent up to {known}")

    def _repeats(self, node: Holder, life: Life, effect: SendDecided | FetchDecided, at: Instant) -> None:
        """Answers and questions about decided blocks at most once a peer and view_timeout_ms (PROTOCOL 6.6)."""
        if isinstance(effect, SendDecided):
            last_ms = life.told_late.get(effect.to)
            life.told_late[effect.to] = at.monotonic_ms
        else:
            last_ms, life.fetched_ms = life.fetched_ms, at.monotonic_ms
        soon = last_ms is not None and at.monotonic_ms - last_ms < self._parameters.view_timeout_ms
        demand(not soon, f"6.6: {node.index} repeats a {type(effect).__name__} too soon")

    # ------------------------------------------------------------------ what had to be done

    def _owes(self, node: Holder, life: Life, effects: Sequence[Effect]) -> None:
        """Nothing may be left undone at the end of a step."""
        resends = "resend" in life.timers or not life.own
        if resends and life.view == 0 and not life.held and not effects:
            return  # most steps: a vote was counted, and nothing is open
        if life.decided_wall_ms is not None or not self._may_sign(node, life):
            return
        name = f"{node.index} at view {life.view} of height {life.height}"
        left = any(isinstance(effect, Trace) and effect.event == "view-change" for effect in effects)
        for effect in effects:
            if not isinstance(effect, Trace) or effect.event != "invalid-proposal":
                continue
            if effect.view == life.view == life.entered:
                demand(left, f"6.4: {name} stays under an invalid proposal")
        ahead = sum(1 for view in life.held.values() if view > life.view)
        demand(ahead <= self._proofs.faults(life.height), f"6.6: {name} does not join {ahead} that are ahead")
        asked = sum(1 for view in life.held.values() if view >= life.view) + (
            life.own_view_change >= life.view
        )
        timed = "view" in life.timers or life.view == 0 or asked < self._proofs.quorum(life.height)
        demand(timed, f"6.7: {name} does not time it, though {asked} asked for it")
        timer = life.timers.get("view")
        stale = timer is not None and timer.view != life.view
        demand(not stale, f"6.7: {name} still times the view before")
        demand(resends, f"6.6: {name} does not resend")
        if life.entered < life.view == life.own_view_change:
            exact = 1 + sum(
                1
                for signer, view in life.held.items()
                if view == life.view == life.view_changes[(life.height, signer)]
            )
            late = exact >= self._proofs.quorum(life.height)
            late = late and self._proofs.primary(life.height, life.view) == node.member.public_key
            demand(not late, f"6.6: {name} does not announce it")
