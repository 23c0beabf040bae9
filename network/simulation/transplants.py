"""Members that put a signature where it does not belong, and members that sign numbers at the edge of what there is.

Replays across phase, type and chain (RELIABILITY 23), and view-changes of height 0 or of views without end (21).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from consensus.judge import MAX_VIEW
from consensus.messages import (
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PrePrepareVote,
    Proposal,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from consensus.signing import Signer
from consensus.types import Digest
from network.simulation.byzantine import MISCHIEF, Mischief
from network.simulation.intruders import Intruder
from network.simulation.letters import Letter

LAST: Final = 2**63 - 1
"""The largest integer that a message can carry."""
EDGES: Final = (0, 1, MAX_VIEW - 1, MAX_VIEW, MAX_VIEW + 1, LAST)


class Transplanter:
    """Shows its signatures as those of another phase, of another type or of this chain, beside its true messages."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._foreign = bytes(byte ^ 0xFF for byte in chain_id)

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The letter, after or before a false one with a signature that is true elsewhere."""
        false = self._false(liar, letter)
        told: list[tuple[int, Letter]] = [(0, letter)]
        return [(0, false), *told] if false is not None and self._rng.random() < 0.5 else told

    def _false(self, liar: Intruder, letter: Letter) -> ConsensusMessage | None:
        match letter:
            case Proposal():
                return self._as(Prepare, letter.vote)
            case Prepare():
                return self._rng.choice((self._as(Commit, letter), self._of_another_chain(liar, letter)))
            case Commit():
                return self._rng.choice((self._as(Prepare, letter), self._of_another_chain(liar, letter)))
            case ViewChange():
                fields = (letter.epoch, letter.height, letter.view, letter.signer, letter.signature)
                return NewView(*fields[:3], (letter,), *fields[3:])
            case NewView():
                fields = (letter.epoch, letter.height, letter.view, letter.signer, letter.signature)
                return ViewChange(*fields[:3], None, (), *fields[3:])
            case _:
                return None

    @staticmethod
    def _as(kind: type[Prepare] | type[Commit], vote: PrePrepareVote | Prepare | Commit) -> Prepare | Commit:
        """The same place, digest and signature in another phase."""
        return kind(vote.epoch, vote.height, vote.view, vote.digest, vote.signer, vote.signature)

    def _of_another_chain(self, liar: Intruder, vote: Prepare | Commit) -> Prepare | Commit:
        place = (vote.epoch, vote.height, vote.view, self._rng.randbytes(32))
        if isinstance(vote, Prepare):
            return sign_vote(Prepare, self._foreign, *place, liar.signer)
        return sign_vote(Commit, self._foreign, *place, liar.signer)


class Extremist:
    """Signs, rightly, for heights and views at the edge of what can be encoded."""

    def __init__(self, rng: random.Random, chain_id: Digest) -> None:
        self._rng = rng
        self._chain_id = chain_id

    def twist(self, liar: Intruder, target: int, letter: Letter) -> Sequence[tuple[int, Letter]]:
        """The letter and one of the edge."""
        extreme = self._extreme(liar.signer, letter)
        return [(0, letter)] if extreme is None else [(0, extreme), (0, letter)]

    def _extreme(self, signer: Signer, letter: Letter) -> ConsensusMessage | None:
        edge = self._rng.choice(EDGES)
        match letter:
            case Prepare():
                return sign_vote(
                    Prepare, self._chain_id, letter.epoch, letter.height, edge, letter.digest, signer
                )
            case Commit():
                return sign_vote(
                    Commit, self._chain_id, letter.epoch, edge, letter.view, letter.digest, signer
                )
            case ViewChange() | NewView():
                name = self._rng.choice(("view", "view", "height", "epoch"))
                moved = msgspec.structs.replace(letter, **{name: edge})
                signature = signer.sign(view_change_bytes(moved, self._chain_id))
                return msgspec.structs.replace(moved, signature=signature)
            case _:
                return None


TRANSPLANTS: Final[Mapping[str, Callable[[random.Random, Digest, int], Mischief]]] = {
    "transplanter": lambda rng, chain_id, _timeout_ms: Transplanter(rng, chain_id),
    "extremist": lambda rng, chain_id, _timeout_ms: Extremist(rng, chain_id),
}
"""By name, made like those of `byzantine.MISCHIEF`. Scenarios name them; seeds do not draw them, so that what earlier
seeds are stays as it was."""
EVERY_MISCHIEF: Final[Mapping[str, Callable[[random.Random, Digest, int], Mischief]]] = {
    **MISCHIEF,
    **TRANSPLANTS,
}
