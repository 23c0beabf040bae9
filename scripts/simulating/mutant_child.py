"""The process in which mutants live: plants one, runs its seeds, says what was found. Orders come on standard input.

`--serve` forks for each order, with the mutated code swapped in; without it there is one order, and the mutated source
is what gets imported.
"""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Never

from scripts.simulating.mutant_swap import swap
from scripts.simulating.mutants import MAX_SEED_SECONDS, REPOSITORY, plant


class Endless(BaseException):
    """A seed did not come to an end; no handler of the code under test may swallow it."""


def _stop(_signal: int, _frame: object) -> Never:
    raise Endless


def _run(order: dict[str, Any]) -> dict[str, Any]:
    """The (family, seed) pairs in order, up to the first finding unless all are wanted."""
    # Only now: this imports what was changed.
    from scripts.simulating.mutant_families import FAMILIES

    signal.signal(signal.SIGPROF, _stop)
    begun, findings = time.process_time(), list[str | None]()
    for name, seed in order["runs"]:
        findings.append(_finding(FAMILIES[name], seed))
        if findings[-1] is not None and not order["to_the_end"]:
            break
    return {"findings": findings, "seconds": time.process_time() - begun}


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


def _tell(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _serve() -> None:
    from scripts.simulating import mutant_families  # noqa: F401 - imported once, for all that fork from here

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _answer(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            _tell({"error": f"the process ended with {status}"})


def _answer(order: dict[str, Any]) -> None:
    file = order["file"]
    if file:
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        if not swap(module, REPOSITORY / file, order["source"]):
            _tell({"import": True})
            return
    _tell(_run(order))


def main() -> None:
    """One order, or as many as come."""
    if sys.argv[1:] == ["--serve"]:
        _serve()
        return
    order = json.load(sys.stdin)
    if order["file"]:
        plant(order["file"], order["source"])
    _tell(_run(order))


if __name__ == "__main__":
    main()
