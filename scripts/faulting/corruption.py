"""Members that break the protocol, put in the place of honest ones: the programs stand in tests/byzantine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.faulting import processes
from scripts.faulting.commands import Outcome, end, now_ms, observer_of, started
from scripts.faulting.errors import FaultError
from scripts.faulting.network import Overview, address_of_place, changing, resolve

SEEN: Final = {
    "silent": "{0} is missing from certificates: no_block as primary, then down, and its seat: cgpbft members {1}{2}",
    "equivocating": "evidence against {0} is committed (wrong_block), and its seat goes: cgpbft members {1}{2}",
    "mute": "what {0} does not say the others do without, or it is charged for it: cgpbft members {1}{2}",
    "echo": "everything of {0} arrives twice and late: nothing counts twice: cgpbft watch{2}",
    "slow": "as primary {0} proposes late: its blocks are far apart until a complaint moves the view: cgpbft watch{2}",
    "censor": "transactions that {0} leaves out commit under the next primary within about request_timeout_ms",
    "forging": "signatures of {0} do not verify: its messages are dropped, peers punish it: /metrics of the others",
    "future": "votes of {0} for far heights and views are dropped: memory stays flat: /metrics of the others",
    "badblock": "a block of {0} with a wrong root is refused at once (view change), no_block: cgpbft members {1}{2}",
    "tapping": "it votes like any other and writes the votes it sees to votes.jsonl in its home",
    "skew": "with more than max_drift_ms a proposal of {0} gets no prepare; the chain goes on: cgpbft watch{2}",
    "fsync": "when its disk fails {0} stops with exit code 1 and signs nothing more: scripts/faults/restart",
}
"""{0}: address, short; {1}: whole; {2}: which node to ask."""


def corrupt(fault: str, behaviour: str, argument: Callable[..., str] | None = None) -> Callable[..., Outcome]:
    """A command that ends the honest process and starts ``behaviour`` with its home, keys and ports in its place.

    ``argument`` makes the behaviour's argument from the command's own options.
    """

    def put(
        home: Path, overview: Overview, targets: Sequence[str], *, wait: bool = True, **options: Any
    ) -> Outcome:
        manner = behaviour if argument is None else f"{behaviour}={argument(**options)}"
        with changing(home) as network:
            places = resolve(network, overview, targets)
            if any(not place.peer_port for place in places):
                raise FaultError(
                    "the bootstrap is trusted with nothing: scripts/faults/lie makes it dishonest, this makes nodes so"
                )
            substitutes = [processes.Substitute(place, manner) for place in places]
            for substitute in substitutes:
                substitute.wait_until_loaded()
            end(places)
            for substitute in substitutes:
                substitute.take_over()
            instants = [now_ms()] * len(places)
            observer = observer_of(network, places)
        asked = "" if observer is None else f" --node {observer.url}"
        watch = [SEEN[behaviour].format(who[:8], who, asked) for who in map(address_of_place, places)]
        names = " ".join(place.name for place in places)
        watch.append(f"scripts/faults/restart {names} makes it honest again")
        outcome = started(manner, places, instants, overview, wait=wait, watch=watch)
        return Outcome(fault, outcome.deeds, outcome.watch, options)

    return put


KINDS: Final = ("proposal", "prepare", "commit", "view_change", "new_view")


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise FaultError(f"{kind!r} is no kind of message: use one of {', '.join(KINDS)}")
    return kind


def _shift(ms: int) -> str:
    if abs(ms) > 10 * 366 * 86_400_000:
        raise FaultError(f"a clock that is {ms} ms off: use at most ten years")
    return str(ms)


def _after(syncs: int) -> str:
    if syncs < 0:
        raise FaultError("the count of syncs that still work is 0 or more")
    return str(syncs)


silent = corrupt("silent", "silent")
equivocate = corrupt("equivocate", "equivocating")
mute = corrupt("mute", "mute", _kind)
echo = corrupt("echo", "echo")
slow = corrupt("slow", "slow")
censor = corrupt("censor", "censor")
forge = corrupt("forge", "forging")
future = corrupt("future", "future")
badblock = corrupt("badblock", "badblock")
tap = corrupt("tap", "tapping")
skew = corrupt("skew", "skew", _shift)
fsync = corrupt("fsync", "fsync", _after)


def lie(home: Path, overview: Overview, targets: Sequence[str], *, wait: bool = True) -> Outcome:
    """A bootstrap that hides addresses, throws ballots away that it said it took, and claims false plans."""
    del targets
    with changing(home) as network:
        place = network.bootstrap
        substitute = processes.Substitute(place, "lying", processes.LYING_BOOTSTRAP)
        substitute.wait_until_loaded()
        end([place])
        substitute.take_over()
        instants = [now_ms()]
        observer = observer_of(network, [place])
    asked = "" if observer is None else f" --node {observer.url}"
    watch = [
        f"elections go on: members submit the ballots themselves that it threw away: cgpbft epoch{asked}",
        "its plans are refused (plan_claim_wrong): every member computes groups itself",
        "scripts/faults/restart bootstrap makes it honest again",
    ]
    return started("lie", [place], instants, overview, wait=wait, watch=watch)
