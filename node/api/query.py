"""Path and query parameters: each read once by name and type, anything else refused."""

import re
from typing import Final

from aiohttp import web

from node.api.problems import Problem
from node.service import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS

MAX_HEIGHT: Final = 2**63 - 1
DEFAULT_WAIT_MS: Final = 10_000
MAX_WAIT_MS: Final = 60_000
"""Longer than a capped view timeout; a client that wants more asks again."""
_MAX_CURSOR: Final = 256


def path_bytes(request: web.Request, name: str, length: int) -> bytes:
    """A path segment of ``length`` bytes in hex."""
    return hex_bytes(request.match_info[name], length, name)


def path_number(request: web.Request, name: str) -> int:
    """A path segment that is a number."""
    return number(request.match_info[name], name, 0, MAX_HEIGHT)


def hex_bytes(text: str, length: int, name: str) -> bytes:
    """Exactly ``length`` bytes in hex, without prefix."""
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * length}}}", text) is None:
        raise Problem("invalid_parameter", f"{name}: expected {2 * length} hex digits, got {text[:80]!r}")
    return bytes.fromhex(text)


def number(text: str, name: str, low: int, high: int) -> int:
    """A decimal integer within bounds."""
    value = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if not low <= value <= high:
        raise Problem("invalid_parameter", f"{name}: expected a number in {low}..{high}, got {text[:80]!r}")
    return value


class Query:
    """The query string; `done` refuses what was not asked for by name."""

    def __init__(self, request: web.Request) -> None:
        """400 for a name that stands twice."""
        query = request.query
        if len(query) != len(set(query)):
            twice = next(name for name in query if len(query.getall(name)) > 1)
            raise Problem("invalid_parameter", f"{twice}: stands twice")
        self._left = dict(query)

    def text(self, name: str) -> str | None:
        """The parameter as it came, or None."""
        return self._left.pop(name, None)

    def address(self, name: str) -> bytes | None:
        """An address, or None."""
        text = self.text(name)
        return None if text is None else hex_bytes(text, 20, name)

    def number(self, name: str, default: int, low: int = 0, high: int = MAX_HEIGHT) -> int:
        """A number within bounds, or ``default``."""
        text = self.text(name)
        return default if text is None else number(text, name, low, high)

    def flag(self, name: str) -> bool:
        """1 or 0; absent means 0."""
        return bool(self.number(name, 0, 0, 1))

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """One of ``allowed``, or None."""
        text = self.text(name)
        if text is not None and text not in allowed:
            raise Problem("invalid_parameter", f"{name}: expected {', '.join(allowed)}; got {text[:80]!r}")
        return text

    def page(self) -> tuple[str | None, int]:
        """Cursor and page size of a list."""
        cursor = self.text("cursor")
        if cursor is not None and not 1 <= len(cursor) <= _MAX_CURSOR:
            raise Problem("invalid_cursor", f"cursor: expected 1 to {_MAX_CURSOR} characters")
        return cursor, self.number("limit", DEFAULT_PAGE_ITEMS, 1, MAX_PAGE_ITEMS)

    def timeout_ms(self) -> int:
        """How long to wait for a block, in ms."""
        return self.number("timeout_ms", DEFAULT_WAIT_MS, 0, MAX_WAIT_MS)

    def done(self) -> None:
        """400 if anything is left."""
        if self._left:
            raise Problem("invalid_parameter", f"{', '.join(self._left)}: not a parameter of this endpoint")
