"""Check 10: on the wire, an honest key signs one digest per epoch, height, view and phase, for ever (S4)."""

from typing import Final

import msgspec

from scripts.history.case import Case
from scripts.history.records import Vote
from scripts.history.verdict import Report, Witness

NAME: Final = "10 signatures"


def byzantine_addresses(case: Case) -> set[str]:
    """Of the nodes that the nemesis made dishonest at any time."""
    setup = case.history.setup
    addresses = {} if setup is None else {node.name: node.address for node in setup.nodes}
    return {
        addresses[name]
        for event in case.history.nemesis
        if event.byzantine
        for name in event.nodes
        if name in addresses
    }


def check(case: Case) -> Report:
    """What a tap did not see is not judged."""
    dishonest = byzantine_addresses(case)
    first: dict[tuple[str, int, int, int, str], Vote] = {}
    witnesses: list[Witness] = []
    for vote in case.history.votes:
        if vote.signer in dishonest:
            continue
        known = first.setdefault((vote.signer, vote.epoch, vote.height, vote.view, vote.phase), vote)
        if known.digest != vote.digest:
            what = f"{vote.signer} signed two digests: {vote.phase} at height {vote.height}, view {vote.view}"
            shown = tuple(msgspec.json.encode(one).decode() for one in (known, vote))
            witnesses.append(Witness(NAME, what, shown, (vote.height,)))
    notes = (f"{len(first)} votes of honest keys",) if case.history.votes else ("no tap was there",)
    return Report(NAME, tuple(witnesses), (), notes)
