"""Timeouts and their names (PROTOCOL 6.7)."""

from typing import Final

from consensus.errors import invariant

VIEW: Final = "view"
"""Of the current view: ends in a view-change for the next one."""
RESEND: Final = "resend"
"""Every view_timeout_ms while the height is undecided: sends all votes of the height again (PROTOCOL 6.6)."""
EMPTY: Final = "empty"
"""From entering a height until its empty block is due (PROTOCOL 6.9)."""
BATCH: Final = "batch"
"""A busy primary lets transactions gather, at most batch_wait_ms."""
CLOCK: Final = "clock"
"""Until this node's clock reaches the time of a proposal that is ahead of it (PROTOCOL 6.8)."""
GATHER: Final = "gather"
"""Until a block that a certificate names, whose transactions are still being gathered, is asked for whole."""

KINDS: Final = (VIEW, RESEND, EMPTY, BATCH, CLOCK, GATHER)


class Backoff:
    """How long a view may last: the base times 3/2 per view, capped; a commit lowers it by one step.

    All steps are computed once, so the timeout of view 2^62 costs as little as that of view 0.
    """

    def __init__(self, base_ms: int, cap_ms: int) -> None:
        invariant(0 < base_ms <= cap_ms, "the view timeout is positive and at most its cap")
        steps = [base_ms]
        while steps[-1] < cap_ms:
            steps.append(min(cap_ms, max(steps[-1] + 1, steps[-1] * 3 // 2)))
        self._steps = tuple(steps)
        self._level = 0

    @property
    def level(self) -> int:
        """Step of the current height's view 0."""
        return self._level

    def timeout_ms(self, view: int) -> int:
        """Duration of ``view`` of the current height."""
        invariant(view >= 0, "a view is not negative")
        return self._steps[self._step(view)]

    def committed(self, view: int) -> None:
        """A height ended while in ``view``: one step down from there, not to the base."""
        self._level = max(0, self._step(view) - 1)

    def _step(self, view: int) -> int:
        return min(self._level + view, len(self._steps) - 1)
