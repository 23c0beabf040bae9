"""What the recorder writes down, apart from real networks."""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from contracts.transaction import TradeOpen, Transfer, decode_transaction
from node.cli.localnet import Place
from node.keystore import KeyPair
from scripts.history.history import read_history
from scripts.history.recording import ending
from scripts.history.recording.clients import Client, Shared
from scripts.history.recording.everywhere import read_everywhere
from scripts.history.recording.log import Log
from scripts.history.recording.market import Market
from scripts.history.records import Info, Line, Vote

KEYS = [KeyPair(bytes((number,)) * 32) for number in range(1, 5)]


class WatchedLog(Log):
    """Tells when some lines were written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.long_enough = asyncio.Event()

    def write(self, line: Line) -> None:
        super().write(line)
        if self.lines >= 60:
            self.long_enough.set()


def market() -> Market:
    return Market(KEYS, b"\x01" * 32, 1_000, 120_000, seed=1)


def test_transactions_are_signed_and_amounts_name_their_writer() -> None:
    made = market()
    asked = [made.transaction() for _ in range(300)]
    payloads = [decode_transaction(one.raw).payload for one in asked]
    amounts = [payload.amount for payload in payloads if isinstance(payload, Transfer)]
    powers = [amount for amount in amounts if amount & (amount - 1) == 0]
    unique = [amount for amount in amounts if amount & (amount - 1)]
    assert len({one.id for one in asked}) == 300
    assert len(set(unique)) == len(unique) > 200
    assert powers == sorted(powers)
    assert len(powers) > 10
    trades = [payload for payload in payloads if isinstance(payload, TradeOpen)]
    assert 10 <= len(trades) == sum(one.terms is not None for one in asked)


async def test_a_node_that_is_away_leaves_operations_without_an_end(tmp_path: Path) -> None:
    """A connection that is refused says nothing about what was submitted (PROTOCOL 9.3)."""
    path = tmp_path / "history.jsonl"
    log = WatchedLog(path)
    places = [Place("node1", 0, "http://127.0.0.1:9", "", "", [])]
    shared = Shared(places, market(), log, 1)
    tasks = [
        asyncio.create_task(Client(shared, 1, places[0]).run(0.001)),
        asyncio.create_task(Client(shared, 2, None).run(0.001)),
        asyncio.create_task(read_everywhere(shared, 3, 0.001)),
    ]
    async with asyncio.timeout(20):
        await log.long_enough.wait()
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    await shared.close()
    log.close()
    history = read_history(path)
    assert {operation.invoke.process for operation in history.operations} == {1, 2, 3}
    ended = [operation for operation in history.operations if operation.end is not None]
    assert len(ended) >= 25
    assert all(isinstance(operation.end, Info) for operation in ended)
    assert not history.flaws


def test_only_what_went_wrong_since_the_beginning_counts(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("Traceback (most recent call last):\n")
    places = [Place("node1", 0, "", "", str(file), [])]
    begun = ending.sizes(places)
    with file.open("a") as log_file:
        log_file.write("all is well\nTask exception was never retrieved\n")
    log = Log(tmp_path / "history.jsonl")
    ending.problems(log, places, begun)
    log.close()
    [problem] = read_history(tmp_path / "history.jsonl").problems
    assert "never retrieved" in problem.what


def test_votes_of_a_tap_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    vote = Vote(5, "aa", 0, 1, 0, "commit", "bb")
    file = tmp_path / "votes.jsonl"
    file.write_bytes(msgspec.json.encode(vote) + b'\n{"type":"vo\n' + msgspec.json.encode(vote) + b"\n")
    log = Log(tmp_path / "history.jsonl")
    assert ending.votes(log, file) == 2
    assert ending.votes(log, tmp_path / "none") == 0
    log.close()
    assert read_history(tmp_path / "history.jsonl").votes == [vote, vote]
