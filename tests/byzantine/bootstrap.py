"""A bootstrap service that lies: ``python -m tests.byzantine.bootstrap lying bootstrap ...`` (PROTOCOL 8.2).

It hides every address, answers that it took ballots and throws them away, and submits plans with false claims.
"""

import sys

from aiohttp import web

from consensus.encoding import encode
from consensus.grouping import Score
from network.bootstrap.coordinator import Coordinator
from network.bootstrap.election import SnapshotTaken
from network.bootstrap.planning import FoundPlan
from network.bootstrap.routes import Routes
from network.bootstrap.server import Request, answer_bytes
from node.bootstrap_process import BootstrapProcess
from node.cli.application import app
from tests.byzantine.member import wait_for_place

LOADED = BootstrapProcess
"""The command line imports late; here everything is loaded before the place is free."""


async def _no_addresses(self: Routes, request: Request) -> web.Response:
    del self, request
    return answer_bytes(encode(()))


def _throw_away(self: Coordinator, raw: bytes) -> bool:
    del self, raw
    return True


async def _plan_falsely(self: Coordinator, snapshot: SnapshotTaken, url: str) -> None:
    task = await self._task(snapshot, url)
    assignment = tuple(number % task.group_total for number in range(len(task.members)))[::-1]
    claim = Score(0, 0)
    await self._submit_plan(FoundPlan(task.epoch, assignment, claim, claim))


def main() -> None:
    """Wrong usage ends with 2."""
    if sys.argv[1:3] != ["lying", "bootstrap"]:
        print("usage: python -m tests.byzantine.bootstrap lying bootstrap ...", file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[1]
    Routes.addresses = _no_addresses  # type: ignore[method-assign]
    Coordinator.take_ballot = _throw_away  # type: ignore[method-assign]
    Coordinator._plan = _plan_falsely  # type: ignore[method-assign]
    wait_for_place()
    app()


if __name__ == "__main__":
    main()
