"""Seeded good histories: clients on nodes that lag, answers that never come, reads that are stale, streams that break.

Time is made up: clients are drawn one after the other against the instants at which each node applies each block, then
the ledger is executed once and every answer is filled in from it.
"""

import random
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from scripts.history.chain import Chain, Item
from scripts.history.records import (
    Event,
    Fail,
    FinalChain,
    Info,
    Invoke,
    Line,
    Nemesis,
    Node,
    Ok,
    Setup,
    Subscribe,
    Vote,
)
from scripts.history.timeline import Timeline
from scripts.history.world import EPOCH_BLOCKS, MEMBERS, World, name

MILLISECOND: Final = 1_000_000
LOST, EXPIRED, DISCARDED, UNANSWERED = 0.02, 0.01, 0.005, 0.02
"""Of submissions: never arrived, ran out, removed; decided but the answer got lost."""
LAG: Final = 0.05
"""Chance that a node begins to fall behind at a block, for up to twenty."""
SUBMIT, STATUS, ACCOUNT, CONSISTENT = 0.45, 0.70, 0.84, 0.90
"""Upper bounds of what a client does next; the rest reads blocks, delegates, plans and trades."""


class Generated(NamedTuple):
    """A history and the chain it ends with."""

    lines: list[Line]
    chain: Chain


class _Read(NamedTuple):
    """An answer that is filled in once the ledger is known."""

    at: int
    process: int
    op: str
    subject: str
    number: int
    height: int


class Clock:
    """When blocks are proposed, decided, and applied by each node; grows on demand."""

    def __init__(self, draw: random.Random, nodes: int) -> None:
        self._draw = draw
        self.proposed: list[int] = []
        self.decided: list[int] = []
        self.applied: list[list[int]] = [[] for _ in range(nodes)]
        self._behind = [0] * nodes

    def reach(self, at: int) -> None:
        """Make blocks until one is proposed after ``at`` and applied everywhere."""
        draw = self._draw
        while not self.proposed or self.proposed[-1] <= at:
            begin = (self.decided[-1] if self.decided else 0) + draw.randint(1, 60) * MILLISECOND
            end = begin + draw.randint(20, 60) * MILLISECOND
            self.proposed.append(begin)
            self.decided.append(end)
            for number, applied in enumerate(self.applied):
                if draw.random() < LAG:
                    self._behind[number] = draw.randint(1, 20) * 20 * MILLISECOND
                self._behind[number] = max(0, self._behind[number] - 20 * MILLISECOND)
                instant = end + self._behind[number] + draw.randint(0, 5_000_000)
                applied.append(max(instant, applied[-1] + 1 if applied else 0))

    def including(self, at: int) -> int:
        """Height of the first block proposed after ``at``."""
        self.reach(at)
        return bisect_right(self.proposed, at) + 1

    def applied_at(self, node: int, height: int) -> int:
        """When ``node`` has applied ``height``."""
        while len(self.decided) < height:
            self.reach(self.proposed[-1])
        return self.applied[node][height - 1]

    def height(self, node: int, at: int) -> int:
        """What ``node`` has applied."""
        self.reach(at)
        return bisect_right(self.applied[node], at)


class Generator:
    """One history; `make` it once."""

    def __init__(self, seed: int, operations: int, clients: int = 12, streams: int = 3) -> None:
        self.seed = seed
        self.draw = random.Random(f"history {seed}")
        self.world = World(seed)
        self.nodes = [Node(f"node{number}", address) for number, address in enumerate(self.world.members, 1)]
        self.clock = Clock(random.Random(f"clock {seed}"), MEMBERS)
        self.lines: list[Line] = []
        self._operations, self._clients, self._streams = operations, clients, streams
        self._asked: dict[int, list[tuple[int, Item]]] = {}
        self._discarded: dict[int, list[str]] = {}
        self._reads: list[_Read] = []
        self._acks: list[tuple[int, int, str, int, int]] = []
        """Instant, process, id, its height, height of the answering node."""
        self._ids: list[tuple[str, int | None]] = []
        """Submitted ids and the height of each."""
        self._amount = 0

    def make(self, spoil: Callable[[Chain], Chain] | None = None) -> Generated:
        """All lines in order of time; ``spoil`` changes the chain before answers and streams are taken from it."""
        each = max(1, self._operations // self._clients)
        for process in range(self._clients):
            self._client(process, each)
        self._execute()
        chain = self.world.chain() if spoil is None else spoil(self.world.chain())
        self._fill(chain)
        self._stream_all(chain)
        self._extras(chain)
        self.lines.sort(key=lambda line: line.at)  # type: ignore[union-attr]
        setup = Setup(self.nodes, self.seed, f"scripts/faults/judge generate --seed {self.seed}")
        return Generated([setup, *self.lines], chain)

    # ---- clients

    def _client(self, process: int, operations: int) -> None:
        """A client pinned to one node, hopping, or reading from all: by its number."""
        draw, at = self.draw, self.draw.randint(0, 50) * MILLISECOND
        home = process % MEMBERS
        pinned = process % 3 == 0
        for _ in range(operations):
            at += draw.randint(1, 40) * MILLISECOND
            node = home if pinned else draw.randrange(MEMBERS)
            chance = draw.random()
            if chance < SUBMIT or not self._ids:
                at = self._submit(process, node, at, pinned)
            elif chance < CONSISTENT and chance >= ACCOUNT:
                at = self._read_all(process, at)
            else:
                at = self._read(process, node, at, pinned, chance)

    def _submit(self, process: int, node: int, at: int, session: bool) -> int:
        draw = self.draw
        identity = name(self.seed, "transaction", len(self._ids))
        where = self.nodes[node].name
        self.lines.append(Invoke(at, process, "submit", identity, 0, where, False, session))
        arrived = at + draw.randint(1, 10) * MILLISECOND
        fate = draw.random()
        if fate < LOST:
            return self._nothing_known(process, identity, at, None)
        if fate < LOST + EXPIRED:
            end = at + 3_000 * MILLISECOND
            height = self.clock.height(node, end)
            self._ids.append((identity, None))
            self.lines.append(Fail(end, process, "expired", height))
            return end
        height = self.clock.including(arrived)
        if fate < LOST + EXPIRED + DISCARDED:
            self._discarded.setdefault(height, []).append(identity)
            end = self.clock.applied_at(node, height) + MILLISECOND
            self._ids.append((identity, None))
            self.lines.append(Fail(end, process, "discarded", self.clock.height(node, end)))
            return end
        self._amount += 1
        item = (
            self.world.trade(identity)
            if draw.random() < 0.1
            else self.world.transfer(identity, self._worth())
        )
        self._asked.setdefault(height, []).append((arrived, item))
        if fate < LOST + EXPIRED + DISCARDED + UNANSWERED:
            return self._nothing_known(process, identity, at, height)
        end = self.clock.applied_at(node, height) + draw.randint(1, 5) * MILLISECOND
        self._ids.append((identity, height))
        self._acks.append((end, process, identity, height, self.clock.height(node, end - MILLISECOND)))
        return end

    def _worth(self) -> int:
        """Unique, so that a balance names its payments; now and then more than anybody has."""
        return 10**17 if self.draw.random() < 0.02 else self._amount

    def _nothing_known(self, process: int, identity: str, at: int, height: int | None) -> int:
        end = at + 500 * MILLISECOND
        self._ids.append((identity, height))
        self.lines.append(Info(end, process, "timeout"))
        return end

    def _read(self, process: int, node: int, at: int, session: bool, chance: float) -> int:
        draw = self.draw
        served = at + draw.randint(1, 8) * MILLISECOND
        end = served + draw.randint(1, 8) * MILLISECOND
        height = self.clock.height(node, served)
        op, subject, number = "account", draw.choice(self.world.members), 0
        if chance < STATUS:
            op, subject = "status", draw.choice(self._ids[-200:])[0]
        elif chance >= ACCOUNT:
            op = draw.choice(("block", "delegates", "plan", "trade"))
            subject = draw.choice(self._ids[-200:])[0] if op == "trade" else ""
            number = (
                draw.randint(0, height // EPOCH_BLOCKS) if op == "plan" else draw.randint(1, max(1, height))
            )
        self.lines.append(Invoke(at, process, op, subject, number, self.nodes[node].name, False, session))
        self._reads.append(_Read(end, process, op, subject, number, height))
        return end

    def _read_all(self, process: int, at: int) -> int:
        """The newest answer of all nodes."""
        served = at + self.draw.randint(1, 8) * MILLISECOND
        end = served + self.draw.randint(1, 8) * MILLISECOND
        height = max(self.clock.height(node, served) for node in range(MEMBERS))
        subject = self.draw.choice(self.world.members)
        self.lines.append(Invoke(at, process, "account", subject, 0, "", True, False))
        self._reads.append(_Read(end, process, "account", subject, 0, height))
        return end

    # ---- the ledger

    def _execute(self) -> None:
        for height in range(1, len(self.clock.decided) + 1):
            asked = sorted(self._asked.get(height, ()), key=lambda one: (one[0], one[1].id))
            self.world.block([item for _, item in asked], self._discarded.get(height, ()))

    def _fill(self, chain: Chain) -> None:
        places = {
            item.id: (block.height, index, item.code)
            for block in chain.blocks
            for index, item in enumerate(block.items)
        }
        for at, process, identity, height, seen in self._acks:
            _, index, code = places[identity]
            state = "rejected" if code else "committed"
            self.lines.append(Ok(at, process, seen, chain.hash_at(seen) or "", state, (height, index)))
        timeline = Timeline(chain)
        gone = {identity: height for height, ids in self._discarded.items() for identity in ids}
        for read in self._reads:
            self.lines.append(self._answer(chain, timeline, places, gone, read))

    def _answer(
        self,
        chain: Chain,
        timeline: Timeline,
        places: dict[str, tuple[int, int, int]],
        gone: dict[str, int],
        read: _Read,
    ) -> Ok:
        at, process, op, subject, number, height = read
        block_hash = chain.hash_at(height) or ""
        if op == "status":
            held = places.get(subject)
            if held is not None and held[0] <= height:
                state = "rejected" if held[2] else "committed"
                return Ok(at, process, height, block_hash, state, held[:2])
            state = "discarded" if gone.get(subject, height + 1) <= height else "unknown"
            return Ok(at, process, height, block_hash, state)
        if op == "account":
            tables = (
                ("balance", timeline.balances),
                ("credit", timeline.credits),
                ("energy_wh", timeline.energy),
            )
            values = {key: table[subject].at(height) for key, table in tables}
            return Ok(at, process, height, block_hash, "", None, values)
        if op == "delegates":
            return Ok(at, process, height, block_hash, "", None, list(timeline.delegates(number)))
        if op == "plan":
            formed = timeline.groups.get(number)
            if formed is None:
                return Ok(at, process, height, block_hash)
            value: dict[str, Any] = {"members": list(formed.members)}
            value["assignment"] = list(formed.assignment)
            return Ok(at, process, height, block_hash, "", None, value)
        if op == "trade":
            states = timeline.trades.get(subject)
            return Ok(at, process, height, block_hash, ((states and states.at(height)) or ""))
        return Ok(at, process, height, block_hash, "", None, {"hash": chain.hash_at(number)})

    # ---- streams, votes, nemesis, final chains

    def _stream_all(self, chain: Chain) -> None:
        first = max(1, chain.height * 4 // 5) if chain.height > 500 else 1
        for number in range(self._streams):
            self._stream(chain, 10_000 + number, self.draw.randrange(MEMBERS), first)

    def _stream(self, chain: Chain, process: int, node: int, first: int) -> None:
        """Broken off now and then, and resumed behind the last event."""
        draw, applied = self.draw, self.clock.applied[node]
        self.lines.append(Subscribe(applied[first - 1], process, self.nodes[node].name, first))
        latest = 0
        for block in chain.blocks[first - 1 :]:
            at = latest = max(latest + 1, applied[block.height - 1])
            events = [("block", ""), *block.stream()]
            for sequence, (kind, transaction) in enumerate(events):
                at = latest = latest + 1_000
                self.lines.append(Event(at, process, block.height, sequence, kind, block.hash, transaction))
                if draw.random() < 0.002:
                    where = draw.choice(self.nodes).name
                    self.lines.append(Subscribe(at + 1, process, where, block.height, sequence))

    def _extras(self, chain: Chain) -> None:
        decided = self.clock.decided
        for block in chain.blocks[-200:]:
            at = decided[block.height - 1] - 1
            for signer in block.signers:
                for phase in ("prepare", "commit"):
                    self.lines.append(
                        Vote(at, signer, block.epoch, block.height, block.view, phase, block.hash)
                    )
        number, at = 0, 0
        while at < decided[-1]:
            at += self.draw.randint(300, 2_000) * MILLISECOND
            number, paused = number + 1, self.draw.choice(self.nodes).name
            until = at + self.draw.randint(100, 900) * MILLISECOND
            self.lines.append(Nemesis(at, "pause", [paused], True, number=number))
            self.lines.append(Nemesis(until, "pause", [paused], False, number=number))
        end = max(decided[-1], at) + 10**10
        hashes = [block.hash for block in chain.blocks]
        for node in self.nodes:
            behind = self.draw.randint(0, min(2, chain.height - 1))
            self.lines.append(FinalChain(end, node.name, hashes[: len(hashes) - behind]))


def generate(seed: int, operations: int = 300, clients: int = 12, streams: int = 3) -> Generated:
    """A good history of about ``operations`` operations."""
    return Generator(seed, operations, clients, streams).make()
