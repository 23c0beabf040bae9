"""Plain counters of the transport, read by node/metrics; they only grow, except where a name says `_now`."""

from dataclasses import dataclass


@dataclass(slots=True)
class TransportMetrics:
    """One instance per `network.transport.Transport`."""

    bytes_sent: int = 0
    bytes_received: int = 0
    """Plaintext, frames with their prefixes."""
    messages_sent: int = 0
    messages_received: int = 0
    gossip_dropped: int = 0
    """Gossip that a slow reader's queue had no room for."""
    unsent: int = 0
    """Messages for peers that are not connected, or lost with a connection."""
    overflow_disconnects: int = 0
    """Peers dropped at the high-water mark, or for not reading."""
    malformed: int = 0
    """Frames that no honest node sends."""
    bans: int = 0
    rate_limited: int = 0
    """Times a peer was not read from because it said too much."""
    handshakes_accepted: int = 0
    handshakes_refused: int = 0
    """By this node."""
    handshakes_failed: int = 0
    """Refused by the peer, timed out or broken."""
    pending_evicted: int = 0
    """Strangers that had to go for newer ones."""
    dials: int = 0
    dial_failures: int = 0
    idle_disconnects: int = 0
    peers_now: int = 0
    guests_now: int = 0
    pending_now: int = 0
