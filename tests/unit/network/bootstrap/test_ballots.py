"""The ballot box: what it carries, what it refuses (PROTOCOL 5.2, 8.1d)."""

import pytest

from consensus.encoding import encode
from consensus.signing import BALLOT_DOMAIN
from consensus.types import Address
from contracts.transaction import Ballot
from network.bootstrap.ballots import BallotBox
from network.bootstrap.errors import Refused
from network.bootstrap.limits import CoordinatorLimits
from node.bootstrap_doors import BallotReader
from node.keystore import KeyPair
from tests.unit.network.bootstrap.support import VERIFIER, key

CHAIN = bytes(31) + b"\x01"
GROUPS: dict[Address, int] = {key(number).address: number % 2 for number in range(1, 7)}


def ballot(
    voter: int,
    *choices: int,
    epoch: int = 1,
    sequence: int = 1,
    chain: bytes = CHAIN,
    signer: KeyPair | None = None,
) -> bytes:
    own = key(voter)
    chosen = tuple(key(choice).address for choice in choices)
    content = encode((own.address, epoch, sequence, chosen))
    signature = (signer or own).sign(BALLOT_DOMAIN + chain + content)
    return encode(Ballot(own.address, epoch, sequence, chosen, own.public_key, signature))


def box(max_waiting: int = 100) -> BallotBox:
    made = BallotBox(BallotReader(CHAIN, VERIFIER), CoordinatorLimits(max_ballots_waiting=max_waiting))
    made.open(1, GROUPS)
    return made


def refused(made: BallotBox, raw: bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        made.take(raw)
    return caught.value.status, caught.value.code


def test_the_newest_ballot_of_each_voter_is_carried() -> None:
    made = box()
    assert made.take(ballot(1, 3, sequence=1))
    assert not made.take(ballot(1, 3, sequence=1))
    assert made.take(ballot(1, 5, sequence=2))
    assert made.take(ballot(2, 4))
    assert made.next_batch() == [ballot(1, 5, sequence=2), ballot(2, 4)]
    made.mark_sent(made.next_batch())
    assert made.waiting == 0


def test_forged_foreign_and_misplaced_ballots_are_refused() -> None:
    made = box()
    assert refused(made, b"junk") == (422, "ballot_invalid")
    assert refused(made, ballot(1, 3, signer=key(2))) == (422, "ballot_invalid")
    assert refused(made, ballot(1, 3, chain=bytes(32))) == (422, "ballot_invalid")
    assert refused(made, ballot(1, 3, epoch=2)) == (409, "ballot_epoch")
    assert refused(made, ballot(9, 3)) == (422, "ballot_voter")
    assert refused(made, ballot(1, 2)) == (422, "ballot_choices")
    assert refused(made, ballot(1, 3, 3)) == (422, "ballot_choices")
    assert made.waiting == 0


def test_an_old_ballot_cannot_be_brought_back() -> None:
    made = box()
    made.note_counted(1, key(1).address, 7)
    assert refused(made, ballot(1, 3, sequence=7)) == (409, "ballot_old")
    assert made.take(ballot(1, 3, sequence=8))
    made.note_counted(1, key(1).address, 8)
    assert made.waiting == 0


def test_four_ballots_a_voter_and_a_bounded_box() -> None:
    made = box(max_waiting=2)
    for sequence in (1, 2, 3, 4):
        made.take(ballot(1, 3, sequence=sequence))
    assert refused(made, ballot(1, 3, sequence=5)) == (429, "ballots_too_many")
    made.take(ballot(2, 4))
    assert refused(made, ballot(3, 1)) == (429, "ballots_full")


def test_ballots_of_past_epochs_are_forgotten() -> None:
    made = box()
    made.take(ballot(1, 3))
    made.open(2, GROUPS)
    assert made.waiting == 1
    assert made.take(ballot(1, 3, epoch=2))
    made.open(3, GROUPS)
    assert made.next_batch() == [ballot(1, 3, epoch=2)]
    assert refused(made, ballot(2, 4, epoch=1)) == (409, "ballot_epoch")


def test_a_batch_has_at_most_128() -> None:
    made = BallotBox(BallotReader(CHAIN, VERIFIER))
    made.open(1, {key(number).address: 0 for number in range(1, 200)})
    for number in range(1, 200):
        made.take(ballot(number, 1))
    assert len(made.next_batch()) == 128
    made.mark_sent(made.next_batch())
    assert made.waiting == 71
