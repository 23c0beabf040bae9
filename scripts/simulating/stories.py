"""Stories: scripted runs as text files, commands with what they bring about below each (tests/simulation/stories).

A file holds prose (``# ...``), commands (``$ ...``) and output. Reading it runs the commands; the output that results
must be the one in the file, and ``--write`` puts it there. Links take a millisecond, nothing happens unasked, and a
story begins three seconds after the nodes started.

    $ network 4                      seats, ranked 0 1 2 3; then, if wanted: spare 1  seed 7  liar 0 two-faced
    $ submit 2                       a client hands a transaction to node 2
    $ run 300 ms                     and: run until height 3 (somewhere), run until all at 3
    $ crash 0  $ start 0  $ pause 0  $ resume 0
    $ crash 0 after Send             at its next effect of the kind; also: before
    $ lose the journal of 2          it dies; start it again
    $ cut 0 1 | 2 3                  a partition; also one way: cut 0 > 3
    $ drop Commit from 0 to 2 3      messages of one kind
    $ heal                           all links
    $ from height 5 epoch 1 seats 3 1 2 4      known two heights before (PROTOCOL 7.2)
    $ system 6 seed 1                instead of a network: six members in four groups, with the contract engine; of each
                                     block only its first decision and what the ledger booked; also: run until epoch 1,
                                     crash rank 2, start all
    $ state                          height, view and phase of each node
"""

import difflib
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from typing_extensions import override

from consensus.delegates import Delegate, DelegateSet
from consensus.types import PublicKey
from network.simulation.checkers import Finding
from network.simulation.clock import GENESIS_MS
from network.simulation.doors import Term
from network.simulation.faults import CrashAtEffect, LoseJournal
from network.simulation.network import Cut, LinkQuality
from network.simulation.node import Speed
from network.simulation.scenario import PARAMETERS, SECOND_US, Scenario
from network.simulation.system.scenario import Scenario as SystemScenario
from network.simulation.timetable import Timetable
from scripts.simulating.results import ROOT, CampaignError
from scripts.simulating.story import LEGEND
from scripts.simulating.trace import ToldRun
from scripts.simulating.trace_system import ToldSystem

STORIES: Final = ROOT / "tests" / "simulation" / "stories"
LINKS: Final = LinkQuality(1_000, 1_000)
SETTLED_US: Final = 3 * SECOND_US
"""By then everybody has caught up, and no empty block is due yet."""
LONGEST_US: Final = 120 * SECOND_US
"""A story waits no longer than this for a height."""


class ScriptedTimetable(Timetable):
    """Sets as the story says; ranked by number until then."""

    def __init__(self, members: Sequence[Delegate], seats: int) -> None:
        super().__init__(members, seats, None, random.Random(0))
        self._everybody = list(members)
        self._changes = [(1, Term(0, DelegateSet(tuple(members[:seats])), True))]

    def change(self, height: int, epoch: int, seats: Sequence[int]) -> None:
        """From ``height`` on."""
        before = self._changes[-1][1]
        ranking = DelegateSet(tuple(self._everybody[seat] for seat in seats))
        self._changes.append((height, Term(epoch, ranking, epoch != before.epoch)))

    @override
    def term(self, height: int) -> Term:
        """The term of ``height``."""
        begun, term = max((item for item in self._changes if item[0] <= height), key=lambda item: item[0])
        return Term(term.epoch, term.delegates, term.first_of_epoch and begun == height)


class StoryRun(ToldRun):
    """A network in which nothing happens but what a story commands."""

    def __init__(self, seats: int, spare: int, seed: int, liars: Mapping[int, tuple[str, ...]]) -> None:
        self._scripted_liars = dict(liars)
        scenario = Scenario(
            seed=seed,
            seats=seats,
            spare_members=spare,
            liars=tuple(liars.values()),
            epoch_heights=None,
            faults=0,
            fault_phase_us=0,
            transaction_interval_us=0,
        )
        super().__init__(scenario, ())
        self.network.quality = LINKS
        self._cuts: list[Cut] = []
        for node in self.nodes:
            node.start()
        self.agenda.run(SETTLED_US)
        self.story.lines.clear()

    @override
    def _make_nodes(self) -> None:
        self._timetable = ScriptedTimetable(self._members, self.scenario.seats)
        self._liars: dict[PublicKey, tuple[str, ...]] = {
            self._members[index].public_key: names for index, names in self._scripted_liars.items()
        }
        super()._make_nodes()
        for node in self.nodes:
            node.speed = Speed(200, 500, False)
            node.clock.offset_ms = 0

    # ------------------------------------------------------------------ commands

    def submit(self, nodes: Sequence[int]) -> None:
        """A client's transaction."""
        data = self._workload.probe(GENESIS_MS + self.agenda.now_ms(), PARAMETERS.tx_window_ms)
        for index in nodes:
            self.story.say("takes a transaction from a client", index)
            self.nodes[index].submit(data)

    def run_for(self, milliseconds: int) -> None:
        """Let time pass."""
        self.agenda.run(self.agenda.now_us + milliseconds * 1_000)

    def run_until(self, height: int, *, everywhere: bool) -> None:
        """Until a height is decided."""
        wanted = all if everywhere else any

        def reached() -> bool:
            return wanted(node.ledger.height >= height for node in self.honest if node.up)

        self.agenda.run(self.agenda.now_us + LONGEST_US, reached)
        if not reached():
            raise CampaignError(f"height {height} is not decided within {LONGEST_US // SECOND_US} s")

    def cut(self, sources: Sequence[int], targets: Sequence[int], kinds: tuple[str, ...] = ()) -> None:
        """Cut links one way."""
        cut = Cut(tuple(sources), tuple(targets), kinds)
        self._cuts.append(cut)
        self.network.cut(cut)
        self._connections.look()

    def heal(self) -> None:
        """All links work again."""
        for cut in self._cuts:
            self.network.heal(cut)
        self._cuts.clear()
        self._connections.look()

    def change_set(self, height: int, epoch: int, seats: Sequence[int]) -> None:
        """A new set."""
        if not isinstance(self._timetable, ScriptedTimetable):
            raise TypeError("a story has a timetable of its own")
        highest = max(node.ledger.height for node in self.nodes)
        if height < highest + 3:
            raise CampaignError(
                f"the set of height {height} was known when height {highest} was decided (7.2)"
            )
        self._timetable.change(height, epoch, seats)

    def state(self) -> list[str]:
        """A line a node."""
        lines = []
        for node in self.nodes:
            replica = node.replica
            what = (
                "down"
                if replica is None or not node.up
                else f"height {replica.height}, view {replica.view}, {replica.phase}"
                + (", abstaining" if replica.abstaining else "")
            )
            lines.append(f"{node.index}: decided {node.ledger.height}; {what}")
        return lines


class SystemStory(ToldSystem):
    """A whole system in which nothing goes wrong but what a story commands; members vote, nobody trades."""

    def __init__(self, members: int, seed: int) -> None:
        scenario = SystemScenario(
            seed=seed,
            groups=4,
            founders=members,
            newcomers=0,
            epochs=1_000,
            liars=(),
            faults_per_epoch=0,
            load_us=0,
            churn_percent=0,
            execute_all=False,
            invited=False,
            real_keys=False,
        )
        super().__init__(scenario, brief=True)
        self.quiet()
        # The run takes the honest for undisturbed, since it does not know what a story does to them.
        self._disturbed_us = sys.maxsize
        for node in self.nodes:
            node.start()

    def run_for(self, milliseconds: int) -> None:
        """Let time pass."""
        self.agenda.run(self.agenda.now_us + milliseconds * 1_000)

    def run_until(self, height: int, *, everywhere: bool) -> None:
        """Until a height is decided."""
        wanted = all if everywhere else any
        self._wait(
            lambda: wanted(node.ledger.height >= height for node in self.nodes if node.up), f"height {height}"
        )

    def run_until_epoch(self, epoch: int) -> None:
        """Until an epoch begins."""
        self._wait(lambda: self.outcome.epochs >= epoch, f"epoch {epoch}")

    def crash_rank(self, rank: int) -> None:
        """The delegate of a rank (0 is first) at the next height dies."""
        ranking = self.shared.term(self.shared.height + 1).delegates.ranking
        self.nodes[self._of_key[ranking[rank].public_key]].crash()

    def start_all(self) -> None:
        """Whoever is down starts."""
        for node in self.nodes:
            node.start()

    def _wait(self, until: Callable[[], bool], what: str) -> None:
        self.agenda.run(self.agenda.now_us + LONGEST_US, until)
        if not until():
            raise CampaignError(f"{what} is not reached within {LONGEST_US // SECOND_US} s")

    def state(self) -> list[str]:
        """A line."""
        return [
            f"height {self.shared.height}, {len(self.shared.term(self.shared.height + 1).delegates)} seats"
        ]


AnyStory: TypeAlias = StoryRun | SystemStory


# ---------------------------------------------------------------------- reading commands


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _network(text: str) -> StoryRun:
    match = re.fullmatch(r"(\d+)(?: spare (\d+))?(?: seed (\d+))?((?: liar \d+ [a-z -]+?)*)", text)
    if match is None:
        raise CampaignError(f"network {text!r} is not understood")
    liars = {
        int(index): (name.strip(),) for index, name in re.findall(r"liar (\d+) ((?:(?! liar ).)+)", match[4])
    }
    return StoryRun(int(match[1]), int(match[2] or 0), int(match[3] or 0), liars)


def _cut(run: StoryRun, text: str) -> None:
    both = "|" in text
    one, _, other = text.partition("|" if both else ">")
    run.cut(_numbers(one), _numbers(other))
    if both:
        run.cut(_numbers(other), _numbers(one))


def _drop(run: StoryRun, kinds: str, sources: str, targets: str) -> None:
    run.cut(_numbers(sources), _numbers(targets), tuple(kinds.split()))


COMMANDS: Final[Sequence[tuple[str, Callable[..., object]]]] = (
    (r"submit ([\d ]+)", lambda run, nodes: run.submit(_numbers(nodes))),
    (r"run (\d+) ms", lambda run, milliseconds: run.run_for(int(milliseconds))),
    (r"run until height (\d+)", lambda run, height: run.run_until(int(height), everywhere=False)),
    (r"run until all at (\d+)", lambda run, height: run.run_until(int(height), everywhere=True)),
    (r"crash (\d+)", lambda run, node: run.nodes[int(node)].crash()),
    (
        r"crash (\d+) (before|after) (\w+)",
        lambda run, node, moment, effect: CrashAtEffect(int(node), effect, moment == "after").begin(run),
    ),
    (r"crash rank (\d+)", lambda run, rank: run.crash_rank(int(rank))),
    (r"start all", lambda run: run.start_all()),
    (r"start (\d+)", lambda run, node: run.nodes[int(node)].start()),
    (r"pause (\d+)", lambda run, node: run.nodes[int(node)].pause()),
    (r"resume (\d+)", lambda run, node: run.nodes[int(node)].resume()),
    (r"lose the journal of (\d+)", lambda run, node: LoseJournal(int(node), False).begin(run)),
    (r"lose the disk of (\d+)", lambda run, node: LoseJournal(int(node), True).begin(run)),
    (r"cut ([\d ]+[|>][\d ]+)", _cut),
    (r"drop ([A-Za-z ]+) from ([\d ]+) to ([\d ]+)", _drop),
    (r"heal", lambda run: run.heal()),
    (
        r"from height (\d+) epoch (\d+) seats ([\d ]+)",
        lambda run, height, epoch, seats: run.change_set(int(height), int(epoch), _numbers(seats)),
    ),
    (r"run until epoch (\d+)", lambda run, epoch: run.run_until_epoch(int(epoch))),
    (r"state", lambda run: run.story.lines.extend(run.state())),
)


def perform(run: AnyStory, command: str) -> None:
    """One command; `CampaignError` if it is none."""
    for pattern, act in COMMANDS:
        match = re.fullmatch(pattern, command)
        if match is not None:
            try:
                act(run, *match.groups())
            except (AttributeError, IndexError) as error:
                raise CampaignError(f"{command!r} is no command of this story: {error}") from error
            except Finding as finding:
                raise CampaignError(f"{command!r} breaks a property: {finding}") from finding
            return
    raise CampaignError(f"{command!r} is no command of a story")


def _begin(command: str) -> AnyStory | None:
    if command.startswith("network "):
        return _network(command.removeprefix("network "))
    match = re.fullmatch(r"system (\d+) seed (\d+)", command)
    return None if match is None else SystemStory(int(match[1]), int(match[2]))


def regenerated(text: str) -> str:
    """A story with the output that its commands have now."""
    lines: list[str] = []
    run: AnyStory | None = None
    for line in text.splitlines():
        if not line.startswith("$ "):
            if line.startswith("#") or not line:
                lines.append(line)
            continue
        lines.append(line)
        command = line.removeprefix("$ ")
        begun = _begin(command)
        if begun is not None:
            run = begun
            lines.extend(LEGEND.splitlines())
            lines.append(f"{'seconds':>9}  {' '.join(str(node.index) for node in run.nodes)}")
        elif run is None:
            raise CampaignError("a story begins with its network")
        else:
            perform(run, command)
        told, run.story.lines = run.story.lines, []
        lines.extend(item.rstrip() for item in told)
    return "\n".join(lines) + "\n"


def show_stories(*, write: bool) -> int:
    """Compare all stories with what happens, or write it into them; 1 if one differs."""
    differing = 0
    for path in sorted(STORIES.glob("*.txt")):
        text = path.read_text("utf-8")
        now = regenerated(text)
        if now == text:
            continue
        differing += 1
        if write:
            path.write_text(now, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)} written\n")
        else:
            sys.stdout.writelines(
                f"{line}\n"
                for line in difflib.unified_diff(text.splitlines(), now.splitlines(), str(path), "now")
            )
    count = len(list(STORIES.glob("*.txt")))
    sys.stdout.write(f"{count} stories, {differing} {'written' if write else 'differ from what happens'}\n")
    return 1 if differing and not write else 0
