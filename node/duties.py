"""What this member submits by itself: its ballot, heartbeats, evidence (PROTOCOL 3.2, 4.6, 5.5).

Asked after every block, the pure answers of `contracts.duties` repeat until the ledger shows the deed done; here each
is signed once and sent again only when its transaction has ended without effect.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from consensus.effects import Report, ReportProposal
from consensus.encoding import encode
from consensus.messages import Commit
from consensus.signing import Signer
from consensus.types import Address, Digest
from contracts.ballots import sign_ballot
from contracts.duties import ballot_due, evidence_due, heartbeat_due
from contracts.evidence import accused_vote
from contracts.transaction import Ballot, Ballots, Payload
from node.joining import Joining, Submit
from node.ledger import Ledger

MAX_OWN_COMMITS: Final = 4_096
"""Own commits kept for heartbeats: missed_ms of a chain that decides 100 blocks a second, and more."""
MAX_REPORTS: Final = 64
"""Reports whose evidence is not on the ledger yet; one of each offender and height is enough."""
MAX_SENT: Final = 256
"""Deeds remembered as sent."""

log = structlog.get_logger("node.duties")

CarryBallot = Callable[[Ballot], None]
"""Hands a signed ballot to the bootstrap services, in the background."""


class Duties:
    """One member's deeds."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        signer: Signer,
        own_address: Address,
        submit: Submit,
        is_waiting: Callable[[Digest], bool],
        carry: CarryBallot | None,
        joining: Joining,
    ) -> None:
        """``is_waiting``: whether a transaction is in the pool or on its way there.

        ``carry``: the way by a bootstrap, if any.
        ``joining`` registers this key while it is no member.
        """
        self._ledger = ledger
        self._signer = signer
        self._address = own_address
        self._submit = submit
        self._is_waiting = is_waiting
        self._carry = carry
        self._joining = joining
        self._own_commits: OrderedDict[int, Commit] = OrderedDict()
        self._reports: OrderedDict[bytes, Report | ReportProposal] = OrderedDict()
        self._sent: OrderedDict[bytes, Digest] = OrderedDict()
        self._carried: tuple[int, int] | None = None
        self._heartbeat: Digest | None = None
        self.enabled = True
        """Off while this node is behind: duties are read from the newest state or not at all."""

    def committed(self, commit: Commit) -> None:
        """This node signed ``commit``."""
        self._own_commits[commit.height] = commit
        while len(self._own_commits) > MAX_OWN_COMMITS:
            self._own_commits.popitem(last=False)

    def report(self, report: Report | ReportProposal) -> None:
        """The replica found misbehaviour that it can prove."""
        self._reports[encode(report)] = report
        while len(self._reports) > MAX_REPORTS:
            self._reports.popitem(last=False)
        self.look()

    def look(self) -> None:
        """Do what is due by the state after the last block."""
        if not self.enabled:
            return
        self._joining.look()
        self._vote()
        self._beat()
        self._accuse()

    def _vote(self) -> None:
        parameters = self._ledger.genesis.parameters
        duty = ballot_due(self._ledger.state, parameters, self._address)
        if duty is None:
            return
        if self._carry is not None and not duty.overdue:
            if self._carried != (duty.epoch, duty.sequence):
                self._carried = (duty.epoch, duty.sequence)
                self._carry(self._ballot(duty.epoch, duty.sequence, duty.choices))
            return
        which = encode((duty.epoch, duty.sequence))
        self._send("ballot", which, lambda: Ballots((self._ballot(duty.epoch, duty.sequence, duty.choices),)))

    def _ballot(self, epoch: int, sequence: int, choices: tuple[Address, ...]) -> Ballot:
        return sign_ballot(self._ledger.chain_id, self._signer, epoch, sequence, choices)

    def _beat(self) -> None:
        heartbeat = heartbeat_due(
            self._ledger.state, self._ledger.genesis.parameters, self._address, self._own_commits
        )
        if heartbeat is None or (self._heartbeat is not None and self._is_waiting(self._heartbeat)):
            return  # one at a time: the next block's would carry another commit and say no more
        height = 0 if heartbeat.commit is None else heartbeat.commit.height
        which = encode((heartbeat.epoch, height))
        self._heartbeat = self._send("heartbeat", which, partial(_same, heartbeat))

    def _accuse(self) -> None:
        for key, report in list(self._reports.items()):
            evidence = evidence_due(self._ledger.state, report)
            if evidence is None:
                del self._reports[key]
            else:
                vote = accused_vote(evidence.proof)
                self._send("evidence", encode((vote.height, vote.signer)), partial(_same, evidence))

    def _send(self, duty: str, which: bytes, make: Callable[[], Payload]) -> Digest | None:
        """The transaction that does it: the one sent before, or a new one; None if the pool takes none now."""
        key = duty.encode() + which
        sent = self._sent.get(key)
        if sent is not None and (self._is_waiting(sent) or self._ledger.locate(sent) is not None):
            return sent
        transaction_id = self._submit(make())
        if transaction_id is None:
            return None
        log.info("submitted", duty=duty, transaction=transaction_id.hex())
        self._sent[key] = transaction_id
        while len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)
        return transaction_id


def _same(payload: Payload) -> Payload:
    return payload
