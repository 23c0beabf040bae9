"""Pure protocol core: replica, grouping, election and credit (no IO, clock, randomness or floats)."""
