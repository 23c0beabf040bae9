"""Nothing that the program can refuse, and no section of PROTOCOL.md, is without a test."""

import enum
import functools
import re
from pathlib import Path
from typing import Final

import pytest

from contracts.receipts import ReasonCode
from contracts.validation import InvalidReason
from node.api.problems import CATALOGUE, SUBMIT_CODES
from node.service import SubmitCode

REPOSITORY: Final = Path(__file__).resolve().parents[2]
THIS: Final = Path(__file__).resolve()

BY_TABLE: Final = frozenset(SUBMIT_CODES.values())
"""Problem codes that `test_every_refusal_of_the_service_has_its_status` asserts for every row of `SUBMIT_CODES`."""
TABLE_TEST: Final = '@pytest.mark.parametrize("code", list(SUBMIT_CODES))'


@functools.cache
def sources() -> tuple[str, ...]:
    """All test files but this one."""
    paths = sorted((REPOSITORY / "tests").rglob("*.py"))
    return tuple(path.read_text(encoding="utf-8") for path in paths if path != THIS)


def asserted(pattern: str) -> bool:
    """Whether the text of a test has it. Which code a case ends with is then that test's assertion."""
    return any(re.search(pattern, source) for source in sources())


@pytest.mark.parametrize(
    "code", [*ReasonCode, *InvalidReason, *SubmitCode], ids=lambda code: f"{type(code).__name__}.{code.name}"
)
def test_every_code_that_the_program_answers_with_is_reached_by_a_test(code: enum.Enum) -> None:
    kind, name = type(code).__name__, code.name
    local = {"ReasonCode": "R|Reason|Code", "InvalidReason": "I|Reason|Invalid", "SubmitCode": "C|S|Code"}[
        kind
    ]
    assert asserted(rf"\b(?:s\.)?(?:{kind}|{local})\.{name}\b"), f"no test names {kind}.{name}"


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_problem_of_the_api_is_reached_by_a_test(code: str) -> None:
    if code in BY_TABLE:
        assert asserted(re.escape(TABLE_TEST))
    else:
        assert asserted(rf'"{code}"'), f"no test names the problem {code}"


@functools.cache
def sections() -> tuple[str, ...]:
    """Numbers of PROTOCOL.md's rules: 0.1 to 10.2."""
    text = (REPOSITORY / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    return tuple(re.findall(r"^- \*\*(\d+\.\d+)\*\*", text, re.MULTILINE))


def test_the_protocol_has_its_sections() -> None:
    found = sections()
    assert (found[0], found[-1]) == ("0.1", "10.2")
    assert list(found) == sorted(found, key=lambda one: tuple(map(int, one.split("."))))
    assert len(found) > 55


@pytest.mark.parametrize("section", sections())
def test_every_section_of_the_protocol_has_a_test_that_cites_it(section: str) -> None:
    """By its name, `test_6_4_...`, or by the docstring's first words, `6.4: ...` or `PROTOCOL 6.4: ...`."""
    by_name = rf"def test_{section.replace('.', '_')}_\w+\("
    by_words = rf'def test_\w+\([^"]*?-> None:\n    """(?:PROTOCOL )?{re.escape(section)}[:, ]'
    assert asserted(f"(?:{by_name}|{by_words})"), f"no test cites PROTOCOL {section}"


def test_every_section_that_the_code_cites_is_one() -> None:
    """`PROTOCOL 6.13` in a comment would lead nowhere."""
    text = (REPOSITORY / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    known = frozenset(sections()) | frozenset(re.findall(r"^## (\d+) ", text, re.MULTILINE))
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {number}"
        for room in ("consensus", "contracts", "network", "node", "scripts", "tests")
        for path in sorted((REPOSITORY / room).rglob("*.py"))
        if path != THIS
        for number in re.findall(r"PROTOCOL (\d+(?:\.\d+)?)", path.read_text(encoding="utf-8"))
        if number not in known
    ]
    assert wrong == []
