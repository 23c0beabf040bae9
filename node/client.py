"""A typed asyncio client of a node's HTTP API, used by the command line, the scripts and the tests.

Answers are the structs of `node.api.schema`; every refusal is a `ClientError`. Ids, addresses and keys are taken as
bytes or hex. What a node answers is its word; `node.verified.VerifiedReader` asks for proofs and checks them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec

from consensus.errors import MalformedInput
from contracts.genesis import Genesis, genesis_codec
from contracts.transaction import Reading, Terms
from node.api import schema
from node.client_errors import NodeUnreachable, NotFound, RequestRefused, UnexpectedAnswer, refusal_of

T = TypeVar("T")
Id = bytes | str

FINAL_STATES: Final = frozenset({"committed", "rejected", "discarded", "expired"})
MAX_BATCH_ITEMS: Final = 4_096
MAX_BATCH_BYTES: Final = 1_000_000
"""Below the 4 MiB that a node takes: one larger body would hold up the loop that sends it."""
MAX_ANSWER_BYTES: Final = 64 * 1_048_576
"""A block of 4 096 transactions with its receipts is a few MiB in JSON."""
WAIT_STEP_MS: Final = 20_000
"""One request waits at most this long; a longer wait asks again, so that proxies see traffic."""
POLL_PAUSE_S: Final = 0.1
RECONNECT_PAUSE_S: Final = 0.5
RECONNECT_PAUSE_MAX_S: Final = 10.0
MAX_EVENT_BYTES: Final = 16 * 1_048_576
"""One event; the largest names every member of a large chain."""


class StreamEvent(msgspec.Struct, frozen=True):
    """One event of /v1/events; ``(height, sequence)`` identifies it for ever."""

    height: int
    sequence: int
    """0: the block itself."""
    type: str
    data: dict[str, Any]

    @property
    def id(self) -> str:
        """What Last-Event-ID takes."""
        return f"{self.height}.{self.sequence}"


def _text(value: Id) -> str:
    return value.hex() if isinstance(value, bytes) else value


def _given(**parameters: object) -> dict[str, str]:
    """Query parameters that are not None."""
    return {name.rstrip("_"): str(value) for name, value in parameters.items() if value is not None}


class NodeClient:
    """One node. Use it as an asynchronous context manager, or call `close`."""

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 30.0) -> None:
        """``token`` is needed where the node signs beyond loopback; ``timeout_s`` bounds one request."""
        self.url: Final = url.rstrip("/")
        self._token = token
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 10.0))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ---- requests

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers=headers, connector=aiohttp.TCPConnector(limit=64)
            )
        return self._session

    async def _fetch(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        """Status and body; `NodeUnreachable` without an answer."""
        try:
            async with self._open().request(method, self.url + path, **options) as response:
                body = await response.content.read(MAX_ANSWER_BYTES + 1)
                while not response.content.at_eof() and len(body) <= MAX_ANSWER_BYTES:
                    body += await response.content.read(MAX_ANSWER_BYTES + 1 - len(body))
                status = response.status
        except TimeoutError as error:
            raise NodeUnreachable(f"{self.url} did not answer in time: {method} {path}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NodeUnreachable(f"{self.url} cannot be reached: {error}") from error
        if len(body) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer(f"{self.url}{path}: more than {MAX_ANSWER_BYTES} bytes")
        return status, body

    async def _ask(self, method: str, path: str, kind: type[T], **options: Any) -> T:
        status, body = await self._fetch(method, path, **options)
        if status >= 400:
            raise refusal_of(status, body, f"{method} {self.url}{path}")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"{self.url}{path} answered something else: {error}") from error

    async def _get(self, path: str, kind: type[T], **parameters: object) -> T:
        return await self._ask("GET", path, kind, params=_given(**parameters))

    async def _post(self, path: str, body: msgspec.Struct | None = None) -> schema.Submission:
        data = b"{}" if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        return await self._ask("POST", path, schema.Submission, data=data, headers=headers)

    # ---- submitting

    async def submit(self, raw: bytes) -> schema.Submission:
        """Hand in a signed transaction; the same bytes again are safe."""
        headers = {"Content-Type": "application/msgpack"}
        return await self._ask("POST", "/v1/transactions", schema.Submission, data=raw, headers=headers)

    async def submit_batch(self, raws: Sequence[bytes]) -> list[schema.BatchAnswer]:
        """Hand in any number, one answer each, in order; sent in requests of at most 4 096 items and 1 MB."""
        answers: list[schema.BatchAnswer] = []
        for part in _parts(raws):
            status, body = await self._fetch(
                "POST",
                "/v1/transactions/batch",
                data=msgspec.msgpack.encode(part),
                headers={"Content-Type": "application/msgpack"},
            )
            if status >= 400:
                raise refusal_of(status, body, f"POST {self.url}/v1/transactions/batch")
            try:
                answers += msgspec.msgpack.decode(body, type=list[schema.BatchAnswer])
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UnexpectedAnswer(f"the batch was answered by something else: {error}") from error
        return answers

    async def transaction(
        self, transaction_id: Id, *, proof: bool = False, wait_ms: int | None = None
    ) -> schema.TransactionView:
        """How a transaction stands, `NotFound` if never seen; with ``wait_ms`` (at most 60 000) once it is final."""
        return await self._get(
            f"/v1/transactions/{_text(transaction_id)}",
            schema.TransactionView,
            proof=1 if proof else None,
            wait=None if wait_ms is None else "committed",
            timeout_ms=wait_ms,
        )

    async def await_final(self, transaction_id: Id, timeout_s: float = 60.0) -> schema.TransactionView:
        """The status once it is committed, rejected, discarded or expired; `TimeoutError` says only that time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise TimeoutError(f"transaction {_text(transaction_id)} is not final after {timeout_s:g} s")
            try:
                view = await self.transaction(transaction_id, wait_ms=min(left_ms, WAIT_STEP_MS))
            except NotFound:
                await asyncio.sleep(POLL_PAUSE_S)
                continue
            if view.state in FINAL_STATES:
                return view

    async def submit_and_wait(self, raw: bytes, timeout_s: float = 60.0) -> schema.TransactionView:
        """Hand in and wait until it is final."""
        submission = await self.submit(raw)
        return await self.await_final(submission.id, timeout_s)

    # ---- what the node signs with its own key

    async def offer_trade(self, terms: Terms) -> schema.Submission:
        """Offer a trade; its id is the submission's."""
        return await self._post("/v1/trades", terms_request(terms))

    async def act_on_trade(self, trade_id: Id, action: str) -> schema.Submission:
        """``action``: accept, decline, withdraw or cancel."""
        return await self._post(f"/v1/trades/{_text(trade_id)}/{action}")

    async def report_readings(self, readings: Sequence[Reading]) -> schema.Submission:
        """Have the node carry meter-signed readings."""
        body = [
            schema.ReadingRequest(
                member=item.member.hex(),
                slot=item.slot,
                counter=item.counter,
                exported_wh=item.exported_wh,
                imported_wh=item.imported_wh,
                public_key=item.public_key.hex(),
                signature=item.signature.hex(),
            )
            for item in readings
        ]
        return await self._post("/v1/readings", schema.ReadingsRequest(readings=body))

    async def report_registers(
        self, slot: int, exported_wh: int, imported_wh: int, counter: int | None = None
    ) -> schema.Submission:
        """Have the node sign, as its own meter, and carry what its two registers say of one slot."""
        item = schema.ReadingRequest(
            slot=slot, counter=counter, exported_wh=exported_wh, imported_wh=imported_wh
        )
        return await self._post("/v1/readings", schema.ReadingsRequest(readings=[item]))

    async def vote(self, choices: Sequence[Id]) -> schema.Submission:
        """Have the node vote for one to three members of its group."""
        return await self._post("/v1/ballots", schema.BallotRequest(choices=[_text(one) for one in choices]))

    async def transfer(self, recipient: Id, amount: int) -> schema.Submission:
        """Have the node pay ``amount`` nano-units."""
        body = schema.TransferRequest(recipient=_text(recipient), amount=str(amount))
        return await self._post("/v1/transfers", body)

    async def leave(self) -> schema.Submission:
        """Have the node's member leave."""
        return await self._post("/v1/leave")

    async def quote(self, terms: Terms) -> schema.QuoteView:
        """Escrow and worst-case credit loss; nothing is sent."""
        data = msgspec.json.encode(terms_request(terms))
        headers = {"Content-Type": "application/json"}
        return await self._ask("POST", "/v1/quotes", schema.QuoteView, data=data, headers=headers)

    # ---- reading the ledger

    async def members(
        self, cursor: str | None = None, limit: int | None = None
    ) -> schema.Listing[schema.MemberInfo]:
        """One page of members in address order."""
        return await self._get("/v1/members", schema.Listing[schema.MemberInfo], cursor=cursor, limit=limit)

    async def member(self, address: Id, *, proof: bool = False) -> schema.MemberAnswerView:
        """One member; with ``proof`` after the next block."""
        path = f"/v1/members/{_text(address)}"
        return await self._get(path, schema.MemberAnswerView, proof=1 if proof else None)

    async def credit_history(
        self, address: Id, cursor: str | None = None, limit: int | None = None
    ) -> schema.Listing[schema.CreditEntryInfo]:
        """One page of credit changes, newest first."""
        path = f"/v1/members/{_text(address)}/credit"
        return await self._get(path, schema.Listing[schema.CreditEntryInfo], cursor=cursor, limit=limit)

    async def groups(self) -> schema.GroupsView:
        """The current groups."""
        return await self._get("/v1/groups", schema.GroupsView)

    async def epoch(self, number: int | None = None) -> schema.EpochView:
        """An epoch; by default the current one."""
        return await self._get(f"/v1/epochs/{'current' if number is None else number}", schema.EpochView)

    async def delegates(self, height: int | None = None) -> schema.DelegatesView:
        """C(height); by default of the undecided height."""
        return await self._get("/v1/delegates", schema.DelegatesView, height=height)

    async def delegate_changes(
        self, from_height: int = 1, cursor: str | None = None, limit: int | None = None
    ) -> schema.Listing[schema.DelegateChangeInfo]:
        """One page of links of the chain of set hashes."""
        return await self._get(
            "/v1/delegates/changes",
            schema.Listing[schema.DelegateChangeInfo],
            from_=from_height,
            cursor=cursor,
            limit=limit,
        )

    async def parameters(self) -> schema.ParametersView:
        """Genesis and the rules in it."""
        return await self._get("/v1/parameters", schema.ParametersView)

    async def blocks(
        self, cursor: str | None = None, limit: int | None = None
    ) -> schema.Listing[schema.BlockInfo]:
        """One page of blocks, newest first."""
        return await self._get("/v1/blocks", schema.Listing[schema.BlockInfo], cursor=cursor, limit=limit)

    async def block(self, height: int | None = None) -> schema.BlockView:
        """A block; by default the last decided one."""
        return await self._get(f"/v1/blocks/{'latest' if height is None else height}", schema.BlockView)

    async def certificate(self, height: int) -> schema.CertificateView:
        """A block's certificate."""
        return await self._get(f"/v1/blocks/{height}/certificate", schema.CertificateView)

    async def raw_block(self, height: int) -> bytes:
        """Canonical bytes of `consensus.block.CertifiedBlock`."""
        status, body = await self._fetch("GET", f"/v1/blocks/{height}/raw")
        if status >= 400:
            raise refusal_of(status, body, f"GET {self.url}/v1/blocks/{height}/raw")
        return body

    async def trades(
        self,
        party: Id | None = None,
        state: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> schema.Listing[schema.TradeInfo]:
        """One page of trades, newest first."""
        return await self._get(
            "/v1/trades",
            schema.Listing[schema.TradeInfo],
            party=None if party is None else _text(party),
            state=state,
            cursor=cursor,
            limit=limit,
        )

    async def trade(self, trade_id: Id, *, proof: bool = False) -> schema.TradeView:
        """One trade with its slot table."""
        path = f"/v1/trades/{_text(trade_id)}"
        return await self._get(path, schema.TradeView, proof=1 if proof else None)

    async def genesis(self) -> Genesis:
        """The genesis, decoded; compare its hash with one from a source you trust."""
        text = (await self.parameters()).genesis
        try:
            return genesis_codec.decode(bytes.fromhex(text))
        except (MalformedInput, ValueError) as error:
            raise UnexpectedAnswer(f"the genesis cannot be decoded: {error}") from error

    # ---- the node itself

    async def status(self) -> schema.StatusView:
        """What the node does."""
        return await self._get("/v1/status", schema.StatusView)

    async def health(self, *, ready: bool = True) -> schema.HealthView:
        """/readyz, or /livez; an unhealthy node answers too."""
        path = "/readyz" if ready else "/livez"
        status, body = await self._fetch("GET", path)
        try:
            return msgspec.json.decode(body, type=schema.HealthView)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise refusal_of(status, body, f"GET {self.url}{path}") from None

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Return when /readyz says yes; `TimeoutError` with what it said last."""
        last = "no answer yet"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        health = await self.health()
                    except (NodeUnreachable, RequestRefused) as error:
                        last = str(error)
                    else:
                        if health.ready:
                            return
                        last = "; ".join(health.problems)
                    await asyncio.sleep(POLL_PAUSE_S)
        except TimeoutError:
            raise TimeoutError(f"{self.url} is not ready after {timeout_s:g} s: {last}") from None

    async def metrics(self) -> str:
        """/metrics as text."""
        _, body = await self._fetch("GET", "/metrics")
        return body.decode()

    # ---- events

    async def events(
        self,
        from_height: int | None = None,
        last_event_id: str | None = None,
        *,
        reconnect: bool = True,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Events for ever, each once, in order; connections that break are resumed behind the last event.

        By default from the next block on. A refusal of the first request is raised; a node that is away later is
        asked again until it is back. Without ``reconnect`` the first connection is the only one, and its end, or the
        `NodeUnreachable` that cuts it off, is the caller's to handle: ids are the same at every node.
        """
        if last_event_id is None and from_height is None:
            from_height = (await self.status()).height + 1
        pause_s = RECONNECT_PAUSE_S
        begun = last_event_id is not None
        while True:
            try:
                async for event in self._stream(from_height, last_event_id):
                    begun, pause_s, last_event_id = True, RECONNECT_PAUSE_S, event.id
                    yield event
            except (NodeUnreachable, RequestRefused):
                if not (begun and reconnect):
                    raise
            if not reconnect:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RECONNECT_PAUSE_MAX_S)

    async def _stream(self, from_height: int | None, last_event_id: str | None) -> AsyncIterator[StreamEvent]:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        quiet = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=60.0)
        try:
            async with self._open().get(
                self.url + "/v1/events",
                params=_given(from_=None if last_event_id else from_height),
                headers=headers,
                timeout=quiet,
            ) as response:
                if response.status >= 400:
                    raise refusal_of(response.status, await response.read(), f"GET {self.url}/v1/events")
                async for event in _parse(response.content):
                    yield event
        except TimeoutError as error:
            raise NodeUnreachable(f"{self.url} sends no events") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NodeUnreachable(f"{self.url} cannot be reached: {error}") from error


def _parts(raws: Sequence[bytes]) -> list[list[bytes]]:
    parts: list[list[bytes]] = []
    size = MAX_BATCH_BYTES
    for raw in raws:
        if size + len(raw) + 5 > MAX_BATCH_BYTES - 5 or len(parts[-1]) >= MAX_BATCH_ITEMS:
            parts.append([])
            size = 0
        parts[-1].append(raw)
        size += len(raw) + 5
    return parts


def terms_request(terms: Terms) -> schema.TermsRequest:
    """``terms`` as a request body."""
    return schema.TermsRequest(
        seller=terms.seller.hex(),
        buyer=terms.buyer.hex(),
        quantity_wh=terms.quantity_wh,
        price=terms.price,
        start_ms=terms.start_ms,
        slots=terms.slots,
        penalty_bp=terms.penalty_bp,
        buyer_rule=terms.buyer_rule.name.lower(),
        expiry_ms=terms.expiry_ms,
    )


async def pages(fetch: Callable[[str | None], Awaitable[schema.Listing[T]]]) -> AsyncIterator[T]:
    """Every item of a list, page by page; ``fetch`` takes the cursor."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


async def _parse(content: aiohttp.StreamReader) -> AsyncIterator[StreamEvent]:
    """Events of one connection, until it ends; an ``error`` event ends it too, and what follows resumes."""
    buffer = bytearray()
    async for chunk in content.iter_any():
        buffer += chunk
        if len(buffer) > MAX_EVENT_BYTES:
            raise UnexpectedAnswer(f"an event of more than {MAX_EVENT_BYTES} bytes")
        *messages, rest = bytes(buffer).split(b"\n\n")
        buffer = bytearray(rest)
        for message in messages:
            event = _event(message)
            if event is not None:
                yield event


def _event(message: bytes) -> StreamEvent | None:
    """One message; None for comments, settings and notices without an id."""
    fields = dict(line.partition(b": ")[::2] for line in message.split(b"\n"))
    if b"id" not in fields:
        return None
    try:
        height, _, sequence = fields[b"id"].partition(b".")
        data = msgspec.json.decode(fields[b"data"], type=dict[str, Any])
        return StreamEvent(int(height), int(sequence), fields[b"event"].decode(), data)
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise UnexpectedAnswer(f"an event that cannot be read: {error}") from error
