"""All commands in one tree."""

import typer

from node.cli import keys, ledger, localnet, operators, processes, show, statement, trading

app = typer.Typer(
    name="cgpbft",
    help="Credit-grouped PBFT: a permissioned chain for peer-to-peer electricity trading.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _command in (
    processes.init,
    processes.start,
    processes.join,
    processes.bootstrap,
    localnet.localnet,
    show.status,
    show.members,
    show.groups,
    show.epoch,
    show.delegates,
    show.block,
    show.tx,
    trading.vote,
    trading.transfer,
    trading.leave,
    statement.statement,
    keys.validate_config,
    keys.version,
):
    app.command()(_command)
app.add_typer(trading.trade_app, name="trade")
app.add_typer(trading.meter_app, name="meter")
app.add_typer(operators.app, name="operator")
app.add_typer(keys.app, name="keys")
app.add_typer(ledger.app, name="ledger")
