"""What one replica holds beside its height, and the few verbs that all its rules share."""

from consensus.complaint import Complaints
from consensus.effects import (
    CancelTimer,
    Effect,
    FetchBlock,
    JournalRecord,
    Persist,
    ResumeRecord,
    Send,
    SentRecord,
    SetTimer,
    Trace,
)
from consensus.errors import InvalidMessage, invariant
from consensus.height import HeightState
from consensus.inputs import HeightContext, Instant, Timer
from consensus.messages import Commit, V, ViewChange, Vote, sign_vote
from consensus.next_height import NextHeight, RateLimit
from consensus.own_votes import Signed
from consensus.parameters import Parameters
from consensus.parent_commits import ParentCommits
from consensus.signing import Signer, Verifier
from consensus.timers import GATHER, Backoff
from consensus.types import Address, Digest, PublicKey

ANSWERED_SENDERS = 256
"""Senders whose last answered view-change is remembered; more delegates than any set has."""


class Core:
    """State that outlives a height. Rules change it and `emit`; `Replica.step` collects what they emitted."""

    def __init__(
        self,
        chain_id: Digest,
        parameters: Parameters,
        signer: Signer,
        verifier: Verifier,
        context: HeightContext,
        at: Instant,
    ) -> None:
        self.chain_id = chain_id
        self.parameters = parameters
        self.signer = signer
        self.verifier = verifier
        self.public_key: PublicKey = signer.public_key
        self.now = at
        self.height = HeightState(chain_id, context, verifier, self.public_key, at)
        self.backoff = Backoff(parameters.view_timeout_ms, parameters.view_timeout_max_ms)
        self.complaints = Complaints(parameters)
        self.parent_commits: ParentCommits | None = None
        self.next_height = NextHeight()
        self.answered = RateLimit(parameters.view_timeout_ms, ANSWERED_SENDERS)
        self.fetched = RateLimit(parameters.view_timeout_ms, 1)
        self.journal: dict[int, list[JournalRecord]] = {}
        """Records of heights not entered yet."""
        self.last_votes: dict[Address, tuple[int, int, str]] = {}

        self.decided_wall_ms = at.wall_ms
        """Clock at deciding the last height, when view 0 of the next is entered (PROTOCOL 6.8)."""

        self.caught_up = True
        self.signing_floor = 0
        """No height below is ever signed: the journal shows that it was decided (PROTOCOL 6.5)."""
        self.abstain_until: int | None = None
        """Nothing is signed at heights up to it, `UNKNOWN_HEIGHT` included (journal lost)."""
        self.resumed: ResumeRecord | None = None

        self.waiting = 0
        self.oldest_waiting_ms: int | None = None
        self.timers: dict[str, Timer] = {}
        self._effects: list[Effect] = []
        self._generation = 0

    # ------------------------------------------------------------------ may this node sign?

    @property
    def abstaining(self) -> bool:
        """Whether a lost journal forbids to sign at the current height (PROTOCOL 6.5)."""
        height = self.height.context.height
        if self.resumed is not None and height >= self.resumed.height:
            return False
        return self.abstain_until is not None and height <= self.abstain_until

    @property
    def voting(self) -> bool:
        """Delegate, caught up (10.2), not abstaining, and above everything the journal ever signed (6.5)."""
        height = self.height
        return (
            height.rank is not None
            and self.caught_up
            and height.context.height >= self.signing_floor
            and (self.abstain_until is None or not self.abstaining)
        )

    def sign(self, kind: type[V], view: int, digest: Digest) -> V:
        """A vote of this key at the height in flight; to be published before anything else depends on it."""
        context = self.height.context
        return sign_vote(kind, self.chain_id, context.epoch, context.height, view, digest, self.signer)

    # ------------------------------------------------------------------ effects

    def emit(self, effect: Effect) -> None:
        """Ask the shell for ``effect``, after all emitted before."""
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        """All effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def trace(self, event: str, detail: str = "") -> None:
        """Tell people and tests; never acted on."""
        self.emit(Trace(event, self.height.context.height, self.height.view, detail))

    def refuse(self, error: InvalidMessage) -> None:
        """A message was dropped and changed nothing."""
        self.trace("refused", str(error))

    def publish(self, message: Signed, *records: JournalRecord) -> None:
        """Journal a message just signed, then send it to the other delegates (PROTOCOL 6.5)."""
        invariant(self.voting, "only a delegate that may vote signs (6.5, 10.2)")
        invariant(self.height.decided is None, "nothing is signed at a decided height (6.5)")
        self.height.own.record(message)
        invariant(self.height.own.floor <= self.height.view, "a delegate signs nothing above its view (6.6)")
        self._persist_and_send(message, records)

    def publish_decided(self, commit: Commit, *records: JournalRecord) -> None:
        """The same for the commit of one that decides without having committed (PROTOCOL 6.4)."""
        invariant(self.voting, "only a delegate that may vote signs (6.5, 10.2)")
        self.height.own.record_decided(commit)
        self._persist_and_send(commit, records)

    def _persist_and_send(self, message: Signed, records: tuple[JournalRecord, ...]) -> None:
        self.emit(Persist((*records, SentRecord(self.height.context.height, message))))
        self.emit(Send(message))

    def fetch_block(self, digest: Digest, holders: tuple[PublicKey, ...]) -> bool:
        """Ask once for the block of ``digest``, True the first time; the shell repeats until it is found."""
        height = self.height
        if digest in height.blocks or digest in height.fetching:
            return False
        height.fetching[digest] = None
        others = tuple(key for key in holders if key != self.public_key)
        self.emit(FetchBlock(height.context.height, digest, others))
        return True

    def seek_block(self, digest: Digest, holders: tuple[PublicKey, ...]) -> bool:
        """Fetch a block that a certificate names; one whose transactions are being gathered gets a moment first.

        True when it is asked for the first time.
        """
        if self.height.is_gathering(digest) and not self.height.gathering_overdue:
            if GATHER not in self.timers:
                self.set_timer(GATHER, self.parameters.view_timeout_ms // 4)
            return False
        return self.fetch_block(digest, holders)

    # ------------------------------------------------------------------ timers

    def generation(self) -> int:
        """A number no earlier request or timer of this replica has."""
        self._generation += 1
        return self._generation

    def set_timer(self, kind: str, delay_ms: int) -> None:
        """Start the timer of ``kind`` for the current height and view, replacing a running one."""
        invariant(delay_ms >= 0, "a delay is not negative")
        height = self.height
        timer = Timer(kind, height.context.height, height.view, self.generation())
        self.timers[kind] = timer
        self.emit(SetTimer(timer, delay_ms))

    def cancel_timer(self, kind: str) -> None:
        """Stop the timer of ``kind`` if it runs."""
        if self.timers.pop(kind, None) is not None:
            self.emit(CancelTimer(kind))

    # ------------------------------------------------------------------ for people

    def saw(self, message: Vote | ViewChange, phase: str) -> None:
        """Note for the status page the newest vote of a delegate."""
        rank = self.height.judge.rank(message.signer)
        if rank is not None:
            address = self.height.context.delegates.ranking[rank].address
            self.last_votes[address] = (message.height, message.view, phase)
