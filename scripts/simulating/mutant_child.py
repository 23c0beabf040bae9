"""The process in which a mutant lives: plants it, runs its seeds, says what was found. Standard input has the order."""

import json
import signal
import sys
import time
from typing import Never

from scripts.simulating.mutants import MAX_SEED_SECONDS, plant


class Endless(BaseException):
    """A seed did not come to an end; no handler of the code under test may swallow it."""


def _stop(_signal: int, _frame: object) -> Never:
    raise Endless


def main() -> None:
    """Run the seeds in order until one has a finding."""
    order = json.load(sys.stdin)
    if order["file"]:
        plant(order["file"], order["source"])
    # Only now: this imports what was changed.
    from scripts.simulating.mutant_families import FAMILIES

    family = FAMILIES[order["family"]]
    signal.signal(signal.SIGPROF, _stop)
    begun, ran, finding, seed = time.process_time(), 0, None, None
    for seed in order["seeds"]:
        ran += 1
        signal.setitimer(signal.ITIMER_PROF, MAX_SEED_SECONDS)
        try:
            finding = family(seed)
        except Endless:
            finding = f"no end after {MAX_SEED_SECONDS} s"
        except Exception as error:  # noqa: BLE001 - whatever the mutated code raises is the finding
            finding = f"{type(error).__name__}: {error}"
        if finding is not None:
            break
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - begun
    told = {"seeds": ran, "seed": None if finding is None else seed, "finding": finding, "seconds": seconds}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
