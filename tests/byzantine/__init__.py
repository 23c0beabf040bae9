"""Members that break the protocol on purpose, holding real keys. They live beside the tests, never in a node."""
