"""Signature checks of arriving transactions, beside the event loop: each once per node, in slices on a few threads.

libsodium gives the interpreter's lock away while it works, so threads use the second core and the loop keeps turning.
What arrives within one turn of the loop is checked together; a lone transaction is checked at once on the loop, since
the way to a thread and back costs as much as its signatures (150 us each way under load).
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from consensus.errors import ProtocolError
from contracts.transaction import Transaction

INLINE_SIGNATURES: Final = 4
"""Up to this many are checked on the loop: at most 0.4 ms."""
SLICE_TRANSACTIONS: Final = 32
"""One thread's unit of work: about 3 ms, so that the first of a large group need not wait for the last."""

Check = Callable[[Transaction], None]
"""Raises `ProtocolError` with the reason; anything else it raises is our own bug."""
Verdict = ProtocolError | None
"""None, or why a transaction is refused."""
Verdicts = Callable[[list[Verdict]], None]
"""Takes one verdict per transaction, in order."""


class _Group:
    def __init__(self, transactions: Sequence[Transaction], done: Verdicts) -> None:
        self.transactions = transactions
        self.done = done
        self.verdicts: list[Verdict] = [None] * len(transactions)
        self.left = len(transactions)


class SignatureChecks:
    """The thread pool; create inside a running loop, close at the end."""

    def __init__(self, check: Check, threads: int, on_failure: Callable[[BaseException], None]) -> None:
        """``on_failure`` takes what ``check`` must never raise: the node stops on it."""
        self._check = check
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="signatures")
        self._waiting: list[_Group] = []
        self._flush_scheduled = False
        self.checked = 0
        """Transactions judged since the start."""
        self.waiting = 0
        """Transactions handed in and not judged yet."""

    def submit(self, transactions: Sequence[Transaction], done: Verdicts) -> None:
        """Check ``transactions``; ``done`` is called on the loop, later, never from within this call."""
        self.waiting += len(transactions)
        self._waiting.append(_Group(transactions, done))
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
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _flush(self) -> None:
        groups, self._waiting = self._waiting, []
        self._flush_scheduled = False
        work = [(group, index) for group in groups for index in range(len(group.transactions))]
        for group in groups:
            if not group.transactions:
                group.done([])
        if sum(len(group.transactions[index].signatures) for group, index in work) <= INLINE_SIGNATURES:
            self._judge_here(work)
            return
        for start in range(0, len(work), SLICE_TRANSACTIONS):
            self._start_slice(work[start : start + SLICE_TRANSACTIONS])

    def _judge_here(self, work: list[tuple[_Group, int]]) -> None:
        try:
            verdicts = self._judge([group.transactions[index] for group, index in work])
        except Exception as error:  # noqa: BLE001 - handed on, as a thread's would be
            self._on_failure(error)
        else:
            self._settle(work, verdicts)

    def _start_slice(self, work: list[tuple[_Group, int]]) -> None:
        transactions = [group.transactions[index] for group, index in work]
        future = self._loop.run_in_executor(self._threads, self._judge, transactions)
        future.add_done_callback(lambda finished: self._slice_done(work, finished))

    def _slice_done(self, work: list[tuple[_Group, int]], finished: "asyncio.Future[list[Verdict]]") -> None:
        if finished.cancelled():
            return
        error = finished.exception()
        if error is not None:
            self._on_failure(error)
            return
        self._settle(work, finished.result())

    def _judge(self, transactions: list[Transaction]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for transaction in transactions:
            try:
                self._check(transaction)
            except ProtocolError as refusal:
                verdicts.append(refusal)
            else:
                verdicts.append(None)
        return verdicts

    def _settle(self, work: list[tuple[_Group, int]], verdicts: list[Verdict]) -> None:
        self.checked += len(work)
        self.waiting -= len(work)
        for (group, index), verdict in zip(work, verdicts, strict=True):
            group.verdicts[index] = verdict
            group.left -= 1
            if group.left == 0:
                group.done(group.verdicts)
