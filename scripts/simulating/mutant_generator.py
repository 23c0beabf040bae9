"""Mutants that nobody thought of: comparisons flipped, numbers moved by one, `and` for `or`, statements left out.

They say how much the hand-written ones overlook. A sample is drawn from a seed; each survivor needs a reason.
"""

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from scripts.simulating.mutants import REPOSITORY, Ground

CORE_MODULES: Final = (
    "consensus/three_phases.py",
    "consensus/failover.py",
    "consensus/view_change.py",
    "consensus/certificate.py",
)
_FLIPPED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_FOR_PEOPLE: Final = frozenset({"trace", "saw", "invariant"})
"""Calls without which nothing goes wrong: what is shown, and checks of what cannot be."""


@dataclass(frozen=True)
class Generated:
    """A mutant made by rule."""

    file: str
    line: int
    what: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """How it fared."""

    file: str
    line: int
    what: str
    seeds: int
    finding: str | None


def places(file: str) -> list[tuple[str, int, int]]:
    """Every mutant that the rules make of a file: (file, number of the node, number of the way)."""
    return [
        (file, place, way) for place, node in enumerate(ast.walk(_parsed(file))) for way in range(_ways(node))
    ]


def generate(file: str, place: int, way: int) -> Generated:
    """One of `places`."""
    tree = _parsed(file)
    node = list(ast.walk(tree))[place]
    what = _change(node, way)
    ast.fix_missing_locations(tree)
    return Generated(file, getattr(node, "lineno", 0), what, ast.unparse(tree))


def _parsed(file: str) -> ast.Module:
    return ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))


def _ways(node: ast.AST) -> int:
    match node:
        case ast.Compare():
            return int(type(node.ops[0]) in _FLIPPED)
        case ast.BoolOp():
            return 1
        case ast.Constant():
            return 2 if type(node.value) is int else 0
        case ast.UnaryOp():
            return int(isinstance(node.op, ast.Not))
        case ast.FunctionDef() | ast.If() | ast.For():
            return sum(map(_acts, node.body))
        case _:
            return 0


def _change(node: ast.AST, way: int) -> str:
    """Change ``node`` in place in one of its `_ways`; what was changed."""
    if isinstance(node, ast.FunctionDef | ast.If | ast.For):
        return _leave_out(node, way)
    before = ast.unparse(node)
    match node:
        case ast.Compare():
            node.ops[0] = _FLIPPED[type(node.ops[0])]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.Constant(value=int(value)):
            node.value = value + (1 if way else -1)
        case ast.UnaryOp():
            node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
        case _:
            raise TypeError(f"no rule changes a {type(node).__name__}")
    return f"{before} -> {ast.unparse(node)}"


def _leave_out(node: ast.FunctionDef | ast.If | ast.For, way: int) -> str:
    """Leave out one statement that acts or raises; docstrings and declarations stay."""
    gone = [item for item in node.body if _acts(item)][way]
    node.body[node.body.index(gone)] = ast.copy_location(ast.Pass(), gone)
    return f"without {ast.unparse(gone).splitlines()[0]}"


def _acts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise | ast.AugAssign | ast.Delete):
        return True
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    called = statement.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name not in _FOR_PEOPLE


def sample(seed: int, count: int, files: tuple[str, ...] = CORE_MODULES) -> list[Generated]:
    """``count`` of them, drawn from a seed."""
    everything = [item for file in files for item in places(file)]
    chosen = random.Random(f"{seed}/generated").sample(everything, min(count, len(everything)))
    return [generate(*item) for item in sorted(chosen)]


def hunt_generated(
    mutants: list[Generated],
    seeds: int,
    *,
    family: str = "mixed",
    progress: Callable[[Verdict], None] = lambda _verdict: None,
) -> Iterator[Verdict]:
    """Hunt each through ``seeds`` seeds of a family."""
    with Ground() as ground:
        for mutant in mutants:
            runs = [(family, seed) for seed in range(1, seeds + 1)]
            findings, _ = ground.run(runs, planted=(mutant.file, mutant.source))
            verdict = Verdict(mutant.file, mutant.line, mutant.what, len(findings), findings[-1])
            progress(verdict)
            yield verdict
