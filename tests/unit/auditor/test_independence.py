"""The auditor is a second implementation: it imports nothing of the project (PROTOCOL 12, S6)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import node.auditor

FILES = sorted(Path(node.auditor.__file__).parent.glob("*.py"))
PROJECT = ("consensus", "contracts", "network", "node")
ALLOWED = {"msgpack", "nacl", "rocksdict"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_messagepack_ed25519_and_the_stores_reader_are_imported(path: Path) -> None:
    for item in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(item, ast.Import):
            names = [alias.name for alias in item.names]
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0
            if item.module == "node.auditor":
                continue
            names = [item.module or ""]
        for name in names:
            own = name.startswith("node.auditor.")
            assert own or name.split(".")[0] in ALLOWED | sys.stdlib_module_names, name


def test_running_it_loads_nothing_else_of_the_project() -> None:
    code = "import node.auditor.cli, sys; print(*sorted(sys.modules))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = [name for name in listed.split() if name.split(".")[0] in PROJECT]
    assert "node.auditor.replay" in loaded
    assert all(name == "node" or name.startswith("node.auditor") for name in loaded)
