"""What all commands share: options, the way errors are told, and the connection to a node."""

import asyncio
import functools
import json as json_module
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from node.client import NodeClient
    from node.config import NodeConfig
    from node.keystore import KeyPair

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_HOME: Final = "~/.cgpbft"
DEFAULT_NODE: Final = "http://127.0.0.1:26657"
TOKEN_FILE: Final = "api.token"  # noqa: S105 - a file's name

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="CGPBFT_HOME", help="Folder of keys, configuration, data.")
]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", envvar="CGPBFT_NODE", help="URL of the node to ask.", show_default=DEFAULT_NODE),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
TokenOption = Annotated[
    str, typer.Option("--token", envvar="CGPBFT_API_TOKEN", help="Bearer token, if the node is to sign.")
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", envvar="CGPBFT_PASSPHRASE_FILE", help="File with the keys' passphrase."
    ),
]
HOME_DEFAULT: Final = Path(DEFAULT_HOME)


def fail(text: str) -> NoReturn:
    """End with exit code 1 and one line on stderr."""
    print("error: " + " ".join(text.split()), file=sys.stderr)
    raise typer.Exit(1)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """A command whose expected failures become one line and exit code 1."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from consensus.errors import ProtocolError

        try:
            function(*args, **kwargs)
        except (ProtocolError, TimeoutError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'system'}: {error.strerror or error}")
        except KeyboardInterrupt:
            fail("interrupted")

    return run


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end."""
    return asyncio.run(coroutine)


def home_of(home: Path) -> Path:
    """The folder, with ~ resolved."""
    return home.expanduser()


def config_of(home: Path) -> "NodeConfig":
    """Configuration of a home."""
    from node.config import load_config

    return load_config(home_of(home))


def passphrase_from(path: Path | None) -> str | None:
    """First line of the passphrase file."""
    if path is None:
        return None
    lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        fail(f"{path} holds no passphrase in its first line")
    return lines[0]


def own_key(home: Path, passphrase_file: Path | None) -> "KeyPair | None":
    """The node key of a home, or None if it has none."""
    from node.keystore import NODE_KEY_FILE, read_key

    path = home_of(home) / NODE_KEY_FILE
    return read_key(path, passphrase_from(passphrase_file)) if path.exists() else None


def meter_key(home: Path, passphrase_file: Path | None) -> "KeyPair | None":
    """The meter's key: a key of its own, else the node key (PROTOCOL 1.4)."""
    from node.keystore import METER_KEY_FILE, read_key

    path = home_of(home) / METER_KEY_FILE
    if path.exists():
        return read_key(path, passphrase_from(passphrase_file))
    return own_key(home, passphrase_file)


def connect(node: str | None, home: Path = HOME_DEFAULT, token: str = "") -> "NodeClient":
    """A client of ``node``; by default of the node whose home this is, else of the usual port."""
    from node.client import NodeClient

    folder = home_of(home)
    token_file = folder / TOKEN_FILE
    if not token and token_file.exists():
        token = token_file.read_text(encoding="ascii").strip()
    if node is None and (folder / "config.toml").exists():
        api = config_of(home).api
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(api.host, api.host)  # noqa: S104 - compared, not bound
        node = f"http://{f'[{host}]' if ':' in host else host}:{api.port}"
        token = token or api.token
    url = node or DEFAULT_NODE
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no URL: begin it with http://", param_hint="--node")
    return NodeClient(url, token=token)


def print_json(value: Any) -> None:
    """One line of JSON."""
    import msgspec

    print(msgspec.json.encode(value).decode())


def print_pretty(value: Any) -> None:
    """Indented JSON, for files that people read."""
    print(json_module.dumps(value, indent=2))


def note(text: str) -> None:
    """Progress, on stderr, so that stdout holds the answer only."""
    print(text, file=sys.stderr, flush=True)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """A file that is there whole or not at all."""
    passing = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(passing, path)
