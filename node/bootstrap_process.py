"""`cgpbft bootstrap`: the bootstrap service as a process, wired to the contracts it must not import (PROTOCOL 8)."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from consensus.ed25519 import Ed25519Verifier, is_acceptable_key
from consensus.errors import InvalidGenesis, InvalidMessage
from consensus.parameters import DEMO, Parameters, check_parameters, resolved
from consensus.types import MAX_TOTAL, Address, PublicKey, Value
from contracts.genesis import Admission
from contracts.transaction import MAX_OPERATORS
from network.bootstrap.ballots import BallotBox
from network.bootstrap.coordinator import Coordinator
from network.bootstrap.directory import Directory
from network.bootstrap.doors import GenesisFacts
from network.bootstrap.formation import OWN_KINDS, Formation
from network.bootstrap.limits import MAX_MEMBERS, ServiceLimits
from network.bootstrap.records import Announcement, announcement_codec
from network.bootstrap.routes import Routes, register_metrics
from network.bootstrap.server import BootstrapServer
from network.bootstrap.service import BootstrapService, Coordination
from network.bootstrap.store import FORMATION_FILE, RecordKind, RecordLog
from network.bootstrap.waiters import LongPolls
from network.bootstrap.watch import Watch
from node.bootstrap_chain import HttpChain
from node.bootstrap_doors import BallotReader, GenesisMaker, TransactionMaker
from node.errors import ConfigurationError
from node.keystore import KeyPair, new_key_pair, read_key, write_key

log = structlog.get_logger("node.bootstrap")

DEFAULT_PORT: Final = 26_650
KEY_FILE: Final = "bootstrap.key"
"""Signs the transactions that carry ballots and plans; it has no other right."""
OPERATOR_KEY_FILE: Final = "operator.key"
"""Made for an invited chain for which no operator was named."""


class BootstrapSettings(Value, frozen=True, kw_only=True):
    """What `cgpbft bootstrap` was asked for; make it with `bootstrap_settings`, which checks it."""

    home: Path
    """Holds its key, what it collected and the genesis; a restart goes on from there."""
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0 lets the operating system choose."""
    chain_name: str = "cgpbft"
    members: int
    """N: the chain forms when as many have registered."""
    parameters: Parameters
    """`resolved` for N, groups = k."""
    admission: Admission
    operators: tuple[PublicKey, ...]
    """Empty in an `invited` chain: a key is made in the home, whose holder is the operator."""
    operator_threshold: int
    founding_balance: int
    """Nano-units."""
    entry_balance: int
    genesis_time_ms: int | None = None
    """Several bootstraps that form one chain must be given the same; None: the first start."""
    founders: tuple[PublicKey, ...] = ()
    """The only keys that may register; empty: whoever comes first."""


def bootstrap_settings(  # noqa: PLR0913 - one keyword a flag
    *,
    home: Path,
    members: int,
    groups: int,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    chain_name: str = "cgpbft",
    demo: bool = False,
    overrides: Sequence[str] = (),
    admission: str | None = None,
    allow_open: bool = False,
    operators: Sequence[str] = (),
    operator_threshold: int | None = None,
    founding_balance: int = 0,
    entry_balance: int = 0,
    genesis_time_ms: int | None = None,
    founders: Sequence[str] = (),
) -> BootstrapSettings:
    """Settings from flags as typed (``overrides``: NAME=VALUE of --set); `ConfigurationError` says what is wrong.

    ``admission``: "invited" or "open", the latter only together with ``allow_open``, which alone means "open" too; with
    neither the chain is invited, the safe choice (PROTOCOL 1.5). ``operator_threshold`` defaults to the majority.
    """
    if not 1 <= members <= MAX_MEMBERS:
        raise ConfigurationError(f"--members must be in 1..{MAX_MEMBERS}, not {members}")
    if not 1 <= len(chain_name) <= 64:
        raise ConfigurationError("--chain-name must have 1 to 64 characters")
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"--port must be in 0..65535, not {port}")
    chosen = _admission(admission, allow_open)
    keys = _keys("--operator", operators)
    threshold = operator_threshold if operator_threshold is not None else len(keys) // 2 + bool(keys)
    if len(keys) > MAX_OPERATORS or not bool(keys) <= threshold <= max(len(keys), int(not keys)):
        raise ConfigurationError(
            f"--operator-threshold must be in 1..{len(keys)}, of at most {MAX_OPERATORS} operators"
        )
    if chosen is Admission.OPEN and entry_balance:
        raise ConfigurationError(
            "an open chain grants no --entry-balance: anybody could collect it again and again"
        )
    if min(founding_balance, entry_balance) < 0 or max(founding_balance, entry_balance) > 10**18:
        raise ConfigurationError("a balance must be in 0..10^18 nano-units")
    if founding_balance * members > MAX_TOTAL:
        raise ConfigurationError(
            "the --founding-balance of all members must not exceed 2^63 - 1 nano-units (PROTOCOL 1.2)"
        )
    return BootstrapSettings(
        home=home,
        host=host,
        port=port,
        chain_name=chain_name,
        members=members,
        parameters=_parameters(DEMO if demo else Parameters(), members, groups, overrides),
        admission=chosen,
        operators=keys,
        operator_threshold=threshold,
        founding_balance=founding_balance,
        entry_balance=entry_balance,
        genesis_time_ms=genesis_time_ms,
        founders=_keys("--founder", founders),
    )


def _admission(admission: str | None, allow_open: bool) -> Admission:
    if admission not in (None, "invited", "open"):
        raise ConfigurationError(f"--admission is invited or open, not {admission!r}")
    if admission == "open" and not allow_open:
        raise ConfigurationError("--admission open lets anybody join and vote: confirm it with --allow-open")
    if admission == "invited" and allow_open:
        raise ConfigurationError("--admission invited and --allow-open contradict each other")
    return Admission.OPEN if allow_open else Admission.INVITED


def _keys(flag: str, texts: Sequence[str]) -> tuple[PublicKey, ...]:
    keys = []
    for text in texts:
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if not is_acceptable_key(key):
            raise ConfigurationError(
                f"{flag} {text}: not an Ed25519 public key in 64 hex digits (see `cgpbft keys show`)"
            )
        keys.append(key)
    if len(frozenset(keys)) != len(keys):
        raise ConfigurationError(f"{flag}: a key stands twice")
    return tuple(keys)


def _parameters(base: Parameters, members: int, groups: int, overrides: Sequence[str]) -> Parameters:
    """The parameters with --groups and each --set put in, resolved and checked (PROTOCOL 11)."""
    values: dict[str, int | bool] = {**msgspec.structs.asdict(base), "groups": groups}
    for override in overrides:
        name, _, text = override.partition("=")
        if name not in values or name == "groups":
            raise ConfigurationError(
                f"--set {override}: no such parameter; there are {', '.join(sorted(values))}"
            )
        if isinstance(values[name], bool):
            if text not in ("true", "false"):
                raise ConfigurationError(f"--set {override}: {name} is true or false")
            values[name] = text == "true"
        elif text.isascii() and text.isdecimal() and len(text) <= 18:
            values[name] = int(text)
        else:
            raise ConfigurationError(f"--set {override}: {name} is a whole number")
    try:
        parameters = msgspec.convert(tuple(values.values()), Parameters)
        parameters = resolved(parameters, members)
        check_parameters(parameters, members)
    except (msgspec.ValidationError, InvalidGenesis) as error:
        raise ConfigurationError(f"these parameters make no chain: {error}") from error
    return parameters


class BootstrapProcess:
    """A bootstrap service from its files to its port; `run_bootstrap` adds the signals."""

    def __init__(self, settings: BootstrapSettings, limits: ServiceLimits | None = None) -> None:
        self._settings = settings
        self._limits = limits or ServiceLimits()
        self._verifier = Ed25519Verifier()
        self._record_log: RecordLog | None = None
        self._server: BootstrapServer | None = None
        self._polls: LongPolls | None = None
        self._work: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it answers, once started."""
        host = self._settings.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._server.port if self._server else self._settings.port}"

    async def start(self) -> None:
        """Take up what the home holds, and serve; `ConfigurationError`, `StoreUnusable` or `OSError` say why not."""
        settings = self._settings
        self._signer = _own_key(settings.home / KEY_FILE)
        self._record_log, records = RecordLog.open(settings.home / FORMATION_FILE)
        announcement = _announcement(settings, records)
        self._polls = polls = LongPolls(self._limits.max_waiters, self._limits.max_waiters_per_host)
        formation = Formation(
            announcement=announcement,
            door=GenesisMaker(announcement, self._verifier),
            verifier=self._verifier,
            log=self._record_log,
            on_change=polls.wake,
            founders=settings.founders,
        )
        formation.restore(records)

        def is_member(public_key: PublicKey) -> bool:
            return service.is_member(public_key)

        directory = Directory(verifier=self._verifier, log=self._record_log, is_member=is_member)
        service = BootstrapService(
            formation=formation,
            directory=directory,
            record_log=self._record_log,
            polls=polls,
            coordinate=self._coordinate,
        )
        directory.restore(record for record in records if record[0] not in OWN_KINDS)
        registry = CollectorRegistry()
        register_metrics(service, registry)
        self._server = BootstrapServer(Routes(service, _now_ms).table(), registry, self._limits)
        await self._server.start(settings.host, settings.port)
        self._work = asyncio.create_task(service.run())
        log.info(
            "the bootstrap serves",
            url=self.url,
            members=settings.members,
            registered=formation.registered,
            stage=str(formation.stage),
        )

    def _coordinate(
        self,
        genesis: GenesisFacts,
        apis: Callable[[], list[tuple[Address, str]]],
        members: Callable[[], Sequence[Address]],
    ) -> Coordination:
        chain = HttpChain()
        parameters = self._settings.parameters
        coordinator = Coordinator(
            chain=chain,
            transactions=TransactionMaker(genesis.hash, self._signer, parameters.tx_window_ms, _now_ms),
            box=BallotBox(BallotReader(genesis.hash, self._verifier)),
            parameters=parameters,
            apis=apis,
        )
        watch = Watch(chain=chain, members=members, apis=apis, now_ms=_now_ms)
        return Coordination(coordinator, watch, chain)

    async def wait(self) -> None:
        """Until the work fails, which is our own bug, or `stop`."""
        if self._work is not None:
            await self._work

    async def stop(self) -> None:
        """Answer no longer, and close the files."""
        if self._polls is not None:
            self._polls.close()
        if self._server is not None:
            await self._server.stop()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        if self._record_log is not None:
            self._record_log.close()
            self._record_log = None


async def run_bootstrap(settings: BootstrapSettings, on_started: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; ``on_started`` gets the URL."""
    process = BootstrapProcess(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        await process.start()
        if on_started is not None:
            on_started(process.url)
        work = asyncio.ensure_future(process.wait())
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if work.done() and not stopping.is_set():
            await work
    finally:
        await process.stop()


def _announcement(settings: BootstrapSettings, records: Sequence[tuple[RecordKind, bytes]]) -> Announcement:
    """What these settings announce; where they leave something open, what was announced at the first start."""
    stored = [
        announcement_codec.decode(content) for kind, content in records if kind is RecordKind.ANNOUNCEMENT
    ]
    time_ms = settings.genesis_time_ms
    if time_ms is None:
        time_ms = stored[0].time_ms if stored else _now_ms()
    operators, threshold = settings.operators, settings.operator_threshold
    if settings.admission is Admission.INVITED and not operators:
        operators, threshold = (_operator_key(settings.home / OPERATOR_KEY_FILE),), 1
    return Announcement(
        chain_name=settings.chain_name,
        time_ms=time_ms,
        members=settings.members,
        parameters=settings.parameters,
        admission=settings.admission.name.lower(),
        operators=operators,
        operator_threshold=threshold,
        founding_balance=settings.founding_balance,
        entry_balance=settings.entry_balance,
    )


def _own_key(path: Path) -> KeyPair:
    """The service's key, made at the first start."""
    if not path.exists():
        write_key(path, new_key_pair())
    return read_key(path)


def _operator_key(path: Path) -> PublicKey:
    """The public key of an operator made for this chain. Whoever holds the file issues invites: move it to safety."""
    public = path.with_suffix(".public")
    try:
        return bytes.fromhex(public.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        key = _own_key(path)
    except ValueError as error:
        raise InvalidMessage(
            f"{public} holds no key: write the operator's public key there in hex"
        ) from error
    public.write_text(f"{key.public_key.hex()}\n", encoding="ascii")
    log.warning("an operator key was made: it issues invites and money, so move it to safety", file=str(path))
    return key.public_key


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
