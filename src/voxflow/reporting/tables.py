"""Reads the tables, JSON and pictures of the stages, or the reason why one is missing."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.files import read_json_or_none

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from voxflow.tables import Row

SMALLEST = 0.001  # what three decimals can show
# How Python writes a finite number; float() also takes pseudonyms that happen to hold only digits, "e" and "_".
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]\d+)?")


@dataclass(frozen=True)
class Table:
    """A table as a page shows it: column titles and cells, in order.

    Attributes:
        missing: why there is nothing to show; empty when there is.
        links: addresses by the text of a row's first cell.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    missing: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page.

    Attributes:
        title: what it shows.
        source: a ``data:`` address that holds the picture itself.
        channels: of a case of several, name and address of each channel's picture; ``source`` is one of them.
    """

    title: str
    source: str
    channels: tuple[tuple[str, str], ...] = ()


def read_pictures(folder: Path, most: int, *, order: Sequence[str] = ()) -> tuple[Picture, ...]:
    """Read the PNG files of a folder.

    Args:
        folder: may be missing.
        most: no more than so many.
        order: beginnings of file names that come first, in this order; the others follow by name.
    """

    def rank(path: Path) -> tuple[int, str]:
        return next((at for at, start in enumerate(order) if path.name.startswith(start)), len(order)), path.name

    return tuple(
        Picture(_make_title(path.stem), encode_png(path.read_bytes()), tuple(_read_channels(path)))
        for path in sorted(folder.glob("*.png"), key=rank)[:most]
    )


def _read_channels(path: Path) -> Iterator[tuple[str, str]]:
    """The pictures of a case's channels, which lie in channels/ beside that of the one that gives the grid."""
    folder = path.parent / "channels"
    content = read_json_or_none(folder / "channels.json")
    names = content.get("channels", []) if isinstance(content, dict) else []
    places = [folder / f"{path.stem}.{number}.png" for number in range(len(names))]
    if content and names:
        places[int(content["reference"])] = path
    if len(names) > 1 and all(place.is_file() for place in places):
        for name, place in zip(names, places, strict=True):
            yield str(name), encode_png(place.read_bytes())


def encode_png(content: bytes) -> str:
    """Return a PNG's content as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def make_table(
    rows: Sequence[Row] | None, columns: Sequence[str] | None = None, *, missing: str, rounded: bool = False
) -> Table:
    """Lay out rows; columns that are empty in every row are left out.

    Args:
        rows: None or empty gives a table that only says ``missing``.
        columns: which to show, and in which order; None shows all.
        missing: the reason to show instead of an empty table.
        rounded: show numbers with three decimals.

    Example:
        >>> rows = [{"case": "a_1", "mean_dice": "0.91234", "note": ""}]
        >>> rows += [{"case": "b_1", "mean_dice": "0.00012", "note": ""}]
        >>> table = make_table(rows, missing="", rounded=True)
        >>> table.columns, table.rows
        (('case', 'mean dice'), (('a_1', '0.912'), ('b_1', '1.20e-04')))
    """
    if not rows:
        return Table(missing=missing)
    filled_columns = [name for name in (columns or list(rows[0])) if any(row.get(name) for row in rows)]
    show = _round_cell if rounded else str
    cells = tuple(tuple(show(row.get(name) or "") for name in filled_columns) for row in rows)
    titles = [spell_name(name) for name in filled_columns]
    # Two columns that spell alike keep their names.
    pairs = zip(filled_columns, titles, strict=True)
    return Table(tuple(title if titles.count(title) == 1 else name for name, title in pairs), cells)


def parse_number(text: str | None) -> float | None:
    """Parse a cell that holds one finite number as Python writes it.

    Returns:
        The number; None for an empty cell, for words, and for names that only look like numbers.

    Example:
        >>> parse_number("-0.5"), parse_number("1e-05"), parse_number("98e65432_1"), parse_number("")
        (-0.5, 1e-05, None, None)
    """
    return float(text) if text and NUMBER.fullmatch(text) else None


def _make_title(stem: str) -> str:
    """``best_CASE`` → ``best: CASE``; a case's own name stays as it is."""
    kind, _, case = stem.partition("_")
    return f"{kind}: {case}" if kind in ("best", "worst") else stem.replace("contact_sheet", "contact sheet")


def _round_cell(text: str) -> str:
    """Three decimals, or three digits for what would round to nothing; words and whole numbers stay."""
    value = parse_number(text)
    if value is None or value == round(value):
        return text
    return f"{value:.3f}" if abs(value) >= SMALLEST else f"{value:.2e}"


def spell_name(name: str) -> str:
    """Write a column's or a metric's name as words: ``dice_spleen`` becomes "dice spleen"."""
    return name.replace("_", " ").replace(":", ": ")
