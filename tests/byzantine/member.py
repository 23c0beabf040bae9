"""A node with its own home and keys that breaks the protocol: ``python -m tests.byzantine.member BEHAVIOUR join ...``.

Everything after the behaviour is a command line of `cgpbft`; the program is the node's own, except for what leaves it.
"""

import sys
from collections.abc import Callable
from typing import Final

from consensus.signing import Signer
from node import cli
from node.assembly import NodeParts
from node.runtime import Runtime
from tests.byzantine.behaviour import make_equivocating, make_silent

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


def main() -> None:
    """Wrong usage ends with 2."""
    if len(sys.argv) < 3 or sys.argv[1] not in BEHAVIOURS:
        print(
            f"usage: python -m tests.byzantine.member {{{','.join(BEHAVIOURS)}}} COMMAND ...", file=sys.stderr
        )
        raise SystemExit(2)
    turn(sys.argv.pop(1))
    cli.main()


if __name__ == "__main__":
    main()
