"""Configuration: defaults, file, flags, and refusals that name the key."""

from pathlib import Path

import pytest

from node.cli.home import render_config
from node.config import NodeConfig, load_config, override, parse_config
from node.errors import ConfigurationError


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    assert config == NodeConfig()
    assert (config.api.host, config.api.port, config.peers.port) == ("127.0.0.1", 26_657, 26_656)


def test_the_file_made_by_init_says_what_the_defaults_are(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(render_config(NodeConfig(), ()), encoding="utf-8")
    assert load_config(tmp_path) == NodeConfig()


def test_the_file_made_by_init_keeps_what_flags_said() -> None:
    flags: dict[str, object] = {
        "api.host": "0.0.0.0",
        "api.port": 1,
        "peers.advertise": 'no"de',
        "peers.advertise_port": 2,
    }
    config = override(NodeConfig(), flags)
    found = parse_config(render_config(config, ("http://a:1", "http://b:2")), "made")
    assert found.bootstrap_urls == ("http://a:1", "http://b:2")
    assert (found.api, found.peers) == (config.api, config.peers)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[api]\nport = 70000", "api.port"),
        ("[api]\nport = '1'", "api.port"),
        ("[api]\nprot = 1", "prot"),
        ("[consensus]\nview_timeout_ms = 1", "consensus"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("[mempool]\nmax_bytes = 1", "mempool.max_bytes"),
        ("verify_threads = 0", "verify_threads"),
        ("[api", "TOML"),
        ("[api]\nport = 1\nport = 2", "TOML"),
    ],
)
def test_a_wrong_value_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse_config(text, "config.toml")


def test_flags_override_only_what_they_name() -> None:
    base = parse_config("[api]\nport = 1\nhost = 'h'", "x")
    assert override(base, {"api.port": 2, "api.host": None}).api == base.api.__class__(host="h", port=2)
    with pytest.raises(ConfigurationError, match="flag"):
        override(base, {"api.port": -1})


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_config(tmp_path)
