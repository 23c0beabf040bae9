"""scripts/check-purity finds what it is there for, and no more."""

from contextlib import redirect_stdout
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from io import StringIO
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[3] / "scripts" / "check-purity"


def run(root: Path) -> tuple[int, str]:
    """What the check ends with and prints for a tree; in this process, as fifty interpreters would take a while."""
    specification = spec_from_loader("check_purity", SourceFileLoader("check_purity", str(CHECK)))
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    printed = StringIO()
    with redirect_stdout(printed):
        code: int = module.main([str(root)])
    return code, printed.getvalue()


def plant(root: Path, name: str, source: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return root


@pytest.mark.parametrize("package", ["consensus", "contracts"])
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("half = 0.5", "float literal"),
        ("turn = 1j", "float literal"),
        ("def mean(a: int) -> object:\n    return a / 2", "true division"),
        ("def halve(a):\n    a /= 2", "true division"),
        ("x = float('1')", "float()"),
        ("x = hash('a')", "differs between runs"),
        ("x = open('a')", "does IO"),
        ("x = 2 ** -1", "negative power"),
        ("assert True", "assert"),
        ("for x in {1, 2}: pass", "iteration over a set"),
        ("x = [y for y in set((1, 2))]", "iteration over a set"),
        ("x = list(frozenset((1, 2)))", "iteration over a set"),
        ("x = [*{1, 2}]", "iteration over a set"),
        ("x = ','.join({'a', 'b'})", "iteration over a set"),
        ("for x in {1} | other: pass", "iteration over a set"),
    ],
)
def test_refused(tmp_path: Path, package: str, source: str, complaint: str) -> None:
    code, output = run(plant(tmp_path, f"{package}/deep/planted.py", source))
    assert code == 1
    assert complaint in output
    assert f"{package}/deep/planted.py:" in output


@pytest.mark.parametrize(
    "source",
    [
        "x = 7 // 2",
        "x = sorted({1, 2})",
        "x = len({1, 2}) + min({3})",
        "x = 1 in {1, 2}",
        "x = {y + 1 for y in {1, 2}}",
        "x = sorted(y + 1 for y in {1, 2})",
        "for x in (1, 2): pass",
    ],
)
def test_allowed(tmp_path: Path, source: str) -> None:
    assert run(plant(tmp_path, "consensus/fine.py", source)) == (0, "")


def test_other_packages_may_use_floats(tmp_path: Path) -> None:
    assert run(plant(tmp_path, "node/metrics.py", "interval = 0.5 / 2")) == (0, "")


@pytest.mark.parametrize(
    "source",
    [
        "import consensus.block",
        "from consensus import block",
        "from contracts.state import State",
        "import network",
        "import node.ledger",
        "from node import ledger",
        "from . import ledger",
        "from .ledger import Ledger",
    ],
)
def test_auditor_shares_no_code(tmp_path: Path, source: str) -> None:
    code, output = run(plant(tmp_path, "node/auditor.py", source))
    assert code == 1
    assert "the auditor imports" in output


@pytest.mark.parametrize(
    "source", ["import hashlib", "from node.auditor import rules", "from . import rules"]
)
def test_auditor_may_import_itself_and_the_world(tmp_path: Path, source: str) -> None:
    assert run(plant(tmp_path, "node/auditor/main.py", source)) == (0, "")
