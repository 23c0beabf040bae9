"""The runtime's one queue of inputs and its timers: what happens next, on one event loop, within bounds."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from consensus.inputs import Input, Timer
from consensus.types import PublicKey
from node.clock import Clock

QUEUE_HIGH: Final = 8_192
"""Inputs that wait before peers are no longer read from: some seconds' worth."""
QUEUE_LOW: Final = 1_024
"""Inputs that wait when they are read from again."""
TURN_INPUTS: Final = 128
"""Inputs stepped before the loop gets its turn: at most about 10 ms of votes."""

InputKind: TypeAlias = Callable[..., Input]
"""An input's class: called with the instant at which it is stepped, then its other fields."""
Fail: TypeAlias = Callable[[BaseException], None]


class InputQueue:
    """Inputs in order of arrival; instants never go back, since each is read when its input is stepped."""

    def __init__(
        self, clock: Clock, step: Callable[[Input], None], fail: Fail, hold: Callable[[PublicKey, bool], None]
    ) -> None:
        """``hold`` stops reading from a peer, or goes on; what ``step`` raises ends the queue and goes to ``fail``."""
        self._clock = clock
        self._step = step
        self._fail = fail
        self._hold = hold
        self._waiting: deque[tuple[InputKind, tuple[Any, ...]]] = deque()
        self._held: dict[PublicKey, None] = {}
        self._scheduled = False
        self._ended = False

    def post(self, kind: InputKind, *fields: Any) -> None:
        """Queue an input."""
        self._waiting.append((kind, fields))
        self._schedule()

    def post_first(self, kind: InputKind, *fields: Any) -> None:
        """Queue the answer to an effect before everything that came from outside."""
        self._waiting.appendleft((kind, fields))
        self._schedule()

    def post_from(self, sender: PublicKey, kind: InputKind, *fields: Any) -> None:
        """Queue what a peer sent; one that sends more than can be stepped is not read from for a while."""
        if len(self._waiting) >= QUEUE_HIGH and sender not in self._held:
            self._held[sender] = None
            self._hold(sender, True)
        self.post(kind, *fields)

    def end(self) -> None:
        """Step nothing any more."""
        self._ended = True
        self._waiting.clear()

    def _schedule(self) -> None:
        if not self._scheduled and not self._ended:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Step what is queued, up to a bound; then let the loop read and write."""
        self._scheduled = False
        try:
            for _ in range(min(TURN_INPUTS, len(self._waiting))):
                if self._ended:
                    return
                kind, fields = self._waiting.popleft()
                self._step(kind(self._clock.now(), *fields))
        except Exception as error:  # noqa: BLE001 - whatever it is, the node stops on it
            self.end()
            self._fail(error)
            return
        if self._waiting:
            self._schedule()
        if self._held and len(self._waiting) <= QUEUE_LOW:
            held, self._held = self._held, {}
            for key in held:
                self._hold(key, False)


class Timers:
    """The replica's timers, one of a kind, and what is done again and again."""

    def __init__(self, fired: Callable[[Timer], None], fail: Fail) -> None:
        self._fired = fired
        self._fail = fail
        self._running: dict[str, asyncio.TimerHandle] = {}
        self._repeating: dict[int, asyncio.TimerHandle] = {}

    def set(self, timer: Timer, delay_ms: int) -> None:
        """Start ``timer``, replacing a running one of its kind."""
        self.cancel(timer.kind)
        loop = asyncio.get_running_loop()
        self._running[timer.kind] = loop.call_later(delay_ms / 1_000, self._fire, timer)

    def cancel(self, kind: str) -> None:
        """Stop the timer of ``kind``, if it runs."""
        running = self._running.pop(kind, None)
        if running is not None:
            running.cancel()

    def every(self, interval_ms: int, action: Callable[[], None]) -> None:
        """Run ``action`` again and again; what it raises stops the node."""
        number = len(self._repeating)
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whatever it is, the node stops on it
                self._fail(error)
                return
            self._repeating[number] = loop.call_later(interval_ms / 1_000, run)

        self._repeating[number] = loop.call_later(interval_ms / 1_000, run)

    def close(self) -> None:
        """Stop all."""
        for handle in (*self._running.values(), *self._repeating.values()):
            handle.cancel()
        self._running.clear()

    def _fire(self, timer: Timer) -> None:
        self._running.pop(timer.kind, None)
        self._fired(timer)
