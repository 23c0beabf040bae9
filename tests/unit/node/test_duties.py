"""What a member submits by itself: once each, again only when it was lost (PROTOCOL 3.2, 4.6, 5.5)."""

from pathlib import Path

import pytest

from consensus.effects import Report
from consensus.encoding import encode
from consensus.messages import Commit, Prepare, sign_vote
from contracts.epoch_state import chain_of
from contracts.receipts import EpochPhase
from contracts.transaction import Ballot, Ballots, Evidence, Heartbeat, Payload, decode_transaction
from node.duties import Duties
from node.errors import JoinRefused
from node.joining import Joining
from tests.unit.node.ledger_chain import LedgerChain, make_genesis


class Bench:
    """A member whose submissions go into a list, or into the next block."""

    def __init__(self, path: Path, *, carried: bool = False) -> None:
        self.chain = LedgerChain(path, make_genesis(missed_limit=4))
        self.member = self.chain.members[0]
        self.sent: list[bytes] = []
        self.waiting: set[bytes] = set()
        self.carried: list[Ballot] = []
        self.full = False
        refused: list[JoinRefused] = []
        self.duties = Duties(
            ledger=self.chain.ledger,
            signer=self.member,
            own_address=self.member.address,
            submit=self.submit,
            is_waiting=self.waiting.__contains__,
            carry=self.carried.append if carried else None,
            joining=Joining(
                ledger=self.chain.ledger,
                own_address=self.member.address,
                join=None,
                returns=False,
                submit=self.submit,
                is_waiting=self.waiting.__contains__,
                refuse=refused.append,
            ),
        )

    def submit(self, payload: Payload) -> bytes | None:
        if self.full:
            return None
        raw = self.chain.transaction(payload, self.member)
        self.sent.append(raw)
        self.waiting.add(self.chain.id_of(raw))
        return self.chain.id_of(raw)

    def payloads(self) -> list[Payload]:
        return [decode_transaction(raw).payload for raw in self.sent]

    def lose_all(self) -> None:
        self.waiting.clear()

    def to_voting(self) -> None:
        for _ in range(100):
            if chain_of(self.chain.ledger.state).phase is EpochPhase.VOTING:
                return
            self.chain.decide()
        raise AssertionError("no voting")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ledger")


def test_nothing_is_due_on_a_quiet_chain(bench: Bench) -> None:
    bench.chain.decide()
    bench.duties.look()
    assert bench.sent == []


def test_ballot_is_sent_once_and_again_only_when_lost(bench: Bench) -> None:
    bench.to_voting()
    bench.duties.look()
    bench.duties.look()
    [ballot] = bench.payloads()
    assert isinstance(ballot, Ballots)
    assert ballot.ballots[0].voter == bench.member.address
    bench.lose_all()
    bench.duties.look()
    assert len(bench.sent) == 2
    bench.chain.decide(bench.sent[0])
    bench.lose_all()
    bench.duties.look()
    assert len(bench.sent) == 2, "the ledger shows it"


def test_full_pool_means_trying_again(bench: Bench) -> None:
    bench.to_voting()
    bench.full = True
    bench.duties.look()
    bench.full = False
    bench.duties.look()
    assert len(bench.sent) == 1


def test_bootstrap_carries_first_and_the_member_after_a_third_of_the_time(tmp_path: Path) -> None:
    """PROTOCOL 5.5."""
    bench = Bench(tmp_path / "ledger", carried=True)
    bench.to_voting()
    bench.duties.look()
    bench.duties.look()
    assert (len(bench.carried), bench.sent) == (1, [])
    third_ms = bench.chain.genesis.parameters.voting_ms // 3
    bench.chain.pass_ms(third_ms + 500)
    bench.duties.look()
    assert len(bench.sent) == 1


def test_evidence_is_sent_until_it_is_known(bench: Bench) -> None:
    bench.chain.decide()
    offender = bench.chain.members[1]
    votes = [
        sign_vote(Prepare, bench.chain.ledger.chain_id, 0, 2, 0, bytes([n]) * 32, offender) for n in (1, 2)
    ]
    report = Report(encode(votes[0]), encode(votes[1]))
    bench.duties.report(report)
    bench.duties.report(report)
    [evidence] = bench.payloads()
    assert isinstance(evidence, Evidence)
    bench.chain.decide(bench.sent[0])
    bench.lose_all()
    bench.duties.look()
    assert len(bench.sent) == 1
    assert bench.duties._reports == {}


def test_node_that_is_behind_does_nothing(bench: Bench) -> None:
    bench.to_voting()
    bench.duties.enabled = False
    bench.duties.look()
    assert bench.sent == []


def test_one_heartbeat_is_on_its_way_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """PROTOCOL 3.2: each missed height makes another one possible, with that height's commit; one is enough."""
    epoch = chain_of(bench.chain.ledger.state).epoch
    owed: list[Heartbeat] = []
    monkeypatch.setattr("node.duties.heartbeat_due", lambda *_: owed[-1])
    chain_id = bench.chain.ledger.chain_id
    for height in (5, 6, 7):
        commit = sign_vote(Commit, chain_id, epoch, height, 0, bytes(32), bench.member)
        owed.append(Heartbeat(epoch, commit))
        bench.duties.look()
    assert bench.payloads() == [owed[0]]
    bench.lose_all()
    bench.duties.look()
    assert bench.payloads() == [owed[0], owed[2]]
