"""Reads a source from end to end: blocks ahead, signatures on threads, the replay in order, the store's copies last."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import zip_longest

from node.auditor.encoding import Malformed
from node.auditor.replay import Audit, Prepared, failed_checks
from node.auditor.source import Source, Unreadable

LOOKAHEAD_BLOCKS = 8
"""Blocks decoded ahead, whose signatures the threads verify meanwhile."""
SIGNATURE_THREADS = 2
"""libsodium works outside the interpreter's lock; more would wait for the replay."""
MAX_STATE_FINDINGS = 20
"""Differing entries that are listed; a damaged store may have millions."""

SWITCH_INTERVAL_S = 0.0001
"""About one signature. With the interpreter's own 5 ms a thread waits fifty times as long as it works for its turn."""

Failed = list[tuple[str, bytes]]


@contextmanager
def _brisk_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def audit_source(
    source: Source, genesis_hash: bytes | None = None, progress: Callable[[Audit, int], None] | None = None
) -> Audit:
    """Audit everything in ``source``; `Unreadable` only if not even its genesis can be read."""
    audit = Audit(source.genesis())
    if genesis_hash is not None and audit.chain_id != genesis_hash:
        audit.note("9.1 genesis hash", genesis_hash, audit.chain_id, stop=True)
    if audit.is_stopped():
        return audit
    height = source.height()
    with _brisk_threads(), ThreadPoolExecutor(SIGNATURE_THREADS) as pool:
        for prepared, failed in _prepared(source, audit, height, pool):
            audit.add(prepared, failed.result())
            if not audit.is_stopped():
                _compare_receipts(source, audit)
            if progress is not None:
                progress(audit, height)
            if audit.is_stopped():
                pool.shutdown(cancel_futures=True)
                return audit
    if not audit.is_stopped():
        audit.check_sums()
        _compare_state(source, audit, height)
    return audit


def _prepared(
    source: Source, audit: Audit, last: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[Prepared, "Future[Failed]"]]:
    """Blocks in order; what cannot be read or decoded becomes a finding once all before it are judged."""
    ahead: deque[tuple[Prepared, Future[Failed]]] = deque()
    reads: deque[Future[bytes | None]] = deque()
    before: Prepared | None = None
    asked = 0
    for height in range(1, last + 1):
        while asked < min(last, height + LOOKAHEAD_BLOCKS):
            asked += 1
            reads.append(pool.submit(source.block, asked))
        try:
            data = reads.popleft().result()
            if data is None:
                raise Unreadable("no such block; if it was pruned, audit a node that keeps all blocks")
            before = Prepared(height, data, audit.chain_id, before)
        except (Unreadable, Malformed) as error:
            yield from ahead
            if not audit.is_stopped():
                rule = "9.4 block" if isinstance(error, Malformed) else "9.1 block"
                audit.missing(height, str(error), rule)
            return
        ahead.append((before, pool.submit(failed_checks, before.checks)))
        if len(ahead) > LOOKAHEAD_BLOCKS:
            yield ahead.popleft()
    yield from ahead


def _compare_receipts(source: Source, audit: Audit) -> None:
    stored = source.receipts(audit.height)
    if stored is None or stored == audit.receipts:
        return
    for number, (own, other) in enumerate(zip_longest(audit.receipts, stored)):
        if own != other:
            shown = [None if item is None else item.hex() for item in (own, other)]
            audit.note("9.3 stored receipts", f"receipt {number} {shown[0]}", shown[1])
            return


def _compare_state(source: Source, audit: Audit, height: int) -> None:
    """The store's head and state are those of the last block (a running node may have moved on: then nothing is)."""
    head = source.head()
    if head is None or source.height() != height:
        return
    audit.compare("9.1 stored head", (audit.parent_digest, audit.root), head)
    stored, own = source.state() or {}, audit.entries
    keys = [key for key in sorted(stored.keys() | own.keys()) if stored.get(key) != own.get(key)]
    for key in keys[:MAX_STATE_FINDINGS]:
        audit.note(f"9.5 stored state entry {key.hex()}", own.get(key), stored.get(key))
    if len(keys) > MAX_STATE_FINDINGS:
        audit.note(
            "9.5 stored state", "no other entries", f"{len(keys) - MAX_STATE_FINDINGS} more that differ"
        )
