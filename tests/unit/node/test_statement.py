"""`cgpbft statement` against a fake node: lines, totals, days, CSV (PROTOCOL 2.5)."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.unit.node.fake_node import TRADE_ID
from tests.unit.node.mini_chain import GENESIS_MS, key
from tests.unit.node.test_cli import Background, call

SELLER, BUYER = key(1).address.hex(), key(2).address.hex()
SLOT_MS = GENESIS_MS + 10_000


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.stop()


def day_of(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d")


def test_a_seller_sees_its_own_side_and_what_it_earned(background: Background) -> None:
    """An offer that came to nothing is no part of it; the price times what is paid for is earned."""
    result = call("statement", SELLER, "--json", background=background)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    [line] = shown["lines"]
    assert (line["trade"], line["side"], line["counterparty"]) == (TRADE_ID.hex(), "sold", BUYER)
    assert (line["contracted_wh"], line["metered_wh"], line["allocated_wh"], line["paid_wh"]) == (
        500,
        455,
        450,
        450,
    )
    assert (line["start_ms"], line["amount"]) == (SLOT_MS, str(450 * 250_000))
    assert shown["totals"] == {
        "sold_wh": 450,
        "bought_wh": 0,
        "earned": "112500000",
        "spent": "0",
        "penalties_received": "0",
        "penalties_paid": "2500000",
    }


def test_the_buyer_of_the_same_trade_sees_the_other_side(background: Background) -> None:
    shown = json.loads(call("statement", BUYER, "--json", background=background).stdout)
    [line] = shown["lines"]
    assert (line["side"], line["counterparty"]) == ("bought", SELLER)
    assert (line["metered_wh"], line["allocated_wh"], line["paid_wh"]) == (510, 500, 450)
    totals = shown["totals"]
    assert (totals["spent"], totals["earned"], totals["penalties_received"]) == ("112500000", "0", "2500000")


def test_a_day_holds_what_began_in_it_by_utc(background: Background) -> None:
    same = json.loads(
        call("statement", SELLER, "--day", day_of(SLOT_MS), "--json", background=background).stdout
    )
    assert len(same["lines"]) == 1
    for other in (SLOT_MS - 86_400_000, SLOT_MS + 86_400_000):
        shown = json.loads(
            call("statement", SELLER, "--day", day_of(other), "--json", background=background).stdout
        )
        assert shown["lines"] == []
        assert set(shown["totals"].values()) == {0, "0"}


def test_tables_and_csv_say_the_same(background: Background) -> None:
    table = call("statement", SELLER, background=background)
    assert table.exit_code == 0, table.output
    assert "sold       450 Wh, earned 0.1125" in table.stdout
    assert "penalties  received 0.00, paid 0.0025" in table.stdout
    rows = list(csv.DictReader(call("statement", SELLER, "--csv", background=background).stdout.splitlines()))
    assert len(rows) == 1
    assert (rows[0]["side"], rows[0]["metered_wh"], rows[0]["amount"]) == ("sold", "455", "112500000")
    assert rows[0]["start_utc"].startswith(day_of(SLOT_MS))


@pytest.mark.parametrize(
    "wrong",
    [("12",), (SELLER, "--day", "yesterday"), (SELLER, "--day", "2026-02-30"), (SELLER, "--csv", "--json")],
)
def test_wrong_usage_is_exit_code_2(background: Background, wrong: tuple[str, ...]) -> None:
    result = call("statement", *wrong, background=background)
    assert (result.exit_code, result.stdout) == (2, "")


def test_an_address_that_is_no_member_is_refused(background: Background) -> None:
    result = call("statement", "ab" * 20, background=background)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "ab" * 20 in result.stderr
