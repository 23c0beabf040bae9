"""What happened in a run as a text that people read: virtual time, a lane for each node, who did what and why."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from consensus.block import CertifiedBlock
from consensus.effects import Effect, Send, Trace
from consensus.inputs import (
    AbstainUntil,
    Advanced,
    Batch,
    BlockFetched,
    DecidedReceived,
    Input,
    JournalLost,
    ProposalChecked,
    Received,
    SyncState,
    TimerFired,
)
from consensus.messages import Commit, ConsensusMessage, NewView, Prepare, Proposal, ViewChange
from consensus.types import Digest, PublicKey

SHOWN_HEX: Final = 6
"""Of a block's digest; enough to tell the blocks of one run apart."""
LEGEND: Final = (
    "lanes: . up  : up without a seat  x down  = paused  * lies | P pre-prepare  p prepare  c commit  D decide\n"
    "       V view-change  N new-view  ^ start  o other"
)
TOLD_TRACES: Final = {
    "late-commit": "decided without having committed: signs commit for the deciding view",
    "certificate-learned": "learns the certificate from the next proposal's last-commit",
    "certificate-before-block": "holds a certificate for a block that it lacks, and asks for the block",
    "body-missing": "has to propose a block again that it lacks, and asks for it",
    "block-fetched": "found the block",
    "behind": "sees that others are ahead and asks for decided blocks",
    "answered-late": "has decided this height: answers with block and certificate",
    "complaint": "will complain about this primary",
    "equivocation": "has proof of equivocation",
    "invalid-proposal": "finds the proposal invalid",
    "time-ahead": "waits until its clock reaches the proposal's time",
    "journal-lost": "lost its journal: signs nothing until it knows how far the chain is",
    "abstaining": "signs nothing at heights up to",
    "kept-early": "keeps a proposal whose view has not begun here",
    "resumed": "may sign again by order of the operators",
}
_KIND: Final = {
    Prepare: "prepare",
    Commit: "commit",
    ViewChange: "view-change",
    NewView: "new-view",
    Proposal: "pre-prepare",
}


def block_name(digest: Digest) -> str:
    """Short."""
    return digest.hex()[:SHOWN_HEX]


def told(message: ConsensusMessage, of: Callable[[PublicKey], str], reason: str = "") -> str:
    """What a message says, as a sentence without its subject; ``of`` names the holder of a key."""
    match message:
        case Proposal():
            vote, header = message.vote, message.header
            carried = "" if header.view == vote.view else f" again, first proposed in view {header.view}"
            removed = f", {len(message.discarded)} removed" if message.discarded else ""
            return (
                f"pre-prepares {vote.height} {block_name(vote.digest)} in view {vote.view}{carried}: "
                f"{_count(len(message.references), 'transaction')}{removed}"
            )
        case Prepare():
            return f"prepares {message.height} {block_name(message.digest)} in view {message.view}"
        case Commit():
            return f"commits {message.height} {block_name(message.digest)} in view {message.view}"
        case ViewChange():
            vote_of = message.prepared
            held = (
                "nothing prepared"
                if vote_of is None
                else f"prepared {block_name(vote_of.pre_prepare.digest)} in view {vote_of.pre_prepare.view}"
            )
            why = f", {reason}" if reason else ""
            return f"asks for view {message.view} of {message.height}{why} ({held})"
        case NewView():
            best = max(
                (item.prepared.pre_prepare for item in message.view_changes if item.prepared is not None),
                key=lambda vote: vote.view,
                default=None,
            )
            chosen = "a fresh block" if best is None else f"{block_name(best.digest)} again"
            asked = ", ".join(sorted(of(item.signer) for item in message.view_changes))
            return f"opens view {message.view} of {message.height} for {chosen}, asked by {asked}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def letter_kind(letter: object) -> str:
    """The name of a letter."""
    return _KIND.get(type(letter), type(letter).__name__)  # type: ignore[call-overload, no-any-return]


def place_of(message: ConsensusMessage) -> str:
    """Height and view, and the block if there is one."""
    core = message.vote if isinstance(message, Proposal) else message
    digest = "" if isinstance(core, ViewChange | NewView) else f" {block_name(core.digest)}"
    return f"{core.height}/{core.view}{digest}"


class Story:
    """Collects the lines of one run."""

    def __init__(
        self,
        lanes: Callable[[], str],
        now_us: Callable[[], int],
        of_key: Mapping[PublicKey, Sequence[int]],
        *,
        letters: bool,
    ) -> None:
        """``lanes`` gives the state of each node as one character; ``letters`` tells every letter, too."""
        self._lanes = lanes
        self._now_us = now_us
        self._of_key = of_key
        self.letters = letters
        self.lines: list[str] = []
        self._causes: dict[int, tuple[Effect, str]] = {}
        self._sent: dict[int, dict[ConsensusMessage, None]] = {}
        self._reasons: dict[int, str] = {}
        self._decided = 0

    # ------------------------------------------------------------------ lines

    def say(self, text: str, node: int | None = None, mark: str = "o") -> None:
        """A line; with ``node`` its lane shows ``mark``."""
        lanes = list(self._lanes())
        subject = ""
        if node is not None:
            lanes[node] = mark
            subject = f"{node} "
        self.lines.append(f"{self._now_us() / 1e6:9.3f}  {' '.join(lanes)}  {subject}{text}")

    def name(self, key: PublicKey) -> str:
        """The number of the node (or nodes) that hold a key."""
        return "/".join(map(str, self._of_key.get(key, ()))) or key.hex()[:SHOWN_HEX]

    # ------------------------------------------------------------------ what nodes do

    def stepped(self, node: int, item: Input | None, effects: Sequence[Effect]) -> None:
        """Remember why effects are asked for."""
        if isinstance(item, SyncState):
            self.say("has caught up and may vote" if item.caught_up else "is behind and does not vote", node)
        cause = self._cause(item)
        if cause:
            for effect in effects:
                if isinstance(effect, Send):
                    self._causes[id(effect)] = (effect, cause)

    def _cause(self, item: Input | None) -> str:
        match item:
            case None:
                return "after its start"
            case Received():
                return f"on {letter_kind(item.message)} of {self.name(item.sender)}"
            case TimerFired():
                return f"its {item.timer.kind} timer ran out"
            case DecidedReceived():
                return "on a decided block from a peer"
            case BlockFetched():
                return "having fetched the block"
            case Advanced():
                return "on what came early"
            case SyncState():
                return "having caught up"
            case Batch() | ProposalChecked() | JournalLost() | AbstainUntil():
                return ""
            case _:
                return ""

    def performed(self, node: int, key: PublicKey, effect: Effect) -> None:
        """An effect was carried out."""
        if isinstance(effect, Send):
            self._performed_send(node, key, effect)
        elif isinstance(effect, Trace):
            self._traced(node, effect)

    def _performed_send(self, node: int, key: PublicKey, effect: Send) -> None:
        _, cause = self._causes.pop(id(effect), (effect, ""))
        message = effect.message
        signer = message.vote.signer if isinstance(message, Proposal) else message.signer
        known = self._sent.setdefault(node, {})
        if signer != key or message in known:
            if self.letters:
                self.say(f"sends {letter_kind(message)} {place_of(message)} again", node)
            return
        known[message] = None
        mark = {Proposal: "P", Prepare: "p", Commit: "c", ViewChange: "V", NewView: "N"}[type(message)]
        text = told(message, self.name, self._reasons.pop(node, ""))
        why = f", {cause}" if cause and not isinstance(message, ViewChange) else ""
        self.say(f"{text}{why}", node, mark)

    def _traced(self, node: int, effect: Trace) -> None:
        if effect.event == "view-change":
            self._reasons[node] = effect.detail
        elif effect.event == "refused":
            if self.letters:
                self.say(f"refuses a message: {effect.detail}", node)
        elif effect.event in TOLD_TRACES:
            detail = (
                f" {effect.detail}"
                if effect.event == "abstaining"
                else f": {effect.detail}"
                if effect.detail
                else ""
            )
            self.say(f"{TOLD_TRACES[effect.event]}{detail}", node)

    def applied(self, node: int, certified: CertifiedBlock) -> None:
        """A node decided."""
        certificate, block = certified.certificate, certified.block
        signers = ", ".join(sorted(self.name(item.signer) for item in certificate.signatures))
        late = certificate.view - block.header.view
        carried = f", first proposed in view {block.header.view}" if late else ""
        first = ""
        if certificate.height > self._decided:
            self._decided = certificate.height
            held = [_count(len(block.transactions), "transaction")] if block.transactions else ["empty"]
            held += [f"{len(block.discarded)} removed"] if block.discarded else []
            first = f" ({', '.join(held)})"
        self.say(
            f"decides {certificate.height} {block_name(certificate.digest)}{first}: "
            f"commits of view {certificate.view} by {signers}{carried}",
            node,
            "D",
        )

    def delivered(self, source: int, target: int, letter: object, *, liar: bool) -> None:
        """A letter arrived: told if all are, or if it is none that its sender's replica asked for."""
        if not isinstance(letter, ConsensusMessage):
            if self.letters:
                self.say(f"> {target}: {letter_kind(letter)}", source)
            return
        if liar and letter not in self._sent.get(source, {}):
            self.say(
                f"> {target}: {letter_kind(letter)} {place_of(letter)}, not what its replica says", source
            )
        elif self.letters:
            self.say(f"> {target}: {letter_kind(letter)} {place_of(letter)}", source)
