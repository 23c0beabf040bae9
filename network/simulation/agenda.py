"""Virtual time: a heap of future actions, run one after the other in one thread."""

import heapq
from collections.abc import Callable

MICROSECONDS_PER_MS = 1_000


class Appointment:
    """An action that has not happened yet."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

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
        self._heap: list[tuple[int, int, Appointment]] = []

    def now_ms(self) -> int:
        """Milliseconds since the simulation began."""
        return self.now_us // MICROSECONDS_PER_MS

    def after(self, delay_us: int, action: Callable[[], None]) -> Appointment:
        """Run ``action`` in ``delay_us`` (at least 0); 0 means after what is already due now."""
        appointment = Appointment(action)
        self._entered += 1
        heapq.heappush(self._heap, (self.now_us + max(0, delay_us), self._entered, appointment))
        return appointment

    def call_later_ms(self, delay_ms: int, callback: Callable[[], None]) -> Appointment:
        """`after` in milliseconds: the `network.scheduler.Scheduler` door."""
        return self.after(delay_ms * MICROSECONDS_PER_MS, callback)

    def run(self, until_us: int, stop: Callable[[], bool]) -> None:
        """Run what is due up to ``until_us``; ``stop`` is asked after each action."""
        while self._heap and self._heap[0][0] <= until_us:
            due_us, _, appointment = heapq.heappop(self._heap)
            if appointment.action is None:
                continue
            self.now_us = due_us
            self.done += 1
            appointment.action()
            if stop():
                return
        self.now_us = max(self.now_us, until_us)
