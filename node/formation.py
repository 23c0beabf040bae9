"""The node's side of formation and of joining: trust nothing a bootstrap says, check everything (PROTOCOL 8.1, 10.1)."""

from collections.abc import Callable, Sequence
from pathlib import Path

from consensus.signing import Signer, Verifier
from consensus.types import Digest, PublicKey, SignatureBytes, Value, Wire
from contracts.genesis import Genesis
from contracts.transaction import Invite, Meter
from network.wire import AddressRecord


class Acknowledgement(Wire, frozen=True):
    """A founding member's signature over GENESIS_DOMAIN || genesis hash."""

    public_key: PublicKey
    signature: SignatureBytes


class Pins(Value, frozen=True, kw_only=True):
    """What the operator demands of the chain, whatever a bootstrap announces; None: as announced at first contact."""

    genesis_hash: Digest | None = None
    chain_name: str | None = None
    members: int | None = None
    groups: int | None = None


class FormedChain(Value, frozen=True):
    """A chain that may be started: checked, and acknowledged by all its founding members."""

    genesis: Genesis
    genesis_hash: Digest
    acknowledgements: tuple[Acknowledgement, ...]
    """In member order, all verified."""
    records: tuple[AddressRecord, ...]
    """Address records found in the directory, signatures checked; a start for the address book."""
    founder: bool
    """Whether this node is in the genesis; otherwise it catches up and submits `build_join`."""


class InviteFile(Value, frozen=True):
    """What `cgpbft operator invite` writes and `cgpbft join --invite` reads (PROTOCOL 1.4, 1.5)."""

    chain_id: Digest
    invite: Invite
    meter: Meter


def read_invite(path: Path) -> InviteFile:
    """The invite in ``path``; `ConfigurationError` if it is none."""
    raise NotImplementedError


def write_invite(path: Path, invite: InviteFile) -> None:
    """Write ``invite`` as JSON."""
    raise NotImplementedError


def load_formed(home: Path, public_key: PublicKey, verifier: Verifier) -> FormedChain | None:
    """The chain stored in ``home``, checked again; None before it has formed. No bootstrap is needed."""
    raise NotImplementedError


async def form_or_fetch(
    urls: Sequence[str],
    *,
    home: Path,
    signer: Signer,
    meter_public_key: PublicKey,
    max_power_w: int,
    verifier: Verifier,
    now_ms: Callable[[], int],
    record: AddressRecord | None = None,
    api_url: str = "",
    pins: Pins | None = None,
    progress: Callable[[str], None] | None = None,
) -> FormedChain:
    """Register, check, acknowledge and wait until the chain may start; or fetch one that has formed already.

    ``record`` is this node's address record for the directory; ``api_url`` tells the watch where /v1/status is.
    Waits as long as it takes (cancel it to stop), and goes on where it was after a restart.
    """
    raise NotImplementedError


def build_join(
    chain_id: Digest,
    signer: Signer,
    meter: Meter,
    invite: Invite | None,
    *,
    valid_from_ms: int,
    valid_until_ms: int,
    nonce: int,
) -> bytes:
    """A signed Join transaction (PROTOCOL 1.3, 1.5), ready to submit."""
    raise NotImplementedError
