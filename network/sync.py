"""Catching up by certified blocks from several peers at once, without IO (PROTOCOL 10.1, 10.2, L2).

Peers announce heights; ranges of missing blocks are asked from several of them in parallel, put in order in a bounded
buffer and handed out one height after the other. Whether a certificate is genuine only the ledger can tell, which
knows the delegate set of that height: it answers each `DeliverBlock` with `applied` or `invalid`.

A peer that lowers its height, does not hold what it announced, answers lazily, late or slowly is left out of the
session for a while; one that sends what no honest node sends is punished. Announced heights are hints: they start
requests, and f+1 delegates have to announce them before this node calls itself behind.
"""

from collections.abc import Sequence

import msgspec

from consensus.block import CertifiedBlock, certified_block_codec
from consensus.errors import MalformedInput
from consensus.types import Digest, PublicKey
from network.admission import BanList
from network.level import LevelJudge
from network.sync_effects import (
    CaughtUpChanged,
    DeliverBlock,
    LeaveOut,
    RequestBlocks,
    SyncEffect,
    SyncLimits,
)
from network.wire import BLOCKS_RESPONSE_TARGET_BYTES, MAX_BLOCKS


class _Request(msgspec.Struct, eq=False):
    peer: PublicKey
    from_height: int
    count: int
    asked_ms: int
    probe: bool = False
    """Asked without an announcement: an empty answer is no lie."""

    @property
    def end(self) -> int:
        return self.from_height + self.count


class _Source(msgspec.Struct, eq=False):
    """A connected peer."""

    height: int = 0
    oldest_height: int = 1
    strikes: int = 0


class _Held(msgspec.Struct, frozen=True):
    peer: PublicKey
    certified: CertifiedBlock
    encoded: bytes


class SyncSession:
    """State of catching up; every method is an input and returns what is to be done, in order."""

    def __init__(self, applied_height: int, limits: SyncLimits | None = None) -> None:
        self._limits = limits or SyncLimits()
        self._applied = applied_height
        self._delivered = applied_height
        self._sources: dict[PublicKey, _Source] = {}
        self._highest = 0
        """The highest height that a source announced."""
        self._requests: list[_Request] = []
        self._held: dict[int, _Held] = {}
        """Blocks above the applied height, those handed out included."""
        self._held_bytes = 0
        self._barred = BanList(self._limits.bar_ms, self._limits.bar_max_ms)
        self._judge = LevelJudge(self._limits)
        self._lag_since_ms: int | None = None
        """Since when blocks are announced that are not here."""
        self._progress_ms = 0
        """When something was last handed out or applied."""
        self._urgent_height = 0
        self._ticked_ms: int | None = None

    @property
    def caught_up(self) -> bool:
        """Whether this node is level with the delegates, as last told by `CaughtUpChanged`."""
        return self._judge.level

    @property
    def applied_height(self) -> int:
        """The ledger's height."""
        return self._applied

    @property
    def target_height(self) -> int:
        """The highest height that a peer of the session announced; shown to people, believed by nobody."""
        return max(self._highest, self._applied)

    @property
    def held_bytes(self) -> int:
        """Bytes of the out-of-order buffer."""
        return self._held_bytes

    # ------------------------------------------------------------ inputs

    def set_delegates(
        self, others: Sequence[PublicKey], quorum: int, faults: int, own_seat: bool, now_ms: int
    ) -> list[SyncEffect]:
        """The current delegates but this node, q and f (PROTOCOL 6.2): who decides whether this node is behind."""
        self._judge.set_delegates(others, quorum, faults, own_seat)
        return self._go_on(now_ms)

    def status(self, peer: PublicKey, height: int, oldest_height: int, now_ms: int) -> list[SyncEffect]:
        """``peer`` announces the heights that it serves."""
        if self._is_barred(peer, now_ms):
            return []
        source = self._sources.setdefault(peer, _Source())
        if height < source.height:
            return self._bar(
                peer, f"lowered its height from {source.height} to {height}", now_ms
            ) + self._go_on(now_ms)
        self._raise(source, height)
        source.oldest_height = oldest_height
        return self._go_on(now_ms)

    def gone(self, peer: PublicKey, now_ms: int) -> list[SyncEffect]:
        """``peer`` is no longer connected."""
        self._forget(peer)
        return self._go_on(now_ms)

    def fetch(self, height: int, holders: Sequence[PublicKey], now_ms: int) -> list[SyncEffect]:
        """Somebody is ahead at ``height`` (`consensus.effects.FetchDecided`): ask the holders at once."""
        effects: list[SyncEffect] = []
        for peer in holders:
            if peer in self._sources:
                effects += self._probe(peer, height, now_ms)
        self._urgent_height = max(
            self._urgent_height, min(height, self._applied + self._limits.window_blocks)
        )
        return effects + self._go_on(now_ms)

    def probe(self, peer: PublicKey, now_ms: int) -> list[SyncEffect]:
        """Ask ``peer`` for the next blocks whatever it announced (a silent delegate's member, PROTOCOL 6.12)."""
        return self._probe(peer, self._delivered + 1, now_ms)

    def offer(self, peer: PublicKey, height: int, encoded: bytes, now_ms: int) -> list[SyncEffect]:
        """``peer`` sent the decided block of ``height`` unasked (PROTOCOL 6.12); it is put in order like any other."""
        try:
            certified = _checked(encoded, height, None)
        except MalformedInput as error:
            return self._punish(peer, str(error), now_ms)
        if self._is_barred(peer, now_ms):
            return []
        source = self._sources.setdefault(peer, _Source())
        self._raise(source, height)
        if height <= self._applied + self._limits.window_blocks and (
            height == self._delivered + 1 or self._held_bytes < self._limits.buffer_bytes
        ):
            self._hold(height, _Held(peer, certified, encoded))
        return self._go_on(now_ms)

    def response(
        self, peer: PublicKey, from_height: int, blocks: Sequence[bytes], now_ms: int
    ) -> list[SyncEffect]:
        """``peer`` answers a request; what was not asked for, or no longer, is ignored."""
        request = next((r for r in self._requests if r.peer == peer and r.from_height == from_height), None)
        if request is None:
            return []
        self._requests.remove(request)
        if len(blocks) > request.count:
            return self._punish(peer, f"{len(blocks)} blocks for a request of {request.count}", now_ms)
        parent: Digest | None = None
        for offset, encoded in enumerate(blocks):
            try:
                certified = _checked(encoded, from_height + offset, parent)
            except MalformedInput as error:
                return self._punish(peer, str(error), now_ms)
            parent = certified.certificate.digest
            self._hold(from_height + offset, _Held(peer, certified, encoded))
        effects = self._judge_answer(request, blocks, now_ms)
        return effects + self._go_on(now_ms)

    def applied(self, height: int, now_ms: int) -> list[SyncEffect]:
        """The ledger holds ``height``, from here or from consensus itself."""
        if height > self._applied:
            for done in [h for h in self._held if h <= height]:
                self._release(done)
            self._applied = height
            self._progress_ms = now_ms
            self._delivered = max(self._delivered, height)
        return self._go_on(now_ms)

    def invalid(self, height: int, reason: str, now_ms: int) -> list[SyncEffect]:
        """The block handed out for ``height`` is not what the chain decided; it and those after it will come again."""
        culprit = self._held.get(height)
        self._urgent_height = max(self._urgent_height, height)
        self._delivered = min(self._delivered, max(height - 1, self._applied))
        if culprit is None:
            return self._go_on(now_ms)
        return self._punish(culprit.peer, f"block {height}: {reason}", now_ms)

    def tick(self, now_ms: int) -> list[SyncEffect]:
        """Time passes: late requests, hedges, whether a lag lasts. A few times a second."""
        overslept_ms = now_ms - (self._ticked_ms if self._ticked_ms is not None else now_ms)
        self._ticked_ms = now_ms
        if overslept_ms >= self._limits.overslept_ms:
            # This very process stood still: nobody else is late.
            for request in self._requests:
                request.asked_ms += overslept_ms
        if self._delivered > self._applied and now_ms - self._progress_ms >= self._limits.redeliver_ms:
            self._delivered = self._applied
        effects: list[SyncEffect] = []
        for request in [r for r in self._requests if now_ms - r.asked_ms >= self._limits.request_timeout_ms]:
            if request in self._requests:
                self._requests.remove(request)
                effects += self._strike(request.peer, "did not answer in time", now_ms)
        return effects + self._go_on(now_ms)

    # ------------------------------------------------------------ going on

    def _go_on(self, now_ms: int) -> list[SyncEffect]:
        """What follows from the new state: deliveries, requests, a changed opinion of being level."""
        effects: list[SyncEffect] = []
        while self._delivered - self._applied < self._limits.unapplied_blocks:
            held = self._held.get(self._delivered + 1)
            if held is None:
                break
            self._delivered += 1
            self._progress_ms = now_ms
            effects.append(DeliverBlock(held.peer, self._delivered, held.certified, held.encoded))
        if self._wants_blocks(now_ms):
            effects += self._requests_for_missing(now_ms)
        if self._judge.judge(self._applied, self._announced, now_ms):
            effects.append(CaughtUpChanged(self._judge.level))
        return effects

    def _wants_blocks(self, now_ms: int) -> bool:
        """Whether the lag is one: large, lasting, or known to matter."""
        highest = self._delivered + 1
        while highest in self._held:
            highest += 1
        lag = self.target_height - (highest - 1)
        if lag <= 0:
            self._lag_since_ms = None
            return False
        if self._lag_since_ms is None:
            self._lag_since_ms = now_ms
        lasting = now_ms - self._lag_since_ms >= self._limits.behind_ms
        return (
            not self._judge.level
            or lasting
            or lag >= self._limits.far_behind_blocks
            or self._urgent_height > self._applied
        )

    def _requests_for_missing(self, now_ms: int) -> list[SyncEffect]:
        limits = self._limits
        effects: list[SyncEffect] = []
        covered = set(self._held)
        for request in self._requests:
            covered.update(range(request.from_height, request.end))
        last = min(self.target_height, self._applied + limits.window_blocks)
        hedge = self._hedge(now_ms)
        if hedge is not None:
            effects.append(hedge)
        first = height = self._first_missing()
        while height <= last:
            if height in covered:
                height += 1
                continue
            full = self._held_bytes >= limits.buffer_bytes or len(self._requests) >= limits.requests
            if full and height > first:
                break
            count = 1
            while (
                count < limits.blocks_per_request and height + count <= last and height + count not in covered
            ):
                count += 1
            asked = self._ask(height, count, now_ms, height == first, ())
            if asked is None:
                break
            effects.append(RequestBlocks(asked.peer, asked.from_height, asked.count))
            height = asked.end
        return effects

    def _hedge(self, now_ms: int) -> RequestBlocks | None:
        """The next missing block holds everything up: ask a second peer where the first takes its time."""
        first = self._first_missing()
        waiting = [r for r in self._requests if r.from_height <= first < r.end]
        if len(waiting) != 1 or now_ms - waiting[0].asked_ms < self._limits.hedge_ms:
            return None
        request = self._ask(first, waiting[0].end - first, now_ms, True, (waiting[0].peer,))
        return None if request is None else RequestBlocks(request.peer, request.from_height, request.count)

    def _first_missing(self) -> int:
        height = self._delivered + 1
        while height in self._held:
            height += 1
        return height

    def _ask(
        self, height: int, count: int, now_ms: int, urgent: bool, but: tuple[PublicKey, ...]
    ) -> _Request | None:
        """A request to the least busy peer that announced ``height``; None if all are busy.

        For the block that holds all others up (``urgent``) a busy peer takes one request more.
        """
        busy: dict[PublicKey, int] = {}
        for request in self._requests:
            busy[request.peer] = busy.get(request.peer, 0) + 1
        able = [
            (busy.get(key, 0), source.strikes, key)
            for key, source in self._sources.items()
            if source.oldest_height <= height <= source.height
            and busy.get(key, 0) < self._limits.requests_per_peer + urgent
            and key not in but
        ]
        if not able:
            return None
        peer = min(able)[2]
        request = _Request(peer, height, min(count, self._sources[peer].height - height + 1), now_ms)
        self._requests.append(request)
        return request

    def _probe(self, peer: PublicKey, height: int, now_ms: int) -> list[SyncEffect]:
        if self._is_barred(peer, now_ms) or any(r.peer == peer for r in self._requests):
            return []
        first = self._first_missing()
        count = min(max(height - first + 1, self._limits.blocks_per_request), MAX_BLOCKS)
        self._requests.append(_Request(peer, first, count, now_ms, probe=True))
        return [RequestBlocks(peer, first, count)]

    # ------------------------------------------------------------ blocks in order

    def _hold(self, height: int, held: _Held) -> None:
        if height <= self._applied or height in self._held:
            return
        self._held[height] = held
        self._held_bytes += len(held.encoded)

    def _release(self, height: int) -> None:
        self._held_bytes -= len(self._held.pop(height).encoded)

    # ------------------------------------------------------------ peers

    def _announced(self, peer: PublicKey) -> int | None:
        source = self._sources.get(peer)
        return None if source is None else source.height

    def _raise(self, source: _Source, height: int) -> None:
        source.height = max(source.height, height)
        self._highest = max(self._highest, height)

    def _forget(self, peer: PublicKey) -> None:
        source = self._sources.pop(peer, None)
        self._requests = [request for request in self._requests if request.peer != peer]
        if source is not None and source.height == self._highest:
            self._highest = max((other.height for other in self._sources.values()), default=0)

    def _judge_answer(self, request: _Request, blocks: Sequence[bytes], now_ms: int) -> list[SyncEffect]:
        """What the answer says about its sender, and about who was outrun by it."""
        complete = len(blocks) == request.count or sum(map(len, blocks)) >= BLOCKS_RESPONSE_TARGET_BYTES
        if not complete and not request.probe:
            return self._bar(
                request.peer,
                f"announced block {request.from_height + len(blocks)} and did not give it",
                now_ms,
            )
        source = self._sources.get(request.peer)
        if source is not None:
            if now_ms - request.asked_ms < self._limits.hedge_ms:
                source.strikes = 0
            self._raise(source, request.from_height + len(blocks) - 1)
        effects: list[SyncEffect] = []
        end = request.from_height + len(blocks)
        for slower in [r for r in self._requests if request.from_height <= r.from_height and r.end <= end]:
            if slower.asked_ms + self._limits.hedge_ms <= request.asked_ms and slower in self._requests:
                self._requests.remove(slower)
                effects += self._strike(slower.peer, "was outrun by a peer asked later", now_ms)
        return effects

    def _strike(self, peer: PublicKey, reason: str, now_ms: int) -> list[SyncEffect]:
        source = self._sources.get(peer)
        if source is None:
            return []
        source.strikes += 1
        # The last one stays: slow is better than nobody.
        if source.strikes < self._limits.strikes or len(self._sources) == 1:
            return []
        return self._bar(peer, reason, now_ms)

    def _bar(self, peer: PublicKey, reason: str, now_ms: int, punish: bool = False) -> list[SyncEffect]:
        self._barred.ban(peer, now_ms)
        self._forget(peer)
        return [LeaveOut(peer, reason, punish)]

    def _punish(self, peer: PublicKey, reason: str, now_ms: int) -> list[SyncEffect]:
        """``peer`` lied: nothing it sent is kept."""
        for height in [h for h, held in self._held.items() if held.peer == peer]:
            self._delivered = min(self._delivered, height - 1)
            self._release(height)
        return self._bar(peer, reason, now_ms, punish=True) + self._go_on(now_ms)

    def _is_barred(self, peer: PublicKey, now_ms: int) -> bool:
        return self._barred.remaining_ms(peer, now_ms) > 0


def _checked(encoded: bytes, height: int, parent: Digest | None) -> CertifiedBlock:
    """The certified block in ``encoded``, consistent in itself and with its place; `MalformedInput` if not."""
    certified = certified_block_codec.decode(encoded)
    header, certificate = certified.block.header, certified.certificate
    if header.height != height:
        raise MalformedInput(f"block {header.height} in the place of {height}")
    if certificate.height != header.height or certificate.digest != header.digest():
        raise MalformedInput(f"block {header.height} with a certificate for something else")
    if parent is not None and header.parent_hash != parent:
        raise MalformedInput(f"block {header.height} does not follow the block before it")
    return certified
