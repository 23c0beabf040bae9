"""Certificates: q commits decide, a pre-prepare and q - 1 prepares allow to commit (PROTOCOL 6.2, 6.4, 9.1)."""

from collections.abc import Iterable, Mapping

from consensus.block import Certificate, CommitSignature
from consensus.delegates import DelegateSet
from consensus.errors import InvalidMessage, invariant
from consensus.judge import Judge
from consensus.messages import Prepare, PreparedCertificate, PrePrepareVote
from consensus.signing import Phase, Verifier, consensus_bytes
from consensus.types import Digest, PublicKey, SignatureBytes, Value


class Decision(Value, frozen=True):
    """What a certificate has to prove: this digest, at this height, of this epoch, by these delegates."""

    epoch: int
    height: int
    digest: Digest
    delegates: DelegateSet


def check_certificate(
    certificate: Certificate,
    decision: Decision,
    chain_id: Digest,
    verifier: Verifier,
    known: Mapping[PublicKey, SignatureBytes] | None = None,
) -> None:
    """Raise `InvalidMessage` unless at least q distinct delegates committed in one view (PROTOCOL 6.12, 9.1).

    ``known`` are signatures over exactly this epoch, height, view and digest that were verified before. Every
    signature must hold, also beyond q: a last-commit is a record of who was there.
    """
    if (certificate.epoch, certificate.height) != (decision.epoch, decision.height):
        raise InvalidMessage("the certificate is of another epoch or height")
    if certificate.digest != decision.digest:
        raise InvalidMessage("the certificate is for another block")
    if len(certificate.signatures) < decision.delegates.quorum:
        raise InvalidMessage(
            f"{len(certificate.signatures)} commits, a certificate needs {decision.delegates.quorum}"
        )
    ranks = {delegate.public_key: rank for rank, delegate in enumerate(decision.delegates)}
    check_ranking_order((item.signer for item in certificate.signatures), ranks)
    message = consensus_bytes(
        Phase.COMMIT, chain_id, certificate.epoch, certificate.height, certificate.view, certificate.digest
    )
    for item in certificate.signatures:
        if known is not None and known.get(item.signer) == item.signature:
            continue
        if not verifier.verify(item.signer, message, item.signature):
            raise InvalidMessage("a commit of the certificate is not signed by its signer")


def check_ranking_order(signers: Iterable[PublicKey], ranks: Mapping[PublicKey, int]) -> None:
    """Raise `InvalidMessage` unless the signers hold seats and stand in ranking order, each once."""
    previous = -1
    for signer in signers:
        rank = ranks.get(signer)
        if rank is None:
            raise InvalidMessage("a signer of the certificate holds no seat")
        if rank <= previous:
            raise InvalidMessage("the certificate's signers are not in ranking order, each once")
        previous = rank


def make_certificate(
    decision: Decision, view: int, signatures: Mapping[PublicKey, SignatureBytes]
) -> Certificate:
    """The certificate of verified commits of one view, in ranking order."""
    members = tuple(
        CommitSignature(delegate.public_key, signatures[delegate.public_key])
        for delegate in decision.delegates
        if delegate.public_key in signatures
    )
    invariant(len(members) == len(signatures), "only delegates' commits make a certificate")
    invariant(len(members) >= decision.delegates.quorum, "a certificate holds at least q commits (S3)")
    return Certificate(decision.epoch, decision.height, view, decision.digest, members)


def signatures_of(certificate: Certificate) -> dict[PublicKey, SignatureBytes]:
    """Signer to signature."""
    return {item.signer: item.signature for item in certificate.signatures}


def check_prepared(certificate: PreparedCertificate, judge: Judge) -> None:
    """Raise `InvalidMessage` unless it is a pre-prepare and q - 1 prepares of others, all verified (PROTOCOL 6.4)."""
    pre_prepare = certificate.pre_prepare
    judge.check_place(pre_prepare)
    if pre_prepare.signer != judge.primary_key(pre_prepare.view):
        raise InvalidMessage("the pre-prepare is not the primary's")
    if len(certificate.prepares) < judge.quorum - 1:
        raise InvalidMessage(
            f"{len(certificate.prepares)} prepares, a prepared certificate needs {judge.quorum - 1}"
        )
    previous = -1
    for prepare in certificate.prepares:
        judge.check_place(prepare)
        rank = judge.rank(prepare.signer)
        if prepare.signer == pre_prepare.signer:
            raise InvalidMessage("a primary signs no prepare in its own view")
        if (prepare.view, prepare.digest) != (pre_prepare.view, pre_prepare.digest):
            raise InvalidMessage("a prepare is of another view or digest than the pre-prepare")
        if rank is None or rank <= previous:
            raise InvalidMessage("the prepares are not in ranking order, each signer once")
        previous = rank
    judge.check_vote(pre_prepare)
    for prepare in certificate.prepares:
        judge.check_vote(prepare)


def make_prepared(
    pre_prepare: PrePrepareVote, prepares: Mapping[PublicKey, Prepare], judge: Judge
) -> PreparedCertificate:
    """The prepared certificate of verified votes: q - 1 prepares, in ranking order."""
    chosen = tuple(
        prepares[delegate.public_key] for delegate in judge.delegates if delegate.public_key in prepares
    )[: judge.quorum - 1]
    invariant(len(chosen) == judge.quorum - 1, "a prepared certificate holds q - 1 prepares (6.4)")
    invariant(
        all(p.digest == pre_prepare.digest and p.view == pre_prepare.view for p in chosen),
        "a prepared certificate is of one view and one digest (6.4)",
    )
    invariant(pre_prepare.signer not in prepares, "a primary signs no prepare in its own view (3.2b)")
    return PreparedCertificate(pre_prepare, chosen)
