"""The marker of the tests in this folder."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "containers: builds the image and runs it under a container engine; needs root or an engine",
    )
