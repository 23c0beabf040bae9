"""`cgpbft bootstrap`: the bootstrap service as its own process, wired to the contracts it must not import (PROTOCOL 8)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from consensus.parameters import Parameters
from consensus.types import PublicKey, Value
from contracts.genesis import Admission

DEFAULT_PORT: Final = 26_650


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
    operator_threshold: int
    founding_balance: int
    """Nano-units."""
    entry_balance: int
    genesis_time_ms: int | None = None
    """Several bootstraps that form one chain must be given the same; None: the first start."""


def bootstrap_settings(
    *,
    home: Path,
    members: int,
    groups: int,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    chain_name: str = "cgpbft",
    demo: bool = False,
    overrides: Mapping[str, str] | Sequence[str] = (),
    admission: str | None = None,
    allow_open: bool = False,
    operators: Sequence[str] = (),
    operator_threshold: int | None = None,
    founding_balance: int = 0,
    entry_balance: int = 0,
    genesis_time_ms: int | None = None,
) -> BootstrapSettings:
    """Settings from flags as typed (``overrides``: NAME=VALUE of --set); `ConfigurationError` says what is wrong."""
    raise NotImplementedError


async def run_bootstrap(settings: BootstrapSettings) -> None:
    """Serve until SIGINT or SIGTERM."""
    raise NotImplementedError
