"""Forks and halts that PROTOCOL 6.3 to 6.6, 6.10 and 7.2 guard against, each as a run that is always the same.

With the rules as they are every story ends well; tests take one guard out at a time and see it end in a finding.
"""

from collections.abc import Callable, Iterator
from typing import Final

from consensus.messages import Commit, Prepare
from consensus.removal import transaction_id
from contracts.transaction import Leave, Transfer
from network.simulation.checkers import Finding, demand
from network.simulation.letters import Letter
from network.simulation.node import SimulatedNode
from network.simulation.system.scenario import SECOND_US, Scenario
from network.simulation.system.world import SystemRun

PATIENCE_US: Final = 60 * SECOND_US
"""Longer than any timer of these runs: what has not happened by then never will."""


def _scenario(seed: int, founders: int) -> Scenario:
    return Scenario(
        seed=seed,
        groups=4,
        founders=founders,
        newcomers=1,
        epochs=10**6,
        liars=(),
        faults_per_epoch=0,
        load_us=0,
        churn_percent=0,
        execute_all=True,
        invited=False,
        real_keys=False,
        bootstrap=False,
        lean=True,
    )


class Stage:
    """A network without troubles of its own, where a story decides what gets lost."""

    def __init__(self, founders: int = 4, *, idle: bool = False) -> None:
        self.run = SystemRun(_scenario(1, founders))
        self.run.quiet(idle=idle)
        for node in self.run.nodes:
            node.start()

    @property
    def height(self) -> int:
        """Of the longest chain."""
        return self.run.shared.height

    def wait(self, until: Callable[[], bool], what: str) -> None:
        """Let time pass; a story that does not come so far is a halt."""
        agenda = self.run.agenda
        agenda.run(agenda.now_us + PATIENCE_US, until)
        demand(until(), f"L1: after {PATIENCE_US // SECOND_US} s still not: {what}")

    def pass_time(self, time_us: int) -> None:
        """Let time pass, whatever happens."""
        self.run.agenda.run(self.run.agenda.now_us + time_us)

    def grow(self, blocks: int) -> None:
        """So many blocks more, at every node that runs."""
        goal = self.height + blocks
        nodes = [node for node in self.run.nodes if node.up]
        self.wait(lambda: all(node.ledger.height >= goal for node in nodes), f"{blocks} blocks more")

    def delegates(self, height: int) -> list[SimulatedNode]:
        """C(height) in ranking order."""
        by_key = {node.member.public_key: node for node in self.run.nodes}
        return [by_key[delegate.public_key] for delegate in self.run.shared.term(height).delegates]

    def views(self, height: int) -> list[int]:
        """Where the delegates stand at an undecided height."""
        return [
            node.replica.view
            for node in self.delegates(height)
            if node.replica is not None and node.ledger.height == height - 1
        ]

    def wake(self, nonce: int) -> bytes:
        """A transfer, submitted at a delegate: a block has to be made."""
        cast = self.run.cast
        sender, recipient = cast.players[0], cast.players[1]
        data = cast.transaction(Transfer(recipient.address, nonce), (sender.signer,), self.run.true_ms())
        self.delegates(self.height + 1)[1].submit(data)
        return data


def commit_after_view_change() -> None:
    """Prepares of view 0 come when all are in view 1: whoever commits then commits behind its own back (6.6)."""
    stage = Stage()
    stage.grow(2)
    height = stage.height + 1
    released: list[bool] = []

    def loses(_source: int, _target: int, letter: Letter) -> bool:
        if not isinstance(letter, Prepare | Commit) or letter.height != height:
            return False
        if released:
            return letter.view > 0 and len(released) < 2
        return letter.view == 0 and isinstance(letter, Prepare)

    stage.run.loses = loses
    stage.wake(1)
    stage.wait(lambda: min(stage.views(height), default=0) >= 1, "all in view 1")
    released.append(True)
    stage.pass_time(2 * SECOND_US)
    released.append(True)
    stage.grow(3)


def lost_block_body() -> None:
    """All lose power when a block is prepared and only the primary, which stays away, has its body in memory (6.5)."""
    stage = Stage()
    stage.grow(2)
    height = stage.height + 1
    stage.run.loses = lambda _s, _t, letter: isinstance(letter, Commit) and letter.height == height
    primary = _primary(stage)
    backups = [node for node in stage.delegates(height) if node is not primary]
    before = stage.run.outcome.reached["prepared"]
    stage.wake(1)
    stage.wait(
        lambda: stage.run.outcome.reached["prepared"] >= before + len(backups) + 1, "all have prepared"
    )
    for node in stage.run.nodes:
        node.crash()
    stage.run.loses = None
    for node in stage.run.nodes:
        if node is not primary:
            node.start()
    stage.grow(3)


def reproposal_judged_by_its_new_view() -> None:
    """A block prepared before a long silence is proposed again after it: by then its time is long past (6.6, 6.8)."""
    stage = Stage()
    stage.grow(2)
    height = stage.height + 1

    def loses(_source: int, _target: int, letter: Letter) -> bool:
        return isinstance(letter, Commit) and letter.height == height and letter.view == 0

    stage.run.loses = loses
    before = stage.run.outcome.reached["prepared"]
    stage.wake(1)
    stage.wait(lambda: stage.run.outcome.reached["prepared"] >= before + 4, "all have prepared")
    stage.run.loses = lambda _s, _t, _letter: True
    stage.pass_time(5 * SECOND_US)
    stage.run.loses = loses
    stage.grow(3)
    proposed_again = stage.run.checkers.decisions.chain[height - 1].certificate.view
    demand(proposed_again > 0, "the story went another way: nothing was proposed again")


def promoted_backup_lost() -> None:
    """A backup promoted by a view change loses its seat: the next after it heads the following height (6.3)."""
    stage = Stage(founders=8)
    stage.grow(2)
    failed = _primary(stage)
    failed.crash()
    stage.wake(1)
    stage.grow(1)
    failed.start()
    promoted = _primary(stage)
    demand(promoted is not failed, "the story went another way: nobody was promoted")
    cast = stage.run.cast
    leave = cast.transaction(Leave(), (cast.players[promoted.index].signer,), stage.run.true_ms())
    promoted.submit(leave)
    stage.wait(lambda: promoted not in stage.delegates(stage.height + 1), "its seat is another's")
    stage.grow(2)
    first = next(
        certified.block.header
        for certified in stage.run.checkers.decisions.chain
        if promoted not in stage.delegates(certified.block.header.height)
        and certified.block.header.height > 3
    )
    demand(first.view == 0, "6.3: the height after the loss needed a view change")


def set_in_force_from_the_second_block_on() -> None:
    """Delegates replaced within an epoch and by a tally hold their seats from two heights later on (7.2)."""
    stage = Stage(founders=8)
    stage.grow(2)
    leaving = stage.delegates(stage.height + 1)[2]
    cast = stage.run.cast
    leave = cast.transaction(Leave(), (cast.players[leaving.index].signer,), stage.run.true_ms())
    leaving.submit(leave)
    stage.wait(lambda: leaving not in stage.delegates(stage.height + 1), "its seat is another's")
    stage.wait(lambda: stage.run.outcome.epochs >= 2, "two epochs")
    stage.grow(2)


def removal_round() -> None:
    """A transaction that f + 1 primaries proposed in vain is removed, and stays so; another like it commits (6.10)."""
    stage = Stage(idle=True)
    stage.grow(2)
    height = stage.height + 1

    def loses(_source: int, _target: int, letter: Letter) -> bool:
        return isinstance(letter, Prepare) and letter.height == height and letter.view < 2

    stage.run.loses = loses
    data = stage.wake(1)
    identity = transaction_id(data)
    stage.wait(lambda: stage.height >= height, "the height is decided")
    stage.run.loses = None
    decided = stage.run.checkers.decisions.chain[height - 1].block
    removed = [item.transaction_id for item in decided.discarded]
    demand(removed == [identity], "6.10: what f + 1 primaries failed with was not removed")
    for node in stage.run.nodes:
        node.submit(data)
    again = stage.wake(2)
    stage.grow(3)
    demand(stage.run.checkers.decisions.finished(transaction_id(again)), "L3: the new one did not commit")


def _primary(stage: Stage) -> SimulatedNode:
    """Who heads the height in flight."""
    head = stage.run.shared.context(stage.run.checkers.decisions.chain[-1]).head
    return next(node for node in stage.run.nodes if node.member.address == head)


STORIES: Final[dict[str, Callable[[], None]]] = {
    "a commit after a view-change": commit_after_view_change,
    "a lost block body": lost_block_body,
    "a re-proposal judged by its new view": reproposal_judged_by_its_new_view,
    "a promoted backup lost after a recount": promoted_backup_lost,
    "a new set used one block early": set_in_force_from_the_second_block_on,
    "a removal round": removal_round,
}


def run_story(name: str) -> str | None:
    """What the story found; None if it ended well."""
    try:
        STORIES[name]()
    except Finding as found:
        return str(found)
    except Exception as error:  # noqa: BLE001 - a replica that stops is a finding as well
        return f"{type(error).__name__}: {error}"
    return None


def run_stories() -> Iterator[tuple[str, str | None]]:
    """All of them."""
    for name in STORIES:
        yield name, run_story(name)
