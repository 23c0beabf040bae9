"""Virtual time: a heap of future actions, run one after the other in one thread."""

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

MICROSECONDS_PER_MS = 1_000

Action: TypeAlias = Callable[..., None]


class Appointment:
    """An action that has not happened yet and may still be called off."""

    __slots__ = ("action", "arguments")

    def __init__(self, action: Action, arguments: tuple[Any, ...]) -> None:
        self.action: Action | None = action
        self.arguments = arguments

    def cancel(self) -> None:
        """Let it never happen; no effect afterwards."""
        self.action = None


class Agenda:
    """What happens when. Actions due at the same microsecond run in the order in which they were entered."""

    def __init__(self) -> None:
        self.now_us = 0
        self.done = 0
        """Actions run so far."""
        self._entered = 0
        self._halted = False
        self._heap: list[tuple[int, int, Action | Appointment, tuple[Any, ...]]] = []

    def now_ms(self) -> int:
        """Milliseconds since the simulation began."""
        return self.now_us // MICROSECONDS_PER_MS

    def call(self, delay_us: int, action: Action, *arguments: Any) -> None:
        """Run ``action`` with ``arguments`` in ``delay_us``; 0 means after what is already due now."""
        self._entered += 1
        heapq.heappush(self._heap, (self.now_us + (max(0, delay_us)), self._entered, action, arguments))

    def after(self, delay_us: int, action: Action, *arguments: Any) -> Appointment:
        """The same, for what may be called off."""
        appointment = Appointment(action, arguments)
        self.call(delay_us, appointment)  # type: ignore[arg-type]
        return appointment

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> Appointment:
        """`after` in milliseconds: the `network.scheduler.Scheduler` door."""
        return self.after(delay_ms * MICROSECONDS_PER_MS, callback)

    def halt(self) -> None:
        """Let `run` return after the action that runs now."""
        self._halted = True

    def run(self, until_us: int, stop: Callable[[], bool] | None = None) -> None:
        """Run what is due up to ``until_us``, or until `halt`; ``stop`` is asked after each action."""
        heap, pop = self._heap, heapq.heappop
        self._halted = False
        while heap and heap[0][0] <= until_us:
            due_us, _, action, arguments = pop(heap)
            if type(action) is Appointment:
                if action.action is None:
                    continue
                arguments = action.arguments
                action = action.action
            self.now_us = due_us
            self.done += 1
            action(*arguments)  # type: ignore[operator]
            if self._halted or (stop is not None and stop()):
                return
        self.now_us = max(self.now_us, until_us)
