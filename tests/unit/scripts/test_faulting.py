"""The fault commands apart from real networks: targets, the folder they look into, wrappers, and the links' proxies."""

import asyncio
import os
import socket
from pathlib import Path

import msgspec
import pytest

from node.cli.localnet import FILE, Network, Place, link_port
from node.keystore import NODE_KEY_FILE, KeyPair, write_key
from scripts.faulting import network as networks
from scripts.faulting.__main__ import ABOUT, FAULTS, main
from scripts.faulting.errors import FaultError
from scripts.faulting.links import HOST, Links, Rule
from scripts.faulting.network import Overview, Standing, changing, find_home, read, resolve
from scripts.faulting.routes import cut_off

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
