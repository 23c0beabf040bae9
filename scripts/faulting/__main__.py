"""Command line of scripts/faults/*: ``python -m scripts.faulting FAULT TARGET...``."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from scripts.faulting import commands, corruption, floods, homes, routes
from scripts.faulting.commands import Outcome
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, find_home, look, read

TARGETS: Final = "primary, backup, node3 or 3, an address or how it begins, all (every node), bootstrap"
FAULTS: Final[dict[str, Callable[..., Outcome]]] = {
    "kill": commands.kill,
    "restart": commands.restart,
    "pause": commands.pause,
    "wipe": homes.wipe,
    "backup": homes.backup,
    "restore": homes.restore,
    "partition": routes.partition,
    "delay": routes.delay,
    "lose": routes.lose,
    "throttle": routes.throttle,
    "cut": routes.cut,
    "heal": routes.heal,
    "skew": corruption.skew,
    "fill": homes.fill,
    "tear": homes.tear,
    "flip": homes.flip,
    "fsync": corruption.fsync,
    "silent": corruption.silent,
    "equivocate": corruption.equivocate,
    "mute": corruption.mute,
    "echo": corruption.echo,
    "slow": corruption.slow,
    "censor": corruption.censor,
    "forge": corruption.forge,
    "future": corruption.future,
    "badblock": corruption.badblock,
    "tap": corruption.tap,
    "lie": corruption.lie,
    "slowloris": floods.slowloris,
    "flood": floods.flood,
    "garbage": floods.garbage,
}
ABOUT: Final = {
    "kill": "End processes at once with SIGKILL, as a power cut would.",
    "restart": "Start what was ended, honest and with its own home; what still runs there is ended first.",
    "pause": "Stop processes with SIGSTOP, as a machine that hangs, and let them go on after a while.",
    "wipe": "Remove journal and ledger of nodes and start them again with their keys alone.",
    "backup": "Copy journal and ledger of nodes, for restore; they are stopped while it is made.",
    "restore": "Put the copy that backup made in the place of a node's journal and ledger.",
    "partition": "Hold every byte between the targets and the other nodes (needs proxies on the links).",
    "delay": "Let every byte between the targets and the others wait.",
    "lose": "Let some of what passes wait as long as a lost segment waits for its retransmission.",
    "throttle": "Let no more than so many bytes a second pass between the targets and the others.",
    "cut": "Close every connection between the targets and the others once; new ones pass.",
    "heal": "Let every byte pass again, at once: of the targets, or of all.",
    "skew": "Start the targets with a clock that is wrong.",
    "fill": "Let no file of the targets grow any more: writing fails as on a full disk.",
    "tear": "Leave half a write at the end of the targets' journals, as a power cut would, and start them again.",
    "flip": "Flip bits in the targets' journals or ledgers and start them again.",
    "fsync": "Start the targets on a disk whose syncs fail after a while.",
    "silent": "Put a member in the target's place that says nothing in consensus.",
    "equivocate": "Put a member in the target's place that votes twice at every height.",
    "mute": "Put a member in the target's place that never sends one kind of message.",
    "echo": "Put a member in the target's place that says everything twice, and again later.",
    "slow": "Put a member in the target's place that proposes just before the view timer runs out.",
    "censor": "Put a member in the target's place that proposes nothing of half of the members.",
    "forge": "Put a member in the target's place whose signatures do not verify.",
    "future": "Put a member in the target's place that votes for heights and views far away.",
    "badblock": "Put a member in the target's place that proposes blocks with a wrong state root.",
    "tap": "Put an honest member in the target's place that writes down the votes it sees.",
    "lie": "Put a bootstrap in place that hides addresses, loses ballots and claims false plans.",
    "slowloris": "Open many connections to the targets that send a byte a second.",
    "flood": "Send the targets more payments than they can decide.",
    "garbage": "Send the targets payments whose signatures do not verify.",
}
NO_WAIT: Final[dict[str, Any]] = {
    "dest": "wait",
    "action": "store_false",
    "help": "do not wait until it answers ready",
}
ONE_WAY: Final[dict[str, Any]] = {"action": "store_true", "help": "only what the targets send"}
SECONDS: Final[dict[str, Any]] = {
    "type": float,
    "default": floods.DEFAULT_SECONDS,
    "help": "how long (default 10)",
}
STARTING: Final = (
    "restart", "wipe", "restore", "tear", "flip", "skew", "fsync", "silent", "equivocate", "mute", "echo", "slow",
    "censor", "forge", "future", "badblock", "tap", "lie",
)  # fmt: skip
OPTIONS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "pause": {
        "--seconds": {"type": float, "default": commands.DEFAULT_PAUSE_S, "help": "how long (default 10)"}
    },
    "partition": {"--one-way": {"action": "store_true", "help": "hold only what the targets send"}},
    "delay": {
        "--ms": {"type": int, "default": routes.DEFAULT_DELAY_MS, "help": "how long (default 200)"},
        "--one-way": ONE_WAY,
    },
    "lose": {
        "--percent": {"type": float, "default": routes.DEFAULT_LOSS_PERCENT, "help": "how much (default 20)"},
        "--one-way": ONE_WAY,
    },
    "throttle": {
        "--bytes-per-s": {"type": int, "default": routes.DEFAULT_BYTES_PER_S, "help": "default 20000"},
        "--one-way": ONE_WAY,
    },
    "skew": {"--ms": {"type": int, "required": True, "help": "how far ahead; negative: behind (--ms=-5000)"}},
    "fill": {"--room-bytes": {"type": int, "default": 0, "help": "what still fits"}},
    "tear": {
        "--bytes": {"dest": "count", "type": int, "default": homes.DEFAULT_TORN_BYTES, "help": "default 17"},
        "--lost": {"action": "store_true", "help": "take bytes away that were synced: a disk that lied"},
        "--seed": {"type": int, "default": 0, "help": "which bytes"},
    },
    "flip": {
        "--where": {"choices": ("journal", "ledger"), "default": "journal"},
        "--flips": {"type": int, "default": homes.DEFAULT_FLIPS, "help": "how many bits (default 8)"},
        "--seed": {"type": int, "default": 0, "help": "which bits"},
    },
    "fsync": {
        "--after": {"dest": "syncs", "type": int, "default": 50, "help": "syncs that still work (default 50)"}
    },
    "mute": {"--kind": {"choices": corruption.KINDS, "default": "commit", "help": "default commit"}},
    "slowloris": {
        "--seconds": SECONDS,
        "--sockets": {"type": int, "default": floods.SOCKETS, "help": "to each port (default 200)"},
    },
    "flood": {
        "--seconds": SECONDS,
        "--rate": {"type": int, "default": 5_000, "help": "a second (default 5000)"},
    },
    "garbage": {
        "--seconds": SECONDS,
        "--rate": {"type": int, "default": 5_000, "help": "a second (default 5000)"},
    },
}
"""What a command takes beside targets, --home and --json."""
DEFAULT_TARGETS: Final[Mapping[str, list[str]]] = {"heal": ["all"], "lie": ["bootstrap"]}


def parser() -> argparse.ArgumentParser:
    """All faults."""
    whole = argparse.ArgumentParser(prog="scripts/faults", description="Faults for a running local network.")
    faults = whole.add_subparsers(dest="fault", required=True)
    for name in FAULTS:
        one = faults.add_parser(
            name, prog=f"scripts/faults/{name}", description=ABOUT[name], help=ABOUT[name]
        )
        default = DEFAULT_TARGETS.get(name)
        one.add_argument(
            "targets", nargs="*" if default else "+", default=default, metavar="TARGET", help=TARGETS
        )
        one.add_argument(
            "--home", type=Path, help="the network's folder (default: the one network that runs)"
        )
        one.add_argument("--json", action="store_true", help="print one JSON object")
        if name in STARTING:
            one.add_argument("--no-wait", **NO_WAIT)
        for flag, settings in OPTIONS.get(name, {}).items():
            one.add_argument(flag, **settings)
    return whole


def tell(outcome: Outcome, overview: Overview) -> None:
    """For people."""
    best = overview.best
    if best is not None:
        primary = "" if best.primary is None else f", primary {best.primary[:8]}"
        print(f"before: height {best.height}, epoch {best.epoch} ({best.phase}){primary}")
    for deed in outcome.deeds:
        who = "" if deed.address is None else f" {deed.address}"
        role = "" if deed.role is None else f", {deed.role}"
        group = "" if deed.group is None else f" of group {deed.group}"
        ready = "" if deed.ready_after_s is None else f"; ready after {deed.ready_after_s:.1f} s"
        print(f"{outcome.fault}: {deed.name}{who}{role}{group}{ready} (log: {deed.log})")
    if outcome.details:
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in outcome.details.items()))
    for line in outcome.watch:
        print(f"watch: {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 done, 1 refused or failed, 2 wrong usage."""
    options = vars(parser().parse_args(arguments))
    fault, as_json = options.pop("fault"), options.pop("json")
    try:
        home = find_home(options.pop("home"))
        overview = asyncio.run(look(read(home)))
        outcome = FAULTS[fault](home, overview, options.pop("targets"), **options)
    except FaultError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    if as_json:
        best = overview.best
        print(
            msgspec.json.encode(
                {**msgspec.to_builtins(outcome), "before": msgspec.to_builtins(best)}
            ).decode()
        )
    else:
        tell(outcome, overview)
    return 0


if __name__ == "__main__":
    sys.exit(main())
