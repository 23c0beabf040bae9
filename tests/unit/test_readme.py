"""README.md's command lines are ones that the program takes, and its files are there."""

import re
import shlex
import string
from pathlib import Path
from typing import Final

import pytest
import typer
from typer.core import TyperGroup

from node.cli.application import app

REPOSITORY: Final = Path(__file__).resolve().parents[2]
README: Final = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SAMPLES: Final = {
    "BUYER": "ab" * 20,
    "SELLER": "cd" * 20,
    "TRADE": "12" * 32,
    "ID": "12" * 32,
    "GENESIS": "34" * 32,
    "KEY": "56" * 32,
    "START": "2026-07-01T12:15:00Z",
    "SELLER_HOME": "seller",
    "BUYER_HOME": "buyer",
}
"""What a reader puts in the place of the variables."""


def blocks() -> list[str]:
    return re.findall(r"^```[a-z]*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def command_lines() -> list[list[str]]:
    """Words of every `cgpbft` line in code blocks, and of every whole one in the running text."""
    found = [line for block in blocks() for line in block.splitlines() if line.startswith("cgpbft ")]
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    found += [text for text in re.findall(r"`(cgpbft [^`]+)`", prose) if "..." not in text]
    lines = [string.Template(line).substitute(SAMPLES) for line in found]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_command_line_of_the_readme_parses(words: list[str]) -> None:
    """Up to its own function: unknown commands, options and wrong types of values end here."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name, words = words[0], words[1:]
        assert name in command.commands
        command = command.commands[name]
    with command.make_context("cgpbft", list(words)) as made:
        assert made.args == []


def test_there_are_command_lines_to_parse() -> None:
    assert len(command_lines()) > 20


def test_every_script_and_file_that_the_readme_names_is_there() -> None:
    named = re.findall(
        r"(?<![\w/.])(?:\./)?(scripts/[\w/-]+|docs/[\w./]*\w|ARCHITECTURE\.md|consensus/\w+\.py)", README
    )
    assert len(named) > 10
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
