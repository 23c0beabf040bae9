"""Keys, configuration, version."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.common import (
    HOME_DEFAULT,
    HomeOption,
    JsonOption,
    PassphraseOption,
    command,
    config_of,
    home_of,
    passphrase_from,
    print_json,
)
from node.cli.tables import facts

app = typer.Typer(no_args_is_help=True, help="Make and show keys.", rich_markup_mode=None)


@app.command("new")
@command
def new(
    path: Annotated[Path, typer.Argument(help="File to make; never overwritten.")],
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key, for an operator or a meter, in a file that only you can read."""
    from node.keystore import new_key_pair, write_key

    key = new_key_pair()
    write_key(path.expanduser(), key, passphrase_from(passphrase_file))
    _show([(str(path), key.public_key, key.address)], json)


@app.command("show")
@command
def show(
    path: Annotated[Path | None, typer.Argument(help="A key file; by default those of the home.")] = None,
    home: HomeOption = HOME_DEFAULT,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Show public keys and addresses; the secret never leaves its file."""
    from node.keystore import METER_KEY_FILE, NODE_KEY_FILE, read_key

    folder = home_of(home)
    files = [path.expanduser()] if path else [folder / NODE_KEY_FILE]
    if path is None and (folder / METER_KEY_FILE).exists():
        files.append(folder / METER_KEY_FILE)
    passphrase = passphrase_from(passphrase_file)
    keys = [(str(file), read_key(file, passphrase)) for file in files]
    _show([(name, key.public_key, key.address) for name, key in keys], json)


def _show(rows: list[tuple[str, bytes, bytes]], json: bool) -> None:
    if json:
        print_json([{"file": name, "public_key": key.hex(), "address": own.hex()} for name, key, own in rows])
        return
    for name, key, own in rows:
        facts((("file", name), ("public key", key.hex()), ("address", own.hex())))


@command
def validate_config(home: HomeOption = HOME_DEFAULT, json: JsonOption = False) -> None:
    """Check DIR/config.toml and show every key with the value in force."""
    import msgspec

    config = config_of(home)
    tree = msgspec.to_builtins(config)
    if tree["api"]["token"]:
        tree["api"]["token"] = "(set)"  # noqa: S105 - what is shown instead
    if json:
        print_json(tree)
        return
    rows: list[tuple[str, object]] = []
    for name, value in tree.items():
        if isinstance(value, dict):
            rows += [(f"{name}.{key}", setting) for key, setting in value.items()]
        else:
            rows.append((name, value))
    facts(rows)


@command
def version(json: JsonOption = False) -> None:
    """Version of the program and of the protocol."""
    from consensus.block import PROTOCOL_VERSION

    if json:
        print_json({"version": program_version(), "protocol": PROTOCOL_VERSION})
    else:
        print(f"cgpbft {program_version()}, protocol {PROTOCOL_VERSION}")


def program_version() -> str:
    """Version of the installed distribution; in a bare checkout that of pyproject.toml."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("cgpbft")
    except PackageNotFoundError:
        import tomllib

        path = Path(__file__).resolve().parents[2] / "pyproject.toml"
        try:
            found: str = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"]
        except (OSError, KeyError):
            return "unknown"
        return found
