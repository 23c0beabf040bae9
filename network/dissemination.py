"""Who gets a decided block from whom (PROTOCOL 6.12), without IO.

A delegate hands each decided block to the members of its own group. A member whose delegate brings nothing for a
while asks others, one after the other: first the other delegates, then its neighbours in the group.
"""

from collections.abc import Sequence

from consensus.types import PublicKey


class Dissemination:
    """The policy of one node; heights and monotonic milliseconds come in, keys go out."""

    def __init__(self, own_key: PublicKey, silence_ms: int, now_ms: int) -> None:
        """``silence_ms``: after so long without a new block a member asks; a few empty_block_interval_ms."""
        self._own_key = own_key
        self._silence_ms = silence_ms
        self._group: tuple[PublicKey, ...] = ()
        self._sources: tuple[PublicKey, ...] = ()
        self._delegates: frozenset[PublicKey] = frozenset()
        self._height = 0
        self._news_ms = now_ms
        self._asked = 0

    def set_groups(self, delegates: Sequence[PublicKey], own_group: Sequence[PublicKey]) -> None:
        """``delegates`` in ranking order; ``own_group``: the members of this node's group, itself included or not."""
        self._delegates = frozenset(delegates)
        self._group = tuple(key for key in own_group if key != self._own_key and key not in self._delegates)
        own_delegate = [key for key in delegates if key in own_group]
        others = [key for key in delegates if key not in own_group]
        # The own delegate comes last: it is asked only when nobody else answers, since it should have spoken.
        self._sources = tuple(key for key in (*others, *self._group, *own_delegate) if key != self._own_key)
        self._asked = 0

    def decided(self, height: int, now_ms: int) -> tuple[PublicKey, ...]:
        """This node holds the decided block of ``height``: those it has to hand it to."""
        self.heard(height, now_ms)
        return self._group if self._own_key in self._delegates else ()

    def heard(self, height: int, now_ms: int) -> None:
        """A block of ``height`` came: news, if it is a higher one."""
        if height > self._height:
            self._height = height
            self._news_ms = now_ms
            self._asked = 0

    def to_ask(self, now_ms: int, reachable: Sequence[PublicKey]) -> PublicKey | None:
        """Whom to ask for the next block now, if it is time: the next of the ``reachable`` ones."""
        if self._own_key in self._delegates or now_ms - self._news_ms < self._silence_ms * (self._asked + 1):
            return None
        candidates = [key for key in self._sources if key in reachable]
        if not candidates:
            return None
        chosen = candidates[self._asked % len(candidates)]
        self._asked += 1
        return chosen
