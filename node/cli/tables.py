"""Tables for people."""

from collections.abc import Iterable, Sequence


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings; numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [[_cell(value) for value in row] for row in rows]
    if title:
        print(title)
    if not shown:
        print("none")
        return
    view = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(shown) and all(_numeric(row[index]) for row in shown)
        view.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in shown:
        view.add_row(*(Text(value) for value in row))
    _console(Console).print(view)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    listed = [(name, _cell(value)) for name, value in pairs]
    width = max(len(name) for name, _ in listed)
    for name, value in listed:
        print(f"{name:<{width}}  {value}")


def _console(make: type) -> "Console":  # type: ignore[name-defined]  # noqa: F821
    """Wide enough that no id is cut where the output is no terminal."""
    import sys

    return make() if sys.stdout.isatty() else make(width=220)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _numeric(text: str) -> bool:
    return text == "-" or text.lstrip("-").replace(".", "", 1).isdigit()
