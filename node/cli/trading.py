"""Commands that trade, report, vote, pay and leave."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import (
    HOME_DEFAULT,
    HomeOption,
    JsonOption,
    NodeOption,
    PassphraseOption,
    TokenOption,
    command,
    connect,
    fail,
    meter_key,
    print_json,
    run,
)
from node.cli.submitting import Signing, WaitOption, now_ms, sign_and_send, sign_locally, tell
from node.cli.tables import facts, table
from node.cli.values import address, amount, credits_of, digest, money, per_kwh, price, time_ms, utc

if TYPE_CHECKING:
    from consensus.signing import Signer
    from contracts.transaction import Payload, Terms
    from node.api import schema
    from node.client import NodeClient

trade_app = typer.Typer(no_args_is_help=True, help="Offer, answer and follow trades.", rich_markup_mode=None)
meter_app = typer.Typer(no_args_is_help=True, help="Report what a meter read.", rich_markup_mode=None)
TradeId = Annotated[str, typer.Argument(metavar="ID", help="Trade id.")]


@trade_app.command("offer")
@command
def offer(
    sell_to: Annotated[str | None, typer.Option(help="Address of the buyer.")] = None,
    buy_from: Annotated[str | None, typer.Option(help="Address of the seller.")] = None,
    wh: Annotated[int, typer.Option(min=1, max=10**9, help="Energy in Wh over the whole window.")] = ...,  # type: ignore[assignment]
    price_per_kwh: Annotated[str, typer.Option("--price", help="Currency per kWh, such as 0.25.")] = ...,  # type: ignore[assignment]
    start: Annotated[str, typer.Option(help="+N slots from now, ISO 8601 with zone, or ms.")] = "+2",
    slots: Annotated[int, typer.Option(min=1, max=96, help="Length of the window.")] = 1,
    penalty_bp: Annotated[int, typer.Option(min=0, max=10_000, help="Penalty on what is missing.")] = 0,
    take_or_pay: Annotated[
        bool, typer.Option(help="The buyer pays what was allocated by the seller.")
    ] = False,
    expiry: Annotated[str | None, typer.Option(help="By default the start.")] = None,
    quote: Annotated[bool, typer.Option("--quote", help="Only show escrow and the credit at risk.")] = False,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    token: TokenOption = "",
    passphrase_file: PassphraseOption = None,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Offer a trade to another member."""
    if (sell_to is None) == (buy_from is None):
        raise typer.BadParameter("give --sell-to or --buy-from, one of them")
    other = address(sell_to or buy_from or "", "--sell-to / --buy-from")
    micro = price(price_per_kwh)

    async def terms(client: "NodeClient", own: bytes) -> "Terms":
        from contracts.transaction import BuyerRule, Terms

        slot_ms = int((await client.parameters()).parameters["slot_ms"])
        start_ms = time_ms(start, now_ms(), slot_ms, "--start")
        return Terms(
            seller=own if sell_to else other,
            buyer=other if sell_to else own,
            quantity_wh=wh,
            price=micro,
            start_ms=start_ms,
            slots=slots,
            penalty_bp=penalty_bp,
            buyer_rule=BuyerRule.TAKE_OR_PAY if take_or_pay else BuyerRule.PAY_ACTUAL,
            expiry_ms=start_ms if expiry is None else time_ms(expiry, now_ms(), slot_ms, "--expiry"),
        )

    async def make(client: "NodeClient", key: "Signer") -> "Payload":
        from consensus.hashing import address_of
        from contracts.transaction import TradeOffer

        return TradeOffer(await terms(client, address_of(key.public_key)))

    async def node_terms(client: "NodeClient") -> "Terms":
        return await terms(client, bytes.fromhex((await client.status()).address))

    async def ask(client: "NodeClient") -> "schema.Submission":
        return await client.offer_trade(await node_terms(client))

    if quote:
        _show_quote(node_terms, node, home, token, json)
        return
    signing = Signing(node, home, token, passphrase_file, wait, json)
    sign_and_send(make, ask, signing, "trade")


def _show_quote(node_terms: Any, node: str | None, home: HomeOption, token: str, json: bool) -> None:
    async def ask() -> "schema.QuoteView":
        async with connect(node, home, token) as client:
            return await client.quote(await node_terms(client))

    view = run(ask())
    if json:
        print_json(view)
        return
    facts(
        (
            ("value", money(view.value)),
            ("buyer's escrow", money(view.buyer_escrow)),
            ("seller's escrow", money(view.seller_escrow)),
            ("seller's credit at risk", credits_of(view.seller_worst_credit)),
            ("buyer's credit at risk", credits_of(view.buyer_worst_credit)),
        )
    )


def _add_action(action: str, help_text: str) -> None:
    @trade_app.command(action, help=help_text)
    @command
    def act(
        trade: TradeId,
        node: NodeOption = None,
        home: HomeOption = HOME_DEFAULT,
        token: TokenOption = "",
        passphrase_file: PassphraseOption = None,
        wait: WaitOption = True,
        json: JsonOption = False,
    ) -> None:
        trade_id = digest(trade)

        async def make(_: "NodeClient", __: "Signer") -> "Payload":
            from contracts import transaction

            kinds: dict[str, Any] = {
                "accept": transaction.TradeAccept,
                "decline": transaction.TradeDecline,
                "withdraw": transaction.TradeWithdraw,
                "cancel": transaction.TradeCancel,
            }
            payload: Payload = kinds[action](trade_id)
            return payload

        async def ask(client: "NodeClient") -> "schema.Submission":
            return await client.act_on_trade(trade_id, action)

        signing = Signing(node, home, token, passphrase_file, wait, json)
        sign_and_send(make, ask, signing, action)


_add_action("accept", "Accept an offer made to you; escrow moves.")
_add_action("decline", "Refuse an offer made to you.")
_add_action("withdraw", "Take an offer of yours back.")
_add_action("cancel", "Sign your half of a cancellation; the other party's makes it.")


@trade_app.command("show")
@command
def show(
    trade: TradeId, node: NodeOption = None, home: HomeOption = HOME_DEFAULT, json: JsonOption = False
) -> None:
    """One trade: terms, history, slot table, settlement."""
    trade_id = digest(trade)

    async def ask() -> "schema.TradeView":
        async with connect(node, home) as client:
            return await client.trade(trade_id)

    view = run(ask())
    if json:
        print_json(view)
        return
    terms = view.terms
    facts(
        (
            ("trade", view.id),
            ("state", view.state),
            ("seller", terms.seller),
            ("buyer", terms.buyer),
            ("energy", f"{terms.quantity_wh} Wh"),
            ("price", f"{per_kwh(terms.price)} per kWh, {terms.buyer_rule}"),
            ("window", f"{utc(terms.start_ms)} UTC, {terms.slots} slots"),
            ("penalty", f"{terms.penalty_bp} bp"),
            ("escrow", money(view.escrow)),
        )
    )
    table(
        "\nhistory",
        ("height", "time (UTC)", "state"),
        ((h.height, utc(h.time_ms), h.state) for h in view.history),
    )
    table(
        "\nslots (Wh)",
        ("start (UTC)", "contracted", "sold", "metered", "bought", "metered", "paid"),
        (
            (
                utc(slot.start_ms),
                slot.contracted_wh,
                slot.seller_allocated_wh,
                slot.seller_metered_wh,
                slot.buyer_allocated_wh,
                slot.buyer_metered_wh,
                slot.paid_wh,
            )
            for slot in view.slots
        ),
    )
    if view.settlement is not None:
        settled = view.settlement
        print()
        facts(
            (
                (
                    "delivered",
                    f"{settled.delivered_wh} Wh (seller {settled.seller_wh}, buyer {settled.buyer_wh})",
                ),
                ("paid", f"{money(settled.paid)} for {settled.paid_wh} Wh"),
                (
                    "penalties",
                    f"seller {money(settled.seller_penalty)}, buyer {money(settled.buyer_penalty)}",
                ),
                (
                    "credit",
                    f"seller {credits_of(settled.seller_credit_delta)}, buyer {credits_of(settled.buyer_credit_delta)}",
                ),
            )
        )


@trade_app.command("list")
@command
def list_trades(
    party: Annotated[str | None, typer.Option(help="Only of this member.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as active.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 30,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Trades, newest first."""
    wanted = None if party is None else address(party, "--party")

    async def ask() -> "schema.Listing[schema.TradeInfo]":
        async with connect(node, home) as client:
            return await client.trades(wanted, state, cursor, limit)

    page = run(ask())
    if json:
        print_json(page)
        return
    table(
        "",
        ("id", "state", "seller", "buyer", "Wh", "price", "start (UTC)"),
        (
            (
                one.id,
                one.state,
                one.terms.seller[:12],
                one.terms.buyer[:12],
                one.terms.quantity_wh,
                per_kwh(one.terms.price),
                utc(one.terms.start_ms),
            )
            for one in page.items
        ),
    )
    if page.next_cursor is not None:
        print(f"more: --cursor {page.next_cursor}")


@meter_app.command("report")
@command
def report(
    exported: Annotated[int, typer.Option(min=0, help="Wh fed in during the slot.")],
    imported: Annotated[int, typer.Option(min=0, help="Wh taken during the slot.")],
    slot: Annotated[str, typer.Option(help="Its number, +N/-N from the running one, or its start.")] = "-1",
    counter: Annotated[int | None, typer.Option(min=0, help="By default the slot's number.")] = None,
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    token: TokenOption = "",
    passphrase_file: PassphraseOption = None,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Sign one slot's two registers with the home's meter key and submit them."""
    meter = meter_key(home, passphrase_file)

    async def send() -> "tuple[schema.Submission, schema.TransactionView | None]":
        async with connect(node, home, token) as client:
            slot_ms = int((await client.parameters()).parameters["slot_ms"])
            number = _slot_number(slot, slot_ms)
            if meter is None:
                submission = await client.report_registers(number, exported, imported, counter)
            else:
                submission = await _report_signed(client, meter, number, counter, exported, imported)
            return submission, await client.await_final(submission.id) if wait else None

    async def _report_signed(
        client: "NodeClient", signer: "Signer", number: int, count: int | None, out: int, into: int
    ) -> "schema.Submission":
        from consensus.hashing import address_of
        from contracts.signatures import reading_bytes
        from contracts.transaction import Reading, Readings
        from node.cli.common import own_key

        carrier = own_key(home, passphrase_file)
        if carrier is None:
            fail("a meter key without a node key: run `cgpbft init`")
        member = address_of(carrier.public_key)
        used = number if count is None else count
        unsigned = Reading(member, number, used, out, into, signer.public_key, bytes(64))
        chain_id = bytes.fromhex((await client.parameters()).chain_id)
        signature = signer.sign(reading_bytes(unsigned, chain_id))
        reading = Reading(member, number, used, out, into, signer.public_key, signature)
        return await client.submit(await sign_locally(client, Readings((reading,)), (carrier,)))

    tell(*run(send()), json=json, what="reading")


def _slot_number(text: str, slot_ms: int) -> int:
    """The slot meant: relative to the running one, a number, or the slot that holds a time."""
    running = now_ms() // slot_ms
    if text[:1] in "+-" and text[1:].isdigit():
        return running + int(text)
    if text.isdigit():
        return int(text)
    return time_ms(text, now_ms(), slot_ms, "--slot") // slot_ms


@command
def vote(
    choices: Annotated[list[str], typer.Argument(metavar="ADDRESS", help="One to three, best first.")],
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    token: TokenOption = "",
    passphrase_file: PassphraseOption = None,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Vote for members of your group."""
    wanted = tuple(address(choice, "ADDRESS") for choice in choices)
    if len(wanted) > 3 or len(dict.fromkeys(wanted)) != len(wanted):
        raise typer.BadParameter("give one to three different addresses")

    async def make(client: "NodeClient", key: "Signer") -> "Payload":
        from consensus.hashing import address_of
        from contracts.signatures import ballot_bytes
        from contracts.transaction import Ballot, Ballots

        status = await client.status()
        # Voting of epoch e - 1 fills the seats of e; at any other time a ballot replaces one of e (5.2, 7.2).
        epoch = status.epoch + 1 if status.epoch_phase == "voting" else status.epoch
        voter = address_of(key.public_key)
        unsigned = Ballot(voter, epoch, now_ms(), wanted, key.public_key, bytes(64))
        signature = key.sign(ballot_bytes(unsigned, bytes.fromhex(status.chain_id)))
        return Ballots((Ballot(voter, epoch, unsigned.sequence, wanted, key.public_key, signature),))

    async def ask(client: "NodeClient") -> "schema.Submission":
        return await client.vote(wanted)

    signing = Signing(node, home, token, passphrase_file, wait, json)
    sign_and_send(make, ask, signing, "ballot")


@command
def transfer(
    recipient: Annotated[str, typer.Argument(metavar="ADDRESS")],
    value: Annotated[str, typer.Argument(metavar="AMOUNT", help="Currency, up to nine decimals.")],
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    token: TokenOption = "",
    passphrase_file: PassphraseOption = None,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Pay another member."""
    to, nano = address(recipient), amount(value)
    if nano == 0:
        raise typer.BadParameter("AMOUNT: at least 0.000000001")

    async def make(_: "NodeClient", __: "Signer") -> "Payload":
        from contracts.transaction import Transfer

        return Transfer(to, nano)

    async def ask(client: "NodeClient") -> "schema.Submission":
        return await client.transfer(to, nano)

    signing = Signing(node, home, token, passphrase_file, wait, json)
    sign_and_send(make, ask, signing, "transfer")


@command
def leave(
    node: NodeOption = None,
    home: HomeOption = HOME_DEFAULT,
    token: TokenOption = "",
    passphrase_file: PassphraseOption = None,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Leave the chain; `cgpbft status` shows the height from which the node need not serve."""

    async def make(_: "NodeClient", __: "Signer") -> "Payload":
        from contracts.transaction import Leave

        return Leave()

    async def ask(client: "NodeClient") -> "schema.Submission":
        return await client.leave()

    signing = Signing(node, home, token, passphrase_file, wait, json)
    sign_and_send(make, ask, signing, "leave")
