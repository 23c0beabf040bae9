"""The twelve checks, one a file, each O(n log n)."""
