"""The history checker: every planted anomaly is found by the check that should, and good histories raise no alarm.

The whole of it (1 000 good histories) is ``scripts/faults/judge selftest``; here is a part that takes seconds.
"""

import json
from pathlib import Path

import msgspec
import pytest

from node.auditor.source import Source
from scripts.history.__main__ import main
from scripts.history.anomalies import ANOMALIES, Planted, plant
from scripts.history.bench import found, write_lines
from scripts.history.chain import Chain, MemberJoined
from scripts.history.generator import Generated, generate
from scripts.history.history import History, Unreadable, read_history
from scripts.history.judge import judge
from scripts.history.ledger import read_chain
from scripts.history.records import Event, FinalChain, Invoke, Line, Nemesis, Node, Ok, Setup, Subscribe
from scripts.history.verdict import Outcome, Verdict
from tests.unit.auditor.forging import ListSource, recertified
from tests.unit.auditor.history import CertifiedChain, Market

SEED = 7


@pytest.fixture(scope="module")
def good() -> Generated:
    return generate(SEED)


@pytest.fixture(scope="module")
def market() -> CertifiedChain:
    return Market(11).run(epochs=3)


def judged(lines: list[Line], chain: Chain) -> Verdict:
    return judge(History.of(lines), chain)


def checks_that_found(verdict: Verdict) -> set[str]:
    return {report.check.split()[0] for report in verdict.reports if report.witnesses}


@pytest.mark.parametrize("anomaly", ANOMALIES, ids=lambda anomaly: anomaly.name.replace(" ", "_"))
def test_a_planted_anomaly_is_found_by_the_check_that_should(anomaly: Planted) -> None:
    assert found(anomaly, SEED)


def test_every_check_has_an_anomaly_of_its_own() -> None:
    assert {anomaly.check for anomaly in ANOMALIES} == {str(number) for number in range(1, 13)}


@pytest.mark.parametrize("seed", range(20))
def test_a_good_history_raises_no_alarm(seed: int) -> None:
    made = generate(seed)
    verdict = judged(made.lines, made.chain)
    assert verdict.outcome is Outcome.VALID, verdict.text()


def test_good_histories_reach_what_they_are_made_for(good: Generated) -> None:
    kinds = {line.op for line in good.lines if isinstance(line, Invoke)}
    assert kinds == {"submit", "status", "account", "block", "delegates", "plan", "trade"}
    verdict = judged(good.lines, good.chain)
    notes = " ".join(note for report in verdict.reports for note in report.notes)
    assert "plain reads, blocks behind" in notes
    assert "trades settled" in notes
    assert {item.kind for block in good.chain.blocks for item in block.items} >= {
        "transfer",
        "trade_open",
        "ballots",
    }


# ---- verdicts


def test_a_node_without_a_final_chain_makes_it_unknown(good: Generated) -> None:
    """As incomplete final reads do anywhere: what was not read is not known."""
    lines = [line for line in good.lines if not (isinstance(line, FinalChain) and line.node == "node5")]
    verdict = judged(lines, good.chain)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "node5 gave no final chain" in verdict.text()


def test_an_anomaly_counts_more_than_what_is_missing(good: Generated) -> None:
    lines: list[Line] = [line for line in good.lines if not isinstance(line, FinalChain | Setup)]
    submit = next(line for line in lines if isinstance(line, Invoke) and line.op == "submit")
    lines += [
        Invoke(10**15, 9_999, "submit", "00" * 32),
        Ok(10**15 + 1, 9_999, state="committed", place=(1, 0)),
    ]
    assert submit.subject
    assert judged(lines, good.chain).outcome is Outcome.INVALID


def test_the_smallest_witness_and_the_command_are_told() -> None:
    inversion = next(anomaly for anomaly in ANOMALIES if anomaly.name == "a real-time inversion")
    made = plant(inversion, SEED)
    verdict = judged(made.lines, made.chain)
    [report] = [report for report in verdict.reports if report.check == "4 real time"]
    assert all(len(witness.operations) == 2 and len(witness.heights) == 2 for witness in report.witnesses)
    assert verdict.smallest is not None
    assert f"seed {SEED}; repeat: scripts/faults/judge generate --seed {SEED}" in verdict.text()


def test_a_client_of_a_wiped_node_may_see_it_go_back(good: Generated) -> None:
    """Only after the nemesis made that node forget, and only at that node."""
    chain = good.chain
    hashes = [chain.hash_at(height) or "" for height in range(10)]
    base = 10**15
    lines: list[Line] = [
        Setup([Node("node1", chain.members[0].address)]),
        Invoke(base, 1, "status", "00" * 32, node="node1"),
        Ok(base + 1, 1, 9, hashes[9], "unknown"),
        Invoke(base + 4, 1, "status", "00" * 32, node="node1"),
        Ok(base + 5, 1, 3, hashes[3], "unknown"),
        FinalChain(base + 9, "node1", [block.hash for block in chain.blocks]),
    ]
    assert checks_that_found(judged(lines, chain)) == {"5"}
    wiped = Nemesis(base + 3, "wipe", ["node1"], forgets=True)
    assert checks_that_found(judged([*lines, wiped], chain)) == set()
    other = Nemesis(base + 3, "wipe", ["node2"], forgets=True)
    assert checks_that_found(judged([*lines, other], chain)) == {"5"}


def test_silence_is_excused_while_more_than_f_are_faulty(good: Generated) -> None:
    silence = next(anomaly for anomaly in ANOMALIES if anomaly.check == "11")
    made = plant(silence, SEED)
    moment = made.lines[len(good.lines) // 2].at  # type: ignore[union-attr]
    names = [node.name for node in made.lines[-1].nodes]  # type: ignore[union-attr]
    kill = [
        Nemesis(moment - 10**9, "kill", names, number=1_000),
        Nemesis(moment + 55 * 10**9, "kill", names, on=False, number=1_000),
    ]
    assert checks_that_found(judged([*made.lines, *kill], made.chain)) == set()


# ---- files


def test_a_history_survives_its_file_and_a_cut_off_last_line(good: Generated, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_lines(path, good.lines)
    assert judge(read_history(path), good.chain).outcome is Outcome.VALID
    with path.open("ab") as file:
        file.write(b'{"type":"invo')
    assert len(read_history(path).operations) == len(History.of(good.lines).operations)


def test_a_line_that_is_none_is_named(good: Generated, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(msgspec.json.encode(good.lines[0]) + b'\n{"type":"nonsense"}\n')
    with pytest.raises(Unreadable, match="line 2"):
        read_history(path)
    assert main(["check", str(path), str(tmp_path)]) == 2


# ---- real ledgers, by the auditor


def chain_of(source: Source) -> Chain:
    return read_chain(source)


def equivocators(chain: Chain) -> list[Line]:
    """The market has dishonest delegates: named, as a nemesis names them."""
    events = [event for block in chain.blocks for item in block.items for event in item.events]
    joined = [event.address for event in events if isinstance(event, MemberJoined)]
    addresses = dict.fromkeys([*(member.address for member in chain.members), *joined])
    nodes = [Node(f"node{number}", address) for number, address in enumerate(addresses)]
    return [Setup(nodes), Nemesis(0, "equivocate", [node.name for node in nodes], byzantine=True)]


def finals(chain: Chain, nodes: int = 20) -> list[Line]:
    """Of all nodes, and two streams, or nothing could be said about liveness."""
    streams: list[Line] = []
    for height in (1, 2):
        streams.append(Subscribe(height, height, "node0", height))
        streams.append(Event(height, height, height, 0, "block", chain.blocks[height - 1].hash))
    return streams + [
        FinalChain(1, f"node{number}", [block.hash for block in chain.blocks]) for number in range(nodes)
    ]


MARKETS: tuple[dict[str, int | bool], ...] = (
    {},
    {"members": 12, "groups": 7, "operators": 2, "credit_tolerance_bp": 0},
    {"members": 5, "groups": 0, "trade_reference_wh": 50_000},
    {"members": 3, "groups": 2, "allow_non_bft": True, "dormant_epochs": 0},
)


@pytest.mark.parametrize("seed", range(4))
def test_what_the_engine_decides_raises_no_alarm(seed: int) -> None:
    """The plain model here, the auditor and the node's own engine agree on a whole market."""
    made = Market(seed, **MARKETS[seed]).run(epochs=3)
    chain = chain_of(ListSource(made.genesis_bytes, made.certified))
    verdict = judged([*equivocators(chain), *finals(chain)], chain)
    assert verdict.outcome is Outcome.VALID, verdict.text()
    assert chain.height == made.height
    assert chain.audited


def test_proof_against_a_node_that_was_never_made_dishonest(market: CertifiedChain) -> None:
    chain = chain_of(ListSource(market.genesis_bytes, market.certified))
    setup = equivocators(chain)[0]
    assert checks_that_found(judged([setup, *finals(chain)], chain)) == {"9"}


@pytest.mark.parametrize("forgery", ["a flipped signature", "q - 1 signatures"])
def test_a_forged_certificate(market: CertifiedChain, forgery: str) -> None:
    blocks = list(market.certified)
    if forgery == "a flipped signature":
        blocks[8] = blocks[8][:-1] + bytes([blocks[8][-1] ^ 1])
    else:
        signatures = msgspec.msgpack.decode(blocks[8])[1][4]
        blocks[8] = recertified(market, 9, signatures=_shares(market, 9)[: len(signatures) - 3])
    chain = chain_of(ListSource(market.genesis_bytes, blocks))
    verdict = judged([*equivocators(chain), *finals(chain)], chain)
    assert "1" in checks_that_found(verdict)


def _shares(market: CertifiedChain, height: int) -> tuple[object, ...]:
    from consensus.block import certified_block_codec

    return certified_block_codec.decode(market.certified[height - 1]).certificate.signatures


def test_the_command_judges_an_exported_ledger(
    market: CertifiedChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "ledger.export"
    ledger.write_bytes(b"".join((market.genesis_bytes, *market.certified)))
    history = tmp_path / "history.jsonl"
    chain = chain_of(ListSource(market.genesis_bytes, market.certified))
    write_lines(history, [*equivocators(chain), *finals(chain)])
    assert main(["check", str(history), str(ledger), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "valid"
    assert main(["audit", str(ledger)]) == 1
    assert "proven guilty" in capsys.readouterr().out
    write_lines(history, equivocators(chain))
    assert main(["check", str(history), str(ledger)]) == 3
