"""A ballot's way by the bootstraps (PROTOCOL 5.2, 5.5, 8.1d)."""

from typing import Any

import pytest

from network.bootstrap.errors import Refused, Unavailable
from node import process
from node.process import BALLOT_ATTEMPTS, carry_ballot

BEHIND = Refused(409, "ballot_epoch", "ballots are taken for 1, not for epoch 2")
OLD = Refused(409, "ballot_old", "a newer one is known")


class FakeBootstrap:
    """Answers with what it is given, one after the other, the last for ever; None: taken."""

    url = "http://bootstrap"

    def __init__(self, *answers: Exception | None) -> None:
        self._answers = list(answers)
        self.posted: list[bytes] = []

    async def post_ballots(self, ballots: list[bytes]) -> None:
        self.posted += ballots
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            raise answer


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BALLOT_PAUSE_S", 0)


async def carry(*bootstraps: FakeBootstrap) -> bool:
    clients: Any = bootstraps
    return await carry_ballot(clients, b"ballot")


async def test_the_first_bootstrap_that_takes_it_is_enough() -> None:
    first, second = FakeBootstrap(None), FakeBootstrap(None)
    assert await carry(first, second)
    assert (first.posted, second.posted) == ([b"ballot"], [])


async def test_a_bootstrap_that_is_behind_the_node_is_asked_again() -> None:
    behind = FakeBootstrap(BEHIND, BEHIND, None)
    assert await carry(behind)
    assert len(behind.posted) == 3


async def test_who_is_away_or_refuses_for_good_is_passed_over_and_not_asked_again() -> None:
    away, refusing, behind = (
        FakeBootstrap(Unavailable("away")),
        FakeBootstrap(OLD),
        FakeBootstrap(BEHIND, None),
    )
    assert await carry(away, refusing, behind)
    assert [len(one.posted) for one in (away, refusing, behind)] == [1, 1, 2]


async def test_asking_ends_and_the_duty_submits_it_itself() -> None:
    behind = FakeBootstrap(BEHIND)
    assert not await carry(behind)
    assert len(behind.posted) == BALLOT_ATTEMPTS
    refusing = FakeBootstrap(OLD)
    assert not await carry(refusing)
    assert len(refusing.posted) == 1
