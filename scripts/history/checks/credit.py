"""Check 9: every change of credit has its cause and its amount; no honest node was ever proven guilty (S7, S13)."""

from collections.abc import Iterator
from typing import Final

from scripts.history.case import Case
from scripts.history.chain import (
    BallotAccepted,
    Block,
    CreditChanged,
    Event,
    FaultRecorded,
    MemberJoined,
    PhaseChanged,
    Terms,
    TradeSettled,
)
from scripts.history.checks.signatures import byzantine_addresses
from scripts.history.verdict import Report, Witness

NAME: Final = "9 credit"
MOST: Final = 100_000
FAULTS: Final = frozenset({"no_block", "wrong_block", "down"})


class Scores:
    """What is needed to judge the next change."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.rules = case.chain.rules
        self.credit = {one.address: one.credit for one in case.chain.members}
        self.voters: dict[int, set[str]] = {}
        """Whose ballot for an epoch was accepted."""
        self.faulty: dict[str, set[int]] = {}
        """Epochs in which a fault was booked."""
        self.served: dict[int, set[str]] = {}
        self.penalised: set[tuple[str, int]] = set()
        self.terms: dict[str, Terms] = {}
        self.closing = False
        self.epoch = 0
        self.charged: dict[str, str] = {}
        """In this block: address and kind."""
        self.joined: set[str] = set()
        self.shortfalls: list[tuple[str, str, int]] = []
        """In this block, not booked yet: party, reason, loss."""

    def begin(self, block: Block) -> None:
        """A block's events follow."""
        self.epoch = block.epoch
        self.charged, self.joined, self.shortfalls = {}, set(), []
        self.closing = any(isinstance(e, PhaseChanged) and e.phase == "running" for e in block.events)
        self.served.setdefault(block.epoch, set()).update(self.case.timeline.delegates(block.height))
        for item in block.items:
            if item.terms is not None and item.code == 0:
                self.terms[item.id] = item.terms

    def take(self, event: Event) -> Iterator[str]:
        """What is wrong with it."""
        match event:
            case CreditChanged():
                yield from self._change(event)
            case BallotAccepted(voter, epoch):
                self.voters.setdefault(epoch, set()).add(voter)
            case FaultRecorded(address, kind, _, charged):
                self.faulty.setdefault(address, set()).add(self.epoch)
                if charged:
                    self.charged[address] = kind
            case MemberJoined(address):
                self.joined.add(address)
            case TradeSettled():
                self._note_shortfalls(event)
            case _:
                pass

    def _note_shortfalls(self, event: TradeSettled) -> None:
        terms = self.terms.get(event.contract)
        if terms is None:
            return
        sides = (
            (terms.seller, "seller_shortfall", event.seller_wh),
            (terms.buyer, "buyer_shortfall", event.buyer_wh),
        )
        for party, reason, had in sides:
            if had < terms.quantity_wh:
                most = max(terms.quantity_wh, self.rules.trade_reference_wh)
                loss = -(-self.rules.trade_penalty * (terms.quantity_wh - had) // most)
                self.shortfalls.append((party, reason, loss))

    def _change(self, event: CreditChanged) -> Iterator[str]:
        address, before = event.address, self.credit.get(event.address, 0)
        if event.credit != before + event.delta or not 0 <= event.credit <= MOST or event.delta == 0:
            yield f"credit of {address}: {before} and {event.delta} gives {event.credit}"
        self.credit[address] = event.credit
        cause, due = self._due(event.reason, address, before)
        if event.reason in FAULTS and event.credit and -event.delta not in self._fines():
            yield f"{address} was charged {-event.delta}, which is no multiple of beta"
        if not cause:
            yield f"credit of {address} changed by {event.delta} for {event.reason}, without a cause"
        elif due is not None and event.delta != max(-before, min(due, MOST - before)):
            yield f"credit of {address} changed by {event.delta} for {event.reason}, where {due} is due"

    def _due(self, reason: str, address: str, before: int) -> tuple[bool, int | None]:
        """Whether there is a cause, and the change before clamping; None: not determined here."""
        rules, epoch = self.rules, self.epoch
        if reason in FAULTS:
            return self.charged.get(address) == reason, None
        if reason == "voter_penalty":
            first = (address, epoch) not in self.penalised
            self.penalised.add((address, epoch))
            voted = any(address in self.voters.get(at, ()) for at in (epoch, epoch - 1))
            return bool(self.charged) and first and voted, -rules.gamma
        if reason == "delegate_reward":
            clean = epoch not in self.faulty.get(address, ())
            seated = address in self.served.get(epoch, ())
            return self.closing and clean and seated, _gain(rules.alpha, before)
        if reason == "voter_reward":
            paid = (address, epoch) in self.penalised
            voted = address in self.voters.get(epoch, ())
            return self.closing and voted and not paid, _gain(rules.delta, before)
        if reason == "decay":
            idle = address not in self.voters.get(epoch + 1, ()) and address not in self.served.get(epoch, ())
            return self.closing and idle, -(-before * rules.decay_bp // 10_000) * -1
        if reason == "entry":
            return address in self.joined, None
        return self._shortfall(reason, address)

    def _fines(self) -> tuple[int, ...]:
        """beta, doubled up to three times (PROTOCOL 3.1)."""
        return tuple(self.rules.beta << doubled for doubled in range(4))

    def _shortfall(self, reason: str, address: str) -> tuple[bool, int | None]:
        for place, (party, why, loss) in enumerate(self.shortfalls):
            if (party, why) == (address, reason):
                del self.shortfalls[place]
                return True, -loss
        return False, None


def _gain(full: int, credit: int) -> int:
    """Booked gains shrink toward 100 (PROTOCOL 3.1)."""
    return min(full, full * (MOST - credit) // 50_000)


def _framed(event: Event, block: Block, dishonest: set[str]) -> Iterator[Witness]:
    """Proof against somebody whom the nemesis left honest (S13)."""
    if isinstance(event, FaultRecorded) and event.kind == "wrong_block" and event.address not in dishonest:
        what = f"honest {event.address} was proven guilty of height {event.height}"
        yield Witness(NAME, what, (), (event.height, block.height))


def check(case: Case) -> Report:
    """Every change on chain, and every proof of guilt."""
    scores, dishonest = Scores(case), byzantine_addresses(case)
    witnesses: list[Witness] = []
    for block in case.chain.blocks:
        scores.begin(block)
        events = [event for item in block.items for event in item.events]
        for event in (*events, *block.events):
            witnesses += [Witness(NAME, fault, (), (block.height,)) for fault in scores.take(event)]
            witnesses += _framed(event, block, dishonest)
        booked = {event.address for event in block.events if isinstance(event, CreditChanged)}
        for address in scores.charged:
            if address not in booked and scores.credit.get(address, 0):
                what = f"{address} was charged with {scores.charged[address]} and lost no credit"
                witnesses.append(Witness(NAME, what, (), (block.height,)))
    return Report(NAME, tuple(witnesses), ())
