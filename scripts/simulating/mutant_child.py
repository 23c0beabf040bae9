"""The process in which a mutant lives: plants it, runs its seeds, says what was found. Standard input has the order."""

import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Never

from scripts.simulating.mutants import MAX_SEED_SECONDS, plant


class Endless(BaseException):
    """A seed did not come to an end; no handler of the code under test may swallow it."""


def _stop(_signal: int, _frame: object) -> Never:
    raise Endless


def main() -> None:
    """Run the (family, seed) pairs in order, up to the first finding unless all are wanted."""
    order = json.load(sys.stdin)
    if order["file"]:
        plant(order["file"], order["source"])
    # Only now: this imports what was changed.
    from scripts.simulating.mutant_families import FAMILIES

    signal.signal(signal.SIGPROF, _stop)
    begun, findings = time.process_time(), []
    for name, seed in order["runs"]:
        findings.append(_finding(FAMILIES[name], seed))
        if findings[-1] is not None and not order["to_the_end"]:
            break
    told = {"findings": findings, "seconds": time.process_time() - begun}
    sys.stdout.write(json.dumps(told) + "\n")


def _finding(family: Callable[[int], str | None], seed: int) -> str | None:
    signal.setitimer(signal.ITIMER_PROF, MAX_SEED_SECONDS)
    try:
        return family(seed)
    except Endless:
        return f"no end after {MAX_SEED_SECONDS} s"
    except Exception as error:  # noqa: BLE001 - whatever the mutated code raises is the finding
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
