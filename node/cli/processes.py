"""Commands that run something: init, start, join, bootstrap."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import (
    HOME_DEFAULT,
    HomeOption,
    JsonOption,
    PassphraseOption,
    command,
    fail,
    home_of,
    note,
    passphrase_from,
    print_json,
)
from node.cli.tables import facts
from node.cli.values import amount, digest, endpoint

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from node.config import NodeConfig
    from node.formation import FormedChain, Pins
    from node.invites import InviteFile
    from node.keystore import KeyPair

ApiOption = Annotated[str | None, typer.Option("--api", metavar="HOST:PORT", help="Bind the HTTP API here.")]
ListenOption = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Bind the peer port here.")
]
AdvertiseOption = Annotated[
    str | None, typer.Option("--advertise", metavar="HOST:PORT", help="Where others reach the peer port.")
]
ViaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--via",
        metavar="PEER=DIAL",
        help="Dial DIAL for the peer that announces PEER, both HOST:PORT; repeatable.",
    ),
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="CGPBFT_API_TOKEN", help="Token of the API beyond loopback.")
]
LogLevelOption = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFormatOption = Annotated[str | None, typer.Option("--log-format", help="human or json.")]
GenesisOption = Annotated[
    str | None, typer.Option("--genesis-hash", help="Accept no other genesis than this one.")
]
ResumeOption = Annotated[Path | None, typer.Option("--resume", help="File of `cgpbft operator resume`.")]
PowerOption = Annotated[
    int, typer.Option("--max-power-w", min=1, max=100_000_000, help="Greatest power of the meter, in W.")
]
DEFAULT_POWER_W = 30_000
"""A household's connection: 3 x 43 A at 230 V."""
DEMO_BALANCE = "1000"
"""Currency that founders of a demo chain start with: months of a household's trades."""


def _configure(
    home: Path, api: str | None, listen: str | None, advertise: str | None, **others: Any
) -> "NodeConfig":
    """Defaults, then config.toml, then flags."""
    from node.config import load_config, override

    flags: dict[str, object] = {key.replace("__", "."): value for key, value in others.items()}
    for text, name, host_key, port_key in (
        (api, "--api", "api.host", "api.port"),
        (listen, "--listen", "peers.host", "peers.port"),
        (advertise, "--advertise", "peers.advertise", "peers.advertise_port"),
    ):
        if text is not None:
            flags[host_key], flags[port_key] = endpoint(text, name)
    return override(load_config(home), flags)


def _via(home: Path, given: list[str] | None) -> dict[str, str] | None:
    """`peers.via` of config.toml with the flags' pairs over it; None where no flag says anything."""
    if not given:
        return None
    from node.config import load_config

    pairs: dict[str, str] = {}
    for text in given:
        announced, _, dialled = text.partition("=")
        endpoint(announced, "--via PEER")
        endpoint(dialled, "--via =DIAL")
        pairs[announced] = dialled
    return {**load_config(home).peers.via, **pairs}


def _keys(home: Path, passphrase: str | None) -> "tuple[KeyPair, KeyPair]":
    """Node key and meter key; the meter's is by default the node's (PROTOCOL 1.4)."""
    from node.keystore import METER_KEY_FILE, NODE_KEY_FILE, read_key

    key = read_key(home / NODE_KEY_FILE, passphrase)
    meter = home / METER_KEY_FILE
    return key, read_key(meter, passphrase) if meter.exists() else key


@command
def init(
    home: HomeOption = HOME_DEFAULT,
    api: ApiOption = None,
    listen: ListenOption = None,
    advertise: AdvertiseOption = None,
    bootstrap_url: Annotated[list[str] | None, typer.Option(help="May be given more than once.")] = None,
    separate_meter: Annotated[bool, typer.Option(help="Give the meter a key of its own.")] = False,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Make keys and config.toml. What is there already stays as it is."""
    from node.cli.home import make_home

    folder = home_of(home)
    config = _configure(folder, api, listen, advertise)
    passphrase = passphrase_from(passphrase_file)
    new = make_home(folder, config, bootstrap_url or (), passphrase=passphrase, separate_meter=separate_meter)
    key, meter = _keys(folder, passphrase)
    if json:
        print_json(
            {
                "home": str(folder),
                "new": new,
                "address": key.address.hex(),
                "public_key": key.public_key.hex(),
                "meter_public_key": meter.public_key.hex(),
            }
        )
        return
    facts(
        (
            ("home", f"{folder} ({'made' if new else 'was there'})"),
            ("address", key.address.hex()),
            ("public key", key.public_key.hex()),
            ("meter key", meter.public_key.hex() if meter.public_key != key.public_key else "the node's"),
        )
    )


@command
def start(
    home: HomeOption = HOME_DEFAULT,
    api: ApiOption = None,
    listen: ListenOption = None,
    advertise: AdvertiseOption = None,
    via: ViaOption = None,
    genesis_hash: GenesisOption = None,
    resume: ResumeOption = None,
    token: TokenOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Run the node of a home whose chain has formed."""
    from node.formation import Pins

    folder = home_of(home)
    flags = {"api__token": token, "log__level": log_level, "log__format": log_format}
    config = _configure(folder, api, listen, advertise, peers__via=_via(folder, via), **flags)
    pinned = None if genesis_hash is None else digest(genesis_hash, "--genesis-hash")
    keys = _keys(folder, passphrase_from(passphrase_file))
    pins = Pins(genesis_hash=pinned)
    _run(folder, config, keys, pins, resume=resume, power_w=DEFAULT_POWER_W, invite=None, returns=False)


@command
def join(
    bootstrap_url: Annotated[list[str], typer.Argument(metavar="BOOTSTRAP_URL", help="One or more.")],
    invite: Annotated[Path | None, typer.Option(help="Invite file of the operators.")] = None,
    home: HomeOption = HOME_DEFAULT,
    api: ApiOption = None,
    listen: ListenOption = None,
    advertise: AdvertiseOption = None,
    via: ViaOption = None,
    genesis_hash: GenesisOption = None,
    chain_name: Annotated[str | None, typer.Option(help="Join no other chain than this one.")] = None,
    max_power_w: PowerOption = DEFAULT_POWER_W,
    separate_meter: Annotated[bool, typer.Option(help="Give the meter a key of its own.")] = False,
    resume: ResumeOption = None,
    token: TokenOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Join a chain, or help to form it, and run the node: nothing else is needed."""
    from node.cli.home import make_home
    from node.formation import Pins
    from node.invites import read_invite

    folder = home_of(home)
    flags = {"api__token": token, "log__level": log_level, "log__format": log_format}
    passing = _via(folder, via)
    config = _configure(
        folder, api, listen, advertise, bootstrap_urls=list(bootstrap_url), peers__via=passing, **flags
    )
    passphrase = passphrase_from(passphrase_file)
    held = None if invite is None else read_invite(invite.expanduser())
    pinned = None if genesis_hash is None else digest(genesis_hash, "--genesis-hash")
    if held is not None:
        if pinned not in (None, held.chain_id):
            fail(f"the invite is for chain {held.chain_id.hex()}, not for the one pinned by --genesis-hash")
        pinned = held.chain_id
    if make_home(folder, config, bootstrap_url, passphrase=passphrase, separate_meter=separate_meter):
        note(f"made keys and configuration in {folder}")
    keys = _keys(folder, passphrase)
    if held is not None and held.invite.public_key != keys[0].public_key:
        fail(
            f"the invite is for the key {held.invite.public_key.hex()}, this node's is {keys[0].public_key.hex()}"
        )
    pins = Pins(genesis_hash=pinned, chain_name=chain_name)
    _run(folder, config, keys, pins, resume=resume, power_w=max_power_w, invite=held, returns=True)


def _run(
    home: Path,
    config: "NodeConfig",
    keys: "tuple[KeyPair, KeyPair]",
    pins: "Pins",
    *,
    resume: Path | None,
    power_w: int,
    invite: "InviteFile | None",
    returns: bool,
) -> None:
    """Form or fetch the chain, then run until SIGINT or SIGTERM."""
    import uvloop

    from node.cli.home import token_for
    from node.config import override
    from node.logging import configure_logging

    config = override(config, {"api.token": token_for(home, config) or None})
    configure_logging(config.log)
    uvloop.run(_live(home, config, keys, pins, resume, power_w, invite, returns))


async def _live(
    home: Path,
    config: "NodeConfig",
    keys: "tuple[KeyPair, KeyPair]",
    pins: "Pins",
    resume: Path | None,
    power_w: int,
    invite: "InviteFile | None",
    returns: bool,
) -> None:
    from consensus.ed25519 import Ed25519Verifier
    from contracts.transaction import Join, Meter
    from node.process import run_node
    from node.resume import check_resume, read_resume

    chain = await _unless_stopped(_chain(home, config, keys, pins, power_w))
    if chain is None:
        return
    permission = None
    if resume is not None:
        permission = check_resume(read_resume(resume), chain.genesis, Ed25519Verifier())
    meter = Meter(keys[1].public_key, power_w, ()) if invite is None else invite.meter
    join = Join(keys[0].public_key, meter, None if invite is None else invite.invite)
    await run_node(
        home=home,
        config=config,
        genesis=chain.genesis,
        key=keys[0],
        records=chain.records,
        join=join,
        returns=returns,
        meter=keys[1],
        resume=permission,
        on_started=lambda started: note(f"node {keys[0].address.hex()} answers at {started.api_url}"),
    )


async def _unless_stopped(forming: "Coroutine[Any, Any, FormedChain]") -> "FormedChain | None":
    """What ``forming`` gives; None if SIGINT or SIGTERM comes first."""
    import asyncio
    import signal

    task = asyncio.ensure_future(forming)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def _chain(
    home: Path, config: "NodeConfig", keys: "tuple[KeyPair, KeyPair]", pins: "Pins", power_w: int
) -> "FormedChain":
    from consensus.ed25519 import Ed25519Verifier
    from network.address_book import sign_record
    from network.peer import Endpoint
    from node.formation import form_or_fetch

    peers, key = config.peers, keys[0]
    where = Endpoint(peers.advertise or peers.host, peers.advertise_port or peers.port)
    now = time.time_ns() // 1_000_000
    return await form_or_fetch(
        config.bootstrap_urls,
        home=home,
        signer=key,
        meter_public_key=keys[1].public_key,
        max_power_w=power_w,
        verifier=Ed25519Verifier(),
        now_ms=lambda: time.time_ns() // 1_000_000,
        record=sign_record(key, now, where) if where.port else None,
        api_url=_api_url(config),
        pins=pins,
        progress=note,
    )


def _api_url(config: "NodeConfig") -> str:
    """Where the bootstrap's watch may ask for status; a wildcard address means the advertised host."""
    api = config.api
    host = (config.peers.advertise or config.peers.host) if api.host in ("0.0.0.0", "::") else api.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{api.port}" if api.port else ""


@command
def bootstrap(
    members: Annotated[int, typer.Option(min=1, help="N: the chain forms when N have registered.")],
    groups: Annotated[int, typer.Option(min=0, help="k; 0 makes every member a delegate (plain PBFT).")],
    home: HomeOption = HOME_DEFAULT,
    host: Annotated[str, typer.Option(help="Bind here.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 26_650,
    chain_name: Annotated[str, typer.Option()] = "cgpbft",
    demo: Annotated[
        bool, typer.Option("--demo", help="Epochs and slots of seconds, for trying out.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A genesis parameter.")
    ] = None,
    admission: Annotated[str | None, typer.Option(help="invited (by default) or open.")] = None,
    allow_open: Annotated[bool, typer.Option("--allow-open", help="Anybody may join later.")] = False,
    operator: Annotated[
        list[str] | None, typer.Option(help="Public key of an operator; more than once.")
    ] = None,
    operator_threshold: Annotated[int | None, typer.Option(help="By default the majority.")] = None,
    founding_balance: Annotated[
        str | None, typer.Option(help=f"Currency of each founder; by default 0, with --demo {DEMO_BALANCE}.")
    ] = None,
    entry_balance: Annotated[
        str, typer.Option(help="Currency of who joins later; invited chains only.")
    ] = "0",
    founder: Annotated[
        list[str] | None, typer.Option(help="Only these keys may register; more than once.")
    ] = None,
    genesis_time_ms: Annotated[
        int | None, typer.Option(help="The same for several bootstraps of one chain.")
    ] = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Form a chain when N members have registered, then coordinate. Nobody needs to trust it."""
    from node.bootstrap_process import bootstrap_settings, run_bootstrap
    from node.config import LogConfig, NodeConfig, override
    from node.logging import configure_logging

    balance = founding_balance if founding_balance is not None else (DEMO_BALANCE if demo else "0")
    settings = bootstrap_settings(
        home=home_of(home),
        members=members,
        groups=groups,
        host=host,
        port=port,
        chain_name=chain_name,
        demo=demo,
        overrides=set_ or (),
        admission=admission,
        allow_open=allow_open,
        operators=operator or (),
        operator_threshold=operator_threshold,
        founding_balance=amount(balance, "--founding-balance"),
        entry_balance=amount(entry_balance, "--entry-balance"),
        genesis_time_ms=genesis_time_ms,
        founders=founder or (),
    )
    log: LogConfig = override(NodeConfig(), {"log.level": log_level, "log.format": log_format}).log
    configure_logging(log)
    import uvloop

    uvloop.run(
        run_bootstrap(
            settings, lambda url: note(f"bootstrap answers at {url}, waiting for {members} members")
        )
    )
