"""What happened in a run, event by event: hashed always, and kept if somebody will read it."""

import hashlib
from typing import Final, TypeAlias

from consensus.encoding import encode
from network.simulation.agenda import Agenda

Fact: TypeAlias = int | str | bytes
"""What an event is told by; the first fact of each event names its kind."""
EVENTS_PER_HASH: Final = 2_048


class Record:
    """The events of one run in their order. Hashing packs many at once, since there are thousands a second."""

    def __init__(self, agenda: Agenda, *, keep: bool) -> None:
        self._agenda = agenda
        self._keep = keep
        self._hash = hashlib.blake2b(digest_size=16)
        self._pending: list[tuple[int, tuple[Fact, ...]]] = []
        self.events: list[tuple[int, tuple[Fact, ...]]] = []
        """(microsecond, facts) of every event, if they are kept."""

    def note(self, *facts: Fact) -> None:
        """Something happens now."""
        self._pending.append((self._agenda.now_us, facts))
        if len(self._pending) >= EVENTS_PER_HASH:
            self._pack()

    def _pack(self) -> None:
        self._hash.update(encode(self._pending))
        if self._keep:
            self.events += self._pending
        self._pending = []

    def trace_hash(self) -> str:
        """The hash of all events so far."""
        self._pack()
        return self._hash.hexdigest()

    def lines(self) -> list[str]:
        """The kept events as text."""
        self._pack()
        return [f"{at_us} {' '.join(map(_text, facts))}\n" for at_us, facts in self.events]


def _text(fact: Fact) -> str:
    return fact.hex()[:12] if isinstance(fact, bytes) else str(fact)
