"""Logs: one format for structlog and the standard library, and nothing in them that is nobody's business."""

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from node.config import LogConfig
from node.logging import configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail() -> None:
    private = "flesti-yek-eht"[::-1]  # never as such in the source line that a traceback shows
    raise RuntimeError(f"{len(private)} letters are wrong")


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_traceback_shows_lines_but_no_local_variables(
    form: Literal["human", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogConfig(format=form))
    for log in (structlog.get_logger("test_logging"), logging.getLogger("test_logging")):
        try:
            fail()
        except RuntimeError:
            log.exception("it failed")
    text = capsys.readouterr().err
    assert text.count("RuntimeError: 14 letters are wrong") == 2
    assert "the-key-itself" not in text


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig(format="json", level="warning"))
    structlog.get_logger("test_logging_json").info("unheard")
    structlog.get_logger("test_logging_json").warning("heard", height=3)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["height"], entry["level"]) == ("heard", 3, "warning")
