"""What a simulated member submits by itself: ballots, heartbeats, evidence, its registration (PROTOCOL 3.2, 4.6, 5.5).

The answers are those of `contracts.duties`, asked after every block as the real node does; here they are signed, sent
once, and sent again when the transaction has ended without effect.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from consensus.effects import Report, ReportProposal
from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.messages import Commit
from consensus.removal import transaction_id
from consensus.types import Digest
from contracts.ballots import sign_ballot
from contracts.duties import (
    ballot_due,
    default_choices,
    evidence_due,
    heartbeat_due,
    next_ballot_sequence,
)
from contracts.epoch_queries import group_of, has_groups
from contracts.epoch_state import chain_of
from contracts.evidence import accused_vote
from contracts.genesis import Admission
from contracts.receipts import EpochPhase
from contracts.state import State
from contracts.transaction import Ballots, Payload
from network.simulation.system.cast import Cast, Player

COMMITS_KEPT = 256
"""Own commits kept for heartbeats: several epochs of a simulation."""
REPORTS_KEPT = 64
UNRULY_PERCENT = 20
"""Chance that a member tries, in an epoch, whether a ballot that is to be refused is taken."""
INVITE_MS = 600_000
"""How long an invite is good: longer than most runs last."""


@dataclass
class Temper:
    """How a member behaves where PROTOCOL leaves it free; chances in percent, drawn by epoch."""

    silent: int = 0
    """It casts no ballot."""
    willful: int = 0
    """It votes for whom it likes instead of 5.5."""
    changing: int = 0
    """It replaces its ballot within the epoch (PROTOCOL 7.2)."""
    absent: int = 0
    """It does nothing of its own for four epochs on end: neither ballot nor heartbeat (PROTOCOL 4.6)."""


class Duties:
    """One process's deeds; volatile, made anew with each life."""

    def __init__(
        self,
        cast: Cast,
        player: Player,
        temper: Temper,
        submit: Callable[[bytes], None],
        is_waiting: Callable[[Digest], bool],
        is_done: Callable[[Digest], bool],
    ) -> None:
        """``is_waiting``: whether an id is in the pool; ``is_done``: whether it is on the ledger."""
        self._cast = cast
        self._player = player
        self._temper = temper
        self._submit = submit
        self._is_waiting = is_waiting
        self._is_done = is_done
        self._heartbeat: Digest | None = None
        self._commits: dict[int, Commit] = {}
        self.reports: dict[bytes, Report | ReportProposal] = {}
        self._sent: dict[bytes, Digest] = {}

    def committed(self, commit: Commit) -> None:
        """This node signed a commit."""
        self._commits[commit.height] = commit
        while len(self._commits) > COMMITS_KEPT:
            del self._commits[next(iter(self._commits))]

    def report(self, report: Report | ReportProposal) -> None:
        """The replica found misbehaviour that it can prove."""
        self.reports[encode(report)] = report
        while len(self.reports) > REPORTS_KEPT:
            del self.reports[next(iter(self.reports))]

    def look(self, state: State, wall_ms: int, *, wants_in: bool) -> None:
        """Do what is due by the state after the last block."""
        account = state.accounts.get(self._player.address)
        if account is not None:
            self._try_what_is_refused(state, wall_ms)
        if account is None or account.left_height is not None:
            if wants_in:
                self._join(state, wall_ms)
            return
        if self._rng("absent", chain_of(state).epoch // 4).randrange(100) >= self._temper.absent:
            self._vote(state, wall_ms)
            self._beat(state, wall_ms)
        self._accuse(state, wall_ms)

    def _join(self, state: State, wall_ms: int) -> None:
        last_time_ms = wall_ms + INVITE_MS
        if self._cast.genesis.admission is Admission.OPEN:
            last_time_ms = 0
        account = state.accounts.get(self._player.address)
        which = encode(0 if account is None else account.left_height)
        self._send("join", which, self._cast.join(self._player, last_time_ms), wall_ms)

    def _vote(self, state: State, wall_ms: int) -> None:
        chain, parameters = chain_of(state), self._cast.parameters
        duty = ballot_due(state, parameters, self._player.address)
        if duty is not None:
            rng = self._rng("ballot", duty.epoch)
            if rng.randrange(100) < self._temper.silent:
                return
            choices = duty.choices
            if rng.randrange(100) < self._temper.willful:
                choices = self._fancied(state, duty.epoch, rng)
            self._cast_ballot(duty.epoch, duty.sequence, choices, wall_ms)
        elif chain.phase is EpochPhase.RUNNING:
            self._change_mind(state, chain.epoch, wall_ms)

    def _change_mind(self, state: State, epoch: int, wall_ms: int) -> None:
        """A newer ballot for the current epoch's seats (PROTOCOL 7.2)."""
        rng = self._rng("change", epoch)
        address = self._player.address
        if rng.randrange(100) >= self._temper.changing or not has_groups(state, epoch):
            return
        sequence = next_ballot_sequence(state, epoch, address)
        if group_of(state, epoch, address) is None or sequence is None or sequence > 2:
            return
        self._cast_ballot(epoch, sequence, self._fancied(state, epoch, rng), wall_ms)

    def _try_what_is_refused(self, state: State, wall_ms: int) -> None:
        """In some epochs ballots that may not count: too many, known, outside, of another time (PROTOCOL 5.2)."""
        chain = chain_of(state)
        rng = self._rng("refused", chain.epoch)
        if rng.randrange(100) >= UNRULY_PERCENT or not has_groups(state, chain.epoch):
            return
        groups = state.epoch.grouping(chain.epoch).groups
        everybody = [member.address for group in groups for member in group]
        own = self._player.address
        match rng.randrange(4):
            case 0:
                for sequence in range(3, 9):
                    self._cast_ballot(chain.epoch, sequence, (own,), wall_ms)
            case 1:
                outside = (own, *rng.sample(everybody, min(2, len(everybody))))
                self._cast_ballot(chain.epoch, rng.randint(1, 5), tuple(dict.fromkeys(outside)), wall_ms)
            case 2:
                self._cast_ballot(chain.epoch + 1, rng.randint(1, 2), (own,), wall_ms)
            case _:
                for choice in rng.sample(everybody, 1):
                    ballot = sign_ballot(self._cast.chain_id, self._player.signer, chain.epoch, 1, (choice,))
                    self._send("known ballot", encode(chain.epoch), Ballots((ballot,)), wall_ms)

    def _fancied(self, state: State, epoch: int, rng: random.Random) -> tuple[bytes, ...]:
        grouping = state.epoch.grouping(epoch)
        group = grouping.groups[grouping.group_of[self._player.address]]
        members = [member.address for member in group]
        if rng.random() < 0.3:
            return default_choices(state, epoch, self._player.address)
        return tuple(rng.sample(members, rng.randint(1, min(3, len(members)))))

    def _rng(self, purpose: str, epoch: int) -> random.Random:
        """The same answer however often a block asks for it."""
        return random.Random(f"{self._player.public_key.hex()}/{purpose}/{epoch}")

    def _cast_ballot(self, epoch: int, sequence: int, choices: tuple[bytes, ...], wall_ms: int) -> None:
        ballot = sign_ballot(self._cast.chain_id, self._player.signer, epoch, sequence, choices)
        self._send("ballot", encode((epoch, sequence)), Ballots((ballot,)), wall_ms)

    def _beat(self, state: State, wall_ms: int) -> None:
        heartbeat = heartbeat_due(state, self._cast.parameters, self._player.address, self._commits)
        if heartbeat is None or (self._heartbeat is not None and self._is_waiting(self._heartbeat)):
            return  # one at a time: the next block's would carry another commit and say no more
        height = 0 if heartbeat.commit is None else heartbeat.commit.height
        self._heartbeat = self._send("heartbeat", encode((heartbeat.epoch, height)), heartbeat, wall_ms)

    def _accuse(self, state: State, wall_ms: int) -> None:
        for key, report in list(self.reports.items()):
            evidence = evidence_due(state, report)
            if evidence is None:
                del self.reports[key]
                continue
            vote = accused_vote(evidence.proof)
            self._send("evidence", encode((vote.height, address_of(vote.signer))), evidence, wall_ms)

    def _send(self, duty: str, which: bytes, payload: Payload, wall_ms: int) -> Digest:
        """The transaction that does it: the one sent before, or a new one."""
        key = duty.encode() + which
        sent = self._sent.get(key)
        if sent is not None and (self._is_waiting(sent) or self._is_done(sent)):
            return sent
        data = self._cast.transaction(payload, (self._player.signer,), wall_ms)
        identity = self._sent[key] = transaction_id(data)
        self._submit(data)
        return identity
