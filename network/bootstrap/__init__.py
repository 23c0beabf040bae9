"""The bootstrap service: directory, formation, grouping, elections and watch; trusted with nothing (PROTOCOL 8)."""
