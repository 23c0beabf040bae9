"""`network.bootstrap.doors.ChainDoor` over `node.client`: the chain as members' HTTP APIs tell it."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from consensus.types import Address
from network.bootstrap.chain import (
    BallotCounted,
    ChainBlock,
    ChainEvent,
    ChainPhase,
    CreditMoved,
    DelegatesSet,
    EnergyTraded,
    EpochFacts,
    GroupsFixed,
    MemberEntered,
    MemberFacts,
    MemberStatus,
    PhaseEntered,
    SeatTallied,
)
from network.bootstrap.errors import Refused, Unavailable
from network.bootstrap.limits import MAX_MEMBERS
from node.client import NodeClient, StreamEvent
from node.client_errors import BadRequest, ClientError, Conflict
from node.client_errors import Refused as RefusedByRule

MAX_CLIENTS: Final = 256
"""Members whose connections are kept open; the one used longest ago goes."""
MAX_EVENTS: Final = 200_000
"""Events of one block: 4 096 transactions, of which one may settle a trade in some dozen events."""
MAX_LISTED: Final = 4 * MAX_MEMBERS
"""Members and leavers of a chain; a longer list is a lie."""
PAGE: Final = 100


class HttpChain:
    """Members' APIs by URL."""

    def __init__(self, timeout_s: float = 10.0) -> None:
        """``timeout_s`` bounds one request."""
        self._timeout_s = timeout_s
        self._clients: dict[str, NodeClient] = {}

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    async def _client(self, url: str) -> NodeClient:
        client = self._clients.pop(url, None) or NodeClient(url, timeout_s=self._timeout_s)
        self._clients[url] = client
        if len(self._clients) > MAX_CLIENTS:
            oldest = next(iter(self._clients))
            await self._clients.pop(oldest).close()
        return client

    async def status(self, url: str) -> MemberStatus:
        """GET /v1/status."""
        try:
            view = await (await self._client(url)).status()
            return MemberStatus(
                address=_address(view.address),
                height=view.height,
                view=view.consensus.view,
                epoch=view.epoch,
                phase=ChainPhase(view.epoch_phase),
                ready=view.ready,
                role=view.role,
                problems=tuple(view.not_ready_because),
            )
        except (ClientError, ValueError) as error:
            raise Unavailable(str(error)) from error

    async def epoch(self, url: str, number: int) -> EpochFacts:
        """GET /v1/epochs/{number}."""
        try:
            view = await (await self._client(url)).epoch(number)
            return EpochFacts(
                epoch=view.epoch,
                phase=None if view.phase is None else ChainPhase(view.phase),
                snapshot_height=view.snapshot_height,
                members=_addresses(view.members),
                assignment=tuple(view.assignment),
                delegates=_addresses(view.delegates),
            )
        except (ClientError, ValueError) as error:
            raise Unavailable(str(error)) from error

    async def members(self, url: str) -> tuple[MemberFacts, ...]:
        """GET /v1/members, all pages, each with the height it was read at."""
        client = await self._client(url)
        found: list[MemberFacts] = []
        cursor: str | None = None
        try:
            while len(found) <= MAX_LISTED:
                page = await client.members(cursor, PAGE)
                found += [
                    MemberFacts(
                        _address(item.address),
                        item.energy_wh,
                        item.credit,
                        item.active_epoch,
                        item.left_height,
                        page.height,
                    )
                    for item in page.items
                ]
                if page.next_cursor is None:
                    return tuple(found)
                cursor = page.next_cursor
        except (ClientError, ValueError) as error:
            raise Unavailable(str(error)) from error
        raise Unavailable(f"{url} lists more than {MAX_LISTED} members")

    async def follow(self, url: str, from_height: int) -> AsyncIterator[ChainBlock]:
        """GET /v1/events. A block is complete, and given out, when the next one begins."""
        client = await self._client(url)
        head: StreamEvent | None = None
        events: list[dict[str, Any]] = []
        try:
            async for event in client.events(from_height):
                if event.type != "block":
                    events.append(event.data)
                    if len(events) > MAX_EVENTS:
                        raise Unavailable(f"{url} tells more than {MAX_EVENTS} events of one block")
                    continue
                if head is not None:
                    yield chain_block(head.data, events)
                head, events = event, []
        except (ClientError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{url}: {error}") from error

    async def submit(self, url: str, transaction: bytes) -> None:
        """POST /v1/transactions."""
        try:
            await (await self._client(url)).submit(transaction)
        except (RefusedByRule, Conflict, BadRequest) as error:
            raise Refused(error.status, error.code, str(error)) from error
        except ClientError as error:
            raise Unavailable(str(error)) from error


def chain_block(head: dict[str, Any], records: list[dict[str, Any]]) -> ChainBlock:
    """A block from its stream events; `ValueError`, `KeyError` or `TypeError` for what no node tells."""
    events: list[ChainEvent] = []
    delivered: dict[str, int] = {}
    for record in records:
        kind, data = record["type"], record["data"]
        if kind == "trade_settled":
            delivered[data["contract_id"]] = int(data["delivered_wh"])
        elif kind == "trade_changed" and data["contract_id"] in delivered:
            parties = (_address(data["seller"]), _address(data["buyer"]))
            events.append(EnergyTraded(parties, delivered.pop(data["contract_id"])))
        elif kind in _READERS:
            events.append(_READERS[kind](data))
    return ChainBlock(
        int(head["height"]), bytes.fromhex(head["block_hash"]), int(head["time_ms"]), tuple(events)
    )


def _address(text: str) -> Address:
    address = bytes.fromhex(text)
    if len(address) != 20:
        raise ValueError(f"{text[:80]!r} is no address")
    return address


def _addresses(texts: list[str]) -> tuple[Address, ...]:
    return tuple(_address(text) for text in texts)


def _groups_fixed(data: dict[str, Any]) -> GroupsFixed:
    members = _addresses(data["members"])
    assignment = tuple(int(group) for group in data["assignment"])
    if len(members) != len(assignment):
        raise ValueError("as many group numbers as members are wanted")
    return GroupsFixed(
        int(data["epoch"]),
        members,
        assignment,
        int(data["energy_excess_wh"]),
        int(data["credit_excess"]),
        bool(data["submitted"]),
    )


def _seat_tallied(data: dict[str, Any]) -> SeatTallied:
    return SeatTallied(
        int(data["epoch"]),
        int(data["group"]),
        _address(data["delegate"]),
        int(data["votes"]),
        int(data["ballots"]),
        bool(data["recount"]),
    )


def _ballot_counted(data: dict[str, Any]) -> BallotCounted:
    return BallotCounted(_address(data["voter"]), int(data["epoch"]), int(data["sequence"]))


_READERS: Final[dict[str, Callable[[dict[str, Any]], ChainEvent]]] = {
    "ballot_accepted": _ballot_counted,
    "credit_changed": lambda data: CreditMoved(_address(data["address"]), int(data["delta"])),
    "delegates_changed": lambda data: DelegatesSet(int(data["height"]), _addresses(data["ranking"])),
    "group_tallied": _seat_tallied,
    "groups_formed": _groups_fixed,
    "member_joined": lambda data: MemberEntered(_address(data["address"])),
    "phase_changed": lambda data: PhaseEntered(int(data["epoch"]), ChainPhase(data["phase"])),
}
"""By the event's name in the API."""
