"""Nodes that are closed when their test ends."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.unit.network.harness import Node, running_nodes


@pytest.fixture
async def start_node() -> AsyncIterator[Callable[..., Awaitable[Node]]]:
    """Start a `Node` with the arguments of its constructor."""
    async with running_nodes() as start:
        yield start
