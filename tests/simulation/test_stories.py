"""The protocol's classic stories: what their commands bring about is what their files say."""

from pathlib import Path

import pytest

from scripts.simulating.results import CampaignError
from scripts.simulating.stories import STORIES, regenerated, show_stories

CLASSICS = (
    "carried_over",
    "catching_up",
    "election",
    "epoch_change",
    "equivocation",
    "journal_lost",
    "late_commit",
    "normal_case",
    "partition",
    "primary_crash_after_prepare",
    "recount",
    "removal",
    "silent_primary",
)


def test_the_classic_stories_are_told() -> None:
    assert set(CLASSICS) <= {path.stem for path in STORIES.glob("*.txt")}


@pytest.mark.parametrize("path", sorted(STORIES.glob("*.txt")), ids=lambda path: path.stem)
def test_a_story_still_happens(path: Path) -> None:
    """After a change that is meant: `scripts/simulate --stories --write`, and read what became different."""
    text = path.read_text("utf-8")
    assert regenerated(text) == text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("carried_over", "first proposed in view 0"),
        ("equivocation", "has proof of equivocation"),
        ("late_commit", "signs commit for the deciding view"),
        ("removal", "1 removed"),
        ("epoch_change", "epoch 1 begins with the seats of 2, 3, 1, 4"),
        ("journal_lost", "signs nothing at heights up to 3"),
        ("partition", "asks for view 1 of 1, timeout"),
        ("primary_replaced", "1 pre-prepares 3"),
        ("wrong_block", "invalid proposal"),
        ("recount", "recount in group"),
        ("election", "epoch 1 begins"),
    ],
)
def test_a_story_shows_what_it_is_about(name: str, expected: str) -> None:
    assert expected in (STORIES / f"{name}.txt").read_text("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "$ submit 0\n",
        "$ network four\n",
        "$ network 4\n$ dance 1\n",
        "$ network 4\n$ crash 7\n",
        "$ system 6 seed 1\n$ submit 1\n",
        "$ network 4\n$ from height 2 epoch 1 seats 0 1 2 3\n",
        "$ network 4\n$ cut 0 1 | 2 3\n$ run until height 1\n",
    ],
)
def test_what_is_no_story_is_refused(text: str) -> None:
    with pytest.raises(CampaignError):
        regenerated(text)


def test_a_story_that_went_otherwise_is_shown_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("# A start.\n\n$ network 4\n$ state\nsomething else\n")
    monkeypatch.setattr("scripts.simulating.stories.STORIES", tmp_path)
    monkeypatch.setattr("scripts.simulating.stories.ROOT", tmp_path)
    assert show_stories(write=False) == 1
    assert "-something else" in capsys.readouterr().out
    assert show_stories(write=True) == 0
    assert "0: decided 0; height 1, view 0, idle" in path.read_text()
    assert show_stories(write=False) == 0
