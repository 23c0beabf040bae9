"""Registering a key: once, followed to its end, never again after a `leave` (PROTOCOL 1.5, 1.7, 10.1)."""

from types import SimpleNamespace
from typing import Any

import pytest

from consensus.types import Digest
from contracts.genesis import Admission
from contracts.receipts import ReasonCode
from contracts.transaction import Invite, Join, Meter, Payload
from node.errors import JoinRefused
from node.joining import Joining
from tests.unit.node.mini_chain import key

KEY = key(9)


class Ledger:
    """What a `Joining` reads of a ledger."""

    def __init__(self, admission: Admission) -> None:
        self.genesis = SimpleNamespace(admission=admission, chain_name="village")
        self.member = False
        self.codes: dict[Digest, ReasonCode] = {}
        self.discarded: set[Digest] = set()
        self.state = SimpleNamespace(accounts={})

    def is_member(self, _: bytes) -> bool:
        return self.member

    def locate(self, transaction_id: Digest) -> Any:
        if transaction_id not in self.codes:
            return None
        height = list(self.codes).index(transaction_id)
        return SimpleNamespace(height=height, index=0, discarded=transaction_id in self.discarded)

    def receipt(self, height: int, index: int) -> Any:
        assert index == 0
        return SimpleNamespace(code=list(self.codes.values())[height])


class Bench:
    """A `Joining`, what it sent and whether it gave up."""

    def __init__(
        self, admission: Admission = Admission.OPEN, *, invited: bool = False, returns: bool = False
    ) -> None:
        self.ledger = Ledger(admission)
        self.sent: list[Digest] = []
        self.waiting: set[Digest] = set()
        self.refusals: list[JoinRefused] = []
        self.full = False
        invite = Invite(KEY.public_key, 10**13, ()) if invited else None
        self.joining = Joining(
            ledger=self.ledger,  # type: ignore[arg-type]
            own_address=KEY.address,
            join=Join(KEY.public_key, Meter(KEY.public_key, 9_000, ()), invite),
            returns=returns,
            submit=self.submit,
            is_waiting=self.waiting.__contains__,
            refuse=self.refusals.append,
        )

    def submit(self, _: Payload) -> Digest | None:
        if self.full:
            return None
        self.sent.append(len(self.sent).to_bytes(32, "big"))
        self.waiting.add(self.sent[-1])
        return self.sent[-1]

    def looks(self, times: int = 3) -> None:
        for _ in range(times):
            self.joining.look()


def test_it_registers_once_and_waits() -> None:
    bench = Bench()
    bench.looks()
    assert len(bench.sent) == 1
    bench.ledger.member = True
    bench.looks()
    assert (len(bench.sent), bench.refusals) == (1, [])


@pytest.mark.parametrize("ended", ["expired", "discarded"])
def test_it_registers_again_when_the_first_try_ended_without_a_verdict(ended: str) -> None:
    """PROTOCOL 9.3: an expired or discarded transaction may be submitted anew."""
    bench = Bench()
    bench.looks()
    bench.waiting.clear()
    if ended == "discarded":
        bench.ledger.codes[bench.sent[0]] = ReasonCode.OK
        bench.ledger.discarded.add(bench.sent[0])
    bench.looks()
    assert (len(bench.sent), bench.refusals) == (2, [])


def test_a_full_pool_is_asked_again() -> None:
    bench = Bench()
    bench.full = True
    bench.looks()
    bench.full = False
    bench.looks()
    assert len(bench.sent) == 1


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (ReasonCode.INVITE_EXPIRED, "new invite"),
        (ReasonCode.INVITE_USED, "one use"),
        (ReasonCode.INVITE_WRONG, "too few operators"),
        (ReasonCode.METER_IN_USE, "--separate-meter"),
        (ReasonCode.TOO_MANY_MEMBERS, "full"),
    ],
)
def test_a_rejection_stops_the_node_and_says_why(code: ReasonCode, advice: str) -> None:
    bench = Bench(Admission.INVITED, invited=True)
    bench.looks()
    bench.waiting.clear()
    bench.ledger.codes[bench.sent[0]] = code
    bench.looks()
    [refusal] = bench.refusals
    assert code.name.lower() in str(refusal)
    assert advice in str(refusal)
    assert KEY.public_key.hex() in str(refusal)
    assert len(bench.sent) == 1


def test_without_an_invite_an_invited_chain_is_not_even_asked() -> None:
    """PROTOCOL 1.5: the refusal names the key that is to be invited and what to do."""
    bench = Bench(Admission.INVITED)
    bench.looks()
    [refusal] = bench.refusals
    assert bench.sent == []
    assert "invite_missing; ask the operators for an invite and join with --invite FILE" in str(refusal)


def test_a_member_whose_home_was_wiped_needs_no_invite_again() -> None:
    bench = Bench(Admission.INVITED)
    bench.ledger.member = True
    bench.looks()
    assert (bench.sent, bench.refusals) == ([], [])


def test_a_leave_is_not_undone_by_the_node_that_runs_on() -> None:
    """PROTOCOL 1.7: it goes on serving until its seat is filled, and stays a leaver."""
    bench = Bench(returns=True)
    bench.ledger.member = True
    bench.looks()
    bench.ledger.member = False
    bench.ledger.state.accounts[KEY.address] = object()
    bench.looks()
    assert bench.sent == []


@pytest.mark.parametrize(
    ("returns", "invited", "sent"), [(True, True, 1), (True, False, 0), (False, True, 0)]
)
def test_who_left_returns_by_joining_again_only(returns: bool, invited: bool, sent: int) -> None:
    """PROTOCOL 1.5: by `cgpbft join`, in an invited chain with a new invite; restarted otherwise it stays out of it."""
    bench = Bench(Admission.INVITED, invited=invited, returns=returns)
    bench.ledger.state.accounts[KEY.address] = object()
    bench.looks()
    assert (len(bench.sent), bench.refusals) == (sent, [])
