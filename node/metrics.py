# mypy: disable-error-code="explicit-override"
"""Figures for Prometheus: the node's own, read when scraped, and the API's, counted as it answers.

Names follow the field's conventions: prefix, part, what, unit; `_total` for what only grows; seconds and bytes.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from node.service import Figures

_Rows: TypeAlias = tuple[tuple[str, str, Callable[[Figures], float]], ...]

_GAUGES: Final[_Rows] = (
    ("cgpbft_consensus_height", "Undecided height.", lambda f: f.height),
    ("cgpbft_consensus_view", "View of the undecided height.", lambda f: f.view),
    ("cgpbft_last_commit_age_seconds", "Time since the last decided block.", lambda f: f.last_commit_age_ms / 1000),
    ("cgpbft_journal_bytes", "Size of the journal on disk.", lambda f: f.journal_bytes),
    ("cgpbft_ledger_bytes", "Size of the ledger on disk.", lambda f: f.ledger_bytes),
    ("cgpbft_pool_transactions", "Waiting transactions.", lambda f: f.pool_transactions),
    ("cgpbft_pool_bytes", "Bytes of waiting transactions.", lambda f: f.pool_bytes),
    ("cgpbft_peers_connected", "Peers with an open connection.", lambda f: f.peers_connected),
    ("cgpbft_loop_lag_seconds", "Largest delay of the event loop in ten seconds.", lambda f: f.loop_lag_ms / 1000),
    ("cgpbft_process_resident_bytes", "Resident memory.", lambda f: f.resident_bytes),
)  # fmt: skip
_COUNTERS: Final[_Rows] = (
    ("cgpbft_consensus_blocks_committed", "Blocks decided and applied.", lambda f: f.blocks_committed),
    ("cgpbft_transactions_committed", "Transactions committed with effect.", lambda f: f.transactions_committed),
    ("cgpbft_transactions_rejected", "Transactions committed as rejected.", lambda f: f.transactions_rejected),
    ("cgpbft_submissions_accepted", "Submissions taken by this node.", lambda f: f.submissions_accepted),
    ("cgpbft_submissions_refused", "Submissions refused by this node.", lambda f: f.submissions_refused),
    ("cgpbft_signatures_verified", "Signatures checked.", lambda f: f.signatures_verified),
    ("cgpbft_consensus_view_changes", "View changes signed by this node.", lambda f: f.view_changes),
    ("cgpbft_journal_syncs", "Times the journal was made durable.", lambda f: f.journal_syncs),
    ("cgpbft_journal_sync_seconds", "Time spent making the journal durable.", lambda f: f.journal_sync_ms / 1000),
    ("cgpbft_messages_received", "Peer messages received.", lambda f: f.messages_received),
)  # fmt: skip


class _FigureCollector(Collector):
    """Asks the node at every scrape, so that nothing is counted twice."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """One metric family a figure."""
        figures = self._figures()
        for name, text, read in _GAUGES:
            yield GaugeMetricFamily(name, text, value=read(figures))
        for name, text, read in _COUNTERS:
            yield CounterMetricFamily(name, text, value=read(figures))


class Metrics:
    """One node's registry."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        """``figures`` is `node.service.NodeService.figures`."""
        self.registry: Final = CollectorRegistry()
        self.registry.register(_FigureCollector(figures))
        self._requests = Counter(
            "cgpbft_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "cgpbft_http_request_seconds",
            "Time from a request's header to its answer.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer; ``route`` is the pattern, never the path, so that labels stay few."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """The text format and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
