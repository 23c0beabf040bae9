"""Each checker against a planted breach, without a replica: what it must say, and that it is silent otherwise."""

import random

import msgspec
import pytest

from consensus.block import Certificate, CertifiedBlock, CommitSignature, transactions_root
from consensus.delegates import Delegate
from consensus.effects import Report, Send, SentRecord
from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.inputs import Instant
from consensus.messages import (
    Commit,
    ConsensusMessage,
    Prepare,
    PrePrepareVote,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from consensus.signing import Signer
from network.simulation.checkers import Checkers, Context, Finding
from network.simulation.cluster import Simulation, draw
from network.simulation.disk import Disk
from network.simulation.keys import KeyedHashRing
from network.simulation.timetable import Timetable
from network.simulation.workload import open_transaction

CHAIN = bytes(range(32))
KEYS = KeyedHashRing(1)
SIGNERS = [KEYS.signer(str(number)) for number in range(5)]
MEMBERS = [Delegate(address_of(signer.public_key), signer.public_key) for signer in SIGNERS]
TIMETABLE = Timetable(MEMBERS[:4], 4, None, random.Random(1))
ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


class Sender:
    """As much of a node as checkers look at."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.member = MEMBERS[index]
        self.signer: Signer = SIGNERS[index]
        self.disk = Disk()

    def at(self) -> Instant:
        return Instant(0, 0)

    def send(self, checkers: Checkers, message: ConsensusMessage) -> None:
        self.disk.write((SentRecord(1, message),))
        self.disk.sync()
        checkers.performed(self, Send(message))

    def prepare(self, view: int, digest: bytes, epoch: int = 0) -> Prepare:
        return sign_vote(Prepare, CHAIN, epoch, 1, view, digest, self.signer)

    def commit(self, view: int, digest: bytes) -> Commit:
        return sign_vote(Commit, CHAIN, 0, 1, view, digest, self.signer)

    def view_change(self, view: int) -> ViewChange:
        unsigned = ViewChange(0, 1, view, None, (), self.signer.public_key, bytes(64))
        signature = self.signer.sign(view_change_bytes(unsigned, CHAIN))
        return msgspec.structs.replace(unsigned, signature=signature)


def checkers(honest: int = 4) -> Checkers:
    return Checkers(
        Context(CHAIN, TIMETABLE, KEYS, frozenset(m.public_key for m in MEMBERS[:honest]), open_transaction)
    )


def test_two_digests_for_one_place_break_s4() -> None:
    watching, node = checkers(), Sender(0)
    node.send(watching, node.prepare(0, ONE))
    node.send(watching, node.prepare(0, ONE))
    node.send(watching, node.commit(0, ONE))
    with pytest.raises(Finding, match=r"^S4"):
        node.send(watching, node.prepare(0, OTHER))


def test_a_message_that_was_never_durable_breaks_6_5() -> None:
    node = Sender(0)
    with pytest.raises(Finding, match=r"^6\.5: .* before it was durable"):
        checkers().performed(node, Send(node.prepare(0, ONE)))


def test_another_epoch_breaks_6_5() -> None:
    node = Sender(0)
    with pytest.raises(Finding, match=r"^6\.5: .* epoch 3"):
        node.send(checkers(), node.prepare(0, ONE, epoch=3))


def test_signing_without_a_seat_breaks_s11() -> None:
    node = Sender(4)
    with pytest.raises(Finding, match=r"^S11"):
        node.send(checkers(honest=5), node.prepare(0, ONE))


def test_a_vote_below_a_view_change_breaks_6_6() -> None:
    watching, node = checkers(), Sender(0)
    old = node.prepare(0, ONE)
    node.send(watching, old)
    node.send(watching, node.view_change(2))
    node.send(watching, old)
    with pytest.raises(Finding, match=r"^6\.6"):
        node.send(watching, node.prepare(1, ONE))


def test_another_block_after_one_that_may_be_decided_breaks_s5() -> None:
    """Three honest commits of four are a quorum: nothing else may be accepted in a later view."""
    watching, nodes = checkers(), [Sender(index) for index in range(4)]
    for node in nodes[:3]:
        node.send(watching, node.commit(0, ONE))
    nodes[3].send(watching, nodes[3].prepare(1, ONE))
    with pytest.raises(Finding, match=r"^S5"):
        nodes[3].send(watching, nodes[3].prepare(2, OTHER))


def test_liars_count_toward_what_may_be_decided() -> None:
    watching, nodes = checkers(honest=3), [Sender(index) for index in range(4)]
    nodes[0].send(watching, nodes[0].prepare(1, OTHER))
    nodes[1].send(watching, nodes[1].commit(0, ONE))
    with pytest.raises(Finding, match=r"^S5"):
        nodes[2].send(watching, nodes[2].commit(0, ONE))


def test_two_commits_of_four_decide_nothing() -> None:
    watching, nodes = checkers(), [Sender(index) for index in range(4)]
    for node in nodes[:2]:
        node.send(watching, node.commit(0, ONE))
    nodes[2].send(watching, nodes[2].prepare(1, OTHER))


def report(first: Prepare, second: Prepare) -> Report:
    return Report(encode(first), encode(second))


def test_evidence_against_the_honest_breaks_s13_and_against_liars_does_not() -> None:
    watching, honest, liar = checkers(honest=3), Sender(0), Sender(3)
    watching.performed(honest, report(liar.prepare(0, ONE), liar.prepare(0, OTHER)))
    assert watching.proofs.proofs == 1
    with pytest.raises(Finding, match=r"^S13"):
        watching.performed(honest, report(honest.prepare(0, ONE), honest.prepare(0, OTHER)))


@pytest.mark.parametrize(("view", "digest"), [(1, OTHER), (0, ONE)])
def test_evidence_that_proves_nothing_is_a_finding(view: int, digest: bytes) -> None:
    liar = Sender(3)
    with pytest.raises(Finding, match=r"^3\.2"):
        checkers(honest=3).performed(Sender(0), report(liar.prepare(0, ONE), liar.prepare(view, digest)))


class Chain:
    """The decided blocks of a real run, to be spoiled."""

    def __init__(self) -> None:
        self.simulation = Simulation(draw(14, 4))
        assert self.simulation.run().finding is None
        self.blocks = list(self.simulation.checkers.decisions.chain)
        self.node = self.simulation.honest[0]
        self.fresh = Simulation(draw(14, 4)).checkers

    def apply(self, count: int) -> None:
        for certified in self.blocks[:count]:
            self.fresh.applied(self.node, certified)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_a_sound_chain_passes(chain: Chain) -> None:
    chain.apply(len(chain.blocks))
    assert len(chain.blocks) >= 3
    chain.apply(len(chain.blocks))


def test_a_short_certificate_breaks_s3(chain: Chain) -> None:
    whole = chain.blocks[0].certificate
    short = msgspec.structs.replace(whole, signatures=whole.signatures[:2])
    with pytest.raises(Finding, match=r"^S3: 2 commits"):
        chain.fresh.applied(chain.node, CertifiedBlock(chain.blocks[0].block, short))


@pytest.mark.parametrize("spoil", ["doubled", "other view", "stranger"])
def test_a_forged_certificate_breaks_s3(chain: Chain, spoil: str) -> None:
    whole = chain.blocks[0].certificate
    forged: dict[str, Certificate] = {
        "doubled": msgspec.structs.replace(whole, signatures=(whole.signatures[0],) * 3),
        "other view": msgspec.structs.replace(whole, view=whole.view + 1),
        "stranger": msgspec.structs.replace(
            whole, signatures=(*whole.signatures[:2], CommitSignature(bytes(32), bytes(64)))
        ),
    }
    with pytest.raises(Finding, match=r"^S3"):
        chain.fresh.applied(chain.node, CertifiedBlock(chain.blocks[0].block, forged[spoil]))


def test_a_second_block_of_a_height_breaks_s1(chain: Chain) -> None:
    chain.apply(1)
    first = chain.blocks[0]
    header = msgspec.structs.replace(first.block.header, time_ms=first.block.header.time_ms + 1)
    forked = CertifiedBlock(
        msgspec.structs.replace(first.block, header=header), _certified(chain, header.digest())
    )
    with pytest.raises(Finding, match=r"^S1"):
        chain.fresh.applied(chain.node, forked)


def test_a_gap_or_another_parent_breaks_s2(chain: Chain) -> None:
    chain.apply(1)
    with pytest.raises(Finding, match=r"^S2: .* before the one below"):
        chain.fresh.applied(chain.node, chain.blocks[2])
    first = chain.blocks[0]
    header = msgspec.structs.replace(first.block.header, parent_hash=ONE)
    orphan = CertifiedBlock(
        msgspec.structs.replace(first.block, header=header), _certified(chain, header.digest())
    )
    with pytest.raises(Finding, match=r"^S2: .* another parent"):
        Chain().fresh.applied(chain.node, orphan)


def test_a_transaction_that_comes_back_breaks_s8(chain: Chain) -> None:
    chain.apply(len(chain.blocks))
    data = next(data for certified in chain.blocks for data in certified.block.transactions)
    last = chain.blocks[-1].block
    spoiled = msgspec.structs.replace(
        last.header, height=last.header.height + 1, transactions_root=transactions_root(())
    )
    with pytest.raises(Finding, match=r"^S8"):
        chain.fresh.decisions._check_transactions(
            CertifiedBlock(
                msgspec.structs.replace(last, header=spoiled, transactions=(data,)),
                chain.blocks[-1].certificate,
            )
        )


def _certified(chain: Chain, digest: bytes) -> Certificate:
    """A certificate by the run's own keys: what only a quorum of liars could make."""
    whole = chain.blocks[0].certificate
    signers = {node.member.public_key: node.signer for node in chain.simulation.nodes}
    chain_id = chain.blocks[0].block.header.chain_id
    shares = tuple(
        CommitSignature(
            item.signer,
            sign_vote(
                Commit, chain_id, whole.epoch, whole.height, whole.view, digest, signers[item.signer]
            ).signature,
        )
        for item in whole.signatures
    )
    return Certificate(whole.epoch, whole.height, whole.view, digest, shares)


def test_votes_in_evidence_are_of_one_kind() -> None:
    liar = Sender(3)
    mixed = Report(
        encode(sign_vote(PrePrepareVote, CHAIN, 0, 1, 0, ONE, liar.signer)), encode(liar.prepare(0, OTHER))
    )
    with pytest.raises(Finding, match=r"^3\.2"):
        checkers(honest=3).performed(Sender(0), mixed)
