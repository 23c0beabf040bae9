"""Twins: two nodes with one key each, and every way to split the nodes in two in every view (RELIABILITY G3).

A twin pair behaves in every way an honest node could, in two places at once, so it equivocates, double votes, forgets
and contradicts without any lie being written down here. Four seats with one pair are five nodes with 16 splits a view:
four views are 65 536 cases, enumerated; the larger ones are sampled.

With ``cut`` 0 a split lasts for a view. A positive ``cut`` lets it begin only after so many rounds of its view, so that
what is said in the midst of a view, such as commits, reaches one side only: a block decided by some and not by others.

Cases share their beginnings. What the nodes of one side of a split do depends on their states and on nothing else, so
each side is played once for each different combination of states, and equal states, wherever they come from, are one.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from network.simulation.checkers import Finding
from network.simulation.fork_check import check_agreement
from network.simulation.lockstep import Links, Lockstep, LockstepNode, Table, Told, instant

HEALED_VIEWS: Final = 8
"""Within so many views after the last split all honest nodes must have decided one more height: up to two to bring
everyone to one view, and one each for the twins' turns as primary."""
CUT: Final = 2
"""By default a split begins when view 0 commits and a later view prepares: some then hold what others lack."""
PHASES: Final = 7
"""Rounds of a view with a split of their own when phases are split: view-change, new-view and proposal, three phases,
and what is fetched."""
MOST_STATES: Final = 20_000
"""States after the last view that are held at a time: some 100 MB."""

Split: TypeAlias = int
"""Bit i - 1 says on which side node i is; node 0 is always on side 0."""
Progress: TypeAlias = Callable[[int, int], None]
"""Told (cases done, cases in all)."""
Placed: TypeAlias = tuple[int, ...]
"""A number for the state of each node."""


@dataclass(frozen=True)
class TwinsCase:
    """One case, and all there is to repeat it with `play_case`."""

    seats: int
    twins: tuple[int, ...]
    """Ranks whose holder is doubled."""
    splits: tuple[tuple[Split, ...], ...]
    """Per view one split, or one for each of its first rounds of messages (the last one holds until the view ends)."""
    cut: int = 0
    """Rounds at the beginning of each view in which the split of the one before still holds; at first none does."""


@dataclass(frozen=True)
class TwinsFinding:
    """A case that breaks a property."""

    case: TwinsCase
    text: str


@dataclass(frozen=True)
class TwinsResult:
    """What an enumeration or a sample came to."""

    cases: int
    """Cases covered; in an enumeration each exactly once."""
    distinct: int
    """Different states of all nodes after the last view: so many were checked and healed."""
    sides_played: int
    """Views played by one side of a split; without sharing it would be two for each case and view."""
    decided: int
    """Cases in which some honest node decided a block before the links healed."""
    slowest_views: int
    """Most views that it took to decide one more height after healing."""
    findings: tuple[TwinsFinding, ...]
    finding_cases: int
    """Cases with a finding; ``findings`` holds one for each different end."""


def splits_of(nodes: int) -> int:
    """Ways to divide ``nodes`` nodes in at most two sides."""
    return 1 << (nodes - 1)


def side_of(split: Split, node: int) -> int:
    """0 or 1."""
    return split >> (node - 1) & 1 if node else 0


def case_of(number: int, seats: int, twins: tuple[int, ...], views: int, cut: int = 0) -> TwinsCase:
    """The case of a number; the first view is its most significant digit."""
    base = splits_of(seats + len(twins))
    digits = [number // base ** (views - 1 - view) % base for view in range(views)]
    return TwinsCase(seats, twins, tuple((digit,) for digit in digits), cut)


def told_case(case: TwinsCase) -> str:
    """A case for people: per view (and round) who hears whom."""
    nodes = range(case.seats + len(case.twins))
    views = []
    for splits in case.splits:
        sides = (
            " | ".join(
                " ".join(str(node) for node in nodes if side_of(split, node) == side)
                for side in ((0, 1) if split else (0,))
            )
            for split in splits
        )
        views.append(" then ".join(sides))
    pairs = ", ".join(f"{rank} and {case.seats + number}" for number, rank in enumerate(case.twins))
    cut = f", each split after {case.cut} rounds" if case.cut else ""
    return f"twins {pairs}{cut}; " + "; ".join(f"view {view}: {text}" for view, text in enumerate(views))


# ---------------------------------------------------------------------- one case


def play_case(case: TwinsCase) -> tuple[int, bool]:
    """Play a case from the start: the views it took to heal, and whether anything was decided before that."""
    table = Table(case.seats, case.twins)
    run = Lockstep(table)
    before = 0
    for view, splits in enumerate(case.splits):
        run.begin_view(view, transactions(table))
        _talk(run, ((before,) * case.cut) + splits)
        check_agreement(table, run.nodes.values())
        before = splits[-1]
    decided = any(run.nodes[index].height for index in table.honest)
    return heal(run, len(case.splits)), decided


def _talk(run: Lockstep, splits: Sequence[Split]) -> None:
    for split in splits[:-1]:
        run.round(links_of(split))
    run.talk(links_of(splits[-1]))


def links_of(split: Split) -> Links:
    """Who hears whom."""

    def joined(source: int, target: int, _told: Told) -> bool:
        return side_of(split, source) == side_of(split, target)

    return joined


def transactions(table: Table) -> Callable[[LockstepNode], tuple[bytes, ...]]:
    """One transaction a height, another for second twins, so that twins propose different blocks."""
    seats = len(table.signers)
    return lambda node: (table.transaction(2 * node.height + (node.index >= seats)),)


def heal(run: Lockstep, view: int) -> int:
    """All links hold: the views it takes until every honest node has decided one height more. `Finding` if too many."""
    honest = [run.nodes[index] for index in run.table.honest]
    goal = max(node.height for node in honest) + 1
    for healed in range(1, HEALED_VIEWS + 1):
        run.begin_view(view + healed - 1, transactions(run.table))
        run.talk(links_of(0))
        check_agreement(run.table, run.nodes.values())
        if all(node.height >= goal for node in honest):
            return healed
    heights = [node.height for node in honest]
    raise Finding(
        f"L1: {HEALED_VIEWS} views after healing the honest nodes are at {heights}, expected {goal} of all"
    )


def draw_case(seed: int, seats: int, pairs: int, views: int, *, per_phase: bool) -> TwinsCase:
    """A random case: which ranks are doubled, and a split for each view, or for each round of each view."""
    rng = random.Random(f"{seed}/twins")
    twins = tuple(sorted(rng.sample(range(seats), pairs)))
    base = splits_of(seats + pairs)
    most = PHASES if per_phase else 1
    splits = tuple(tuple(rng.randrange(base) for _ in range(rng.randint(1, most))) for _ in range(views))
    return TwinsCase(seats, twins, splits)


def sample_twins(
    runs: int,
    first_seed: int = 0,
    *,
    seats: int = 7,
    pairs: int = 2,
    views: int = 5,
    per_phase: bool = False,
    progress: Progress | None = None,
) -> TwinsResult:
    """Random cases, one a seed from ``first_seed`` on."""
    findings: list[TwinsFinding] = []
    decided = slowest = 0
    for number in range(runs):
        case = draw_case(first_seed + number, seats, pairs, views, per_phase=per_phase)
        try:
            healed, some = play_case(case)
            slowest, decided = max(slowest, healed), decided + some
        except Exception as error:  # noqa: BLE001 - whatever a replica raises is the finding
            findings.append(TwinsFinding(case, _told(error)))
        if progress is not None:
            progress(number + 1, runs)
    return TwinsResult(runs, runs, runs * views, decided, slowest, tuple(findings), len(findings))


# ---------------------------------------------------------------------- all cases


def run_twins(
    views: int = 4,
    *,
    seats: int = 4,
    twins: tuple[int, ...] = (0,),
    cut: int = CUT,
    first: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
) -> TwinsResult:
    """Cases ``first`` to ``first + limit`` (default: all) with these twins, each covered exactly once."""
    base = splits_of(seats + len(twins))
    total = base**views
    last = total if limit is None else min(total, first + limit)
    return _Enumeration(case_of(0, seats, twins, views, cut), range(first, last), progress).run()


def parts(views: int, limit: int | None = None, *, seats: int = 4, twins: int = 1) -> list[range]:
    """The cases of an enumeration in parts for several processes: one for each first split, which share nothing."""
    base = splits_of(seats + twins)
    width = base ** (views - 1)
    total = base**views if limit is None else min(base**views, limit)
    return [range(first, min(first + width, total)) for first in range(0, total, width)]


def run_part(
    part: range, views: int = 4, *, seats: int = 4, twins: tuple[int, ...] = (0,), cut: int = CUT
) -> TwinsResult:
    """The cases of one of `parts`."""
    return run_twins(views, seats=seats, twins=twins, cut=cut, first=part.start, limit=len(part))


def merged(results: Sequence[TwinsResult]) -> TwinsResult:
    """What several parts came to together."""
    return TwinsResult(
        sum(result.cases for result in results),
        sum(result.distinct for result in results),
        sum(result.sides_played for result in results),
        sum(result.decided for result in results),
        max((result.slowest_views for result in results), default=0),
        tuple(finding for result in results for finding in result.findings),
        sum(result.finding_cases for result in results),
    )


@dataclass
class _Tally:
    """What came of all cases below one state of all nodes."""

    cases: int = 0
    decided: int = 0
    broken: int = 0

    def add(self, other: "_Tally") -> None:
        """Count ``other``'s cases too."""
        self.cases += other.cases
        self.decided += other.decided
        self.broken += other.broken


class _Enumeration:
    """Depth first over the splits of the views, with node states numbered by what they hold."""

    def __init__(self, like: TwinsCase, wanted: range, progress: Progress | None) -> None:
        self._like = like
        views = self._views = len(like.splits)
        self._wanted = wanted
        self._progress = progress
        self._table = Table(like.seats, like.twins)
        self._base = splits_of(like.seats + len(like.twins))
        self._numbers: list[dict[bytes, int]] = [{} for _ in range(views + 1)]
        """Per view, fingerprints of node states to their numbers."""
        self._states: list[list[LockstepNode]] = [[] for _ in range(views + 1)]
        self._played: list[dict[Placed, Placed | str]] = [{} for _ in range(views)]
        """Per view, for the states of one side's nodes, those after it, or what broke."""
        self._known: list[dict[Placed, _Tally]] = [{} for _ in range(views + 1)]
        """Per view, for the states of all nodes, what came of every case below."""
        self._findings: list[TwinsFinding] = []
        self._done = 0
        self._slowest = 0
        self._distinct = 0
        self._sides_played = 0

    def run(self) -> TwinsResult:
        """All wanted cases."""
        start = Lockstep(self._table)
        self._begin(start, 0)
        tally = self._below(self._placed(0, start.nodes.values()), 0, 0)
        return TwinsResult(
            tally.cases,
            self._distinct + len(self._known[-1]),
            self._sides_played + sum(map(len, self._played)),
            tally.decided,
            self._slowest,
            tuple(self._findings),
            tally.broken,
        )

    def _placed(self, view: int, nodes: Iterable[LockstepNode]) -> Placed:
        numbers, states = self._numbers[view], self._states[view]
        placed = []
        for node in nodes:
            # States after the last view hardly ever meet again: comparing them would cost more than it saves.
            number = (
                len(states) if view == self._views else numbers.setdefault(node.fingerprint(), len(states))
            )
            if number == len(states):
                states.append(node)
            placed.append(number)
        return tuple(placed)

    def _below(self, placed: Placed, view: int, prefix: int) -> _Tally:
        """All wanted cases whose first ``view`` splits are the digits of ``prefix`` and led to ``placed``."""
        width = self._base ** (self._views - view)
        cases = range(max(prefix * width, self._wanted.start), min((prefix + 1) * width, self._wanted.stop))
        if not cases:
            return _Tally()
        known = self._known[view].get(placed)
        if known is not None and len(cases) == width:
            self._advance(width)
            return known
        tally = self._judged(placed, view, cases)
        if tally is None:
            tally = _Tally()
            for split in range(self._base):
                tally.add(self._beyond(placed, view, prefix * self._base + split))
            if len(self._states[-1]) > MOST_STATES:
                self._forget_ends()
        if len(cases) == width:
            self._known[view][placed] = tally
        return tally

    def _forget_ends(self) -> None:
        """Bound what is held: states after the last view are the most, and few are met again."""
        self._distinct += len(self._known[-1])
        self._sides_played += len(self._played[-1])
        for kept in (self._known[-1], self._played[-1], self._states[-1]):
            kept.clear()

    def _judged(self, placed: Placed, view: int, cases: range) -> _Tally | None:
        """None while the splits go on and nothing is broken."""
        nodes = [self._states[view][number] for number in placed]
        try:
            check_agreement(self._table, nodes)
            if view < self._views:
                return None
            decided = any(nodes[index].height for index in self._table.honest)
            healing = Lockstep(self._table, [node.copy() for node in nodes])
            self._slowest = max(self._slowest, heal(healing, view))
        except Exception as error:  # noqa: BLE001 - whatever a replica raises is the finding
            return self._broken(cases, error)
        self._advance(len(cases))
        return _Tally(len(cases), len(cases) * decided, 0)

    def _beyond(self, placed: Placed, view: int, prefix: int) -> _Tally:
        """The cases of one more split."""
        width = self._base ** (self._views - view - 1)
        if prefix * width >= self._wanted.stop or (prefix + 1) * width <= self._wanted.start:
            return _Tally()
        split = prefix % self._base
        after = list(placed)
        for side in (0, 1):
            members = [node for node in range(len(placed)) if side_of(split, node) == side]
            outcome = self._side(tuple(placed[node] for node in members), view)
            if isinstance(outcome, str):
                cases = range(
                    max(prefix * width, self._wanted.start), min((prefix + 1) * width, self._wanted.stop)
                )
                return self._broken(cases, outcome)
            for node, number in zip(members, outcome, strict=True):
                after[node] = number
        return self._below(tuple(after), view + 1, prefix)

    def _side(self, before: Placed, view: int) -> Placed | str:
        """The states of one side's nodes after a view of their own, or what broke in it."""
        known = self._played[view].get(before)
        if known is None:
            known = self._played[view][before] = self._play(before, view)
        return known

    def _play(self, before: Placed, view: int) -> Placed | str:
        run = Lockstep(self._table, [self._states[view][number].copy() for number in before])
        try:
            run.at = instant(view)
            run.talk(links_of(0))
            if view + 1 < self._views:
                self._begin(run, view + 1)
        except Exception as error:  # noqa: BLE001 - whatever a replica raises is the finding
            return _told(error)
        return self._placed(view + 1, run.nodes.values())

    def _begin(self, run: Lockstep, view: int) -> None:
        """The rounds of a view before its split begins."""
        run.begin_view(view, transactions(self._table))
        for _ in range(self._like.cut):
            run.round(links_of(0))

    def _broken(self, cases: range, error: Exception | str) -> _Tally:
        text = error if isinstance(error, str) else _told(error)
        like = self._like
        case = case_of(cases.start, like.seats, like.twins, self._views, like.cut)
        self._findings.append(TwinsFinding(case, text))
        self._advance(len(cases))
        return _Tally(len(cases), 0, len(cases))

    def _advance(self, cases: int) -> None:
        self._done += cases
        if self._progress is not None:
            self._progress(self._done, len(self._wanted))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, Finding) else f"{type(error).__name__}: {error}"
