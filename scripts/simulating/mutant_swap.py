"""Mutated code put under functions that are imported already: what lets one process serve many mutants by forking.

A function keeps its name, its globals and whoever holds it; only what it does is exchanged. A change outside of
functions (a constant, a class body) cannot be made so: then the module has to be imported anew.
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType


def swap(module: ModuleType, path: Path, source: str) -> bool:
    """Let the functions of ``module`` do what ``source`` says; False, and nothing done, if that is not all."""
    before = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    after = compile(source, str(path), "exec", dont_inherit=True)
    bodies_before, functions_before = _sorted_out(before)
    bodies_after, functions_after = _sorted_out(after)
    if bodies_before != bodies_after or functions_before.keys() != functions_after.keys():
        return False
    if any(code.co_freevars != functions_after[name].co_freevars for name, code in functions_before.items()):
        return False
    for item in gc.get_objects():
        if isinstance(item, FunctionType) and item.__globals__ is module.__dict__:
            code = functions_after.get(item.__code__.co_qualname)
            if code is not None:
                item.__code__ = code
    return True


def _sorted_out(
    module: CodeType,
) -> tuple[dict[str, tuple[bytes, tuple[object, ...], tuple[str, ...]]], dict[str, CodeType]]:
    """What runs at import, by name and without its functions; and the functions that are no part of another."""
    bodies, functions = {}, {}
    for code in _defined(module):
        if code.co_flags & 0x2:  # CO_NEWLOCALS: a function, not the body of a module or a class
            functions[code.co_qualname] = code
        else:
            constants = tuple(item for item in code.co_consts if not isinstance(item, CodeType))
            bodies[code.co_qualname] = (code.co_code, constants, code.co_names)
    return bodies, functions


def _defined(code: CodeType) -> Iterator[CodeType]:
    yield code
    for item in code.co_consts:
        if isinstance(item, CodeType):
            if item.co_flags & 0x2:
                yield item
            else:
                yield from _defined(item)
