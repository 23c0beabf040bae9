"""The command line against a fake node: what it prints, what it signs, its exit codes 0, 1 and 2."""

import asyncio
import json
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from consensus.ed25519 import Ed25519Verifier
from contracts.genesis import Genesis
from contracts.receipts import ReasonCode
from contracts.transaction import (
    Ballots,
    Excuse,
    Issue,
    Leave,
    Readings,
    Redeem,
    TradeAccept,
    TradeOffer,
    Transaction,
    Transfer,
    decode_transaction,
)
from node.api.server import serve
from node.cli.application import app
from node.cli.home import token_for
from node.cli.localnet import Supervisor
from node.cli.show import signs_of
from node.cli.values import amount, credits_of, decimal, endpoint, money, time_ms
from node.config import ApiConfig, NodeConfig
from node.errors import ConfigurationError
from node.invites import read_invite
from node.keystore import NODE_KEY_FILE, read_key, write_key
from node.resume import check_resume, read_resume
from tests.unit.node.fake_node import OFFER_ID, TRADE_ID, FakeNode
from tests.unit.node.mini_chain import key


class Background:
    """A fake node served from a thread of its own; it decides a block whenever something waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.node: FakeNode
        self.port = 0
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._run(),))
        self.thread.start()
        assert self.started.wait(10)

    async def _run(self) -> None:
        self.node, self.stopping = FakeNode(), asyncio.Event()
        server = await serve(self.node, ApiConfig(port=0))
        self.port = server.port
        self.started.set()
        while not self.stopping.is_set():
            await asyncio.sleep(0.01)
            if self.node.pending:
                await self.node.decide()
                await self.node.decide()
        await server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def last(self) -> Transaction:
        return decode_transaction(self.node.submitted[-1])

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose node key is the fake's first member's."""
    write_key(tmp_path / "home" / NODE_KEY_FILE, key(1))
    return tmp_path / "home"


def call(*arguments: object, background: Background | None = None, home: Path | None = None) -> Result:
    environment = {"CGPBFT_HOME": str(home or "/nonexistent"), "CGPBFT_API_TOKEN": ""}
    if background is not None:
        environment["CGPBFT_NODE"] = background.url
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environment, catch_exceptions=False)


OTHER = key(2).address.hex()


# ---- looking


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["status"], "last block       3"),
        (["members"], "1000.00"),
        (["members", key(1).address.hex()], "delegate_reward"),
        (["members", key(1).address.hex(), "--prove"], "proven at height  2"),
        (["groups"], "epoch 0"),
        (["epoch"], "running"),
        (["epoch", "0"], "built-in planner"),
        (["delegates", "--height", "2"], "quorum 3 of 4"),
        (["block"], "state root"),
        (["block", "1"], "ok"),
        (["trade", "list", "--state", "offered"], OFFER_ID.hex()),
        (["trade", "show", TRADE_ID.hex()], "0.225 for 900 Wh"),
    ],
)
def test_tables_and_json(background: Background, command: list[str], expected: str) -> None:
    result = call(*command, background=background)
    assert result.exit_code == 0, result.output
    assert expected in result.stdout
    as_json = call(*command, "--json", background=background)
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout)


def test_a_transaction_and_its_proof(background: Background) -> None:
    transaction_id = background.node.first_id.hex()
    chain_id = background.node.chain.chain_id.hex()
    assert "committed" in call("tx", transaction_id, background=background).stdout
    result = call("tx", transaction_id, "--prove", "--genesis-hash", chain_id, background=background)
    assert "proven   height 1, index 0, ok" in result.stdout
    result = call("ledger", "prove", transaction_id, "--json", background=background)
    assert json.loads(result.stdout)["height"] == 1
    wrong = call("ledger", "prove", transaction_id, "--genesis-hash", "00" * 32, background=background)
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("error: the genesis hashes to ")


def test_a_node_that_is_away_is_one_line_and_exit_code_1() -> None:
    result = call("status", "--node", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: http://127.0.0.1:1 cannot be reached")
    assert result.stderr.count("\n") == 1


def test_a_refusal_says_what_to_do(background: Background) -> None:
    result = call("block", "99", background=background)
    assert result.exit_code == 1
    assert "block 99 is not decided" in result.stderr
    assert "Check the id or height" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["nothing"],
        ["status", "--colour"],
        ["block", "0"],
        ["tx", "xyz"],
        ["status", "--node", "localhost"],
        ["transfer", OTHER, "1.0000000001"],
        ["transfer", OTHER, "-1"],
        ["transfer", OTHER, "0"],
        ["transfer", "12", "1"],
        ["vote"],
        ["vote", OTHER, OTHER],
        ["trade", "offer", "--wh", "1", "--price", "1"],
        ["trade", "offer", "--sell-to", OTHER, "--buy-from", OTHER, "--wh", "1", "--price", "1"],
        ["trade", "offer", "--sell-to", OTHER, "--wh", "0", "--price", "1"],
        ["operator", "issue", "--file", "f", OTHER],
        ["operator", "issue", "--file", "f"],
        ["ledger", "compare", "http://127.0.0.1:1"],
        ["join"],
        ["init", "--api", "localhost"],
        ["localnet", "--members", "0", "--groups", "1"],
    ],
)
def test_wrong_usage_is_exit_code_2(command: list[str]) -> None:
    result = call(*command)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr


# ---- signing


def test_the_home_key_signs_and_the_ledger_is_awaited(background: Background, home: Path) -> None:
    result = call("transfer", OTHER, "12.5", background=background, home=home)
    assert result.exit_code == 0, result.output
    assert "committed" in result.stdout
    sent = background.last()
    assert sent.payload == Transfer(key(2).address, 12_500_000_000)
    assert (sent.sender, sent.chain_id) == (key(1).address, background.node.chain.chain_id)
    assert not background.node.payloads
    signature = sent.signatures[0]
    assert Ed25519Verifier().verify(signature.public_key, sent.signed_bytes, signature.signature)
    assert sent.valid_until_ms - sent.valid_from_ms == 120_000


def test_without_a_key_the_node_signs(background: Background) -> None:
    assert call("transfer", OTHER, "1", background=background).exit_code == 0
    assert background.node.payloads == [Transfer(key(2).address, 1_000_000_000)]
    assert call("leave", "--no-wait", background=background).exit_code == 0
    assert background.node.payloads[-1] == Leave()


def test_offers_acceptances_votes_and_readings_are_signed_here(background: Background, home: Path) -> None:
    result = call(
        "trade", "offer", "--sell-to", OTHER, "--wh", 1_000, "--price", "0.25", "--start", "+5", "--slots", 2,
        "--penalty-bp", 500, "--take-or-pay", background=background, home=home,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    offer = background.last().payload
    assert isinstance(offer, TradeOffer)
    assert (offer.terms.seller, offer.terms.buyer) == (key(1).address, key(2).address)
    assert (offer.terms.price, offer.terms.slots, offer.terms.penalty_bp) == (250_000, 2, 500)
    assert offer.terms.start_ms % 1_000 == 0
    assert call("trade", "accept", OFFER_ID.hex(), background=background, home=home).exit_code == 0
    assert background.last().payload == TradeAccept(OFFER_ID)
    assert call("vote", OTHER, background=background, home=home).exit_code == 0
    ballots = background.last().payload
    assert isinstance(ballots, Ballots)
    assert (ballots.ballots[0].choices, ballots.ballots[0].epoch) == ((key(2).address,), 0)
    report = call(
        "meter", "report", "--exported", 5, "--imported", 0, "--slot", 7, background=background, home=home
    )
    assert report.exit_code == 0, report.output
    readings = background.last().payload
    assert isinstance(readings, Readings)
    assert (readings.readings[0].slot, readings.readings[0].counter) == (7, 7)


def test_a_rejection_by_the_ledger_is_exit_code_1(background: Background, home: Path) -> None:
    from msgspec.structs import replace

    decide = background.node.chain.decide

    def rejecting(transactions: tuple[bytes, ...] = (), *rest: object) -> object:
        block = decide(transactions, *rest)  # type: ignore[arg-type]
        receipts = background.node.chain.receipts
        receipts[-1] = tuple(replace(one, code=ReasonCode.BALANCE_TOO_LOW) for one in receipts[-1])
        return block

    status = background.node.transaction_status

    def rejected(transaction_id: bytes, *, proof: bool = False) -> object:
        from node.service import TransactionState

        found = status(transaction_id, proof=proof)
        if found.state is not TransactionState.COMMITTED:
            return found
        return replace(found, state=TransactionState.REJECTED, reason="balance_too_low")

    background.node.chain.decide = rejecting  # type: ignore[method-assign, assignment]
    background.node.transaction_status = rejected  # type: ignore[method-assign, assignment]
    result = call("transfer", OTHER, "1", background=background, home=home)
    assert result.exit_code == 1
    assert "balance_too_low" in result.stderr


def test_a_quote_sends_nothing(background: Background) -> None:
    result = call(
        "trade",
        "offer",
        "--sell-to",
        OTHER,
        "--wh",
        1_000,
        "--price",
        "0.25",
        "--quote",
        background=background,
    )
    assert "value                    0.25" in result.stdout
    assert not background.node.submitted


# ---- operators


@pytest.fixture
def operators(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.key", tmp_path / "two.key"]
    write_key(paths[0], key(201))
    write_key(paths[1], key(202))
    return paths


def test_issue_waits_for_the_threshold_and_is_then_submitted(
    background: Background, operators: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "issue.json"
    first = call(
        "operator", "issue", OTHER, "7", "--file", file, "--key", operators[0], background=background
    )
    assert first.exit_code == 0, first.output
    assert "1 of 2 operators have signed" in first.stderr
    again = call("operator", "issue", "--file", file, "--key", operators[0], background=background)
    assert "1 of 2" in again.stderr
    assert not background.node.submitted
    twice = call(
        "operator", "issue", OTHER, "7", "--file", file, "--key", operators[0], background=background
    )
    assert (twice.exit_code, "exists already" in twice.stderr) == (1, True)
    wrong = call("operator", "excuse", "--file", file, "--key", operators[1], background=background)
    assert (wrong.exit_code, "not excuse" in wrong.stderr) == (1, True)
    second = call("operator", "issue", "--file", file, "--key", operators[1], background=background)
    assert second.exit_code == 0, second.output
    sent = background.last()
    assert sent.payload == Issue(key(2).address, 7_000_000_000)
    assert [one.public_key for one in sent.signatures] == [key(201).public_key, key(202).public_key]
    assert all(
        Ed25519Verifier().verify(s.public_key, sent.signed_bytes, s.signature) for s in sent.signatures
    )


def test_redeem_begins_with_the_member_and_excuse_with_an_operator(
    background: Background, operators: list[Path], home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "redeem.json"
    assert call("operator", "redeem", "3", "--file", file, background=background, home=home).exit_code == 0
    for path in operators:
        assert call("operator", "redeem", "--file", file, "--key", path, background=background).exit_code == 0
    assert (background.last().sender, background.last().payload) == (key(1).address, Redeem(3_000_000_000))
    file = tmp_path / "excuse.json"
    call("operator", "excuse", TRADE_ID.hex(), "--file", file, "--key", operators[0], background=background)
    call("operator", "excuse", "--file", file, "--key", operators[1], background=background)
    assert background.last().payload == Excuse(TRADE_ID)


def test_an_invite_carries_both_approvals_of_every_operator(
    background: Background, operators: list[Path], tmp_path: Path
) -> None:
    from contracts.signatures import invite_bytes, meter_bytes

    file, member = tmp_path / "invite.json", key(9)
    first = call(
        "operator", "invite", "--file", file, "--key", operators[0], "--member-key", member.public_key.hex(),
        "--max-power-w", 9_000, background=background,
    )  # fmt: skip
    assert "pass it to the next operator" in first.stdout
    second = call(
        "operator", "invite", "--file", file, "--key", operators[1], "--json", background=background
    )
    assert json.loads(second.stdout)["complete"] is True
    held = read_invite(file)
    chain_id = background.node.chain.chain_id
    assert held.chain_id == chain_id
    invited = invite_bytes(member.public_key, held.invite.last_time_ms, chain_id)
    metered = meter_bytes(member.public_key, 9_000, member.address, chain_id)
    verify = Ed25519Verifier().verify
    assert [verify(one.public_key, invited, one.signature) for one in held.invite.approvals] == [True, True]
    assert [verify(one.public_key, metered, one.signature) for one in held.meter.approvals] == [True, True]


def test_a_resume_file_needs_the_threshold_and_the_right_chain(
    background: Background, operators: list[Path], tmp_path: Path
) -> None:
    file, genesis = tmp_path / "resume.json", background.node.chain.genesis
    call(
        "operator", "resume", "--file", file, "--key", operators[0], "--height", 12, "--first-view", 3,
        background=background,
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="1 operators signed"):
        check_resume(read_resume(file), genesis, Ed25519Verifier())
    call("operator", "resume", "--file", file, "--key", operators[1], background=background)
    permission = check_resume(read_resume(file), genesis, Ed25519Verifier())
    assert (permission.height, permission.first_view) == (12, 3)
    other = Genesis(
        **{name: getattr(genesis, name) for name in genesis.__struct_fields__} | {"chain_name": "other"}
    )
    with pytest.raises(ConfigurationError, match="chain"):
        check_resume(read_resume(file), other, Ed25519Verifier())
    changed = json.loads(file.read_text(encoding="utf-8")) | {"height": 13}
    file.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="0 operators signed"):
        check_resume(read_resume(file), genesis, Ed25519Verifier())


# ---- homes and ledgers


def test_init_makes_a_home_once(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    first = call("init", "--api", "0.0.0.0:1234", "--bootstrap-url", "http://b:1", "--json", home=folder)
    assert first.exit_code == 0, first.output
    made = json.loads(first.stdout)
    assert made["new"] is True
    assert stat.S_IMODE((folder / NODE_KEY_FILE).stat().st_mode) == 0o600
    assert read_key(folder / NODE_KEY_FILE).public_key.hex() == made["public_key"] == made["meter_public_key"]
    assert (folder / "journal").is_dir()
    again = json.loads(call("init", "--json", home=folder).stdout)
    assert (again["new"], again["public_key"]) == (False, made["public_key"])
    shown = json.loads(call("validate-config", "--json", home=folder).stdout)
    assert (shown["api"]["host"], shown["api"]["port"], shown["bootstrap_urls"]) == (
        "0.0.0.0",
        1234,
        ["http://b:1"],
    )


def test_a_wrong_configuration_is_told_by_key(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[api]\nport = 99999\n", encoding="utf-8")
    result = call("validate-config", home=tmp_path)
    assert result.exit_code == 1
    assert "api.port" in result.stderr


def test_start_without_keys_or_chain_says_what_to_do(tmp_path: Path, home: Path) -> None:
    assert "cgpbft init" in call("start", home=tmp_path / "none").stderr


def test_keys_are_made_and_shown_without_their_secret(tmp_path: Path) -> None:
    path = tmp_path / "op.key"
    made = json.loads(call("keys", "new", path, "--json").stdout)
    shown = call("keys", "show", path, "--json").stdout
    assert json.loads(shown) == made
    assert read_key(path).seed.hex() not in shown
    assert call("keys", "new", path).exit_code == 1


def test_a_passphrase_file_opens_the_key(tmp_path: Path) -> None:
    words, path = tmp_path / "words", tmp_path / "key"
    words.write_text("open sesame\nnot this\n", encoding="utf-8")
    assert call("keys", "new", path, "--passphrase-file", words).exit_code == 0
    assert read_key(path, "open sesame").public_key
    assert "passphrase" in call("keys", "show", path).stderr


def test_a_token_is_made_once_and_only_beyond_loopback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token_for(tmp_path, NodeConfig()) == ""
    beyond = NodeConfig(api=ApiConfig(host="0.0.0.0"))
    token = token_for(tmp_path, beyond)
    assert token in capsys.readouterr().err
    assert stat.S_IMODE((tmp_path / "api.token").stat().st_mode) == 0o600
    assert token_for(tmp_path, beyond) == token
    assert capsys.readouterr().err == ""
    assert token_for(tmp_path, NodeConfig(api=ApiConfig(host="0.0.0.0", token="mine"))) == "mine"


def test_compare_and_export(background: Background, tmp_path: Path) -> None:
    same = call("ledger", "compare", background.url, background.url)
    assert same.exit_code == 0, same.output
    file = tmp_path / "export"
    assert "3 blocks" in call("ledger", "export", file, background=background).stdout
    assert len(file.read_bytes()) > 1_000
    other = Background()
    other.node.chain.genesis = background.node.chain.genesis
    try:
        other.loop.call_soon_threadsafe(other.node.chain.decide, (other.node.raw,))
        background.loop.call_soon_threadsafe(background.node.chain.decide)
        deadline = time.monotonic() + 5
        while min(other.node.chain.height, background.node.chain.height) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        differs = call("ledger", "compare", background.url, other.url)
        assert (differs.exit_code, "differ at height 4" in differs.stderr) == (1, True)
    finally:
        other.stop()


def test_localnet_names_every_process(tmp_path: Path) -> None:
    network = Supervisor(tmp_path, 3, 1, 30_000, 0).network
    assert [node.url for node in network.nodes] == [
        f"http://127.0.0.1:{port}" for port in (30_011, 30_012, 30_013)
    ]
    assert [node.peer_port for node in network.nodes] == [30_051, 30_052, 30_053]
    assert network.nodes[0].command[3:5] == ["join", "http://127.0.0.1:30000"]
    assert Supervisor(tmp_path, 1, 1, 26_650, 0).network.nodes[0].url.endswith(":26661")


# ---- small things


def test_version_and_help_start_light() -> None:
    assert "protocol 1" in call("version").stdout
    heavy = ("aiohttp", "rich.table", "structlog", "nacl")
    code = f"import sys, node.cli.application; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_money_credit_and_times() -> None:
    assert (amount("1"), amount("0.000000001"), decimal("1.5", 6, "x")) == (10**9, 1, 1_500_000)
    assert (money("1"), money(-1_500_000_000), money(10**18)) == ("0.000000001", "-1.50", "1000000000.00")
    assert (credits_of(-500), credits_of(51_000)) == ("-0.500", "51.000")
    assert time_ms("+2", 10_500, 1_000, "t") == 12_000
    assert time_ms("1970-01-01T00:00:01+00:00", 0, 1_000, "t") == 1_000
    assert time_ms("1970-01-01T01:00:01+01:00", 0, 1_000, "t") == 1_000
    assert (endpoint("[::1]:5", "x"), endpoint("node1:26656", "x")) == (("::1", 5), ("node1", 26_656))


def test_a_node_that_abstains_says_until_when_and_why() -> None:
    """PROTOCOL 6.5, 10.2."""
    assert signs_of(None) == "yes"
    assert signs_of(-1).startswith("no: its journal was lost, damaged or restored")
    assert signs_of(-1).endswith("asking the other delegates how far")
    assert signs_of(41).startswith("no, up to height 41: its journal was lost")
