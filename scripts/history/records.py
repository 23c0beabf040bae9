"""What a history is made of: one JSON object a line, told apart by ``type``.

``at`` is monotonic nanoseconds of the one machine that recorded. A process is a client with at most one operation in
flight. An answer that never came, or that says nothing about the end, is `Info`, never `Fail` (PROTOCOL 9.3).
"""

from typing import Any, TypeAlias

import msgspec


class Record(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """Base of all lines."""


class Node(msgspec.Struct, frozen=True):
    """A node of the network."""

    name: str
    address: str


class Setup(Record, frozen=True, tag="setup"):
    """The first line: who took part, and how to do it again."""

    nodes: list[Node]
    seed: int = 0
    command: str = ""
    """Repeats the run."""
    gap_limit_ms: int = 10_000
    """Longest time without a commit while at most f delegates are faulty (RELIABILITY G12)."""
    recovery_ms: int = 20_000
    """Granted after more than f were."""


class Invoke(Record, frozen=True, tag="invoke"):
    """An operation begins.

    ``op`` and what it is about: submit, resubmit, status (``subject``: transaction id); account (address); trade (its
    id); block, delegates (``number``: height); plan (epoch).
    """

    at: int
    process: int
    op: str
    subject: str = ""
    number: int = 0
    node: str = ""
    """Where; empty for an answer put together from every node's."""
    consistent: bool = False
    """Read from all nodes, the newest answer counts: at least as new as what anybody was told before."""
    session: bool = True
    """Never older than what this process saw before; else a plain read, which may be stale."""


class Ok(Record, frozen=True, tag="ok"):
    """It ended with an answer."""

    at: int
    process: int
    height: int = 0
    """Of the block the answer was read at; 0: the answer does not say."""
    hash: str = ""
    state: str = ""
    """Of a transaction (PROTOCOL 9.3) or trade."""
    place: tuple[int, int] | None = None
    """Height and index of a transaction."""
    value: dict[str, Any] | list[Any] | None = None


class Fail(Record, frozen=True, tag="fail"):
    """It certainly had, and will have, no effect: the transaction expired or was discarded."""

    at: int
    process: int
    state: str
    height: int = 0
    hash: str = ""


class Info(Record, frozen=True, tag="info"):
    """Nothing is known about its end."""

    at: int
    process: int
    reason: str = ""


class Subscribe(Record, frozen=True, tag="subscribe"):
    """An event stream begins, or goes on behind (``height``, ``sequence``); sequence -1: with the block itself."""

    at: int
    process: int
    node: str
    height: int
    sequence: int = -1


class Event(Record, frozen=True, tag="event"):
    """An event of a stream; sequence 0 is the block itself."""

    at: int
    process: int
    height: int
    sequence: int
    kind: str
    hash: str
    transaction: str = ""


class Nemesis(Record, frozen=True, tag="nemesis"):
    """A fault begins (``on``) or ends."""

    at: int
    fault: str
    nodes: list[str]
    on: bool = True
    byzantine: bool = False
    """What these nodes sign from now on may be anything."""
    forgets: bool = False
    """They may answer from an older state than before."""
    number: int = 0
    """The same at begin and end."""


class Vote(Record, frozen=True, tag="vote"):
    """A signed pre-prepare, prepare or commit that a tap on the wire saw."""

    at: int
    signer: str
    epoch: int
    height: int
    view: int
    phase: str
    digest: str


class FinalChain(Record, frozen=True, tag="final"):
    """All block hashes of one node after everything was quiet, from height 1 on."""

    at: int
    node: str
    hashes: list[str]


class Problem(Record, frozen=True, tag="problem"):
    """A traceback, a lost exception or an exit that nobody planned."""

    at: int
    node: str
    what: str
    line: str = ""


Line: TypeAlias = (
    Setup | Invoke | Ok | Fail | Info | Subscribe | Event | Nemesis | Vote | FinalChain | Problem
)
