"""`cgpbft statement`: a member's trades slot by slot, from the trades' slot tables (PROTOCOL 2.5)."""

import csv
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec
import typer

from node.cli.common import (
    HOME_DEFAULT,
    HomeOption,
    JsonOption,
    NodeOption,
    command,
    connect,
    print_json,
    run,
)
from node.cli.tables import facts, table
from node.cli.values import address, money, utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node.api import schema
    from node.client import NodeClient

DAY_MS: Final = 86_400_000
LISTED_STATES: Final = ("active", "metering", "settled", "excused")
"""What an offer that came to nothing would have delivered is in no statement."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of one trade, as the member's side of it; None while not known yet. Times are UTC."""

    start_utc: str
    start_ms: int
    trade: str
    side: str
    counterparty: str
    contracted_wh: int
    metered_wh: int | None
    """What the member's own register of the slot read; None also where it was never read."""
    allocated_wh: int | None
    paid_wh: int | None
    price: int
    """Micro-units of currency per kWh."""
    amount: str | None
    """paid_wh * price in nano-units: earned by the seller, spent by the buyer."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of the lines; penalties of the trades whose window ends in the period. Money in nano-units."""

    sold_wh: int
    bought_wh: int
    earned: str
    spent: str
    penalties_received: str
    penalties_paid: str


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    address: str
    day: str | None
    height: int
    lines: list[Line]
    totals: Totals


class _Period(NamedTuple):
    """Times from ``start_ms`` up to but without ``end_ms``."""

    start_ms: int
    end_ms: int

    def holds(self, time_ms: int) -> bool:
        return self.start_ms <= time_ms < self.end_ms


@command
def statement(
    member: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose trades.")],
    day: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Only this day, UTC.")] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, one line a slot, without totals.")
    ] = False,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """A member's trades slot by slot: contracted, metered, allocated, paid; earned and spent in total."""
    if as_csv and json:
        raise typer.BadParameter("give --csv or --json, one of them")
    wanted = address(member, "ADDRESS").hex()
    period = _Period(0, 1 << 63) if day is None else _day(day)

    async def ask() -> Statement:
        async with connect(node, home) as client:
            return await _statement(client, wanted, day, period)

    made = run(ask())
    if json:
        print_json(made)
    elif as_csv:
        _print_csv(made.lines)
    else:
        _print_tables(made)


def _day(text: str) -> _Period:
    try:
        start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"--day: expected YYYY-MM-DD, got {text[:80]!r}") from None
    start_ms = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return _Period(start_ms, start_ms + DAY_MS)


async def _statement(client: "NodeClient", wanted: str, day: str | None, period: _Period) -> Statement:
    from node.client import pages

    height = (await client.member(wanted)).height
    slot_ms = int((await client.parameters()).parameters["slot_ms"])
    found: list[schema.TradeInfo] = []
    async for trade in pages(lambda cursor: client.trades(wanted, None, cursor, 100)):
        end_ms = trade.terms.start_ms + trade.terms.slots * slot_ms
        overlaps = trade.terms.start_ms < period.end_ms and period.start_ms < end_ms
        if trade.state in LISTED_STATES and overlaps:
            found.append(trade)
    views = [await client.trade(trade.id) for trade in found]
    lines = [line for view in views for line in _lines(view, wanted) if period.holds(line.start_ms)]
    lines.sort(key=lambda line: (line.start_ms, line.trade))
    ended = [view for view in views if period.holds(view.terms.start_ms + (view.terms.slots - 1) * slot_ms)]
    return Statement(
        address=wanted, day=day, height=height, lines=lines, totals=_totals(lines, ended, wanted)
    )


def _lines(view: "schema.TradeView", wanted: str) -> "Iterable[Line]":
    sells = view.terms.seller == wanted
    for slot in view.slots:
        yield Line(
            start_utc=utc(slot.start_ms),
            start_ms=slot.start_ms,
            trade=view.id,
            side="sold" if sells else "bought",
            counterparty=view.terms.buyer if sells else view.terms.seller,
            contracted_wh=slot.contracted_wh,
            metered_wh=slot.seller_metered_wh if sells else slot.buyer_metered_wh,
            allocated_wh=slot.seller_allocated_wh if sells else slot.buyer_allocated_wh,
            paid_wh=slot.paid_wh,
            price=view.terms.price,
            amount=None if slot.paid_wh is None else str(slot.paid_wh * view.terms.price),
        )


def _totals(lines: list[Line], ended: "list[schema.TradeView]", wanted: str) -> Totals:
    received = paid = 0
    for view in ended:
        if view.settlement is not None:
            of_seller, of_buyer = int(view.settlement.seller_penalty), int(view.settlement.buyer_penalty)
            sells = view.terms.seller == wanted
            received += of_buyer if sells else of_seller
            paid += of_seller if sells else of_buyer
    sold = [line for line in lines if line.side == "sold"]
    bought = [line for line in lines if line.side == "bought"]
    return Totals(
        sold_wh=sum(line.paid_wh or 0 for line in sold),
        bought_wh=sum(line.paid_wh or 0 for line in bought),
        earned=str(sum(int(line.amount or 0) for line in sold)),
        spent=str(sum(int(line.amount or 0) for line in bought)),
        penalties_received=str(received),
        penalties_paid=str(paid),
    )


def _print_csv(lines: list[Line]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    names = Line.__struct_fields__
    out.writerow(names)
    for line in lines:
        out.writerow("" if value is None else value for value in (getattr(line, name) for name in names))


def _print_tables(made: Statement) -> None:
    table(
        "slots (Wh)",
        ("start (UTC)", "trade", "side", "with", "contracted", "metered", "allocated", "paid", "amount"),
        (
            (
                line.start_utc,
                line.trade[:12],
                line.side,
                line.counterparty[:12],
                line.contracted_wh,
                line.metered_wh,
                line.allocated_wh,
                line.paid_wh,
                None if line.amount is None else money(line.amount),
            )
            for line in made.lines
        ),
    )
    totals = made.totals
    print()
    facts(
        (
            ("period", made.day or "all"),
            ("sold", f"{totals.sold_wh} Wh, earned {money(totals.earned)}"),
            ("bought", f"{totals.bought_wh} Wh, spent {money(totals.spent)}"),
            (
                "penalties",
                f"received {money(totals.penalties_received)}, paid {money(totals.penalties_paid)}",
            ),
        )
    )
