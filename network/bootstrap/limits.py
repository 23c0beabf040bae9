"""The bootstrap service's limits in one place, each with its reason; tests shrink them."""

from typing import Final

from consensus.types import Value
from network.limits import RateLimit

MAX_MEMBERS: Final = 10_000
"""Founding members: what the planner is made for (PROTOCOL 4.3)."""
MAX_GENESIS_BYTES: Final = 8_388_608
"""As `contracts.genesis.genesis_codec`; 10 000 registrations are 1.5 MiB."""
MAX_ACKNOWLEDGEMENTS_BYTES: Final = 1_048_576
"""10 000 acknowledgements of 101 bytes."""
MAX_REGISTRATION_BYTES: Final = 512
"""Two keys, a signature and a number: 143 bytes."""
MAX_RECORD_BYTES: Final = 1_024
"""An address or API record: a name of at most 256 bytes, a key and a signature."""
MAX_BALLOTS: Final = 128
"""Ballots in one request and in one transaction (PROTOCOL 8.1, `contracts.transaction.Ballots`)."""
MAX_BALLOT_BYTES: Final = 512
"""Three choices, a key and a signature: about 220 bytes."""
MAX_BALLOTS_BYTES: Final = MAX_BALLOTS * (MAX_BALLOT_BYTES + 3) + 3
MAX_JSON_BYTES: Final = 4 * 1_048_576
"""A JSON answer that a client reads; an election of 10 000 members is about 1.5 MiB."""
MAX_API_URL_BYTES: Final = 256
MAX_WAIT_MS: Final = 25_000
"""Longest long poll: below the 30 s after which proxies cut idle requests."""
ADDRESS_PAGE: Final = 256
"""Address records in one answer: about 100 KiB."""
LIST_PAGE: Final = 100
"""Lists are paged, 100 at most."""


class ServiceLimits(Value, frozen=True, kw_only=True):
    """Bounds of one `network.bootstrap.service.BootstrapServer`."""

    max_connections: int = 4_096
    """Sockets; beyond it the oldest goes, so that silent ones keep nobody out. 12 KiB each."""
    max_connections_per_host: int = 1_024
    """The same per IP address: a local network of some hundred nodes shares one."""
    max_waiters: int = 2_048
    """Long polls at once; who comes later is answered at once and told to come back."""
    max_waiters_per_host: int = 512
    body_timeout_ms: int = 10_000
    """Time a request's body may take: the largest, of 64 KiB, at 64 kbit/s."""
    rate: RateLimit = RateLimit(bytes_per_second=2 * 1_048_576, messages_per_second=200)
    """Requests per IP address; one member needs about ten to form a chain and one every few seconds after."""
    max_rated_hosts: int = 8_192
    """Remembered IP addresses; the one not heard of for longest is forgotten, which gives it a fresh second."""


class DirectoryLimits(Value, frozen=True, kw_only=True):
    """Bounds of one `network.bootstrap.directory.Directory`."""

    max_strangers: int = 256
    """Records of keys that are no members (yet): joiners. Keys cost nothing, so the oldest goes first."""


class WatchLimits(Value, frozen=True, kw_only=True):
    """How the members' status is asked for."""

    interval_ms: int = 5_000
    """Pause between two rounds; at most once per interval each member is asked."""
    timeout_ms: int = 3_000
    parallel: int = 16
    """Requests at once: a round of 1 000 unreachable members takes 3 minutes and harms nobody."""
    late_blocks: int = 10
    """Blocks behind the best height from which a member is called late."""


class CoordinatorLimits(Value, frozen=True, kw_only=True):
    """How the chain is followed and plans are sought."""

    retry_ms: int = 1_000
    """Pause before another member's API is tried."""
    stall_ms: int = 30_000
    """Silence of an event stream after which another member is asked."""
    ballot_wait_ms: int = 250
    """Time the first ballot of a batch waits for others."""
    max_ballots_waiting: int = 20_000
    """Two ballots of each of 10 000 members."""
    max_search_ms: int = 300_000
    """A plan found within five minutes is as good as it gets; planning_ms may be longer."""
    submit_to: int = 4
    """Members a transaction is handed to: with four delegates one of two is honest and alive for certain."""
