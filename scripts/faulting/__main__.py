"""Command line of scripts/faults/*: ``python -m scripts.faulting FAULT TARGET...``."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from scripts.faulting import commands
from scripts.faulting.commands import Outcome
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, find_home, look, read

TARGETS: Final = "primary, backup, node3 or 3, an address or how it begins, all (every node), bootstrap"
FAULTS: Final[dict[str, Callable[..., Outcome]]] = {
    "kill": commands.kill,
    "restart": commands.restart,
    "pause": commands.pause,
    "partition": commands.partition,
    "heal": commands.heal,
    "silent": commands.corrupt("silent"),
    "equivocate": commands.corrupt("equivocating"),
}
ABOUT: Final = {
    "kill": "End processes at once with SIGKILL, as a power cut would.",
    "restart": "Start what was ended, honest and with its own home; what still runs there is ended first.",
    "pause": "Stop processes with SIGSTOP, as a machine that hangs, and let them go on after a while.",
    "partition": "Hold every byte between the targets and the other nodes (needs proxies on the links).",
    "heal": "Let every byte pass again that partition held: of the targets, or of all.",
    "silent": "Put a member in the target's place that says nothing in consensus.",
    "equivocate": "Put a member in the target's place that votes twice at every height.",
}


def parser() -> argparse.ArgumentParser:
    """All faults."""
    whole = argparse.ArgumentParser(prog="scripts/faults", description="Faults for a running local network.")
    faults = whole.add_subparsers(dest="fault", required=True)
    for name in FAULTS:
        one = faults.add_parser(
            name, prog=f"scripts/faults/{name}", description=ABOUT[name], help=ABOUT[name]
        )
        default = ["all"] if name == "heal" else None
        one.add_argument(
            "targets", nargs="*" if default else "+", default=default, metavar="TARGET", help=TARGETS
        )
        one.add_argument(
            "--home", type=Path, help="the network's folder (default: the one network that runs)"
        )
        one.add_argument("--json", action="store_true", help="print one JSON object")
        if name == "pause":
            one.add_argument(
                "--seconds", type=float, default=commands.DEFAULT_PAUSE_S, help="how long (default 10)"
            )
        elif name == "partition":
            one.add_argument("--one-way", action="store_true", help="hold only what the targets send")
        elif name in ("restart", "silent", "equivocate"):
            one.add_argument(
                "--no-wait", dest="wait", action="store_false", help="do not wait until it answers ready"
            )
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
