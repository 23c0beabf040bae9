"""S1 and S5 over the states of several nodes at once, from what they decided and what they ever signed."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from consensus.effects import Report
from consensus.encoding import Codec
from consensus.messages import Commit, Prepare, PrePrepareVote, Vote
from consensus.types import Digest
from network.simulation.checkers import demand
from network.simulation.lockstep import LockstepNode, Table

_votes: Final[Codec[Vote]] = Codec(PrePrepareVote | Prepare | Commit, 512)


def check_agreement(table: Table, nodes: Iterable[LockstepNode]) -> None:
    """Raise `Finding` on two certificates for one height, in anybody's hands, or on a block that S5 forbids."""
    held = tuple(nodes)
    _check_certificates(table, held)
    _check_possibly_decided(table, held)


def _check_certificates(table: Table, nodes: tuple[LockstepNode, ...]) -> None:
    """One certified digest a height: those that nodes hold, and those that all commits ever signed add up to."""
    certified: dict[int, Digest] = {}
    for node in nodes:
        for item in node.chain:
            known = certified.setdefault(item.certificate.height, item.certificate.digest)
            demand(
                known == item.certificate.digest,
                f"S1: two blocks of height {item.certificate.height} are certified",
            )
    signers: dict[tuple[int, int, Digest], set[int]] = defaultdict(set)
    for node in nodes:
        for (height, view, kind), digest in node.signed.items():
            if kind == "Commit":
                signers[height, view, digest].add(node.rank)
    for (height, _view, digest), ranks in signers.items():
        if len(ranks) >= table.quorum:
            demand(
                certified.setdefault(height, digest) == digest,
                f"S1: two blocks of height {height} have q commits",
            )


def _check_possibly_decided(table: Table, nodes: tuple[LockstepNode, ...]) -> None:
    """S5: where honest commits and all dishonest seats together reach q, honest nodes accept nothing else later."""
    commits: dict[tuple[int, int, Digest], int] = defaultdict(int)
    accepted: set[tuple[int, int, Digest]] = set()
    for node in nodes:
        if node.rank in table.dishonest:
            continue
        for (height, view, kind), digest in node.signed.items():
            if kind == "Commit":
                commits[height, view, digest] += 1
            elif kind in {"Prepare", "PrePrepareVote"}:
                accepted.add((height, view, digest))
    for (height, view, digest), count in commits.items():
        if count + len(table.dishonest) < table.quorum:
            continue
        for other, later, different in accepted:
            demand(
                other != height or later <= view or different == digest,
                f"S5: height {height} may be decided in view {view}, yet view {later} accepts another block",
            )


def check_reports(table: Table, nodes: Iterable[LockstepNode]) -> None:
    """S13: raise `Finding` if a node's evidence is against an honest key."""
    dishonest = {table.signers[rank].public_key for rank in table.dishonest}
    for node in nodes:
        if node.rank in table.dishonest:
            continue
        for report in node.reports:
            culprit = (
                _votes.decode(report.first).signer
                if isinstance(report, Report)
                else report.pre_prepare.signer
            )
            demand(culprit in dishonest, f"S13: node {node.index} reported an honest one")
