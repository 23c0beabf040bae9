"""A real fork names at least f + 1 culprits, and nobody honest is ever among them (S13)."""

import random
from collections import Counter
from contextlib import suppress

import msgspec
import pytest

from consensus.block import Certificate, CertifiedBlock, CommitSignature
from consensus.errors import InvariantViolation
from consensus.judge import Judge
from consensus.messages import (
    Accepted,
    Commit,
    ConsensusMessage,
    Prepare,
    PrePrepareVote,
    ViewChange,
    sign_vote,
)
from consensus.types import PublicKey
from network.simulation.accountability import Verdict, culprits
from network.simulation.checkers import Finding
from network.simulation.lockstep import Links, Lockstep, Table, Told
from network.simulation.mutations import Mutator, delivered, resigned
from network.simulation.twins import links_of, transactions

VIEWS = 3


class Recorded:
    """A run in lock step, with all that honest nodes sent or received."""

    def __init__(self, seed: int, seats: int, twins: int, *, changed: bool = False) -> None:
        self.rng = random.Random(f"{seed}/{seats}/{twins}")
        self.table = Table(seats, tuple(sorted(self.rng.sample(range(seats), twins))), seed=seed)
        self.heard: dict[int, Told] = {}
        self.run = Lockstep(self.table)
        ranks = sorted(self.table.dishonest)
        self.mutators = {
            rank: Mutator(self.rng, "small", self.table.signers[rank], self.table.chain_id) for rank in ranks
        }
        self.changed = changed

    def split(self) -> int:
        """Mostly one twin of each pair on either side, so that both sides may have a quorum."""
        seats, nodes = len(self.table.signers), len(self.table.owners)
        if self.rng.random() < 0.3:
            return self.rng.randrange(1 << (nodes - 1))
        sides = [self.rng.randrange(2) for _ in range(seats)]
        sides += [1 - sides[rank] for rank in self.table.owners[seats:]]
        if sides[0]:
            sides = [1 - side for side in sides]
        return sum(side << (node - 1) for node, side in enumerate(sides) if node)

    def links(self, split: int) -> Links:
        """As the split says; keeps what an honest node sends or receives."""
        joined = links_of(split)
        honest = frozenset(self.table.honest)

        def arrives(source: int, target: int, told: Told) -> bool:
            passes = joined(source, target, told)
            if source in honest or (passes and target in honest):
                self.heard[id(told)] = told
            return passes

        return arrives

    def twist(self, source: int, _target: int, told: Told) -> tuple[Told, ...]:
        """Now and then a liar's message is changed."""
        rank = self.table.owners[source]
        if not self.changed or rank not in self.mutators or self.rng.random() < 0.8:
            return (told,)
        if not isinstance(told, ConsensusMessage | CertifiedBlock):
            return (told,)
        lie = delivered(self.mutators[rank].mutate(told, ()).message)
        return () if lie is None else (lie,)

    def play(self) -> None:
        """Some views, each with a split of its own that begins with it or in its midst."""
        before = self.split()
        for view in range(VIEWS):
            self.run.begin_view(view, transactions(self.table))
            for _ in range(self.rng.choice((0, 0, 1, 2, 3))):
                self.run.round(self.links(before), self.twist)
            before = self.split()
            self.run.talk(self.links(before), self.twist)

    def fork(self) -> tuple[Certificate, Certificate] | None:
        """Two certificates of the lowest height that has two."""
        known: dict[int, Certificate] = {}
        for height in range(VIEWS * 2):
            for node in self.run.nodes.values():
                if node.height > height:
                    own = node.chain[height].certificate
                    other = known.setdefault(height, own)
                    if other.digest != own.digest:
                        return other, own
        return None

    def judge(self, height: int) -> Judge:
        """Of a height that all branches below agree on."""
        table = self.table
        context = table.first_context()
        if height > 1:
            holder = next(node for node in self.run.nodes.values() if node.height >= height - 1)
            context = msgspec.structs.replace(
                context, height=height, head=holder.chain[height - 2].block.header.proposer
            )
        return Judge(table.chain_id, context, table.ring)

    def verdict(self, height: int, *certificates: Certificate) -> Verdict:
        """What was heard proves."""
        told = list(self.heard.values())
        messages = [item for item in told if isinstance(item, ConsensusMessage)]
        given = [item.certificate for item in told if isinstance(item, CertifiedBlock)]
        return culprits(self.judge(height), messages, (*given, *certificates))

    @property
    def liars(self) -> frozenset[PublicKey]:
        """Their keys."""
        return frozenset(self.table.signers[rank].public_key for rank in self.table.dishonest)


def assert_just(verdict: Verdict, liars: frozenset[PublicKey]) -> None:
    """Nobody honest is proven guilty, and no group claims more liars than it has."""
    for proof in verdict.proofs:
        assert proof.culprit in liars, proof.kind
    for group in verdict.groups:
        assert len(group.members & liars) >= group.at_least, group.kind


@pytest.mark.parametrize(("seats", "seeds"), [(4, 40), (5, 30), (7, 16)])
def test_a_fork_names_more_than_f_and_nobody_honest(seats: int, seeds: int) -> None:
    """Twins of the fewest keys that two quorums share, up to all keys but one."""
    faults = (seats - 1) // 3
    fewest = 2 * (seats - faults) - seats
    forks: Counter[str] = Counter()
    for seed in range(seeds):
        liars = fewest + seed % (seats - fewest)
        recorded = Recorded(seed, seats, liars, changed=seed % 3 == 2)
        # Beyond f liars a replica may find its own ledger contradicted, and stops, or honest nodes never agree.
        with suppress(InvariantViolation, Finding):
            recorded.play()
        pair = recorded.fork()
        if pair is None:
            continue
        verdict = recorded.verdict(pair[0].height, *pair)
        assert_just(verdict, recorded.liars)
        assert verdict.at_least > faults, f"seed {seed}: {pair[0].view}, {pair[1].view}, {verdict}"
        forks["one view" if pair[0].view == pair[1].view else "two views"] += 1
    assert sum(forks.values()) >= 4, forks
    assert min(forks["one view"], forks["two views"]) > 0, forks


@pytest.mark.parametrize("changed", [False, True])
def test_without_a_fork_nobody_honest_is_accused(changed: bool) -> None:
    """Up to f liars, whose messages are split and changed: they may be caught, others never are."""
    caught = 0
    for seed in range(20):
        recorded = Recorded(seed, 4, 1, changed=changed)
        recorded.play()
        assert recorded.fork() is None
        for height in (1, 2):
            if height == 1 or any(node.height for node in recorded.run.nodes.values()):
                verdict = recorded.verdict(height)
                assert_just(verdict, recorded.liars)
                caught += bool(verdict.proofs)
    assert caught > 0


# ---------------------------------------------------------------------- liars that need nobody


def _decided(seats: int) -> Recorded:
    """A height decided by the rules in view 0, all of it heard."""
    recorded = Recorded(1, seats, 0)
    recorded.run.begin_view(0, transactions(recorded.table))
    recorded.run.talk(recorded.links(0))
    return recorded


@pytest.mark.parametrize("seats", [4, 5, 6, 7, 10])
def test_a_certificate_out_of_nothing_names_its_makers(seats: int) -> None:
    """q liars sign commits of a later view for a block that nobody proposed: no other lie is needed, and it shows."""
    recorded = _decided(seats)
    table, judge = recorded.table, recorded.judge(1)
    true = recorded.run.nodes[0].chain[0].certificate
    makers = table.signers[-table.quorum :]
    commits = [sign_vote(Commit, table.chain_id, 0, 1, 3, bytes(32), signer) for signer in makers]
    shares = tuple(CommitSignature(vote.signer, vote.signature) for vote in commits)
    verdict = recorded.verdict(1, true, Certificate(0, 1, 3, bytes(32), shares))
    assert verdict.culprits == {signer.public_key for signer in makers}
    assert {proof.kind for proof in verdict.proofs} == {"unfounded commit"}
    assert verdict.at_least == judge.quorum > judge.faults


def test_a_late_commit_is_no_crime() -> None:
    """6.4: one that asked for view 1 without a certificate, then sees q commits of view 0 and commits too."""
    recorded = _decided(4)
    table = recorded.table
    judge = recorded.judge(1)
    late = table.signers[3]
    told = [item for item in recorded.heard.values() if isinstance(item, ConsensusMessage)]
    told = [item for item in told if not (isinstance(item, Prepare) and item.signer == late.public_key)]
    unsigned = ViewChange(0, 1, 1, None, (), late.public_key, bytes(64))
    verdict = culprits(judge, [*told, resigned(unsigned, late, table.chain_id)])
    assert verdict.culprits == frozenset()
    assert verdict.groups == ()
    alone = [
        item for item in told if not (isinstance(item, Commit) and item.signer == table.signers[2].public_key)
    ]
    verdict = culprits(judge, [*alone, resigned(unsigned, late, table.chain_id)])
    assert verdict.culprits == {late.public_key}
    assert {proof.kind for proof in verdict.proofs} == {"hidden certificate"}


def test_who_may_have_been_late_is_judged_in_a_group() -> None:
    """All four committed and all four hide it: one may have been late, so three of them lie, and none can be named."""
    recorded = _decided(4)
    table = recorded.table
    digest = recorded.run.nodes[0].chain[0].certificate.digest
    told = [item for item in recorded.heard.values() if isinstance(item, ConsensusMessage)]
    for signer in table.signers:
        unsigned = ViewChange(0, 1, 1, None, (Accepted(0, digest),), signer.public_key, bytes(64))
        told.append(resigned(unsigned, signer, table.chain_id))
    verdict = culprits(recorded.judge(1), told)
    assert verdict.proofs == ()
    [group] = verdict.groups
    assert len(group.members) == 4
    assert group.at_least == verdict.at_least == 3


def test_forged_names_convict_nobody() -> None:
    """A vote that its signer did not sign says nothing about it."""
    recorded = _decided(4)
    table = recorded.table
    forged = [
        PrePrepareVote(0, 1, 0, bytes(32), table.signers[0].public_key, bytes(64)),
        Prepare(0, 1, 0, bytes(32), table.signers[1].public_key, bytes(64)),
        Commit(0, 1, 0, bytes(32), table.signers[2].public_key, bytes(64)),
    ]
    told = [item for item in recorded.heard.values() if isinstance(item, ConsensusMessage)]
    assert culprits(recorded.judge(1), [*told, *forged[1:]]).proofs == ()  # type: ignore[list-item]
