"""README's "Trade" section, line by line, against a network of real processes: by command line and over HTTP."""

import json
import re
import shlex
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.cluster.process_network import (
    REPOSITORY,
    SLOT_MS,
    Running,
    cgpbft,
    get,
    http,
    next_start_ms,
    open_network,
    shown,
    until,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

VALUE: Final = 500 * 200_000
"""Nano-units of README's trade: 500 Wh at 0.20 per kWh."""
PAID: Final = 450 * 200_000
PENALTY: Final = 50 * 200_000 * 1_000 // 10_000
"""README's seller falls 50 Wh short, at 1 000 bp (PROTOCOL 2.5)."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    # An epoch that outlasts the tests: credit then moves by trades alone.
    with open_network(tmp_path_factory.mktemp("by-hand"), "run_ms=3600000") as running:
        yield running


def trade_blocks() -> tuple[list[str], list[str]]:
    """Lines of the section's two code blocks: command line, HTTP."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("\n## Trade\n") : readme.index("\n## Break it\n")]
    by_cli, by_http = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return by_cli.splitlines(), by_http.splitlines()


def words(line: str, values: dict[str, str]) -> list[str]:
    """Words of a line as a shell would split it, the reader's variables put in."""
    return [string.Template(word).substitute(values) for word in shlex.split(line, comments=True)]


def curl(arguments: list[str]) -> Any:
    """What `curl` would answer; a status from 400 on fails."""
    assert arguments[:2] == ["curl", "-s"]
    url, method, body, kind = "", None, None, "application/x-www-form-urlencoded"
    rest = iter(arguments[2:])
    for word in rest:
        match word:
            case "-X":
                method = next(rest)
            case "-H":
                kind = next(rest).partition(": ")[2]
            case "-d":
                body = next(rest).encode()
            case _:
                url = word
    status, answer = http(url, body, method, kind)
    assert status < 400, (arguments, answer)
    return answer


def reader(network: Running, start_ms: int, seller: int, buyer: int) -> dict[str, str]:
    """The variables as a reader of README would set them."""
    return {
        "SELLER": network.address(seller),
        "BUYER": network.address(buyer),
        "SELLER_HOME": network.places[seller - 1].home,
        "BUYER_HOME": network.places[buyer - 1].home,
        "SELLER_NODE": network.places[seller - 1].url,
        "BUYER_NODE": network.places[buyer - 1].url,
        "GENESIS": network.genesis_hash,
        "START": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_ms // 1_000)),
        "START_MS": str(start_ms),
        "SLOT": str(start_ms // SLOT_MS),
    }


def sleep_until(time_ms: int) -> None:
    """Let a delivery slot pass: nothing else than time ends it."""
    time.sleep(max(0.0, time_ms / 1_000 - time.time()))


def member(network: Running, number: int) -> dict[str, Any]:
    place = network.places[number - 1]
    found: dict[str, Any] = get(f"{place.url}/v1/members/{network.address(number)}")["member"]
    return found


def check_settled(
    network: Running,
    values: dict[str, str],
    before: tuple[dict[str, Any], dict[str, Any]],
    numbers: tuple[int, int],
) -> None:
    """Escrow came back, the payment and the penalty moved, energy counts, the seller's credit says why it fell."""
    trade = until(
        lambda: (
            (found := get(f"{values['SELLER_NODE']}/v1/trades/{values['TRADE']}"))["state"] == "settled"
            and found
        ),
        "the settlement",
    )
    assert [one["state"] for one in trade["history"]][-1] == "settled"
    assert trade["settlement"] | {"seller_credit_delta": 0} == {
        "seller_wh": 450,
        "buyer_wh": 500,
        "delivered_wh": 450,
        "paid_wh": 450,
        "paid": str(PAID),
        "seller_penalty": str(PENALTY),
        "buyer_penalty": "0",
        "seller_credit_delta": 0,
        "buyer_credit_delta": 0,
    }
    assert trade["settlement"]["seller_credit_delta"] < 0
    [slot] = trade["slots"]
    assert (slot["contracted_wh"], slot["seller_metered_wh"], slot["buyer_metered_wh"]) == (500, 450, 500)
    assert (slot["seller_allocated_wh"], slot["buyer_allocated_wh"], slot["paid_wh"]) == (450, 500, 450)
    until(lambda: member(network, numbers[1])["energy_wh"] > before[1]["energy_wh"], "the other node's block")
    for number, then, gain in zip(numbers, before, (PAID - PENALTY, PENALTY - PAID), strict=True):
        now = member(network, number)
        assert int(now["balance"]) - int(then["balance"]) == gain
        assert now["energy_wh"] - then["energy_wh"] == 450
    history = get(f"{values['SELLER_NODE']}/v1/members/{values['SELLER']}/credit")["items"]
    assert history[0]["reason"] == "seller_shortfall"
    assert history[0]["delta"] == trade["settlement"]["seller_credit_delta"]


def test_the_command_lines_of_the_trade_section_do_what_it_says(network: Running) -> None:
    """Offer, accept, readings, settlement, statement, credit with reasons, an account proven against the genesis."""
    lines, _ = trade_blocks()
    before = (member(network, 1), member(network, 2))
    start_ms = next_start_ms(20_000)
    values = reader(network, start_ms, 1, 2) | {"TRADE": ""}
    outputs: dict[str, str] = {}
    for line in lines:
        arguments = words(line, values)
        assert arguments[0] == "cgpbft"
        if arguments[1:3] == ["meter", "report"]:
            sleep_until(start_ms + SLOT_MS + 300)
        if arguments[1:3] == ["trade", "show"]:
            check_settled(network, values, before, (1, 2))
        output = cgpbft(*arguments[1:]).stdout
        outputs[" ".join(arguments[1:3])] = output
        if arguments[1:3] == ["trade", "offer"]:
            values["TRADE"] = re.findall(r"^trade +([0-9a-f]{64})$", output, re.MULTILINE)[0]
        if arguments[1:3] == ["trade", "accept"]:
            escrow = VALUE + 2 * VALUE * 1_000 // 10_000
            trade = shown("trade", "show", values["TRADE"], "--home", values["BUYER_HOME"])
            assert (trade["state"], trade["escrow"]) == ("active", str(escrow))
    assert "settled" in outputs["trade show"]
    assert "450 Wh (seller 450, buyer 500)" in outputs["trade show"]
    [row] = [one for one in outputs[f"statement {values['SELLER']}"].splitlines() if values["TRADE"] in one]
    assert ",sold," in row
    assert row.endswith(f",500,450,450,450,200000,{PAID}")
    proven = shown(
        "members",
        values["SELLER"],
        "--prove",
        "--genesis-hash",
        values["GENESIS"],
        "--home",
        values["BUYER_HOME"],
    )
    assert str(member(network, 1)["balance"]) in json.dumps(proven)
    assert f"{member(network, 1)['credit'] // 1000}." in outputs[f"members {values['SELLER']}"]


def test_a_proof_against_another_genesis_is_refused(network: Running) -> None:
    """PROTOCOL 9.5: the client believes the genesis it was given and nothing else."""
    result = cgpbft(
        "members",
        network.address(1),
        "--prove",
        "--genesis-hash",
        "00" * 32,
        "--node",
        network.places[1].url,
        code=1,
    )
    assert result.stderr.startswith("error: the genesis hashes to ")


def test_a_transaction_is_proven_to_the_client(network: Running) -> None:
    url, pinned = network.places[2].url, network.genesis_hash
    home = network.places[2].home
    sent = shown("transfer", network.address(4), "1.5", "--home", home)
    proven = cgpbft("tx", sent["id"], "--prove", "--genesis-hash", pinned, "--node", url).stdout
    assert re.search(r"^proven +height \d+, index \d+, ok", proven, re.MULTILINE)


def test_the_requests_of_the_trade_section_do_what_it_says(network: Running) -> None:
    """The same over HTTP, the node signing with its own key and its own meter."""
    _, lines = trade_blocks()
    before = (member(network, 3), member(network, 4))
    start_ms = next_start_ms(10_000)
    values = reader(network, start_ms, 3, 4) | {"TRADE": ""}
    answers: dict[str, Any] = {}
    for line in lines:
        arguments = words(line, values)
        path = urlsplit(next(word for word in arguments if word.startswith("http"))).path
        if path.endswith("/accept"):
            until(
                lambda: http(f"{values['BUYER_NODE']}/v1/trades/{values['TRADE']}")[0] == 200,
                "the offer's block",
            )
        if path == "/v1/readings":
            sleep_until(start_ms + SLOT_MS + 300)
        if path == f"/v1/trades/{values['TRADE']}":
            check_settled(network, values, before, (3, 4))
        answers[path] = curl(arguments)
        if path == "/v1/trades":
            assert answers[path]["state"] == "committed"
            values["TRADE"] = answers[path]["id"]
    assert answers[f"/v1/trades/{values['TRADE']}"]["state"] == "settled"
    reasons = [entry["reason"] for entry in answers[f"/v1/members/{values['SELLER']}/credit"]["items"]]
    assert reasons == ["seller_shortfall"]


def test_the_same_bytes_again_get_the_same_answer(network: Running, tmp_path: Path) -> None:
    """README: sending the same bytes again is safe."""
    url = network.places[0].url
    sent = shown("transfer", network.address(2), "0.5", "--home", network.places[0].home)
    raw = bytes.fromhex(get(f"{url}/v1/transactions/{sent['id']}")["raw"])
    status, answer = http(f"{url}/v1/transactions?wait=committed", raw, content_type="application/msgpack")
    assert (status, answer["id"], answer["state"]) == (200, sent["id"], "committed")
