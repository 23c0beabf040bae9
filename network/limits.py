"""The transport's limits in one place, each with its reason; tests shrink them."""

from consensus.types import Value


class RateLimit(Value, frozen=True):
    """What one peer may say per second; beyond it the peer is not read from until the debt is paid."""

    bytes_per_second: int
    messages_per_second: int


class TransportLimits(Value, frozen=True):
    """Bounds of one node's `network.transport.Transport`."""

    max_pending: int = 256
    """Connections that have not finished the handshake; the newest push out the oldest."""
    max_pending_per_address: int = 64
    """The same per IP address; a house's nodes may share one."""
    handshake_timeout_ms: int = 5_000
    """From the connection's start to both welcomes; a slow link needs three round trips, about 1 s."""
    max_peers: int = 4_096
    """Established connections: a group of 10 000 members in 4 groups, with room for the delegates."""
    max_guests: int = 32
    """Of these, nodes that are not members."""
    queue_bytes: int = 16 * 1_048_576
    """Outgoing bytes waiting for one peer: the high-water mark. Three of the largest messages."""
    queue_messages: int = 16_384
    """Outgoing messages waiting for one peer."""
    write_buffer_bytes: int = 262_144
    """Ciphertext handed to the socket ahead of it; what waits behind it can still be overtaken by a vote."""
    ping_interval_ms: int = 2_000
    """Silence after which a sign of life is asked for."""
    idle_timeout_ms: int = 6_000
    """Silence after which a connection is given up: three pings. After a cut is healed, a new connection is there
    sooner than the kernel's growing retransmission timer would wake the old one."""
    stall_timeout_ms: int = 10_000
    """Time without any byte written while something waits, after which the peer is taken for one that never reads."""
    frame_timeout_ms: int = 60_000
    """Time one frame may take: the largest message at 1 Mbit/s takes 42 s."""
    dial_timeout_ms: int = 3_000
    """A lost SYN is repeated after one second."""
    reconnect_min_ms: int = 100
    """First delay after a lost connection; doubles per failure."""
    reconnect_max_ms: int = 2_000
    """What a healed partition or a restarted peer waits for us at most; a SYN every two seconds costs nothing."""
    max_dials: int = 64
    """Connection attempts at once."""
    ban_ms: int = 10_000
    """First ban of a peer that sent what no honest node sends; doubles per offence."""
    ban_max_ms: int = 600_000
    member_rate: RateLimit = RateLimit(bytes_per_second=64 * 1_048_576, messages_per_second=50_000)
    """Far above what 2 cores commit; it keeps one flooding member from taking the whole loop."""
    guest_rate: RateLimit = RateLimit(bytes_per_second=262_144, messages_per_second=50)
    """Enough to ask for 256 blocks 50 times a second."""
