"""The fault commands apart from real networks: targets, the folder they look into, wrappers, and the links' proxies."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from node.assembly import create_journal
from node.cli.localnet import FILE, Network, Place, link_port
from node.files import SystemFiles
from node.journal import Journal
from node.keystore import NODE_KEY_FILE, KeyPair, read_key, write_key
from scripts.faulting import homes, processes
from scripts.faulting import network as networks
from scripts.faulting.__main__ import ABOUT, FAULTS, main
from scripts.faulting.corruption import SEEN
from scripts.faulting.errors import FaultError
from scripts.faulting.links import HOST, Links, Rule
from scripts.faulting.nemesis import Storm
from scripts.faulting.network import Overview, Standing, changing, find_home, read, resolve
from scripts.faulting.recipes import KINDS
from scripts.faulting.routes import cut_off
from scripts.history.recording.log import Log
from tests.byzantine.member import BEHAVIOURS

WRAPPERS = Path(__file__).parents[3] / "scripts" / "faults"


def make_network(home: Path, members: int = 4) -> Network:
    nodes: list[Place] = []
    for number in range(1, members + 1):
        folder = home / f"node{number}"
        folder.mkdir(parents=True)
        write_key(folder / NODE_KEY_FILE, KeyPair(bytes((number,)) * 32))
        nodes.append(Place(f"node{number}", 0, "http://127.0.0.1:1", str(folder), str(folder / "log"), [], 1))
    bootstrap = Place("bootstrap", 0, "http://127.0.0.1:1", str(home), str(home / "log"), [])
    made = Network(os.getpid(), members, 4, bootstrap, nodes)
    (home / FILE).write_bytes(msgspec.json.encode(made))
    return made


def overview(made: Network, primary: int = 2) -> Overview:
    ranking = [networks.address_of_place(place) for place in made.nodes]
    chief = ranking[primary - 1]
    standing = Standing(ranking[0], "delegate", 0, 7, 1, "running", chief, True)
    return Overview({"node1": standing}, ranking, 500)


def test_targets_name_nodes_in_every_way(tmp_path: Path) -> None:
    made = make_network(tmp_path)
    seen = overview(made)

    def names(*targets: str) -> list[str]:
        return [place.name for place in resolve(made, seen, targets)]

    assert names("primary") == ["node2"]
    assert names("backup") == ["node3"]
    assert names("3", "node1", "NODE3") == ["node1", "node3"]
    assert names("bootstrap", "all") == ["bootstrap", "node1", "node2", "node3", "node4"]
    assert names(networks.address_of_place(made.nodes[3])[:8]) == ["node4"]
    assert [place.name for place in resolve(made, overview(made, primary=4), ["backup"])] == ["node1"]


@pytest.mark.parametrize("target", ["node9", "0", "nobody", "abc", "ffffffffff"])
def test_a_wrong_target_is_refused_with_what_there_is(tmp_path: Path, target: str) -> None:
    made = make_network(tmp_path)
    with pytest.raises(FaultError, match="node1"):
        resolve(made, overview(made), [target])


def test_without_an_answer_nobody_is_primary(tmp_path: Path) -> None:
    made = make_network(tmp_path)
    with pytest.raises(FaultError, match="name a node"):
        resolve(made, Overview({}, [], 500), ["primary"])


def test_the_folder_is_named_or_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FaultError, match="no running network"):
        find_home(None)
    with pytest.raises(FaultError, match="no network runs in"):
        find_home(tmp_path)
    make_network(tmp_path / "cgpbft-one")
    assert find_home(None) == (tmp_path / "cgpbft-one").resolve()
    make_network(tmp_path / "localnet")
    with pytest.raises(FaultError, match="2 networks run"):
        find_home(None)
    assert find_home(tmp_path / "localnet") == (tmp_path / "localnet").resolve()


def test_what_a_command_changes_is_written_even_if_it_fails_later(tmp_path: Path) -> None:
    make_network(tmp_path)

    def fail_halfway() -> None:
        with changing(tmp_path) as made:
            made.nodes[0].pid = 77
            raise FaultError("the second one")

    with pytest.raises(FaultError):
        fail_halfway()
    assert read(tmp_path).nodes[0].pid == 77


def test_the_smaller_side_of_a_partition_is_told() -> None:
    both = [(2, 1), (2, 3), (2, 4), (1, 2), (3, 2), (4, 2)]
    assert cut_off(both) == [2]
    assert cut_off([]) == []


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kill", "node1", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: no network runs in")
    make_network(tmp_path)
    assert main(["kill", "node1", "--home", str(tmp_path)]) == 1
    assert "scripts/faults/restart" in capsys.readouterr().err
    assert main(["partition", "node1", "--home", str(tmp_path)]) == 1
    assert "scripts/faults/localnet" in capsys.readouterr().err


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_has_a_command_of_its_own(fault: str) -> None:
    wrapper = WRAPPERS / fault
    assert os.access(wrapper, os.X_OK)
    assert f"-m scripts.faulting {fault} " in wrapper.read_text(encoding="utf-8")
    assert ABOUT[fault]


async def test_a_link_passes_holds_and_passes_again() -> None:
    """Nothing that was held is lost, and the other direction is not touched."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listener(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            await heard.put(data)
            writer.write(b"answer")
        writer.close()

    server = await asyncio.start_server(listener, HOST, 0)
    far_port = server.sockets[0].getsockname()[1]
    base = free_base_port()
    links = Links(base, (1, far_port))
    await links.start()
    reader, writer = await asyncio.open_connection(HOST, link_port(base, 1, 2))
    writer.write(b"one")
    assert await asyncio.wait_for(heard.get(), 5) == b"one"
    assert await reader.read(100) == b"answer"
    links.change([Rule(from_=1, to=2, held=True)])
    writer.write(b"two")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(heard.get(), 0.2)
    links.change([Rule(from_=1, to=2)])
    assert await asyncio.wait_for(heard.get(), 5) == b"two"
    assert links.rules() == []
    writer.close()
    server.close()
    await links.close()


def free_base_port() -> int:
    """A base whose two link ports are, as far as one can tell, free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1]) - 102


# ---- links, homes and storms


@pytest.mark.parametrize(
    ("rule", "size", "least_s", "most_s"),
    [
        (Rule(1, 2), 1_000, 0.0, 0.0),
        (Rule(1, 2, delay_ms=250), 1_000, 0.25, 0.25),
        (Rule(1, 2, bytes_per_s=10_000), 5_000, 0.5, 0.5),
        (Rule(1, 2, lost_per_mille=1_000), 1, 0.2, 0.2),
    ],
)
def test_a_rule_says_how_long_a_piece_waits(rule: Rule, size: int, least_s: float, most_s: float) -> None:
    assert least_s <= Links(1, [])._wait_s(rule, size) <= most_s


def test_rules_that_pass_everything_are_not_told() -> None:
    links = Links(1, [])
    links.change([Rule(1, 2, held=True), Rule(2, 1, delay_ms=5), Rule(3, 1, cut=True)])
    assert links.rules() == [Rule(1, 2, held=True), Rule(2, 1, delay_ms=5)]
    links.change([Rule(1, 2), Rule(2, 1)])
    assert links.rules() == []


def home_with_journal(made: Network) -> Path:
    folder = Path(made.nodes[0].home) / "journal"
    folder.mkdir()
    (folder / "0001").write_bytes(bytes(50))
    (folder / "0002").write_bytes(bytes(100))
    return folder


@pytest.mark.parametrize("count", [1, 17, 600])
def test_a_torn_journal_is_cut_where_it_was_whole(tmp_path: Path, count: int) -> None:
    """What a power cut left of a write whose votes never left is no loss (PROTOCOL 6.5)."""
    made = make_network(tmp_path)
    home = Path(made.nodes[0].home)
    key = read_key(home / NODE_KEY_FILE)
    create_journal(home, key)
    homes._tear(tmp_path, made.nodes[0], count, seed=count)
    journal = Journal.load(SystemFiles(home / "journal"), key.public_key)
    assert journal.dropped_bytes == count
    journal.close()


def test_lost_writes_are_taken_from_the_end(tmp_path: Path) -> None:
    made = make_network(tmp_path)
    folder = home_with_journal(made)
    homes._tear(tmp_path, made.nodes[0], 17, lost=True)
    assert [len(path.read_bytes()) for path in sorted(folder.iterdir())] == [50, 83]


def test_flipped_bits_are_those_of_the_seed(tmp_path: Path) -> None:
    made = make_network(tmp_path)
    segment = home_with_journal(made) / "0002"
    homes._flip(tmp_path, made.nodes[0], "journal", 3, seed=5)
    flipped = segment.read_bytes()
    assert 1 <= sum(byte.bit_count() for byte in flipped) <= 3
    homes._flip(tmp_path, made.nodes[0], "journal", 3, seed=5)
    assert segment.read_bytes() == bytes(100)


def test_a_copy_is_needed_before_it_can_be_put_back(tmp_path: Path) -> None:
    made = make_network(tmp_path)
    with pytest.raises(FaultError, match="scripts/faults/backup node1"):
        homes._restore(tmp_path, made.nodes[0])


def test_a_process_that_does_not_listen_yet_runs(tmp_path: Path) -> None:
    """Or what is being started would not be ended before its home is changed."""
    made = make_network(tmp_path)
    place = made.nodes[0]
    line = [sys.executable, "-c", "input()", "--home", place.home]
    with subprocess.Popen(line, stdin=subprocess.PIPE) as process:
        place.pid = process.pid
        assert processes.is_running(place)
        place.pid = os.getpid()
        assert not processes.is_running(place)
        place.pid = process.pid
        processes.kill(place)
        assert place.pid == 0
        assert process.wait() == -signal.SIGKILL


def test_a_wiped_home_keeps_its_keys(tmp_path: Path) -> None:
    made = make_network(tmp_path)
    folder = home_with_journal(made)
    homes._wipe(tmp_path, made.nodes[0])
    assert not folder.exists()
    assert networks.address_of_place(made.nodes[0])


@pytest.mark.parametrize(
    ("fault", "options", "reason"),
    [
        ("delay", {"ms": 0}, "1 to 60 000"),
        ("lose", {"percent": 99.0}, "at most 90"),
        ("throttle", {"bytes_per_s": 1}, "at least 100"),
    ],
)
def test_a_rule_beyond_reason_is_refused(
    tmp_path: Path, fault: str, options: dict[str, int], reason: str
) -> None:
    made = make_network(tmp_path)
    with pytest.raises(FaultError, match=reason):
        FAULTS[fault](tmp_path, overview(made), ["node1"], **options)


def test_every_recipe_of_a_storm_is_a_command_that_can_be_undone() -> None:
    assert len({recipe.name for recipe in KINDS}) == len(KINDS) >= 25
    for recipe in KINDS:
        assert {recipe.fault, *recipe.undo} <= FAULTS.keys()
        assert recipe.fault not in ("heal", "tap", "backup")
    told = set(FAULTS) - {"heal", "tap", "backup"}
    assert {recipe.fault for recipe in KINDS} == told


def test_a_storm_deals_every_kind_before_one_comes_again(tmp_path: Path) -> None:
    made = make_network(tmp_path)

    def dealt(seed: int, count: int) -> list[str]:
        log = Log(tmp_path / "history.jsonl")
        storm = Storm(tmp_path, made.nodes, 1, seed, log)
        log.close()
        return [storm._next().name for _ in range(count)]

    assert sorted(dealt(3, len(KINDS))) == sorted(recipe.name for recipe in KINDS)
    assert dealt(3, 50) == dealt(3, 50) != dealt(4, 50)


@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
def test_every_dishonest_member_has_something_to_watch(behaviour: str) -> None:
    assert SEEN[behaviour]
