"""Owns writing one case's results; a file that can't be written ends the work, since it is no case's fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.inference.overlays import Tile, write_contact_sheet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.inference.run import Classified

SHEET_TILES = 12


class Sheet:
    """Collects the first radiographs with their likeliest class, for one picture."""

    def __init__(self) -> None:
        self._tiles: list[Tile] = []

    def add(self, case: str, image: NDArray[Any], chances: Mapping[str, float], truth: str = "") -> None:
        """Note one case; after the first dozen nothing is kept."""
        if len(self._tiles) < SHEET_TILES:
            name = max(chances, key=lambda each: chances[each])
            said = f"{case}\n{name} {chances[name]:.2f}"
            self._tiles.append(Tile(image, f"{said} ({truth})" if truth else said))

    def write(self, path: Path) -> None:
        """Write the picture; nothing when there was no case."""
        if self._tiles:
            write_contact_sheet(path, self._tiles)


def prediction_columns(names: Sequence[str]) -> list[str]:
    """Columns of a classification's preds_outputs.csv."""
    return ["case", "image", *names]


def prediction_rows(done: Sequence[Classified]) -> list[dict[str, Any]]:
    """Rows of a classification's preds_outputs.csv: the probability of each class."""
    return [{"case": each.case.id, "image": each.case.images[0].name} | each.chances for each in done]
