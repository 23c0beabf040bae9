"""Decided blocks on their way between nodes: to members without a seat, to who is late, to who lost its journal."""

import random

from consensus.block import CertifiedBlock
from consensus.effects import SendDecided
from consensus.inputs import AbstainUntil, DecidedReceived, SyncState
from consensus.types import Address, PublicKey
from network.simulation.letters import AskDecided, AskHeight, GiveDecided
from network.simulation.surroundings import Process

BLOCKS_PER_ANSWER = 8
"""Decided blocks in one answer to a node that fell behind."""
BLOCKS_AHEAD = 64
"""Decided blocks kept until their turn comes."""


class CatchingUp:
    """Volatile; begins anew with each life of the process."""

    def __init__(self, process: Process, rng: random.Random) -> None:
        self._process = process
        self._rng = rng
        self._ahead: dict[int, CertifiedBlock] = {}
        self._heights: dict[PublicKey, int] = {}
        self.caught_up = True
        """As the replica takes it at its start (PROTOCOL 10.2)."""

    # ------------------------------------------------------------------ giving

    def disseminate(self, certified: CertifiedBlock, own: Address) -> None:
        """Members without a seat learn of decided blocks from a delegate (PROTOCOL 6.12)."""
        around = self._process.around
        delegates = around.timetable.term(certified.block.header.height).delegates
        rank = delegates.position(own)
        others = [member for member in around.members if delegates.position(member.address) is None]
        for place, member in enumerate(others):
            if place % len(delegates) == rank:
                self._process.post(member.public_key, GiveDecided((certified,)))

    def send(self, effect: SendDecided) -> None:
        """Answer a late delegate's view-change (PROTOCOL 6.6)."""
        disk = self._process.disk
        if 0 < effect.height <= disk.height:
            self._process.post(effect.to, GiveDecided((disk.blocks[effect.height - 1],)))

    def answer(self, sender: PublicKey, asked: AskDecided) -> None:
        """Give blocks from a height on; none says: I have no more than you."""
        begin = asked.height - 1
        blocks = tuple(self._process.disk.blocks[begin : begin + BLOCKS_PER_ANSWER])
        self._process.post(sender, GiveDecided(blocks))

    # ------------------------------------------------------------------ taking

    def begin(self) -> None:
        """A process that starts takes itself as behind until a peer says otherwise."""
        self._set_caught_up(False)
        self.poll()

    def poll(self) -> None:
        """Ask one of the others for later blocks."""
        self.ask((self._rng.choice(self._process.others),))

    def ask(self, holders: tuple[PublicKey, ...]) -> None:
        """Ask for decided blocks from the next height on."""
        for key in holders or self._process.others:
            self._process.post(key, AskDecided(self._process.ledger.height + 1))

    def take(self, blocks: tuple[CertifiedBlock, ...]) -> None:
        """Blocks came in; the replica checks each in its turn."""
        height = self._process.ledger.height
        for certified in blocks:
            if height < certified.block.header.height <= height + BLOCKS_AHEAD:
                self._ahead[certified.block.header.height] = certified
        if not blocks:
            self._set_caught_up(True)
        elif blocks[-1].block.header.height > height + 1:
            self._set_caught_up(False)
        self.go_on()

    def go_on(self) -> None:
        """Hand the next block to the replica, or ask for more."""
        following = self._ahead.pop(self._process.ledger.height + 1, None)
        if following is not None:
            self._process.step(DecidedReceived(self._process.at(), following))
        elif not self.caught_up:
            self.poll()

    def _set_caught_up(self, caught_up: bool) -> None:
        if caught_up != self.caught_up:
            self.caught_up = caught_up
            self._process.step(SyncState(self._process.at(), caught_up))

    # ------------------------------------------------------------------ after the loss of a journal

    def note_height(self, sender: PublicKey, height: int) -> None:
        """A peer said which height is certified there."""
        self._heights[sender] = height

    def learn_height(self) -> None:
        """Ask all until q of the other delegates have answered and their highest block is here (PROTOCOL 6.5)."""
        process = self._process
        delegates = process.ledger.context().delegates
        answered = [d for d in delegates if d.public_key in self._heights]
        highest = max(self._heights.values(), default=0)
        if len(answered) < delegates.quorum or process.ledger.height < highest:
            for key in process.others:
                process.post(key, AskHeight())
            return
        process.disk.lost = False
        process.step(AbstainUntil(process.at(), max(highest, process.ledger.height)))
