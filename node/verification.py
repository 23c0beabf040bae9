"""Signature checks of arriving transactions, beside the event loop: each once per node, in slices on a few threads.

libsodium gives the interpreter's lock away while it works, so threads use the second core and the loop keeps turning.
What arrives within one turn of the loop is checked together; a lone transaction is checked at once on the loop, since
the way to a thread and back costs as much as its signatures (150 us each way under load).

Under load that way is the largest cost beside the signatures themselves, so it is gone seldom: a thread that is awake
takes what has come meanwhile without being woken again, and tells the loop once for all that was judged before the
loop looks.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

from consensus.errors import ProtocolError
from contracts.transaction import Transaction

INLINE_SIGNATURES: Final = 4
"""Up to this many are checked on the loop: at most 0.4 ms."""
SLICE_TRANSACTIONS: Final = 16
"""What a thread takes at a time: about 1.5 ms, so that the first of a large group need not wait for the last."""

Check = Callable[[Transaction], None]
"""Raises `ProtocolError` with the reason; anything else it raises is our own bug."""
Verdict = ProtocolError | None
"""None, or why a transaction is refused."""
Verdicts = Callable[[list[Verdict]], None]
"""Takes one verdict per transaction, in order."""


class _Group:
    __slots__ = ("done", "left", "transactions", "verdicts")

    def __init__(self, transactions: Sequence[Transaction], done: Verdicts) -> None:
        self.transactions = transactions
        self.done = done
        self.verdicts: list[Verdict] = [None] * len(transactions)
        self.left = len(transactions)


Work = tuple[_Group, int]
"""A group and a place in it."""
Judged = tuple[list[Work], list[Verdict]]


class SignatureChecks:
    """The threads; create inside a running loop, close at the end."""

    def __init__(self, check: Check, threads: int, on_failure: Callable[[BaseException], None]) -> None:
        """``on_failure`` takes what ``check`` must never raise: the node stops on it."""
        self._check = check
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._submitted: list[_Group] = []
        self._flush_scheduled = False
        # Shared with the threads. Each of their operations is atomic; the order in which they are used makes sure that
        # nothing is forgotten: work is filed before a thread is called, and judged work before the loop is.
        self._work: deque[Work] = deque()
        self._judged: deque[Judged | Exception] = deque()
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._loop_called = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"signatures-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        self.checked = 0
        """Transactions judged since the start."""
        self.waiting = 0
        """Transactions handed in and not judged yet."""

    def submit(self, transactions: Sequence[Transaction], done: Verdicts) -> None:
        """Check ``transactions``; ``done`` is called on the loop, later, never from within this call."""
        self.waiting += len(transactions)
        self._submitted.append(_Group(transactions, done))
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    async def check(self, transactions: Sequence[Transaction]) -> list[Verdict]:
        """As `submit`, for who can wait."""
        answer: asyncio.Future[list[Verdict]] = self._loop.create_future()

        def done(verdicts: list[Verdict]) -> None:
            if not answer.done():
                answer.set_result(verdicts)

        self.submit(transactions, done)
        return await answer

    def close(self) -> None:
        """Stop the threads; what is waiting is given up."""
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    # ---- on the loop

    def _flush(self) -> None:
        groups, self._submitted = self._submitted, []
        self._flush_scheduled = False
        work = [(group, index) for group in groups for index in range(len(group.transactions))]
        for group in groups:
            if not group.transactions:
                group.done([])
        if sum(len(group.transactions[index].signatures) for group, index in work) <= INLINE_SIGNATURES:
            self._judge_here(work)
            return
        self._work.extend(work)
        slices = -(-len(work) // SLICE_TRANSACTIONS)
        for _ in range(min(slices, len(self._threads) - self._calls.qsize())):
            self._calls.put(None)

    def _judge_here(self, work: list[Work]) -> None:
        try:
            verdicts = self._judge(work)
        except Exception as error:  # noqa: BLE001 - handed on, as a thread's would be
            self._on_failure(error)
        else:
            self._settle(work, verdicts)

    def _collect(self) -> None:
        self._loop_called = False
        while self._judged:
            judged = self._judged.popleft()
            if isinstance(judged, Exception):
                self._on_failure(judged)
            else:
                self._settle(*judged)

    def _settle(self, work: list[Work], verdicts: list[Verdict]) -> None:
        self.checked += len(work)
        self.waiting -= len(work)
        for (group, index), verdict in zip(work, verdicts, strict=True):
            group.verdicts[index] = verdict
            group.left -= 1
            if group.left == 0:
                group.done(group.verdicts)

    # ---- on the threads

    def _run(self) -> None:
        while not self._closed:
            self._calls.get()
            while not self._closed and (work := self._take_slice()):
                try:
                    judged: Judged | Exception = (work, self._judge(work))
                except Exception as error:  # noqa: BLE001 - a bug: handed to the loop, where the node stops on it
                    judged = error
                self._judged.append(judged)
                if not self._loop_called:
                    self._loop_called = True
                    self._loop.call_soon_threadsafe(self._collect)

    def _take_slice(self) -> list[Work]:
        work: list[Work] = []
        try:
            while len(work) < SLICE_TRANSACTIONS:
                work.append(self._work.popleft())
        except IndexError:
            pass  # another thread took the last
        return work

    def _judge(self, work: list[Work]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for group, index in work:
            try:
                self._check(group.transactions[index])
            except ProtocolError as refusal:
                verdicts.append(refusal)
            else:
                verdicts.append(None)
        return verdicts
