"""What a bootstrap announces: refused whole, whatever is wrong with it."""

import json

import pytest

from consensus.errors import MalformedInput
from consensus.parameters import DEMO, resolved
from network.bootstrap.records import Announcement, announcement_from_json, announcement_to_json


def announced() -> Announcement:
    return Announcement(
        chain_name="unit",
        time_ms=1_750_000_000_000,
        members=4,
        parameters=resolved(DEMO, 4),
        admission="open",
        operators=(),
        operator_threshold=0,
        founding_balance=10,
        entry_balance=0,
    )


def test_an_announcement_comes_back() -> None:
    shown = json.dumps(announcement_to_json(announced())).encode()
    assert announcement_from_json(shown) == announced()


@pytest.mark.parametrize(
    "changes",
    [
        {"founding_balance": str(2**64)},
        {"entry_balance": "9" * 40},
        {"genesis_time_ms": 2**70},
        {"founding_balance": "-1"},
        {"founding_balance": "9" * 10_000},
        {"operators": ["00"]},
        {"chain_name": "\ud800"},
        {"members": -1},
    ],
)
def test_numbers_and_texts_that_nothing_can_hold_are_refused(changes: dict[str, object]) -> None:
    shown = announcement_to_json(announced()) | changes
    with pytest.raises(MalformedInput):
        announcement_from_json(json.dumps(shown).encode())


def test_a_parameter_beyond_all_bounds_is_refused() -> None:
    shown = json.loads(json.dumps(announcement_to_json(announced())))
    shown["parameters"]["run_ms"] = 2**66
    with pytest.raises(MalformedInput):
        announcement_from_json(json.dumps(shown).encode())
