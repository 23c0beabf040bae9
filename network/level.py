"""Whether a node is level with the delegates or behind them (PROTOCOL 10.2), without IO.

Announced heights prove nothing, so they count by delegates: f liars can make a node neither level nor behind.
"""

from collections.abc import Callable, Sequence

from consensus.types import PublicKey
from network.sync_effects import SyncLimits


class LevelJudge:
    """The opinion of one node, with patience: a lag counts when it is large or lasts."""

    def __init__(self, limits: SyncLimits) -> None:
        self._limits = limits
        self._delegates: tuple[PublicKey, ...] = ()
        self._needed = 1
        self._faults = 0
        self._behind_since_ms: int | None = None
        self.level = False
        """The opinion; a node begins behind."""

    def set_delegates(self, others: Sequence[PublicKey], quorum: int, faults: int, own_seat: bool) -> None:
        """The current delegates but this node, q and f (PROTOCOL 6.2)."""
        self._delegates = tuple(others)
        self._needed = quorum - own_seat
        self._faults = faults

    def judge(self, applied: int, announced: Callable[[PublicKey], int | None], now_ms: int) -> bool:
        """Whether the opinion has changed.

        Level: the (f+1)-th highest height that delegates announce is reached, q of them (this one included) heard.
        ``announced`` gives a key's height, None for one that is not heard.
        """
        heights = [height for key in self._delegates if (height := announced(key)) is not None]
        heights.sort(reverse=True)
        if len(heights) < self._needed:
            # Unheard delegates are no news: who was level stays so (those connected before may be down).
            return False
        reference = heights[min(self._faults, len(heights) - 1)] if heights else applied
        before, self.level = self.level, self._is_level(reference - applied, now_ms)
        return self.level is not before

    def _is_level(self, lag: int, now_ms: int) -> bool:
        if not self.level:
            return lag <= 1
        if lag <= self._limits.behind_blocks:
            self._behind_since_ms = None
            return True
        if self._behind_since_ms is None:
            self._behind_since_ms = now_ms
        lasting = now_ms - self._behind_since_ms >= self._limits.behind_ms
        if lasting or lag >= self._limits.far_behind_blocks:
            self._behind_since_ms = None
            return False
        return True
