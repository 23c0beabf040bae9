"""Bytes between nodes: framing, peers, gossip, catching up, bootstrap and the simulated twin."""
