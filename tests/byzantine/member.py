"""A node with its own home and keys that breaks the protocol: ``python -m tests.byzantine.member BEHAVIOUR join ...``.

Everything after the behaviour is a command line of `cgpbft`; the program is the node's own, except for what leaves it.
Started with a socket as standard input it loads, says so there, and goes on when it is answered.
"""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from consensus.signing import Signer
from node.assembly import JOURNAL_DIRECTORY, NodeParts
from node.cli.application import app
from node.files import Files
from node.process import run_node
from node.runtime import Runtime
from node.store import Store
from tests.byzantine.behaviour import make_equivocating, make_silent
from tests.byzantine.disks import FailingFiles, SkewedClock
from tests.byzantine.disturbing import (
    make_badblock,
    make_censor,
    make_echo,
    make_forging,
    make_future,
    make_mute,
    make_slow,
)
from tests.byzantine.tap import make_tapping

VOTES_FILE: Final = Path("votes.jsonl")
LOADED: Final = run_node
"""The command line imports late; here everything is loaded before the place is free."""
BEHAVIOURS: Final[dict[str, Callable[[Runtime, Signer, str], None]]] = {
    "silent": make_silent,
    "equivocating": make_equivocating,
    "mute": make_mute,
    "echo": make_echo,
    "slow": make_slow,
    "censor": make_censor,
    "forging": make_forging,
    "future": make_future,
    "badblock": make_badblock,
    "tapping": make_tapping,
    "skew": lambda runtime, signer, argument: None,
    "fsync": lambda runtime, signer, argument: None,
}
"""Those that do nothing here are given another clock or disk before the node is built."""


def turn(behaviour: str) -> None:
    """From now on every node that this process builds shows ``behaviour``; its argument stands behind a "="."""
    name, _, argument = behaviour.partition("=")
    corrupt, honest = BEHAVIOURS[name], NodeParts.build

    def build(self: NodeParts, store: Store | None = None, files: Files | None = None) -> Runtime:
        if name == "skew":
            self.clock = SkewedClock(int(argument))
        elif name == "fsync":
            files = FailingFiles(self.home / JOURNAL_DIRECTORY, int(argument))
        runtime = honest(self, store, files)
        corrupt(runtime, self.key, str(self.home / VOTES_FILE) if name == "tapping" else argument)
        return runtime

    NodeParts.build = build  # type: ignore[method-assign]


def wait_for_place() -> None:
    """Until the honest process has ended, which held home and ports; an end of file means that it never will."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return
    os.write(0, b"1")
    if not os.read(0, 1):
        raise SystemExit(1)


def main() -> None:
    """Wrong usage ends with 2."""
    if len(sys.argv) < 3 or sys.argv[1].partition("=")[0] not in BEHAVIOURS:
        print(
            f"usage: python -m tests.byzantine.member {{{','.join(BEHAVIOURS)}}} COMMAND ...", file=sys.stderr
        )
        raise SystemExit(2)
    turn(sys.argv.pop(1))
    wait_for_place()
    app()


if __name__ == "__main__":
    main()
