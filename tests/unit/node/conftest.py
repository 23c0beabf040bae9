"""The served API of tests/unit/node/api, for the client and the command line."""

from tests.unit.node.api.conftest import served, serving

__all__ = ["served", "serving"]
