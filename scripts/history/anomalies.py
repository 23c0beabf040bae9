"""Anomalies to be planted in good histories: what the checker has to find, each with the check that should.

A plant changes the lines that clients recorded, or the ledger before any answer was taken from it; it returns None
where the history has no place for it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from scripts.history.chain import (
    BalanceChanged,
    Block,
    Chain,
    CreditChanged,
    DelegatesChanged,
    Event,
    FaultRecorded,
    GroupTallied,
    Item,
    SlotAllocated,
    TradeChanged,
    TradeSettled,
)
from scripts.history.generator import Generated, Generator
from scripts.history.records import Event as StreamEvent
from scripts.history.records import Fail, FinalChain, Invoke, Line, Ok, Problem, Setup, Vote

replace = msgspec.structs.replace
ChangeLines = Callable[[list[Line], Chain], list[Line] | None]
ChangeChain = Callable[[Chain], Chain | None]


class Planted(NamedTuple):
    """An anomaly."""

    name: str
    check: str
    """The number of the check that has to find it."""
    lines: ChangeLines | None = None
    chain: ChangeChain | None = None


class NoPlace(Exception):
    """This history has nothing that could be spoiled so."""


def plant(anomaly: Planted, seed: int, operations: int = 400) -> Generated:
    """A history with one anomaly; `NoPlace` if there is none for it."""
    generator = Generator(seed, operations)
    spoil = anomaly.chain
    if spoil is not None:

        def spoiled(chain: Chain) -> Chain:
            changed = spoil(chain)
            if changed is None:
                raise NoPlace(anomaly.name)
            return changed

        return generator.make(spoiled)
    made = generator.make()
    change = anomaly.lines
    lines = None if change is None else change(made.lines, made.chain)
    if lines is None:
        raise NoPlace(anomaly.name)
    return Generated(lines, made.chain)


# ---- what clients were told


def _pairs(lines: Sequence[Line]) -> Iterator[tuple[int, Invoke, int, Line]]:
    """Invocations with their places and ends."""
    open_: dict[int, tuple[int, Invoke]] = {}
    for number, line in enumerate(lines):
        if isinstance(line, Invoke):
            open_[line.process] = (number, line)
        elif getattr(line, "process", None) in open_ and not isinstance(line, StreamEvent):
            begun = open_.pop(line.process)  # type: ignore[union-attr]
            yield (*begun, number, line)


def _with(lines: list[Line], place: int, line: Line) -> list[Line]:
    return [*lines[:place], line, *lines[place + 1 :]]


def _lost_acknowledgement(lines: list[Line], chain: Chain) -> list[Line] | None:
    held = {item.id for block in chain.blocks for item in block.items}
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "submit" and invoke.subject not in held and not isinstance(end, Ok):
            return _with(lines, place, Ok(end.at, invoke.process, 0, "", "committed", (1, 0)))  # type: ignore[union-attr]
    return None


def _phantom_failure(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "submit" and isinstance(end, Ok):
            return _with(lines, place, Fail(end.at, end.process, "expired", end.height))
    return None


def _removed_without_removal(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "submit" and isinstance(end, Fail) and end.state == "expired":
            return _with(lines, place, replace(end, state="discarded"))
    return None


def _wrong_place(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "submit" and isinstance(end, Ok) and end.place:
            return _with(lines, place, replace(end, place=(end.place[0], end.place[1] + 1)))
    return None


def _rejection_told_as_success(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "submit" and isinstance(end, Ok) and end.state == "rejected":
            return _with(lines, place, replace(end, state="committed"))
    return None


def _aged(end: Ok, chain: Chain, height: int) -> Ok:
    """The answer as it would have been at an older block: right, but old."""
    return Ok(end.at, end.process, height, chain.hash_at(height) or "")


def _stale_consistent_read(lines: list[Line], chain: Chain) -> list[Line] | None:
    found = [pair for pair in _pairs(lines) if pair[1].consistent and isinstance(pair[3], Ok)]
    if not found:
        return None
    _, _, place, end = found[-1]
    return _with(lines, place, _aged(end, chain, 1))  # type: ignore[arg-type]


def _session_going_back(lines: list[Line], chain: Chain) -> list[Line] | None:
    found = [
        pair
        for pair in _pairs(lines)
        if pair[1].session and pair[1].op == "account" and isinstance(pair[3], Ok)
    ]
    if not found or found[-1][3].height < 3:  # type: ignore[union-attr]
        return None
    _, _, place, end = found[-1]
    return _with(lines, place, _aged(end, chain, 1))  # type: ignore[arg-type]


def _value_of_nobody(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "account" and isinstance(end, Ok) and end.height and isinstance(end.value, dict):
            value = {**end.value, "balance": end.value["balance"] + 1}
            return _with(lines, place, replace(end, value=value))
    return None


def _read_of_a_fork(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "account" and isinstance(end, Ok) and end.height:
            return _with(lines, place, replace(end, hash="ab" * 32))
    return None


def _changed_plan(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "plan" and isinstance(end, Ok) and isinstance(end.value, dict):
            other = [*end.value["assignment"][1:], end.value["assignment"][0]]
            return _with(lines, place, replace(end, value={**end.value, "assignment": other}))
    return None


def _status_that_hides_a_commit(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    for _, invoke, place, end in _pairs(lines):
        if invoke.op == "status" and isinstance(end, Ok) and end.place:
            return _with(lines, place, replace(end, place=None, state="pending"))
    return None


# ---- streams, wire, logs, final chains


def _stream_places(lines: list[Line], process: int = 10_000) -> list[int]:
    return [n for n, line in enumerate(lines) if isinstance(line, StreamEvent) and line.process == process]


def _reordered_stream(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    places = _stream_places(lines)
    first, second = places[len(places) // 2 : len(places) // 2 + 2]
    changed = list(lines)
    changed[first], changed[second] = lines[second], lines[first]
    return changed


def _gap_in_a_stream(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    place = _stream_places(lines)[40]
    return lines[:place] + lines[place + 1 :]


def _event_told_twice(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    place = _stream_places(lines)[40]
    return [*lines[: place + 1], lines[place], *lines[place + 1 :]]


def _event_of_nothing(lines: list[Line], chain: Chain) -> list[Line] | None:
    for place in _stream_places(lines):
        event = lines[place]
        if isinstance(event, StreamEvent) and event.transaction:
            return _with(lines, place, replace(event, transaction=chain.chain_id))
    return None


def _two_digests(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    vote = next(line for line in lines if isinstance(line, Vote))
    return [*lines, replace(vote, digest="cd" * 32)]


def _traceback(lines: list[Line], chain: Chain) -> list[Line] | None:
    del chain
    return [*lines, Problem(1, "node3", "a traceback in its log", "Traceback (most recent call last):")]


def _fork(lines: list[Line], chain: Chain) -> list[Line] | None:
    for place, line in enumerate(lines):
        if isinstance(line, FinalChain) and len(line.hashes) == chain.height:
            return _with(lines, place, replace(line, hashes=[*line.hashes[:-1], "ef" * 32]))
    return None


def _silence(lines: list[Line], chain: Chain) -> list[Line] | None:
    """A minute without a block in the middle."""
    del chain
    timed = [line for line in lines if not isinstance(line, Setup)]
    moment = timed[len(timed) // 2].at
    late = [line if line.at <= moment else replace(line, at=line.at + 60 * 10**9) for line in timed]
    return [*late, *(line for line in lines if isinstance(line, Setup))]


# ---- the ledger


def _change_block(chain: Chain, height: int, **fields: Any) -> Chain:
    blocks = list(chain.blocks)
    blocks[height - 1] = replace(blocks[height - 1], **fields)
    return replace(chain, blocks=tuple(blocks))


def _change_event(
    chain: Chain, wanted: Callable[[Event, Block], bool], change: Callable[[Event], tuple[Event, ...]]
) -> Chain | None:
    """Spoil the last event that fits: what comes later is then right but for it."""
    for block in reversed(chain.blocks):
        for place, event in enumerate(block.events):
            if wanted(event, block):
                return _change_block(
                    chain,
                    block.height,
                    events=(*block.events[:place], *change(event), *block.events[place + 1 :]),
                )
        for number, item in enumerate(block.items):
            for place, event in enumerate(item.events):
                if wanted(event, block):
                    events = (*item.events[:place], *change(event), *item.events[place + 1 :])
                    items = (*block.items[:number], replace(item, events=events), *block.items[number + 1 :])
                    return _change_block(chain, block.height, items=items)
    return None


def _duplicate_transaction(chain: Chain) -> Chain | None:
    done = next(item for block in chain.blocks for item in block.items if item.kind == "transfer")
    again = Item(done.id, done.kind, done.sender, 14)
    return _change_block(chain, chain.height, items=(*chain.blocks[-1].items, again))


def _inversion(chain: Chain) -> Chain | None:
    """Two payments of distant blocks, each under the other's id."""
    found = [
        (block.height, place)
        for block in chain.blocks
        for place, item in enumerate(block.items)
        if item.kind == "transfer" and not item.code
    ]
    if len(found) < 30:
        return None
    (early, first), (late, second) = found[4], found[-4]
    one, other = chain.blocks[early - 1].items[first], chain.blocks[late - 1].items[second]
    for height, place, item, identity in ((early, first, one, other.id), (late, second, other, one.id)):
        items = chain.blocks[height - 1].items
        renamed = (*items[:place], replace(item, id=identity), *items[place + 1 :])
        chain = _change_block(chain, height, items=renamed)
    return chain


def _too_few_signers(chain: Chain) -> Chain | None:
    return _change_block(chain, 9, signers=chain.blocks[8].signers[:2])


def _signer_twice(chain: Chain) -> Chain | None:
    signers = chain.blocks[8].signers
    return _change_block(chain, 9, signers=(*signers[:2], signers[1]))


def _old_epoch_signer(chain: Chain) -> Chain | None:
    """A former delegate in a certificate of the next set."""
    for block in chain.blocks:
        for event in block.events:
            if isinstance(event, DelegatesChanged) and event.height <= chain.height:
                before = [one for one in chain.blocks[event.height - 2].signers if one not in event.ranking]
                if before:
                    signers = chain.blocks[event.height - 1].signers
                    return _change_block(chain, event.height, signers=(*signers[:-1], before[0]))
    return None


def _broken_link(chain: Chain) -> Chain | None:
    return _change_block(chain, 7, parent="00" * 32)


def _wrong_tally(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, votes=event.votes + 1_000),)

    return _change_event(chain, lambda event, _: isinstance(event, GroupTallied), change)


def _uncounted_ballot(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, ballots=event.ballots + 1),)

    return _change_event(chain, lambda event, _: isinstance(event, GroupTallied), change)


def _another_ranking(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, ranking=(*event.ranking[1:], event.ranking[0])),)

    return _change_event(chain, lambda event, _: isinstance(event, DelegatesChanged), change)


def _credit_leak(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, credit=event.credit + 700),)

    return _change_event(chain, lambda event, _: isinstance(event, CreditChanged), change)


def _credit_without_a_cause(chain: Chain) -> Chain | None:
    member = chain.members[0]
    events = [event for block in chain.blocks for event in block.events]
    own = [
        event.credit
        for event in events
        if isinstance(event, CreditChanged) and event.address == member.address
    ]
    before = own[-1] if own else member.credit
    gain = CreditChanged(member.address, "delegate_reward", 100, before + 100)
    return _change_block(chain, chain.height, events=(*chain.blocks[-1].events, gain))


def _too_large_a_reward(chain: Chain) -> Chain | None:
    def wanted(event: Event, _: Block) -> bool:
        return isinstance(event, CreditChanged) and event.reason == "delegate_reward"

    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, delta=event.delta + 1, credit=event.credit + 1),)

    return _change_event(chain, wanted, change)


def _honest_found_guilty(chain: Chain) -> Chain | None:
    guilty = chain.blocks[-1].signers[0]
    fault = FaultRecorded(guilty, "wrong_block", chain.height - 1, False)
    return _change_block(chain, chain.height, events=(*chain.blocks[-1].events, fault))


def _negative_escrow(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, paid=event.paid + 10**13),)

    return _change_event(chain, lambda event, _: isinstance(event, TradeSettled), change)


def _settled_twice(chain: Chain) -> Chain | None:
    def wanted(event: Event, _: Block) -> bool:
        return isinstance(event, TradeChanged) and event.state == "settled"

    return _change_event(chain, wanted, lambda event: (event, event))


def _energy_from_nowhere(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, allocated_wh=event.allocated_wh + 6),)

    return _change_event(chain, lambda event, _: isinstance(event, SlotAllocated), change)


def _money_from_nowhere(chain: Chain) -> Chain | None:
    def change(event: Any) -> tuple[Event, ...]:
        return (replace(event, delta=event.delta + 1, balance=event.balance + 1),)

    return _change_event(chain, lambda event, _: isinstance(event, BalanceChanged), change)


ANOMALIES: Final = (
    Planted("a block list that forked", "1", _fork),
    Planted("a certificate of q - 1", "1", None, _too_few_signers),
    Planted("a certificate with a signer twice", "1", None, _signer_twice),
    Planted("a signer of the old epoch", "1", None, _old_epoch_signer),
    Planted("a block that does not follow its parent", "1", None, _broken_link),
    Planted("a transaction decided twice", "2", None, _duplicate_transaction),
    Planted("a lost acknowledgement", "3", _lost_acknowledgement),
    Planted("a phantom failure", "3", _phantom_failure),
    Planted("a removal that no block holds", "3", _removed_without_removal),
    Planted("an acknowledgement of another place", "3", _wrong_place),
    Planted("a rejection told as success", "3", _rejection_told_as_success),
    Planted("a real-time inversion", "4", None, _inversion),
    Planted("a stale read at a consistent endpoint", "5", _stale_consistent_read),
    Planted("a session going back", "5", _session_going_back),
    Planted("a balance that never was", "5", _value_of_nobody),
    Planted("a read of a forked block", "5", _read_of_a_fork),
    Planted("a status that hides a commit", "5", _status_that_hides_a_commit),
    Planted("a reordered stream", "6", _reordered_stream),
    Planted("a gap in a stream", "6", _gap_in_a_stream),
    Planted("an event told twice", "6", _event_told_twice),
    Planted("an event of a transaction that is not there", "6", _event_of_nothing),
    Planted("negative escrow", "7", None, _negative_escrow),
    Planted("a trade settled twice", "7", None, _settled_twice),
    Planted("energy from nowhere", "7", None, _energy_from_nowhere),
    Planted("money from nowhere", "7", None, _money_from_nowhere),
    Planted("a wrong tally", "8", None, _wrong_tally),
    Planted("a ballot too many", "8", None, _uncounted_ballot),
    Planted("a ranking that the votes do not give", "8", None, _another_ranking),
    Planted("a changed plan", "8", _changed_plan),
    Planted("a credit leak", "9", None, _credit_leak),
    Planted("credit without a cause", "9", None, _credit_without_a_cause),
    Planted("a reward too large", "9", None, _too_large_a_reward),
    Planted("an honest delegate proven guilty", "9", None, _honest_found_guilty),
    Planted("two digests of one key on the wire", "10", _two_digests),
    Planted("a minute without a commit", "11", _silence),
    Planted("a traceback", "12", _traceback),
)
