"""What every block must leave true: money, escrow, energy and members add up (PROTOCOL 1.6, 12 S7)."""

from consensus.errors import invariant
from contracts.state import SINGLETON, State, Totals
from contracts.trade_terms import escrow_of


def check_conservation(state: State, before: Totals) -> None:
    """Stop the node if the running block made or lost money, energy or members.

    ``before`` are the totals that the parent left. What the block's changed accounts and contracts add up to must be
    what the totals moved by: the sums then hold over all accounts at every height, at the cost of the changed ones.
    """
    after = state.totals.require(SINGLETON)
    invariant(
        after.balances + after.escrow == after.genesis + after.issued - after.redeemed,
        "balances and escrow differ from genesis money and grants plus issued less redeemed",
    )
    balances = energy_wh = members = 0
    for old, new in state.accounts.changes():
        for account, sign in ((old, -1), (new, 1)):
            if account is not None:
                balances += sign * account.balance
                energy_wh += sign * account.energy_wh
                members += sign * (account.left_height is None)
    escrow = 0
    for was, now in state.contracts.changes():
        escrow -= 0 if was is None else escrow_of(was.terms)
        escrow += 0 if now is None else escrow_of(now.terms)
    found = (balances, escrow, energy_wh, members)
    moved = (
        after.balances - before.balances,
        after.escrow - before.escrow,
        after.energy_wh - before.energy_wh,
        after.members - before.members,
    )
    invariant(found == moved, f"accounts and contracts moved by {found}, the totals by {moved}")
