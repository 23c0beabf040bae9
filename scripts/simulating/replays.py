"""Bugs that other projects shipped, put back into this code one by one: each has to be found (RELIABILITY G6).

Most are one of the mutants of `mutant_list`; the rest stand here. tests/simulation/test_replays.py tells their stories.
"""

from types import ModuleType
from typing import Final

from scripts.simulating.mutant_list import BY_NAME
from scripts.simulating.mutants import Mutant, mutated_source

_DELEGATES: Final = "consensus/delegates.py"

ONLY_HERE: Final[tuple[Mutant, ...]] = (
    Mutant(
        "quorum-two-thirds-rounded-up",
        _DELEGATES,
        "return len(self.ranking) - self.faults",
        "return -(-2 * len(self.ranking) // 3)",
        "ceil(2 n / 3) is too few with 6 seats (klaytn 2026)",
        "seats",
        20,
    ),
    Mutant(
        "commit-quorum-2f-plus-1",
        "consensus/height.py",
        "self.commits: Tally[Commit] = Tally(self.judge.quorum)",
        "self.commits: Tally[Commit] = Tally(2 * self.judge.faults + 1)",
        "2 f + 1 commits are too few with 5 or 6 seats (Quorum IBFT)",
        "seats",
        20,
    ),
    Mutant(
        "state-root-not-compared",
        "consensus/proposal.py",
        '        (header.state_root == context.state_root, "state root"),\n',
        "",
        "what a leader computed is not recomputed (Rustchain 4218)",
        "liars: wrong blocks",
        60,
    ),
    Mutant(
        "wiped-node-silent-for-ever",
        "consensus/standing.py",
        "    if core.abstain_until != UNKNOWN_HEIGHT:\n        return",
        "    if core.abstain_until == UNKNOWN_HEIGHT:\n        return",
        "a node that lost its data never votes again (besu 8307)",
        "lost journals",
        20,
    ),
    Mutant(
        "late-delegate-not-answered",
        "consensus/standing.py",
        "                core.emit(SendDecided(message.height, sender))\n",
        "                core.trace(sender.hex())\n",
        "a delegate behind the others asks for views for ever (concord-bft 1399, indy 1506)",
        "restarts",
        60,
    ),
    Mutant(
        "bad-part-spoils-the-whole",
        "consensus/view_change.py",
        "    except InvalidMessage:\n        return False",
        "    except InvalidMessage:\n        raise",
        "one bad view-change hides the good ones beside it (concord-bft 50)",
    ),
    Mutant(
        "group-number-out-of-range",
        "consensus/grouping.py",
        "if type(group) is not int or not 0 <= group < group_total:",
        "if type(group) is not int:",
        "a number from outside indexes a list (CometBFT ASA-2024-011)",
    ),
    Mutant(
        "lowered-height-believed",
        "network/sync.py",
        "        if height < source.height:\n",
        "        if height < 0:\n",
        "a peer takes back what it announced, and the sync waits for it (CometBFT ASA-2025-001)",
    ),
    Mutant(
        "malformed-removal-raises",
        "consensus/removal.py",
        '        except MalformedInput as error:\n            raise InvalidMessage(f"the removed',
        '        except KeyError as error:\n            raise InvalidMessage(f"the removed',
        "malformed bytes in a message kill who reads them (Fabric CVE-2022-31121, CVE-2021-43669)",
    ),
)
BUGS: Final = {**BY_NAME, **{mutant.name: mutant for mutant in ONLY_HERE}}
"""By name."""


def code_with(name: str) -> ModuleType:
    """The module with the bug in it, beside the shipped one and known to nobody else."""
    mutant = BUGS[name]
    module = ModuleType(mutant.file.removesuffix(".py").replace("/", "."))
    module.__file__ = mutant.file
    exec(compile(mutated_source(mutant), mutant.file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    return module
