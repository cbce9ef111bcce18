"""Short tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence

import click
import msgspec


def show_json(answer: object) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as its content; without a terminal nothing is cut or folded."""
    from rich.console import Console  # loaded only by those who look
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, soft_wrap=False, highlight=False).print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """`name   value`, one a line."""
    facts = list(facts)
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"{name:<{width}}  {plain(value)}")


def plain(value: object) -> str:
    """Text that came from elsewhere, without characters that steer a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))


def size(count: int | None) -> str:
    """Bytes for people: `0 B`, `1.5 MiB`."""
    if count is None:
        return "-"
    amount, unit = float(count), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, bigger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Time for people: `42 s`, `3 min`, `5.0 h`, `2.1 d`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 86400 else f"{seconds / 86400:.1f} d"
