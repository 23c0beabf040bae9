"""Faults for running networks: what breaks them on purpose, from outside. Nothing of this is in a shipped node."""
