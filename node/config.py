"""A node's own settings: defaults, then DIR/config.toml, then flags. Consensus rules are never here (PROTOCOL 11)."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from node.errors import ConfigurationError

CONFIG_FILE: Final = "config.toml"

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
"""0 lets the operating system choose."""


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP API."""

    host: str = "127.0.0.1"
    port: Port = 26_657
    token: str = ""
    """Needed, as a bearer token, by requests that the node signs with its own key, when bound beyond loopback."""
    timezone: str = "UTC"
    """IANA name for local columns; nothing is computed in it."""


class PeerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The peer port."""

    host: str = "127.0.0.1"
    port: Port = 26_656
    advertise: str = ""
    """Host under which others reach this node; empty: ``host``."""
    advertise_port: Port = 0
    """Port under which others reach this node; 0: ``port``."""
    via: dict[str, str] = {}
    """Where to dial instead, for peers behind a tunnel or a proxy: "host:port" that a peer announces -> "host:port"."""


class MempoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Caps of the pool of waiting transactions."""

    max_transactions: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20_000
    max_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=2**31)] = 33_554_432
    max_per_sender: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 8_192


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["human", "json"] = "human"


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of config.toml."""

    api: ApiConfig = ApiConfig()
    peers: PeerConfig = PeerConfig()
    mempool: MempoolConfig = MempoolConfig()
    log: LogConfig = LogConfig()
    bootstrap_urls: tuple[str, ...] = ()
    """Bootstrap services asked for formation, directory and plans; none is trusted (PROTOCOL 8.2)."""
    verify_threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Threads that check signatures."""


def parse_config(text: str, source: str) -> NodeConfig:
    """The configuration in TOML ``text``; `ConfigurationError` names ``source``, the key and the remedy."""
    try:
        return msgspec.convert(tomllib.loads(text), NodeConfig)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{source} is not TOML: {error}; mend that line, or move the file away: every key has a default"
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {error}; `cgpbft validate-config` lists every key") from error


def load_config(home: Path) -> NodeConfig:
    """The configuration of ``home``; all defaults if it has no config.toml."""
    path = home / CONFIG_FILE
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return NodeConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read {path}: {error}; restore it, or move it away: every key has a default"
        ) from error


def override(config: NodeConfig, overrides: dict[str, object]) -> NodeConfig:
    """``config`` with dotted keys such as ``api.port`` replaced; None leaves a key as it is."""
    tree = msgspec.to_builtins(config)
    for dotted, value in overrides.items():
        if value is None:
            continue
        *sections, key = dotted.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[key] = value
    try:
        return msgspec.convert(tree, NodeConfig)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"a flag has a wrong value: {error}") from error
