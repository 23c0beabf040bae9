"""The Promela models at small bounds: they hold, each planted bug breaks them, and they are not empty."""

import pytest

from scripts.simulating.model import (
    BUGS,
    MODELS,
    REACHED,
    Check,
    ModelError,
    bounded,
    missing_tools,
    run_check,
)

needs_spin = pytest.mark.skipif(
    bool(missing_tools()), reason=f"{' and '.join(missing_tools())} not installed (apt-get install spin gcc)"
)


@needs_spin
@pytest.mark.parametrize("check", bounded(), ids=lambda check: check.name)
def test_it_holds_or_fails_as_it_must(check: Check) -> None:
    result = run_check(check)
    assert result.as_expected, f"{check.name}: {result.violated}"
    if check.holds:
        assert result.states > 1_000


@needs_spin
def test_a_model_that_is_none_is_an_error() -> None:
    with pytest.raises(ModelError, match="spin failed"):
        run_check(Check("height.pml", ("VIEWS=(",), holds=True))


def test_every_switch_of_the_models_is_checked() -> None:
    """A bug or claim that no check plants would be dead text."""
    known = {
        name: {define for model, define in BUGS + REACHED if model == name}
        for name in ("height.pml", "epoch.pml")
    }
    for name, switches in known.items():
        text = (MODELS / name).read_text("utf-8")
        words = text.replace("(", " ").replace(")", " ").split()
        named = {word for word in words if word.startswith(("BUG_", "REACH_"))}
        assert named == switches
