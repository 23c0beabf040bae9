"""A node's folder: keys, a configuration with comments, the API's token."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.cli.common import TOKEN_FILE, note, write_atomically

if TYPE_CHECKING:
    from node.config import NodeConfig

TOKEN_BYTES: Final = 32
CONFIG_TEMPLATE: Final = """\
# Settings of one node. What all members must agree on is in the genesis, never here.
# `cgpbft validate-config` checks this file and shows every value in force; flags override it.

# Bootstrap services asked for formation, addresses and plans. None is trusted.
bootstrap_urls = [{urls}]
# Threads that check signatures.
verify_threads = 2

[api]
# Beyond loopback, requests that the node signs need a bearer token: the one here, or that of DIR/api.token,
# which is made at the first start.
host = {api_host}
port = {api_port}
token = ""
# IANA name for columns in local time; nothing is computed in it.
timezone = "UTC"

[peers]
host = {peer_host}
port = {peer_port}
# Where others reach this node, if that is not host and port above.
advertise = {advertise}
advertise_port = {advertise_port}

[mempool]
max_transactions = 20000
max_bytes = 33554432
max_per_sender = 8192

[log]
# debug, info, warning or error; format human or json.
level = "info"
format = "human"
"""


def _toml(text: str) -> str:
    """A TOML string; hosts and URLs hold nothing that JSON's escapes do not cover."""
    import json

    return json.dumps(text)


def render_config(config: "NodeConfig", urls: Sequence[str]) -> str:
    """config.toml with comments."""
    return CONFIG_TEMPLATE.format(
        urls=", ".join(_toml(url) for url in urls),
        api_host=_toml(config.api.host),
        api_port=config.api.port,
        peer_host=_toml(config.peers.host),
        peer_port=config.peers.port,
        advertise=_toml(config.peers.advertise),
        advertise_port=config.peers.advertise_port,
    )


def make_home(
    home: Path,
    config: "NodeConfig",
    urls: Sequence[str],
    *,
    passphrase: str | None = None,
    separate_meter: bool = False,
) -> bool:
    """Make what is missing of keys and configuration; whether the node key is new.

    The journal is made with the key, before it: a key without its journal would count as one that lost it (6.5).
    """
    from node.assembly import create_journal
    from node.config import CONFIG_FILE
    from node.keystore import METER_KEY_FILE, NODE_KEY_FILE, new_key_pair, write_key

    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = not (home / NODE_KEY_FILE).exists()
    if new:
        _discard_orphaned_journal(home)
        key = new_key_pair()
        create_journal(home, key)
        write_key(home / NODE_KEY_FILE, key, passphrase)
        if separate_meter:
            write_key(home / METER_KEY_FILE, new_key_pair(), passphrase)
    if not (home / CONFIG_FILE).exists():
        write_atomically(home / CONFIG_FILE, render_config(config, urls).encode())
    return new


def _discard_orphaned_journal(home: Path) -> None:
    """A journal without a key is left over from an `init` that was interrupted before the key was written."""
    from node.assembly import JOURNAL_DIRECTORY
    from node.files import SystemFiles

    files = SystemFiles(home / JOURNAL_DIRECTORY)
    if files.exists():
        files.set_aside("without-key")


def token_for(home: Path, config: "NodeConfig") -> str:
    """The API's token: configured, stored, or made now and told once. Empty on loopback without one."""
    from node.api.access import is_loopback

    if config.api.token:
        return config.api.token
    path = home / TOKEN_FILE
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    if is_loopback(config.api.host):
        return ""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_atomically(path, token.encode() + b"\n", 0o600)
    note(
        f"the API is bound beyond this machine: requests that this node signs need the token in {path}: {token}"
    )
    return token
