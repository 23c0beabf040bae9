"""docs/simulation/mutants.md from results: which mutant was killed by what, and within how many seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts.simulating.mutant_generator import Verdict
from scripts.simulating.mutants import Killed, Mutant, table

INTRODUCTION: Final = """\
# Mutants

A mutant is one line of shipped consensus or epoch code changed so that PROTOCOL is broken. It never touches the
checkout: the changed source runs in a process of its own. Seeds of one family of scenarios run on it, and the first
seed with a finding kills it; that seed has to find nothing on the code as shipped. No unit test takes part.

    scripts/simulate --mutants --out mutants.json     all of them; what FILE knows is not hunted again
    scripts/simulate --canary                         one bug chosen by the seed, which has to be found

The lists are scripts/simulating/mutant_list_*.py. A mutant whose text is not found exactly once is an error: it has to
follow the code. Each names the family where it is looked for (scripts/simulating/mutant_families.py), which is a part
of what ordinary campaigns draw. What kills most mutants early is network/simulation/obligations.py: it judges every
signature of every honest node by what that node had been told, instead of waiting until a fork or a halt comes of it.

tests/simulation/test_mutants.py plants a few in every run of the tests; tests/simulation/test_replays.py puts back bugs
that other projects shipped.
"""


def report(
    mutants: Sequence[Mutant],
    results: Sequence[Killed],
    generated: Sequence[Verdict],
    reasons: dict[str, str],
) -> str:
    """The whole page."""
    found = sorted(killed.seeds for killed in results if killed.finding is not None)
    numbers = (
        f"\n## Results\n\n{len(results)} of {len(mutants)} mutants hunted, {len(found)} killed"
        + (f"; median {found[len(found) // 2]} seeds, at most {found[-1]}" if found else "")
        + f". Survivors: {', '.join(k.name for k in results if k.finding is None) or 'none'}.\n\n"
    )
    return INTRODUCTION + numbers + table(mutants, results) + _generated(generated, reasons)


def _generated(verdicts: Sequence[Verdict], reasons: dict[str, str]) -> str:
    if not verdicts:
        return ""
    killed = [verdict for verdict in verdicts if verdict.finding is not None]
    lines = [
        "\n## Mutants made by rule\n",
        "Comparisons flipped, numbers moved by one, `and` for `or`, statements left out: a sample of what",
        f"scripts/simulating/mutant_generator.py makes. {len(killed)} of {len(verdicts)} were killed. The survivors:\n",
        "| File | Line | Change | Seeds | Why it survives |",
        "|---|---|---|---|---|",
    ]
    for verdict in verdicts:
        if verdict.finding is None:
            what = verdict.what.replace("|", "\\|")[:90]
            reason = reasons.get(f"{verdict.file}: {verdict.what}", "not looked into yet")
            lines.append(f"| {verdict.file} | {verdict.line} | `{what}` | {verdict.seeds} | {reason} |")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
