"""Commits for the block decided last, also those that came after its certificate (PROTOCOL 3.2c, 9.1).

A last-commit of exactly q would always leave out the slowest delegates, who would be counted absent although they
signed. So late commits are kept, unverified, and the next primary verifies and adds them.
"""

from consensus.block import Certificate
from consensus.certificate import Decision, make_certificate, signatures_of
from consensus.errors import invariant
from consensus.messages import Commit, verify_vote
from consensus.signing import Verifier
from consensus.types import Digest, PublicKey, SignatureBytes


class ParentCommits:
    """Verified and late commits of one decided block, in the view of its certificate."""

    def __init__(self, certificate: Certificate, decision: Decision) -> None:
        invariant(certificate.digest == decision.digest, "the certificate is for the parent")
        self.decision = decision
        self.view = certificate.view
        self._known = signatures_of(certificate)
        self._late: dict[PublicKey, Commit] = {}

    def known_in(self, view: int) -> dict[PublicKey, SignatureBytes]:
        """Signatures already verified, if ``view`` is that of the certificate."""
        return self._known if view == self.view else {}

    def offer(self, commit: Commit) -> None:
        """Keep a commit for later if it may belong here; bounded by the number of delegates."""
        decision = self.decision
        wanted = (decision.epoch, decision.height, self.view, decision.digest)
        if (
            commit.epoch,
            commit.height,
            commit.view,
            commit.digest,
        ) != wanted or commit.signer in self._known:
            return
        if decision.delegates.position_of_key(commit.signer) is not None:
            self._late[commit.signer] = commit

    def assemble(self, chain_id: Digest, verifier: Verifier) -> Certificate:
        """The fullest last-commit that can be shown now."""
        for signer, commit in self._late.items():
            if verify_vote(commit, chain_id, verifier):
                self._known[signer] = commit.signature
        self._late.clear()
        invariant(len(self._known) <= len(self.decision.delegates), "a seat commits once to a block (9.1)")
        return make_certificate(self.decision, self.view, self._known)
