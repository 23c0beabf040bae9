"""What the dishonest members beside the tests do to messages, clocks and disks; and that an honest tap does nothing."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from consensus.block import Header
from consensus.ed25519 import Ed25519Verifier
from consensus.hashing import address_of
from consensus.messages import PHASE_OF, Commit, Prepare, PrePrepareVote, Proposal, sign_vote
from consensus.signing import consensus_bytes
from consensus.types import ZERO_DIGEST
from network.wire import ApplicationMessage
from node.keystore import KeyPair
from scripts.history.records import Vote
from tests.byzantine.disks import FailingFiles, SkewedClock
from tests.byzantine.disturbing import (
    FUTURE_VOTES,
    make_badblock,
    make_echo,
    make_forging,
    make_future,
    make_mute,
    make_slow,
)
from tests.byzantine.tap import make_tapping

KEY = KeyPair(b"\x07" * 32)
CHAIN = b"\x01" * 32
OTHERS = (b"\x02" * 32,)


class Wire:
    """A runtime's way out and in, as far as the behaviours touch it."""

    def __init__(self) -> None:
        self.sent: list[ApplicationMessage] = []
        self.taken: list[ApplicationMessage] = []
        parameters = SimpleNamespace(view_timeout_ms=100)
        genesis = SimpleNamespace(parameters=parameters)
        self.runtime: Any = SimpleNamespace(
            transport=SimpleNamespace(broadcast=self._broadcast),
            router=SimpleNamespace(message=lambda sender, message: self.taken.append(message)),
            ledger=SimpleNamespace(chain_id=CHAIN, genesis=genesis),
            own_key=KEY.public_key,
        )

    def _broadcast(self, keys: Iterable[bytes], message: ApplicationMessage) -> int:
        self.sent.append(message)
        return len(tuple(keys))

    def say(self, message: ApplicationMessage) -> None:
        self.runtime.transport.broadcast(OTHERS, message)


def commit(height: int = 5) -> Commit:
    return sign_vote(Commit, CHAIN, 0, height, 0, b"\x05" * 32, KEY)


def proposal() -> Proposal:
    digests = [ZERO_DIGEST] * 7
    header = Header(1, CHAIN, 5, 0, 0, ZERO_DIGEST, 1_000, address_of(KEY.public_key), *digests)
    vote = sign_vote(PrePrepareVote, CHAIN, 0, 5, 0, header.digest(), KEY)
    return Proposal(vote, header, (), None, ())


def holds(vote: PrePrepareVote | Prepare | Commit) -> bool:
    signed = consensus_bytes(PHASE_OF[type(vote)], CHAIN, vote.epoch, vote.height, vote.view, vote.digest)
    return Ed25519Verifier().verify(vote.signer, signed, vote.signature)


def test_a_mute_member_keeps_one_kind_to_itself() -> None:
    wire, kept = Wire(), proposal()
    make_mute(wire.runtime, KEY, "commit")
    wire.say(commit())
    wire.say(kept)
    assert wire.sent == [kept]


async def test_an_echo_says_it_twice_at_once_and_once_more() -> None:
    wire = Wire()
    make_echo(wire.runtime, KEY, "")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    wire.say(commit())
    assert wire.sent == [commit()] * 2
    [handle] = [one for one in loop._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
    assert handle.when() - begun >= 0.05 - 1e-6
    handle._run()
    handle.cancel()
    assert wire.sent == [commit()] * 3


async def test_a_slow_member_votes_at_once_and_proposes_late() -> None:
    wire = Wire()
    make_slow(wire.runtime, KEY, "")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    wire.say(proposal())
    wire.say(commit())
    assert wire.sent == [commit()]
    [handle] = [one for one in loop._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
    assert handle.when() - begun >= 0.095 - 1e-6
    handle._run()
    handle.cancel()
    assert wire.sent[1] == proposal()


def test_forged_signatures_do_not_verify() -> None:
    wire = Wire()
    make_forging(wire.runtime, KEY, "")
    wire.say(commit())
    wire.say(proposal())
    vote, proposed = wire.sent
    assert isinstance(vote, Commit)
    assert not holds(vote)
    assert isinstance(proposed, Proposal)
    assert not holds(proposed.vote)


def test_votes_for_the_future_are_correctly_signed_and_far_away() -> None:
    wire = Wire()
    make_future(wire.runtime, KEY, "")
    wire.say(commit())
    votes = [vote for vote in wire.sent if isinstance(vote, Commit)]
    assert len(votes) == FUTURE_VOTES + 1
    assert all(holds(vote) for vote in votes)
    assert all(vote.height > 5 for vote in votes[:-1])


def test_a_bad_block_is_signed_and_names_another_state() -> None:
    wire = Wire()
    make_badblock(wire.runtime, KEY, "")
    wire.say(proposal())
    [wrong] = wire.sent
    assert isinstance(wrong, Proposal)
    assert wrong.header.state_root != proposal().header.state_root
    assert wrong.vote.digest == wrong.header.digest()
    assert holds(wrong.vote)


def test_a_tap_writes_down_what_holds_and_changes_nothing(tmp_path: Path) -> None:
    wire, path = Wire(), tmp_path / "votes.jsonl"
    make_tapping(wire.runtime, KEY, str(path))
    forged = msgspec.structs.replace(commit(6), signature=bytes(64))
    wire.say(proposal())
    wire.say(commit())
    wire.runtime.router.message(OTHERS[0], commit())
    wire.runtime.router.message(OTHERS[0], forged)
    assert wire.sent == [proposal(), commit()]
    assert wire.taken == [commit(), forged]
    lines = [msgspec.json.decode(line, type=Vote) for line in path.read_bytes().splitlines()]
    assert [(line.phase, line.height) for line in lines] == [("pre_prepare", 5), ("commit", 5)]


def test_a_wrong_clock_is_wrong_by_what_was_said() -> None:
    now, wrong = SkewedClock(0).now(), SkewedClock(3_600_000).now()
    assert 3_599_000 <= wrong.wall_ms - now.wall_ms <= 3_601_000
    assert wrong.monotonic_ms - now.monotonic_ms < 1_000


def test_a_failing_disk_fails_for_ever(tmp_path: Path) -> None:
    files = FailingFiles(tmp_path / "journal", 1)
    file = files.create("a", b"x")
    file.append(b"y")
    file.sync()
    for _ in range(2):
        with pytest.raises(OSError, match="injected"):
            file.sync()
    file.close()
