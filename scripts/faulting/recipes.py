"""What a storm does: each fault with how it is begun, how it is undone, and what it excuses."""

import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

Options = dict[str, Any]


def _none(draw: random.Random) -> Options:
    del draw
    return {}


class Recipe(NamedTuple):
    """A fault of a storm."""

    fault: str
    """The command of scripts/faults."""
    undo: tuple[str, ...] = ("restart",)
    """Commands that make the target whole again, in order."""
    options: Callable[[random.Random], Options] = _none
    before: str = ""
    """A command that has to come first."""
    byzantine: bool = False
    forgets: bool = False
    target: str = "node"
    """node, or bootstrap."""
    seconds: tuple[float, float] = (2.0, 8.0)
    """How long it lasts."""
    variant: str = ""
    """Tells recipes of one command apart."""

    @property
    def name(self) -> str:
        """Of its kind."""
        return f"{self.fault} {self.variant}".strip()


def _fixed(**options: Any) -> Callable[[random.Random], Options]:
    return lambda draw: dict(options)


def _drawn(**ranges: tuple[int, int]) -> Callable[[random.Random], Options]:
    return lambda draw: {name: draw.randint(*limits) for name, limits in ranges.items()}


HEAL: Final = ("heal",)
DONE: Final = ()
BRIEFLY: Final = (0.2, 1.0)
"""What is over as soon as it is done needs no time to last."""
KINDS: Final = (
    Recipe("kill"),
    Recipe("restart", DONE, seconds=BRIEFLY),
    Recipe("pause", DONE, lambda draw: {"seconds": draw.uniform(1, 8)}, seconds=(0, 0)),
    Recipe("wipe", DONE, forgets=True, seconds=BRIEFLY),
    Recipe("restore", DONE, before="backup", forgets=True, seconds=(1, 3)),
    Recipe("partition", HEAL),
    Recipe("partition", HEAL, _fixed(one_way=True), variant="one way"),
    Recipe("delay", HEAL, _drawn(ms=(20, 400))),
    Recipe("delay", HEAL, lambda draw: {"ms": draw.randint(20, 400), "one_way": True}, variant="one way"),
    Recipe("lose", HEAL, _drawn(percent=(1, 30))),
    Recipe("throttle", HEAL, _drawn(bytes_per_s=(5_000, 60_000))),
    Recipe("cut", HEAL, seconds=BRIEFLY),
    Recipe("skew", options=_drawn(ms=(1_000, 3_600_000)), variant="ahead"),
    Recipe("skew", options=_drawn(ms=(-3_600_000, -1_000)), variant="behind"),
    Recipe("fill", options=_fixed(room_bytes=0)),
    Recipe("tear", DONE, _drawn(count=(1, 600), seed=(0, 10**6)), variant="torn write", seconds=BRIEFLY),
    Recipe(
        "tear",
        DONE,
        lambda draw: {"count": draw.randint(1, 600), "lost": True},
        byzantine=True,
        forgets=True,
        variant="lost writes",
        seconds=BRIEFLY,
    ),
    Recipe(
        "flip",
        DONE,
        lambda draw: {"where": "journal", "seed": draw.randrange(10**6)},
        variant="journal",
        seconds=BRIEFLY,
    ),
    Recipe(
        "flip",
        ("wipe",),
        lambda draw: {"where": "ledger", "seed": draw.randrange(10**6), "wait": False},
        forgets=True,
        variant="ledger",
    ),
    Recipe("fsync", options=_drawn(syncs=(5, 60))),
    Recipe("silent"),
    Recipe("equivocate", byzantine=True),
    Recipe("mute", options=_fixed(kind="proposal"), variant="proposal"),
    Recipe("mute", options=_fixed(kind="prepare"), variant="prepare"),
    Recipe("mute", options=_fixed(kind="commit"), variant="commit"),
    Recipe("mute", options=_fixed(kind="view_change"), variant="view_change"),
    Recipe("echo"),
    Recipe("slow"),
    Recipe("censor"),
    Recipe("forge", byzantine=True),
    Recipe("future", byzantine=True),
    Recipe("badblock", byzantine=True),
    Recipe("lie", target="bootstrap"),
    Recipe("kill", target="bootstrap", variant="bootstrap"),
    Recipe("slowloris", DONE, _fixed(seconds=4.0, sockets=40), seconds=(0, 0)),
    Recipe("flood", DONE, _fixed(seconds=4.0, rate=600), seconds=(0, 0)),
    Recipe("garbage", DONE, _fixed(seconds=4.0, rate=600), seconds=(0, 0)),
)
"""A storm's faults; every command of scripts/faults that breaks something is among them."""
