"""Pages of lists: their sizes and the text of their cursors."""

from node.service import MAX_PAGE_ITEMS, InvalidCursor


def check_limit(limit: int) -> None:
    """`InvalidCursor` unless a page of ``limit`` items is allowed."""
    if not 1 <= limit <= MAX_PAGE_ITEMS:
        raise InvalidCursor(f"a page holds 1 to {MAX_PAGE_ITEMS} items, not {limit}")


def cursor_bytes(cursor: str, length: int) -> bytes:
    """The ``length`` bytes behind a cursor; `InvalidCursor` if it is none of ours."""
    try:
        value = bytes.fromhex(cursor)
    except ValueError:
        value = b""
    if len(value) != length:
        raise InvalidCursor("this cursor was not given out by a node: begin without one")
    return value


def number_of(cursor: str) -> int:
    """The height behind a cursor."""
    return int.from_bytes(cursor_bytes(cursor, 8), "big") & (2**62 - 1)
