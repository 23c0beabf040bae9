"""Check 1: every final chain is the same or its beginning, linked, certified, and replays (S1, S2, S3, S6, S7)."""

from collections.abc import Iterator
from typing import Final

from scripts.history.case import Case
from scripts.history.chain import Chain
from scripts.history.records import FinalChain
from scripts.history.verdict import Report, Witness

NAME: Final = "1 structure"


def check(case: Case) -> Report:
    """The auditor judges the bytes; links, signers and final chains are compared here again."""
    chain, history = case.chain, case.history
    witnesses = [
        Witness(
            NAME, f"the auditor: {one.rule}: expected {one.expected}, found {one.found}", (), (one.height,)
        )
        for one in chain.findings
    ]
    witnesses += _links(chain)
    witnesses += _signers(case)
    for final in history.finals:
        witnesses += _compare(chain, final)
    notes = () if chain.audited else ("rows without a ledger: signatures and state roots were not looked at",)
    return Report(NAME, tuple(witnesses), tuple(_missing(case)), notes)


def _links(chain: Chain) -> Iterator[Witness]:
    parent = chain.chain_id
    for number, block in enumerate(chain.blocks, start=1):
        if block.height != number or block.parent != parent:
            yield Witness(NAME, f"block {number} does not follow its parent", (), (number - 1, number))
        parent = block.hash


def _signers(case: Case) -> Iterator[Witness]:
    for block in case.chain.blocks:
        seated = case.timeline.delegates(block.height)
        quorum = len(seated) - (len(seated) - 1) // 3
        strangers = [signer for signer in block.signers if signer not in seated]
        if strangers:
            what = f"{strangers[0]} signed block {block.height} without a seat in its set"
            yield Witness(NAME, what, (), (block.height,))
        elif len(set(block.signers)) != len(block.signers) or len(block.signers) < quorum:
            what = f"block {block.height} has {len(set(block.signers))} distinct commits of {quorum}"
            yield Witness(NAME, what, (), (block.height,))


def _compare(chain: Chain, final: FinalChain) -> Iterator[Witness]:
    for height, (own, other) in enumerate(
        zip((block.hash for block in chain.blocks), final.hashes, strict=False), start=1
    ):
        if own != other:
            what = f"fork: block {height} is {other} at {final.node}, elsewhere {own}"
            yield Witness(NAME, what, (), (height,))
            return


def _missing(case: Case) -> Iterator[str]:
    setup = case.history.setup
    if setup is None:
        yield "the history does not begin with its set-up"
        return
    told = {final.node for final in case.history.finals if final.hashes}
    for node in setup.nodes:
        if node.name not in told:
            yield f"{node.name} gave no final chain"
