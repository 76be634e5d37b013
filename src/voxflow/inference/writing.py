"""Writes one case's results; a file that can't be written ends the work, since that is no fault of the case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.inference.overlays import RadiographTile, write_contact_sheet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.inference.run import ClassifiedCase

SHEET_TILES = 12


class ContactSheet:
    """Collects the first radiographs with their likeliest class, for one picture."""

    def __init__(self) -> None:
        self._tiles: list[RadiographTile] = []

    def add(self, case: str, image: NDArray[Any], probabilities: Mapping[str, float], truth: str = "") -> None:
        """Note one case; after the first dozen nothing is kept."""
        if len(self._tiles) < SHEET_TILES:
            name = max(probabilities, key=lambda probability: probabilities[probability])
            title = f"{case}\n{name} {probabilities[name]:.2f}"
            self._tiles.append(RadiographTile(image, f"{title} ({truth})" if truth else title))

    def write(self, path: Path) -> None:
        """Write the picture; nothing when there was no case."""
        if self._tiles:
            write_contact_sheet(path, self._tiles)


def name_prediction_columns(names: Sequence[str]) -> list[str]:
    """Columns of a classification's preds_outputs.csv."""
    return ["case", "image", *names]


def make_prediction_rows(results: Sequence[ClassifiedCase]) -> list[dict[str, Any]]:
    """Rows of a classification's preds_outputs.csv: the probability of each class."""
    return [{"case": result.case.id, "image": result.case.images[0].name} | result.probabilities for result in results]
