"""One more node joins by one command, is grouped, sells; an invited chain asks for an invite (issue 2, point 4)."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.process_network import (
    SHORT_EPOCHS,
    SLOT_MS,
    Running,
    cgpbft,
    end,
    get,
    http,
    invited_network,
    is_free,
    is_ready,
    next_start_ms,
    open_network,
    shown,
    until,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]

DEFAULT_PORTS: Final = (26_656, 26_657)
EPOCHS_TIMEOUT_S: Final = 90.0
"""Two of SHORT_EPOCHS with view changes in between, on a machine with other work."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with open_network(tmp_path_factory.mktemp("open"), *SHORT_EPOCHS) as running:
        yield running


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("operators")
    files = [folder / f"operator{number}.key" for number in (1, 2, 3)]
    for file in files:
        cgpbft("keys", "new", file)
    return files


@pytest.fixture(scope="module")
def invited(tmp_path_factory: pytest.TempPathFactory, operators: list[Path]) -> Iterator[Running]:
    keys = [str(shown("keys", "show", file)[0]["public_key"]) for file in operators]
    with invited_network(tmp_path_factory.mktemp("invited"), keys, *SHORT_EPOCHS) as running:
        yield running


def answers_at(log: Path) -> str:
    """URL of the API, as the node said it."""
    found: list[str] = until(
        lambda: log.exists() and re.findall(r"answers at (http://\S+)", log.read_text(encoding="utf-8")),
        f"{log}: up",
    )
    return found[-1]


def last_line(log: Path) -> str:
    return log.read_text(encoding="utf-8").splitlines()[-1]


def await_grouped(url: str, address: str) -> None:
    """Ready, a member everywhere, and in a group of the epoch that began after it joined."""
    until(lambda: is_ready(url), "readiness of the joiner")
    joined = until(
        lambda: http(f"{url}/v1/members/{address}")[0] == 200 and get(f"{url}/v1/status"),
        "membership of the joiner",
    )
    status = until(
        lambda: (found := get(f"{url}/v1/status"))["group"] is not None and found, "a group", EPOCHS_TIMEOUT_S
    )
    assert status["epoch"] in {joined["epoch"] + 1, joined["epoch"] + 2}
    groups = get(f"{url}/v1/groups")["groups"]
    assert address in {
        one["address"] if isinstance(one, dict) else one for one in groups[status["group"]]["members"]
    }


def sell(url: str, network: Running, address: str) -> None:
    """Offer to node 1, which accepts; both meters report; it settles, and the seller's N and balance grow."""
    buyer, buyer_url = network.address(1), network.places[0].url
    before = get(f"{url}/v1/members/{address}")["member"]
    start_ms = next_start_ms(8_000)
    offer = {"buyer": buyer, "quantity_wh": 300, "price": 100_000, "start_ms": start_ms}
    status, sent = http(f"{url}/v1/trades?wait=committed", json.dumps(offer).encode())
    assert (status, sent["state"]) == (200, "committed"), sent
    trade = f"/v1/trades/{sent['id']}"
    until(lambda: http(f"{buyer_url}{trade}")[0] == 200, "the offer at the buyer's node")
    status, accepted = http(f"{buyer_url}{trade}/accept?wait=committed", method="POST")
    assert (status, accepted["state"]) == (200, "committed"), accepted
    time.sleep(max(0.0, (start_ms + SLOT_MS + 400) / 1_000 - time.time()))
    for place, exported, imported in ((url, 300, 0), (buyer_url, 0, 300)):
        reading = {"slot": start_ms // SLOT_MS, "exported_wh": exported, "imported_wh": imported}
        assert http(f"{place}/v1/readings", json.dumps({"readings": [reading]}).encode())[0] == 202
    settled: dict[str, Any] = until(
        lambda: (found := get(f"{buyer_url}{trade}"))["state"] == "settled" and found, "the settlement"
    )
    assert settled["settlement"]["paid_wh"] == 300
    until(
        lambda: get(f"{url}/v1/members/{address}")["member"]["energy_wh"] == before["energy_wh"] + 300,
        "its N",
    )
    after = get(f"{url}/v1/members/{address}")["member"]
    assert int(after["balance"]) == int(before["balance"]) + 300 * 100_000


# ---------------------------------------------------------------- open


def test_join_and_nothing_else_makes_a_member_that_is_grouped_and_sells(
    network: Running, tmp_path: Path
) -> None:
    """PROTOCOL 1.5, 10.1: no home, no key, no flag: it fetches, catches up, registers, is grouped, trades."""
    # On a machine where something listens on the default ports the joiner takes others, and that is all it is told.
    busy = not all(is_free(port) for port in DEFAULT_PORTS)
    ports = ("--api", "127.0.0.1:0", "--listen", "127.0.0.1:0") if busy else ()
    log = tmp_path / "joiner.log"
    process = network.add(log, "join", network.url, *ports, home=tmp_path)
    url = answers_at(log)
    address = get(f"{url}/v1/status")["address"]
    assert (tmp_path / ".cgpbft" / "config.toml").exists()
    await_grouped(url, address)
    sell(url, network, address)
    assert (
        process.poll() is None
    )  # it serves on: it may hold a seat by now, and the next test takes another away


def test_a_wiped_node_says_why_it_signs_nothing(network: Running) -> None:
    """PROTOCOL 6.5, 10.2: key kept, data lost: it catches up, abstains for a while and shows until when and why."""
    place = network.places[3]
    home, line = Path(place.home), place.command[3:]
    end_of(place.pid)
    shutil.rmtree(home / "ledger", ignore_errors=True)
    shutil.rmtree(home / "journal")
    log = home / "again.log"
    network.add(log, *line)
    answers_at(log)
    abstaining = until(
        lambda: (found := get(f"{place.url}/v1/status"))["abstaining_until"] is not None and found,
        "abstaining",
        20,
    )
    assert abstaining["address"] == network.address(4)
    table = cgpbft("status", "--node", place.url).stdout
    assert re.search(r"^signs +(no.*journal|yes)", table, re.MULTILINE)
    text = log.read_text(encoding="utf-8")
    assert "journal" in text
    until(lambda: is_ready(place.url), "readiness", 60)
    until(lambda: get(f"{place.url}/v1/status")["abstaining_until"] is None, "signing again", 60)
    assert re.search(r"^signs +yes", cgpbft("status", "--node", place.url).stdout, re.MULTILINE)


def end_of(pid: int) -> None:
    """SIGKILL for a process of the local network, and wait until it is gone."""
    import os

    os.kill(pid, signal.SIGKILL)

    def gone() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        return state == "Z"

    until(gone, "the end of the process", 10)


# ---------------------------------------------------------------- invited


def test_without_an_invite_the_join_is_refused_with_what_to_do(invited: Running, tmp_path: Path) -> None:
    """PROTOCOL 1.5: exit code 1, and the last line says why and what to do."""
    log = tmp_path / "refused.log"
    process = invited.add(
        log,
        "join",
        invited.url,
        "--home",
        tmp_path / "home",
        "--api",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
    )
    assert process.wait(90) == 1
    key = shown("keys", "show", "--home", tmp_path / "home")[0]["public_key"]
    assert last_line(log).startswith("error: ")
    assert f"does not admit the key {key}: invite_missing" in last_line(log)
    assert "--invite FILE" in last_line(log)
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_an_invite_of_too_few_operators_is_refused(
    invited: Running, operators: list[Path], tmp_path: Path
) -> None:
    """PROTOCOL 1.5: operator_threshold of them have to sign."""
    home, file, log = tmp_path / "home", tmp_path / "invite.json", tmp_path / "refused.log"
    key = shown("init", "--home", home)["public_key"]
    made = cgpbft(
        "operator", "invite", "--member-key", key, "--file", file, "--key", operators[0],
        "--node", invited.places[0].url,
    )  # fmt: skip
    assert "1 of 2 operators" in made.stdout
    process = invited.add(
        log,
        "join",
        invited.url,
        "--home",
        home,
        "--invite",
        file,
        "--api",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
    )
    assert process.wait(90) == 1
    assert re.search(r"(invite_wrong|operator_approval_missing); .*too few operators", last_line(log))


def test_with_an_invite_of_the_threshold_it_joins_is_grouped_and_sells(
    invited: Running, operators: list[Path], tmp_path: Path
) -> None:
    """PROTOCOL 1.5, 10.1, as README's "Join" has it; the used invite serves nobody else."""
    home, file, log, node = (
        tmp_path / "home",
        tmp_path / "invite.json",
        tmp_path / "joiner.log",
        invited.places[0].url,
    )
    key = shown("init", "--home", home)["public_key"]
    cgpbft("operator", "invite", "--member-key", key, "--file", file, "--key", operators[0], "--node", node)
    made = cgpbft("operator", "invite", "--file", file, "--key", operators[2], "--node", node)
    assert "2 of 2 operators" in made.stdout
    words = ("join", invited.url, "--home", home, "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0")
    process = invited.add(log, *words, "--invite", file)
    url = answers_at(log)
    address = get(f"{url}/v1/status")["address"]
    await_grouped(url, address)
    buyer = invited.address(1)
    money = tmp_path / "issue.json"
    cgpbft("operator", "issue", buyer, "5", "--file", money, "--key", operators[0], "--node", node)
    cgpbft("operator", "issue", "--file", money, "--key", operators[1], "--node", node)
    sell(url, invited, address)
    # A member needs its invite no more.
    assert end(process) == 0
    again = invited.add(tmp_path / "again.log", *words)
    url = answers_at(tmp_path / "again.log")
    until(lambda: again.poll() is not None or is_ready(url), "readiness after a restart")
    assert again.poll() is None
    stranger = cgpbft("join", invited.url, "--home", tmp_path / "other", "--invite", file, code=1)
    assert "the invite is for the key" in stranger.stderr
