"""PROTOCOL 8: the bootstrap service coordinates, and is trusted with nothing. One lie a test.

The honest parts run for real: nodes form chains over sockets against services whose answers a test bends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.errors import InvalidMessage
from consensus.parameters import DEMO, resolved
from consensus.signing import BALLOT_DOMAIN
from contracts.genesis import Genesis, Registration, sign_registration
from contracts.signatures import ballot_bytes
from contracts.transaction import Ballot
from network.address_book import AddressBook, sign_record
from network.bootstrap.client import newest_records
from network.bootstrap.records import (
    Acknowledgement,
    AcknowledgementSet,
    Announcement,
    acknowledge,
    announcement_to_json,
)
from network.bootstrap.server import BootstrapServer, Handler, Request, answer, answer_bytes
from network.peer import Endpoint
from network.wire import AddressRecord
from node.bootstrap_doors import BallotReader, genesis_of
from node.errors import FormationError
from node.formation import FormedChain, Pins, form_or_fetch
from node.keystore import KeyPair
from tests.unit.network.bootstrap.support import eventually

VERIFIER = Ed25519Verifier()
NOW_MS = 1_800_000_000_000
MEMBERS = (1, 2, 3, 4)


def key(number: int) -> KeyPair:
    return KeyPair(bytes((number,)) * 32)


def meter(number: int) -> KeyPair:
    return key(100 + number)


def registration(number: int) -> Registration:
    return sign_registration("village", key(number), meter(number).public_key, 11_000)


def announced(**changes: object) -> Announcement:
    honest = Announcement(
        chain_name="village",
        time_ms=NOW_MS,
        members=4,
        parameters=resolved(DEMO, 4),
        admission="open",
        operators=(),
        operator_threshold=0,
        founding_balance=10**12,
        entry_balance=0,
    )
    return msgspec.structs.replace(honest, **changes)


def genesis(numbers: Sequence[int] = MEMBERS, **changes: object) -> Genesis:
    return genesis_of(announced(**changes), [registration(number) for number in numbers])


class Lies:
    """A bootstrap that answers what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.announcement = announced()
        self.genesis = genesis()
        self.acknowledgements: tuple[Acknowledgement, ...] | None = None
        """None: of all members of its genesis, in good order."""
        self.refuse_registration = False
        self.acknowledged: list[Acknowledgement] = []
        self.records: tuple[AddressRecord, ...] = ()
        self.url = ""

    def routes(self) -> dict[tuple[str, str], Handler]:
        return {
            ("GET", "/v1/formation"): self._formation,
            ("POST", "/v1/registrations"): self._taken,
            ("GET", "/v1/genesis"): self._genesis,
            ("POST", "/v1/acknowledgements"): self._acknowledge,
            ("GET", "/v1/acknowledgements"): self._acknowledgements,
            ("POST", "/v1/addresses"): self._taken,
            ("GET", "/v1/addresses"): self._addresses,
        }

    async def _formation(self, _: Request) -> web.Response:
        progress = {"stage": "acknowledging", "registered": 4, "acknowledged": 4, "genesis_hash": None}
        return answer({**announcement_to_json(self.announcement), **progress})

    async def _taken(self, _: Request) -> web.Response:
        if self.refuse_registration:
            return web.json_response({"code": "full", "detail": "full"}, status=409)
        return answer({})

    async def _genesis(self, _: Request) -> web.Response:
        return answer_bytes(encode(self.genesis))

    async def _acknowledge(self, request: Request) -> web.Response:
        body = await request.body(1_000)
        self.acknowledged.append(msgspec.msgpack.decode(body, type=Acknowledgement))
        return answer({})

    async def _acknowledgements(self, _: Request) -> web.Response:
        genesis_hash = self.genesis.hash()
        shown = self.acknowledgements
        if shown is None:
            shown = tuple(acknowledge(genesis_hash, key(number)) for number in MEMBERS)
        return answer_bytes(encode(AcknowledgementSet(genesis_hash, shown)))

    async def _addresses(self, request: Request) -> web.Response:
        return answer_bytes(encode(() if request.text("after") else self.records))


@contextlib.asynccontextmanager
async def serving(*services: Lies) -> AsyncIterator[None]:
    servers = [BootstrapServer(service.routes(), CollectorRegistry()) for service in services]
    for server, service in zip(servers, services, strict=True):
        await server.start("127.0.0.1", 0)
        service.url = f"http://127.0.0.1:{server.port}"
    try:
        yield
    finally:
        for server in servers:
            await server.stop()


async def node(
    number: int,
    home: Path,
    *services: Lies,
    pins: Pins | None = None,
    progress: Callable[[str], None] | None = None,
) -> FormedChain:
    async with asyncio.timeout(20):
        return await form_or_fetch(
            [service.url for service in services],
            home=home / f"node{number}",
            signer=key(number),
            meter_public_key=meter(number).public_key,
            max_power_w=11_000,
            verifier=VERIFIER,
            now_ms=lambda: NOW_MS,
            pins=pins,
            progress=progress,
        )


async def refused(number: int, home: Path, service: Lies, because: str, pins: Pins | None = None) -> None:
    """The node refuses to form a chain, and has acknowledged nothing."""
    async with serving(service):
        with pytest.raises(FormationError, match=because):
            await node(number, home, service, pins=pins)
    assert not service.acknowledged


async def test_8_1b_a_truthful_bootstrap_is_followed(tmp_path: Path) -> None:
    """The bench itself: without a lie the node starts, having acknowledged this very genesis."""
    service = Lies()
    async with serving(service):
        formed = await node(1, tmp_path, service)
    assert formed.genesis == service.genesis
    assert service.acknowledged == [acknowledge(service.genesis.hash(), key(1))]


async def test_8_1b_lie_different_genesis_to_different_nodes(tmp_path: Path) -> None:
    """Acknowledgements of one genesis are none of another: neither half starts."""
    one, other = Lies(), Lies()
    other.announcement = announced(founding_balance=1)
    other.genesis = genesis(founding_balance=1)
    async with serving(one, other):
        one.acknowledgements = other.acknowledgements = ()
        first = asyncio.create_task(node(1, tmp_path, one))
        second = asyncio.create_task(node(2, tmp_path, other))
        await eventually(lambda: bool(one.acknowledged and other.acknowledged))
        one.acknowledgements = other.acknowledgements = (one.acknowledged[0], other.acknowledged[0])
        for task in (first, second):
            with pytest.raises(FormationError, match="forged acknowledgement"):
                await task


async def test_8_1b_lie_a_second_genesis_after_the_first_was_acknowledged(tmp_path: Path) -> None:
    """A node acknowledges one genesis only, also across a restart."""
    service = Lies()
    service.acknowledgements = ()
    first = acknowledge(service.genesis.hash(), key(1))
    async with serving(service):
        task = asyncio.create_task(node(1, tmp_path, service))
        await eventually(lambda: bool(service.acknowledged))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        service.genesis = genesis((1, 2, 3, 5))
        with pytest.raises(FormationError, match="stored and acknowledged"):
            await node(1, tmp_path, service)
    assert all(one == first for one in service.acknowledged)


async def test_8_1b_lie_an_omitted_member(tmp_path: Path) -> None:
    """The member whose registration was taken and is missing refuses; without it nobody gets all acknowledgements."""
    service = Lies()
    service.genesis = genesis((1, 2, 3, 5))
    await refused(4, tmp_path, service, "omits this node")


async def test_8_1b_lie_the_members_registration_was_changed(tmp_path: Path) -> None:
    """Its own registration is checked byte for byte, even against one that it signed for another meter."""
    service = Lies()
    swapped = sign_registration("village", key(1), meter(9).public_key, 11_000)
    service.genesis = genesis_of(announced(), [swapped, *(registration(number) for number in (2, 3, 4))])
    await refused(1, tmp_path, service, "another registration of this node")


async def test_8_1b_lie_an_invented_member(tmp_path: Path) -> None:
    """A key that nobody holds cannot have registered."""
    service = Lies()
    good = registration(4)
    invented = Registration(key(77).public_key, good.meter_public_key, good.max_power_w, good.signature)
    service.genesis = genesis_of(announced(), [*(registration(number) for number in (1, 2, 3)), invented])
    await refused(1, tmp_path, service, "not signed by its key")


async def test_8_1b_lie_fewer_members_than_announced(tmp_path: Path) -> None:
    """N is checked."""
    service = Lies()
    service.announcement = announced(members=5)
    await refused(1, tmp_path, service, "members 5 / 4")


async def test_8_1b_lie_other_parameters_than_announced(tmp_path: Path) -> None:
    """The parameters are checked one by one, and the difference named."""
    service = Lies()
    service.genesis = genesis(parameters=msgspec.structs.replace(resolved(DEMO, 4), decay_bp=9_999))
    await refused(1, tmp_path, service, "decay_bp 200 / 9999")


async def test_8_1b_lie_another_k(tmp_path: Path) -> None:
    """k is a parameter like the others."""
    service = Lies()
    service.genesis = genesis(parameters=msgspec.structs.replace(resolved(DEMO, 4), groups=0))
    await refused(1, tmp_path, service, "groups 4 / 0")


@pytest.mark.parametrize(
    "pins", [Pins(groups=2), Pins(members=8), Pins(chain_name="town"), Pins(genesis_hash=bytes(32))]
)
async def test_8_1b_lie_another_chain_than_the_operator_asked_for(tmp_path: Path, pins: Pins) -> None:
    """What the flags pin holds against any announcement."""
    await refused(1, tmp_path, Lies(), "was asked for|not the pinned one", pins)


async def test_8_1b_lie_another_announcement_than_at_first_contact(tmp_path: Path) -> None:
    """The first announcement is stored; the service cannot change its mind behind it."""
    service = Lies()
    service.genesis = genesis(founding_balance=5)
    await refused(1, tmp_path, service, "founding_balance")
    service.announcement = announced(founding_balance=5)
    await refused(1, tmp_path, service, "than at first contact")


async def test_8_1b_lie_a_genesis_from_the_future(tmp_path: Path) -> None:
    """No block could follow it (6.8), so it is not acknowledged."""
    service = Lies()
    service.announcement = announced(time_ms=NOW_MS + 1_000)
    service.genesis = genesis(time_ms=NOW_MS + 1_000)
    await refused(1, tmp_path, service, "lies in the future")


async def test_8_1b_lie_a_forged_acknowledgement(tmp_path: Path) -> None:
    """An acknowledgement counts only with its member's signature."""
    service = Lies()
    genesis_hash = service.genesis.hash()
    forged = Acknowledgement(key(4).public_key, acknowledge(genesis_hash, key(3)).signature)
    service.acknowledgements = (*(acknowledge(genesis_hash, key(number)) for number in (1, 2, 3)), forged)
    async with serving(service):
        with pytest.raises(FormationError, match="forged acknowledgement of " + key(4).address.hex()):
            await node(1, tmp_path, service)


async def test_8_1b_lie_acknowledgements_by_strangers_in_place_of_a_members(tmp_path: Path) -> None:
    """All members, not as many keys."""
    service = Lies()
    genesis_hash = service.genesis.hash()
    service.acknowledgements = tuple(acknowledge(genesis_hash, key(number)) for number in (1, 2, 3, 5))
    async with serving(service):
        with pytest.raises(FormationError, match="which is no member"):
            await node(1, tmp_path, service)


async def test_8_1b_a_node_waits_for_the_last_acknowledgement(tmp_path: Path) -> None:
    """Three of four are not enough, however often they are shown."""
    service = Lies()
    genesis_hash = service.genesis.hash()
    service.acknowledgements = tuple(acknowledge(genesis_hash, key(number)) for number in (1, 2, 3))
    said: list[str] = []
    async with serving(service):
        task = asyncio.create_task(node(1, tmp_path, service, progress=said.append))
        await eventually(lambda: "3 of 4 members have acknowledged the genesis" in said)
        await asyncio.sleep(0.05)
        assert not task.done()
        service.acknowledgements = None
        assert (await task).genesis_hash == genesis_hash


async def test_8_2_one_liar_among_several_bootstraps_is_dropped(tmp_path: Path) -> None:
    """Several may run: a node goes on with whoever serves the right genesis."""
    liar, honest = Lies(), Lies()
    liar.genesis = genesis((1, 2, 3, 5), parameters=msgspec.structs.replace(resolved(DEMO, 4), alpha=1))
    said: list[str] = []
    async with serving(liar, honest):
        formed = await node(1, tmp_path, liar, honest, progress=said.append)
        assert formed.genesis == honest.genesis
        assert any(text.startswith(f"{liar.url} is not used any longer") for text in said)
    assert not liar.acknowledged


async def test_8_2_oversize_answers_end_with_an_error_not_with_the_memory(tmp_path: Path) -> None:
    """What a bootstrap sends is bounded before it is decoded; the node goes on with another."""
    liar, honest = Lies(), Lies()

    async def endless(_: Request) -> web.Response:
        return answer_bytes(bytes(9 * 1_048_576))

    routes = liar.routes() | {("GET", "/v1/genesis"): endless}
    liar.routes = lambda: routes  # type: ignore[method-assign]
    said: list[str] = []
    async with serving(liar, honest):
        formed = await node(1, tmp_path, liar, honest, progress=said.append)
    assert formed.genesis == honest.genesis
    assert any("exceeds 8388608 bytes" in text for text in said)


def test_8_1a_lie_a_stale_address_record() -> None:
    """The higher number wins in every book, whatever a directory serves, and whenever."""
    old = sign_record(key(1), 1, Endpoint("old.example", 1))
    new = sign_record(key(1), 2, Endpoint("new.example", 2))
    assert newest_records([[old], [new], [old]], lambda _: True) == (new,)
    book = AddressBook(VERIFIER, lambda _: True)
    assert book.add(new, 0)
    assert not book.add(old, 10_000)
    assert book.endpoint(key(1).public_key) == Endpoint("new.example", 2)


async def test_8_1a_lie_a_forged_address_record(tmp_path: Path) -> None:
    """Records without their key's signature never reach the node."""
    service = Lies()
    good = sign_record(key(2), 1, Endpoint("node.example", 1))
    moved = AddressRecord(good.public_key, 9, "evil.example", 1, good.signature)
    other = sign_record(key(3), 1, Endpoint("third.example", 1))
    service.records = tuple(sorted((moved, other), key=lambda record: record.public_key))
    async with serving(service):
        formed = await node(1, tmp_path, service)
    assert formed.records == (other,)


def test_8_1d_lie_a_forged_or_changed_ballot() -> None:
    """The voter's signature covers chain, epoch, sequence and choices (5.2); a collector can change none of them."""
    chain_id = genesis().hash()
    reader = BallotReader(chain_id, VERIFIER)
    voter, chosen, other = key(1), key(2).address, key(3).address

    def ballot(choices: tuple[bytes, ...], sequence: int, signature: bytes) -> Ballot:
        return Ballot(voter.address, 1, sequence, choices, voter.public_key, signature)

    signature = voter.sign(ballot_bytes(ballot((chosen,), 1, bytes(64)), chain_id))
    assert reader.read_ballot(encode(ballot((chosen,), 1, signature))).choices == (chosen,)
    content = encode((voter.address, 1, 1, (chosen,)))
    forgeries = [
        ballot((other,), 1, signature),
        ballot((chosen,), 2, signature),
        ballot((chosen,), 1, key(9).sign(BALLOT_DOMAIN + chain_id + content)),
        ballot((chosen,), 1, voter.sign(BALLOT_DOMAIN + bytes(32) + content)),
        Ballot(key(4).address, 1, 1, (chosen,), voter.public_key, signature),
    ]
    for forged in forgeries:
        with pytest.raises(InvalidMessage):
            reader.read_ballot(encode(forged))


async def test_10_1_lie_a_chain_of_its_own_to_a_joiner_with_an_invite(tmp_path: Path) -> None:
    """An invite names the chain: with its id pinned nothing that a bootstrap makes up is joined."""
    service = Lies()
    service.refuse_registration = True
    await refused(9, tmp_path, service, "not the pinned one", Pins(genesis_hash=bytes(31) + b"\x01"))
