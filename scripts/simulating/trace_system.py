"""A whole-system run that tells its story: what replicas do, and what the ledger books in each block."""

from collections.abc import Callable, Sequence

from typing_extensions import override

from consensus.block import CertifiedBlock
from consensus.effects import Effect
from consensus.inputs import Input
from consensus.types import Address, PublicKey
from contracts.receipts import (
    BallotAccepted,
    DelegatesChanged,
    EpochPhase,
    Event,
    FaultKind,
    FaultRecorded,
    GroupsFormed,
    GroupTallied,
    MemberJoined,
    MemberLeft,
    PhaseChanged,
    PlanAccepted,
    ReasonCode,
    TradeChanged,
    TradeSettled,
    TransactionDiscarded,
)
from network.simulation.disk import DiskFailed
from network.simulation.letters import Letter
from network.simulation.surroundings import Holder
from network.simulation.system.scenario import Outcome, Scenario
from network.simulation.system.troubles import Trouble
from network.simulation.system.world import SystemRun
from scripts.simulating.story import Story

_PHASE = {
    EpochPhase.RUNNING: "begins",
    EpochPhase.PLANNING: "plans its groups from here on",
    EpochPhase.VOTING: "votes from here on",
    EpochPhase.CLOSING: "is closed by the next block",
}
_FAULT = {
    FaultKind.NO_BLOCK: "no block as primary",
    FaultKind.WRONG_BLOCK: "proven wrong block or equivocation",
    FaultKind.DOWN: "down",
}


class ToldSystem(SystemRun):
    """A system run that tells its story while it happens; everything else about it stays as it is."""

    def __init__(self, scenario: Scenario, *, letters: bool = False, brief: bool = False) -> None:
        """``brief``: of each block only its first decision and what it booked."""
        super().__init__(scenario)
        of_key = {key: (index,) for key, index in self._of_key.items()}
        self.story = Story(self._lanes, lambda: self.agenda.now_us, of_key, letters=letters)
        self._brief = brief

    def _lanes(self) -> str:
        seated = {item.public_key for item in self.shared.term(self.shared.height + 1).delegates.ranking}
        return "".join(
            "x" if not node.up
            else "=" if node.paused
            else "*" if node.index == self._liar
            else "." if node.member.public_key in seated
            else ":"
            for node in self.nodes
        )  # fmt: skip

    def _who(self, address: Address) -> str:
        return str(self.cast.by_address[address].index)

    # ------------------------------------------------------------------ listened to

    @override
    def stepped(self, node: Holder, item: Input | None, effects: Sequence[Effect]) -> None:
        """A replica was stepped."""
        if not self._brief:
            self.story.stepped(node.index, item, effects)
        super().stepped(node, item, effects)

    @override
    def performed(self, node: Holder, effect: Effect) -> None:
        """An effect was carried out."""
        if not self._brief:
            self.story.performed(node.index, node.member.public_key, effect)
        super().performed(node, effect)

    @override
    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        """A block was decided and executed."""
        if not self._brief or certified.block.header.height > len(self.checkers.decisions.chain):
            self.story.applied(node.index, certified)
        super().applied(node, certified)

    @override
    def _decided(self, certified: CertifiedBlock) -> None:
        super()._decided(certified)
        for receipt in self.shared.outcomes[certified.block.header.height - 1].receipts:
            if receipt.code is not ReasonCode.OK and not self._brief:
                self.story.say(f"     a transaction is rejected: {receipt.code.name.lower()}")
            for event in receipt.events:
                text = self._told(event)
                if text is not None:
                    self.story.say(f"     {text}")

    def _told(self, event: Event) -> str | None:
        """An event of the ledger in words; None for those that every block has."""
        who = self._who
        match event:
            case PhaseChanged():
                return f"epoch {event.epoch} {_PHASE[event.phase]}"
            case FaultRecorded():
                charged = "" if event.charged else ", not charged again"
                return (
                    f"fault of {who(event.address)} at height {event.height}: {_FAULT[event.kind]}{charged}"
                )
            case GroupsFormed():
                return f"groups of epoch {event.epoch}: {self._groups(event)}"
            case BallotAccepted():
                choices = ", ".join(map(who, event.choices))
                return f"ballot {event.sequence} of {who(event.voter)} for epoch {event.epoch}: {choices}"
            case GroupTallied():
                again = "recount" if event.recount else "tally"
                return (
                    f"{again} in group {event.group}: {who(event.delegate)} with {event.votes} votes "
                    f"on {event.ballots} ballots"
                )
            case DelegatesChanged():
                return f"seats from height {event.height} on: {', '.join(map(who, event.ranking))}"
            case MemberJoined():
                return f"{who(event.address)} joins"
            case MemberLeft():
                return f"{who(event.address)} leaves"
            case PlanAccepted():
                return f"plan of {who(event.submitter)} is taken"
            case _:
                return _told_trade(event, who)

    def _groups(self, event: GroupsFormed) -> str:
        groups: dict[int, list[str]] = {}
        for member, group in zip(event.members, event.assignment, strict=True):
            groups.setdefault(group, []).append(self._who(member))
        return " | ".join(" ".join(sorted(groups[group], key=int)) for group in sorted(groups))

    @override
    def broke(self, node: Holder, error: Exception) -> None:
        """A replica raised."""
        self.story.say(f"its replica stops: {type(error).__name__}: {error}", node.index, "!")
        super().broke(node, error)

    @override
    def stopped(self, node: Holder, error: DiskFailed) -> None:
        """A disk failed."""
        self.story.say(f"stops: {error}", node.index, "x")
        super().stopped(node, error)

    @override
    def punished(self, node: Holder, culprit: PublicKey, reason: str) -> None:
        """A node banned a peer."""
        self.story.say(f"bans {self.story.name(culprit)}: {reason}", node.index)
        super().punished(node, culprit, reason)

    @override
    def came_up(self, node: Holder, up: bool) -> None:
        """A process began or ended."""
        if self.agenda.now_us or not up:
            self.story.say("starts" if up else "is down", node.index, "^" if up else "x")
        super().came_up(node, up)

    @override
    def _deliver(self, source: int, target: int, letter: Letter) -> None:
        if not self._brief:
            self.story.delivered(source, target, letter, liar=source == self._liar)
        super()._deliver(source, target, letter)

    @override
    def _start_trouble(self, trouble: Trouble) -> None:
        if self._active:
            self.story.say(f"-- {trouble.name}: {trouble.about}")
        super()._start_trouble(trouble)

    @override
    def _end_trouble(self, trouble: Trouble) -> None:
        if trouble in self._troubles:
            self.story.say(f"-- over: {trouble.name}: {trouble.about}")
        super()._end_trouble(trouble)

    @override
    def run(self) -> Outcome:
        """The run; a finding is the story's last line."""
        outcome = super().run()
        if outcome.finding is not None:
            self.story.say(f"!! {outcome.finding}")
        return outcome


def _told_trade(event: Event, who: Callable[[Address], str]) -> str | None:
    match event:
        case TradeChanged():
            between = f"{who(event.seller)} to {who(event.buyer)}"
            return f"contract {event.contract_id.hex()[:6]}, {between}: {event.state.name.lower()}"
        case TradeSettled():
            return (
                f"contract {event.contract_id.hex()[:6]} settles {event.paid_wh} Wh of {event.delivered_wh}"
            )
        case TransactionDiscarded():
            return f"transaction {event.transaction_id.hex()[:6]} is removed for ever"
        case _:
            return None
