"""A lost journal in the simulation: how far may this key have signed? (PROTOCOL 6.5; as node.abstention does it.)"""

from consensus.inputs import AbstainUntil, JournalLost
from consensus.types import PublicKey
from network.simulation.letters import AskHeight, GiveHeight
from network.simulation.surroundings import Process


class Abstention:
    """Asks while it is not known how far; an answer counts once this node's own ledger proves it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._answers: dict[PublicKey, GiveHeight] = {}

    def begin(self) -> None:
        """The journal is lost."""
        self._answers.clear()
        self._process.step(JournalLost(self._process.at()))

    def answer(self, sender: PublicKey) -> None:
        """Tell this ledger's height."""
        process = self._process
        self._process.post(sender, GiveHeight(process.disk.height, process.ledger.context().parent_hash))

    def note(self, sender: PublicKey, answer: GiveHeight) -> None:
        """A peer said which height is certified there."""
        if self._process.disk.lost:
            held = self._answers.get(sender)
            if held is None or not self._is_proven(held) or self._is_proven(answer):
                self._answers[sender] = answer

    def tick(self) -> None:
        """Ask all until q of the other delegates have proven answers."""
        process = self._process
        if not process.disk.lost:
            return
        delegates = process.ledger.context().delegates
        proven = [
            self._answers[key].height
            for key in (delegate.public_key for delegate in delegates)
            if key in self._answers and self._is_proven(self._answers[key])
        ]
        others = len(delegates) - (delegates.position(process.member.address) is not None)
        if len(proven) < max(1, min(delegates.quorum, others)):
            for key in process.others:
                process.post(key, AskHeight())
            return
        process.disk.lost = False
        process.step(AbstainUntil(process.at(), max(proven)))

    def _is_proven(self, answer: GiveHeight) -> bool:
        if answer.height == 0:
            return True
        certified = self._process.disk.read_block(answer.height)
        return certified is not None and certified.certificate.digest == answer.block_hash
