"""A node with its own home and keys that breaks the protocol: ``python -m tests.byzantine.member BEHAVIOUR join ...``.

Everything after the behaviour is a command line of `cgpbft`; the program is the node's own, except for what leaves it.
Started with a socket as standard input it loads, says so there, and goes on when it is answered.
"""

import os
import stat
import sys
from collections.abc import Callable
from typing import Final

from consensus.signing import Signer
from node.assembly import NodeParts
from node.cli.application import app
from node.process import run_node
from node.runtime import Runtime
from tests.byzantine.behaviour import make_equivocating, make_silent

LOADED: Final = run_node
"""The command line imports late; here everything is loaded before the place is free."""
BEHAVIOURS: Final[dict[str, Callable[[Runtime, Signer], None]]] = {
    "silent": make_silent,
    "equivocating": make_equivocating,
}


def turn(behaviour: str) -> None:
    """From now on every node that this process builds shows ``behaviour``."""
    corrupt, honest = BEHAVIOURS[behaviour], NodeParts.build

    def build(self: NodeParts) -> Runtime:
        runtime = honest(self)
        corrupt(runtime, self.key)
        return runtime

    NodeParts.build = build  # type: ignore[method-assign, assignment]


def wait_for_place() -> None:
    """Until the honest process has ended, which held home and ports; an end of file means that it never will."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return
    os.write(0, b"1")
    if not os.read(0, 1):
        raise SystemExit(1)


def main() -> None:
    """Wrong usage ends with 2."""
    if len(sys.argv) < 3 or sys.argv[1] not in BEHAVIOURS:
        print(
            f"usage: python -m tests.byzantine.member {{{','.join(BEHAVIOURS)}}} COMMAND ...", file=sys.stderr
        )
        raise SystemExit(2)
    turn(sys.argv.pop(1))
    wait_for_place()
    app()


if __name__ == "__main__":
    main()
