"""The service's routes: what members post, what they fetch, what people read (PROTOCOL 8.1).

Signed values travel as canonical msgpack, everything to be read as JSON; /v1/watch also as a table.
"""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.types import Address
from network.bootstrap.chain import ChainPhase
from network.bootstrap.coordinator import Coordinator
from network.bootstrap.election import ElectionView
from network.bootstrap.errors import Refused
from network.bootstrap.formation import Stage
from network.bootstrap.limits import (
    LIST_PAGE,
    MAX_BALLOTS_BYTES,
    MAX_MEMBERS,
    MAX_RECORD_BYTES,
    MAX_REGISTRATION_BYTES,
    MAX_WAIT_MS,
)
from network.bootstrap.records import announcement_to_json, ballot_list_codec
from network.bootstrap.server import Handler, Request, answer, answer_bytes, answer_nothing
from network.bootstrap.service import BootstrapService
from network.bootstrap.watch import Line


class Routes:
    """Handlers over one service."""

    def __init__(self, service: BootstrapService, now_ms: Callable[[], int]) -> None:
        self._service = service
        self._now_ms = now_ms

    def table(self) -> dict[tuple[str, str], Handler]:
        """For `BootstrapServer`."""
        return {
            ("GET", "/livez"): self.livez,
            ("GET", "/readyz"): self.readyz,
            ("GET", "/v1/formation"): self.formation,
            ("GET", "/v1/registrations"): self.registrations,
            ("POST", "/v1/registrations"): self.register,
            ("GET", "/v1/genesis"): self.genesis,
            ("GET", "/v1/acknowledgements"): self.acknowledgements,
            ("POST", "/v1/acknowledgements"): self.acknowledge,
            ("GET", "/v1/addresses"): self.addresses,
            ("POST", "/v1/addresses"): self.post_address,
            ("POST", "/v1/apis"): self.post_api,
            ("GET", "/v1/election"): self.election,
            ("GET", "/v1/reminders/*"): self.reminder,
            ("POST", "/v1/ballots"): self.post_ballots,
            ("GET", "/v1/watch"): self.watch,
        }

    # ---- health

    async def livez(self, _: Request) -> web.Response:
        """200 from the first moment on: the process serves."""
        return answer({"live": True})

    async def readyz(self, _: Request) -> web.Response:
        """200 while there is nothing but formation to do, or the chain can be followed."""
        problems = self._service.not_ready_because()
        return answer({"ready": not problems, "problems": problems}, 503 if problems else 200)

    # ---- formation

    async def formation(self, _: Request) -> web.Response:
        """What is announced, and how far it is."""
        formation = self._service.formation
        genesis_hash = formation.genesis_hash
        return answer(
            {
                **announcement_to_json(formation.announcement),
                "stage": formation.stage,
                "registered": formation.registered,
                "acknowledged": formation.acknowledged,
                "genesis_hash": None if genesis_hash is None else genesis_hash.hex(),
            }
        )

    async def registrations(self, request: Request) -> web.Response:
        """Addresses of who has registered, 100 a page behind ``after``, and of the first who have not acknowledged."""
        after = request.text("after").lower()
        addresses = [address.hex() for address in self._service.formation.registered_addresses()]
        page = [address for address in addresses if address > after][:LIST_PAGE]
        more = bool(page) and page[-1] != addresses[-1]
        missing = [address.hex() for address in self._service.formation.missing_addresses()]
        return answer(
            {
                "items": page,
                "not_acknowledged": missing[:LIST_PAGE],
                "next_after": page[-1] if more else None,
            }
        )

    async def register(self, request: Request) -> web.Response:
        """Take one registration."""
        formation = self._service.formation
        new = formation.register(await request.body(MAX_REGISTRATION_BYTES))
        return answer({"new": new, "registered": formation.registered}, 201 if new else 200)

    async def genesis(self, request: Request) -> web.Response:
        """The genesis; 204 if there is none within ``wait_ms``."""
        formation = self._service.formation
        await self._wait(request, lambda: formation.genesis is not None)
        return answer_nothing() if formation.genesis is None else answer_bytes(formation.genesis)

    async def acknowledge(self, request: Request) -> web.Response:
        """Take one acknowledgement."""
        new = self._service.formation.acknowledge(await request.body(MAX_RECORD_BYTES))
        return answer({"new": new, "stage": self._service.formation.stage}, 201 if new else 200)

    async def acknowledgements(self, request: Request) -> web.Response:
        """All acknowledgements, when they are complete or more than ``have``, or after ``wait_ms``; 204 for none."""
        formation = self._service.formation
        have = request.number("have", 0, MAX_MEMBERS, MAX_MEMBERS)
        await self._wait(request, lambda: formation.stage is Stage.FORMED or formation.acknowledged > have)
        collected = formation.acknowledgements()
        return answer_nothing() if collected is None else answer_bytes(encode(collected))

    async def _wait(self, request: Request, holds: Callable[[], bool]) -> None:
        wait_ms = request.number("wait_ms", 0, MAX_WAIT_MS, 0)
        await self._service.polls.wait_for(holds, wait_ms, request.host)

    # ---- directory

    async def addresses(self, request: Request) -> web.Response:
        """Address records in key order, a page behind the key ``after``."""
        after = request.text("after")
        try:
            key = bytes.fromhex(after)
        except ValueError:
            raise Refused(400, "parameter", "after must be a key in hex") from None
        return answer_bytes(encode(self._service.directory.addresses(key or None)))

    async def post_address(self, request: Request) -> web.Response:
        """Take one address record."""
        new = self._service.directory.post_address(await request.body(MAX_RECORD_BYTES))
        return answer({"new": new}, 201 if new else 200)

    async def post_api(self, request: Request) -> web.Response:
        """Take one API record."""
        new = self._service.directory.post_api(await request.body(MAX_RECORD_BYTES))
        return answer({"new": new}, 201 if new else 200)

    # ---- elections

    def _coordinator(self) -> Coordinator:
        if self._service.coordination is None:
            raise Refused(
                503, "not_formed", "there is no election before the chain has formed", retry_after_s=5
            )
        return self._service.coordination.coordinator

    async def election(self, _: Request) -> web.Response:
        """Snapshot, plan, voting window, who has not voted, result."""
        coordinator = self._coordinator()
        view = coordinator.view
        parameters = self._service.formation.announcement.parameters
        plan = coordinator.plan
        return answer(
            {
                "height": view.height,
                "epoch": view.epoch,
                "phase": view.phase,
                "voting": _voting(view, parameters.voting_ms),
                "snapshot": _snapshot(view),
                "plan_search": None
                if plan is None
                else {"epoch": plan.epoch, "state": plan.state, "detail": plan.detail},
                "groups": [_groups(view, epoch) for epoch in sorted(view.groups)],
                "delegates": [address.hex() for address in view.delegates],
                "result": [_tally(view, place) for place in range(len(view.tallies))],
                "ballots_waiting": coordinator.box.waiting,
            }
        )

    async def reminder(self, request: Request) -> web.Response:
        """Whether a member still has to vote, and until when."""
        view = self._coordinator().view
        address = _address(request.segments[0])
        voting_ms = self._service.formation.announcement.parameters.voting_ms
        voting = _voting(view, voting_ms)
        epoch = None if voting is None else voting["epoch"]
        due = (
            isinstance(epoch, int)
            and address in view.group_of(epoch)
            and address not in view.voted.get(epoch, {})
        )
        return answer({"address": address.hex(), "vote_due": due, "voting": voting})

    async def post_ballots(self, request: Request) -> web.Response:
        """Take 1..128 encoded ballots; one answer each. 202: they will be submitted, the ledger decides."""
        coordinator = self._coordinator()
        try:
            ballots = ballot_list_codec.decode(await request.body(MAX_BALLOTS_BYTES))
        except MalformedInput as error:
            raise Refused(400, "malformed", str(error)) from error
        answers: list[dict[str, object]] = []
        for raw in ballots:
            try:
                answers.append({"taken": True, "new": coordinator.take_ballot(raw)})
            except Refused as refused:
                answers.append({"taken": False, "code": refused.code, "detail": refused.detail})
                if len(ballots) == 1:
                    raise
        return answer({"ballots": answers}, 202)

    # ---- watch

    async def watch(self, request: Request) -> web.Response:
        """Who is late or down."""
        coordination = self._service.coordination
        if coordination is None:
            raise Refused(
                503, "not_formed", "there is nothing to watch before the chain has formed", retry_after_s=5
            )
        watch = coordination.watch
        if request.accepts_text:
            return web.Response(text=watch.table(), content_type="text/plain")
        lines = [_line(line) for line in watch.lines()]
        return answer({"best_height": watch.best_height(), "at_ms": self._now_ms(), "members": lines})


def _address(text: str) -> Address:
    try:
        address = bytes.fromhex(text)
    except ValueError:
        address = b""
    if len(address) != 20:
        raise Refused(400, "parameter", "an address has 40 hex digits")
    return address


def _voting(view: ElectionView, voting_ms: int) -> dict[str, object] | None:
    """The voting window; its end is the earliest there can be, by chain time (PROTOCOL 0.2, 4.4)."""
    if view.start is None or view.phase is not ChainPhase.VOTING:
        return None
    return {
        "epoch": view.start.epoch + 1,
        "from_height": view.start.height + 1,
        "from_ms": view.start.time_ms,
        "until_ms": view.start.time_ms + voting_ms,
    }


def _snapshot(view: ElectionView) -> dict[str, object] | None:
    taken = view.snapshot
    if taken is None:
        return None
    return {"epoch": taken.epoch, "height": taken.height, "hash": taken.hash.hex(), "time_ms": taken.time_ms}


def _groups(view: ElectionView, epoch: int) -> dict[str, object]:
    groups = view.groups[epoch]
    return {
        "epoch": epoch,
        "members": [member.hex() for member in groups.members],
        "assignment": groups.assignment,
        "submitted_plan": groups.submitted,
        "not_voted": [member.hex() for member in view.not_voted(epoch)],
    }


def _tally(view: ElectionView, place: int) -> dict[str, object]:
    tally = view.tallies[place]
    return {
        "epoch": tally.epoch,
        "group": tally.group,
        "delegate": tally.delegate.hex(),
        "votes": tally.votes,
        "ballots": tally.ballots,
        "recount": tally.recount,
    }


def _line(line: Line) -> dict[str, object]:
    return {
        "address": line.address.hex(),
        "condition": line.condition,
        "height": line.height,
        "behind": line.behind,
        "epoch": line.epoch,
        "view": line.view,
        "role": line.role,
        "seen_ago_ms": line.seen_ago_ms,
        "note": line.note,
    }


def register_metrics(service: BootstrapService, registry: CollectorRegistry) -> None:
    """Gauges read at each scrape."""
    figures: dict[str, tuple[str, Callable[[], float]]] = {
        "registered": ("Registrations", lambda: service.formation.registered),
        "acknowledged": ("Acknowledgements of the genesis", lambda: service.formation.acknowledged),
        "addresses": ("Address records", lambda: len(service.directory)),
        "waiters": ("Long polls waiting", lambda: service.polls.waiting),
        "height": ("Height followed", lambda: _figure(service, lambda c: c.view.height)),
        "ballots_waiting": ("Ballots not submitted yet", lambda: _figure(service, lambda c: c.box.waiting)),
        "ballots_submitted": (
            "Ballots handed to delegates",
            lambda: _figure(service, lambda c: c.ballots_submitted),
        ),
        "plans_submitted": (
            "Plans handed to delegates",
            lambda: _figure(service, lambda c: c.plans_submitted),
        ),
    }
    for name, (text, read) in figures.items():
        Gauge(f"cgpbft_bootstrap_{name}", text, registry=registry).set_function(read)


def _figure(service: BootstrapService, read: Callable[[Coordinator], int]) -> int:
    return 0 if service.coordination is None else read(service.coordination.coordinator)
