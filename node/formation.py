"""The node's side of formation and of joining: trust nothing a bootstrap says, check everything (PROTOCOL 8.1, 10.1).

A founder registers, checks the genesis against what was announced at first contact (or pinned by flags), stores it,
acknowledges it, and starts when it holds acknowledgements of it by all members. Who comes later checks the same and
then joins by transaction. A bootstrap that lies is dropped with the reason; with none left, the node says so and stops.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from consensus.encoding import encode
from consensus.errors import InvalidGenesis, InvalidMessage, MalformedInput
from consensus.hashing import address_of
from consensus.signing import Signer, Verifier
from consensus.types import Digest, PublicKey, Value
from contracts.genesis import Genesis, Registration, check_genesis, genesis_codec, sign_registration
from contracts.transaction import Invite, Join, Meter, encode_body, sign_body
from network.address_book import check_record
from network.bootstrap.client import BootstrapClient, newest_records
from network.bootstrap.errors import Refused, Unavailable
from network.bootstrap.formation import different_fields
from network.bootstrap.limits import MAX_WAIT_MS
from network.bootstrap.records import (
    Acknowledgement,
    AcknowledgementSet,
    Announcement,
    acknowledge,
    is_acknowledged,
    sign_api_record,
)
from network.wire import AddressRecord
from node.errors import FormationError
from node.formation_store import FormationStore

POLL_MS: Final = 10_000
"""One long poll, shared among the bootstraps; what it waits for ends it at once."""
RETRY_MS: Final = 1_000
"""Pause after a round in which no bootstrap could be reached."""
MIN_ROUND_MS: Final = 100
"""A round takes at least this long: a bootstrap that answers long polls at once must not keep this node busy."""
_RESTORE: Final = "restore it from a backup, or join anew with a new home"
NOT_FOUNDING: Final = ("full", "not_a_founder")
"""Refusals of a registration after which a node joins later instead."""


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


def load_formed(home: Path, public_key: PublicKey, verifier: Verifier) -> FormedChain | None:
    """The chain stored in ``home``, checked again; None before it has formed. No bootstrap is needed."""
    store = FormationStore(home)
    genesis, collected = store.genesis(), store.acknowledgements()
    if genesis is None or collected is None:
        return None
    try:
        check_genesis(genesis, verifier)
    except InvalidGenesis as error:
        raise FormationError(f"the genesis in {store.path} is not valid: {error}; {_RESTORE}") from error
    pool = _Acknowledgements(genesis, verifier)
    forged = pool.add(collected)
    if forged or not pool.complete:
        raise FormationError(
            f"{store.path} does not hold every founder's acknowledgement: {forged or 'some miss'}; {_RESTORE}"
        )
    return _formed(genesis, pool, (), public_key)


async def form_or_fetch(  # noqa: PLR0913 - keywords, each a thing of its own
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
    Waits as long as it takes (cancel it to stop), and goes on where it was after a restart. `FormationError` when
    every bootstrap was caught with something that this node must not accept.
    """
    pins = pins or Pins()
    formed = load_formed(home, signer.public_key, verifier)
    if formed is not None:
        if pins.genesis_hash not in (None, formed.genesis_hash):
            raise FormationError(
                f"{home} belongs to the chain {formed.genesis_hash.hex()}, not to the pinned one"
            )
        return formed
    if not urls:
        raise FormationError("this node has no chain yet: give it the URL of a bootstrap")
    async with aiohttp.ClientSession() as session:
        clients = [BootstrapClient(url, session) for url in urls]
        attempt = _Attempt(clients, FormationStore(home), signer, verifier, now_ms, pins, progress or _ignore)
        return await attempt.run(meter_public_key, max_power_w, record, api_url)


async def exchange_records(
    urls: Sequence[str],
    *,
    signer: Signer,
    verifier: Verifier,
    now_ms: Callable[[], int],
    record: AddressRecord | None,
    api_url: str = "",
) -> tuple[AddressRecord, ...]:
    """Tell the directories where this node is and fetch what they know; unreachable ones are passed over."""
    async with aiohttp.ClientSession() as session:
        clients = [BootstrapClient(url, session) for url in urls]
        return await _exchange(clients, signer, verifier, now_ms, record, api_url)


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
    join = Join(signer.public_key, meter, invite)
    body = encode_body(chain_id, address_of(signer.public_key), valid_from_ms, valid_until_ms, nonce, join)
    return sign_body(body, (signer,))


def announcement_of(genesis: Genesis) -> Announcement:
    """What must have been announced for ``genesis`` to be accepted."""
    return Announcement(
        chain_name=genesis.chain_name,
        time_ms=genesis.time_ms,
        members=len(genesis.members),
        parameters=genesis.parameters,
        admission=genesis.admission.name.lower(),
        operators=genesis.operators,
        operator_threshold=genesis.operator_threshold,
        founding_balance=genesis.founding_balance,
        entry_balance=genesis.entry_balance,
    )


class _Acknowledgements:
    """Verified acknowledgements of one genesis."""

    def __init__(self, genesis: Genesis, verifier: Verifier) -> None:
        self.genesis_hash = genesis.hash()
        self._members = [member.public_key for member in genesis.members]
        self._verifier = verifier
        self._held: dict[PublicKey, Acknowledgement] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def complete(self) -> bool:
        """One of every member."""
        return len(self._held) == len(self._members)

    def add(self, collected: AcknowledgementSet) -> str:
        """Take in what verifies; the first thing that is wrong, or nothing."""
        if collected.genesis_hash != self.genesis_hash:
            return f"it collects acknowledgements of another genesis, {collected.genesis_hash.hex()}"
        members = frozenset(self._members)
        for one in collected.acknowledgements:
            if self._held.get(one.public_key) == one:
                continue
            if one.public_key not in members:
                return f"an acknowledgement by {one.public_key.hex()}, which is no member"
            if not is_acknowledged(one, self.genesis_hash, self._verifier):
                return f"a forged acknowledgement of {address_of(one.public_key).hex()}"
            self._held[one.public_key] = one
        return ""

    def in_member_order(self) -> tuple[Acknowledgement, ...]:
        """All, once complete."""
        return tuple(self._held[key] for key in self._members)


class _Attempt:
    """One run of formation against several bootstraps, none of them trusted."""

    def __init__(
        self,
        clients: list[BootstrapClient],
        store: FormationStore,
        signer: Signer,
        verifier: Verifier,
        now_ms: Callable[[], int],
        pins: Pins,
        progress: Callable[[str], None],
    ) -> None:
        self._clients = clients
        self._dropped: dict[str, str] = {}
        self._store = store
        self._signer = signer
        self._verifier = verifier
        self._now_ms = now_ms
        self._pins = pins
        self._tell = _Teller(progress)
        self._announced = store.announced()
        self._registered = store.registration()
        self._checked = store.genesis()

    async def run(
        self, meter_public_key: PublicKey, max_power_w: int, record: AddressRecord | None, api_url: str
    ) -> FormedChain:
        """The whole way."""
        announced = await self._first_contact()
        own = sign_registration(announced.chain_name, self._signer, meter_public_key, max_power_w)
        genesis = await self._obtain_genesis(own)
        founder = any(member.public_key == self._signer.public_key for member in genesis.members)
        if self._checked is None:
            self._store.put_genesis(genesis)
            self._checked = genesis
        await _exchange(self._clients, self._signer, self._verifier, self._now_ms, record, api_url)
        pool = await self._collect(genesis, founder)
        self._store.put_acknowledgements(AcknowledgementSet(pool.genesis_hash, pool.in_member_order()))
        records = await _exchange(self._clients, self._signer, self._verifier, self._now_ms, None, "")
        self._tell(f"the chain {announced.chain_name} has formed: genesis {pool.genesis_hash.hex()}")
        return _formed(genesis, pool, records, self._signer.public_key)

    # ---- announcement

    async def _first_contact(self) -> Announcement:
        """What was announced first, by any bootstrap; stored, so that it cannot change later."""
        while True:
            for client in self._usable():
                try:
                    announced, _ = await client.announcement()
                except (Unavailable, Refused) as error:
                    self._tell(f"{error}; trying again")
                    continue
                if self._agrees(client, announced):
                    return announced
            await asyncio.sleep(RETRY_MS / 1_000)

    def _agrees(self, client: BootstrapClient, announced: Announcement) -> bool:
        """Hold an announcement to flags and first contact; a bootstrap that announces another chain is dropped."""
        for name, wanted, shown in (
            ("chain name", self._pins.chain_name, announced.chain_name),
            ("number of members", self._pins.members, announced.members),
            ("number of groups", self._pins.groups, announced.parameters.groups),
        ):
            if wanted is not None and wanted != shown:
                self._drop(client, f"its chain's {name} is {shown}, {wanted} was asked for")
                return False
        if self._announced is None:
            self._store.put_announced(announced)
            self._announced = announced
        elif self._announced != announced:
            differing = different_fields(self._announced, announced)
            self._drop(client, f"it announces another chain than at first contact: {differing}")
            return False
        return True

    # ---- genesis

    async def _obtain_genesis(self, own: Registration) -> Genesis:
        """The first genesis that passes every check; registers meanwhile."""
        while True:
            reached = False
            for client in self._usable():
                try:
                    announced, shown = await client.announcement()
                    if not self._agrees(client, announced):
                        continue
                    registers = self._checked is None and shown.genesis_hash is None
                    if registers and not await self._register(client, own):
                        self._tell(
                            "the founding members are complete: this node will join once the chain runs"
                        )
                    self._tell(f"{shown.registered} of {announced.members} members had registered")
                    raw = await client.genesis(self._share_of(POLL_MS))
                except Unavailable as error:
                    self._tell(f"{error}; trying again")
                    continue
                reached = True
                if raw is None:
                    continue
                try:
                    return await asyncio.to_thread(self._accept, raw, own)
                except (InvalidGenesis, MalformedInput) as error:
                    self._drop(client, f"its genesis is refused: {error}")
            await asyncio.sleep((MIN_ROUND_MS if reached else RETRY_MS) / 1_000)

    async def _register(self, client: BootstrapClient, own: Registration) -> bool:
        """Whether this bootstrap takes the node as a founder; another refusal drops it."""
        try:
            await client.register(encode(own))
        except Refused as refused:
            if refused.code in NOT_FOUNDING:
                return False
            self._drop(client, f"it refuses the registration: {refused.detail}")
            raise Unavailable(refused.detail) from refused
        if self._registered != own:
            self._store.put_registration(own)
            self._registered = own
        return True

    def _accept(self, raw: bytes, own: Registration) -> Genesis:
        """The genesis in ``raw``; `InvalidGenesis` or `MalformedInput` names what must not be accepted."""
        genesis = genesis_codec.decode(raw)
        genesis_hash = genesis.hash()
        if self._checked is not None and self._checked != genesis:
            checked = self._checked.hash().hex()
            raise InvalidGenesis(
                f"it is {genesis_hash.hex()}, and this node has stored and acknowledged {checked}"
            )
        if self._pins.genesis_hash not in (None, genesis_hash):
            raise InvalidGenesis(f"its hash is {genesis_hash.hex()}, not the pinned one")
        check_genesis(genesis, self._verifier)
        if self._announced is not None and announcement_of(genesis) != self._announced:
            differing = different_fields(self._announced, announcement_of(genesis))
            raise InvalidGenesis(f"it differs from the announcement (announced / genesis): {differing}")
        if genesis.time_ms > self._now_ms() + genesis.parameters.max_drift_ms:
            raise InvalidGenesis("its time lies in the future: no block could be decided (PROTOCOL 6.8)")
        mine = [member for member in genesis.members if member.public_key == own.public_key]
        if self._registered is not None and not mine:
            raise InvalidGenesis("it omits this node, whose registration was taken")
        if mine and mine[0] not in (own, self._registered):
            raise InvalidGenesis("it holds another registration of this node's key than this node made")
        return genesis

    # ---- acknowledgements

    async def _collect(self, genesis: Genesis, founder: bool) -> _Acknowledgements:
        """Acknowledge, as a founder, and gather until all members' are there."""
        pool = _Acknowledgements(genesis, self._verifier)
        own = acknowledge(pool.genesis_hash, self._signer) if founder else None
        while True:
            reached = False
            for client in self._usable():
                try:
                    if own is not None:
                        await self._post_acknowledgement(client, own)
                    collected = await client.acknowledgements(len(pool), self._share_of(POLL_MS))
                except (Unavailable, Refused) as error:
                    self._tell(f"{error}; trying again")
                    continue
                reached = True
                if collected is None:
                    continue
                wrong = pool.add(collected)
                if wrong:
                    self._drop(client, wrong)
                self._tell(f"{len(pool)} of {len(genesis.members)} members have acknowledged the genesis")
                if pool.complete:
                    return pool
            await asyncio.sleep((MIN_ROUND_MS if reached else RETRY_MS) / 1_000)

    async def _post_acknowledgement(self, client: BootstrapClient, own: Acknowledgement) -> None:
        """Again in each round, since a bootstrap may have come later; one that has no genesis yet refuses."""
        try:
            await client.acknowledge(own)
        except Refused as refused:
            raise Unavailable(
                f"{client.url} does not take the acknowledgement: {refused.detail}"
            ) from refused

    # ---- bootstraps

    def _usable(self) -> list[BootstrapClient]:
        usable = [client for client in self._clients if client.url not in self._dropped]
        if not usable:
            reasons = "; ".join(f"{url}: {reason}" for url, reason in self._dropped.items())
            raise FormationError(
                f"no bootstrap is left to form or join the chain with. {reasons}. Nothing was started; if you trust "
                f"what is new, remove {self._store.path} and try again"
            )
        return usable

    def _drop(self, client: BootstrapClient, reason: str) -> None:
        self._dropped[client.url] = reason
        self._tell(f"{client.url} is not used any longer: {reason}")

    def _share_of(self, wait_ms: int) -> int:
        return min(MAX_WAIT_MS, wait_ms // max(1, len(self._clients) - len(self._dropped)))


class _Teller:
    """Progress, each text once in a row."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self._progress(text)


async def _exchange(
    clients: Sequence[BootstrapClient],
    signer: Signer,
    verifier: Verifier,
    now_ms: Callable[[], int],
    record: AddressRecord | None,
    api_url: str,
) -> tuple[AddressRecord, ...]:
    """Post what is given to each directory, and fetch; one that does not answer, or refuses, is passed over."""

    def is_valid(candidate: AddressRecord) -> bool:
        try:
            check_record(candidate, verifier)
        except InvalidMessage:
            return False
        return True

    found: list[list[AddressRecord]] = []
    for client in clients:
        try:
            if record is not None:
                await client.post_address(record)
            if api_url:
                await client.post_api(sign_api_record(signer, now_ms(), api_url))
            found.append(await client.addresses())
        except (Unavailable, Refused):
            continue
    return newest_records(found, is_valid)


def _formed(
    genesis: Genesis, pool: _Acknowledgements, records: tuple[AddressRecord, ...], public_key: PublicKey
) -> FormedChain:
    founder = any(member.public_key == public_key for member in genesis.members)
    return FormedChain(genesis, pool.genesis_hash, pool.in_member_order(), records, founder)


def _ignore(_: str) -> None:
    """No progress is shown."""
