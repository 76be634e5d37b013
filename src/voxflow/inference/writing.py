"""Makes the table and the picture of a classification: one row and one tile of a contact sheet for each case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.inference.overlays import RadiographTile, shorten_name, write_contact_sheet
from voxflow.tables import write_predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.inference.infer import InferOptions
    from voxflow.inference.run import ClassifiedCase
    from voxflow.spec import ModelSpec
    from voxflow.trust import RadiographReviewer

# Three rows of four: what fits a screen.
SHEET_TILES = 12


class ContactSheet:
    """Collects the first radiographs with their likeliest class, for one picture."""

    def __init__(self) -> None:
        self._tiles: list[RadiographTile] = []

    def add(self, case: str, image: NDArray[Any], probabilities: Mapping[str, float], truth: str = "") -> None:
        """Note one case; after the first dozen nothing is kept.

        Args:
            case: its name.
            image: (rows, columns).
            probabilities: by class; the likeliest is told.
            truth: what is known of it, in words; empty when unknown.
        """
        if len(self._tiles) < SHEET_TILES:
            name = max(probabilities, key=probabilities.__getitem__)
            title = f"{shorten_name(case)}\n{shorten_name(name)} {probabilities[name]:.2f}"
            self._tiles.append(RadiographTile(image, f"{title}\ntruth: {shorten_name(truth)}" if truth else title))

    def write(self, path: Path) -> None:
        """Write the picture; nothing when there was no case."""
        if self._tiles:
            write_contact_sheet(path, self._tiles)


def name_prediction_columns(names: Sequence[str], reviewer: RadiographReviewer | None = None) -> list[str]:
    """List the columns of a classification's preds_outputs.csv.

    Args:
        names: of the findings.
        reviewer: who calibrated the answers; None: nobody.
    """
    trust_columns = reviewer.name_columns(names) if reviewer else ()
    return ["case", "image", *names, *trust_columns]


def make_prediction_rows(results: Sequence[ClassifiedCase]) -> list[dict[str, Any]]:
    """Make the rows of a classification's preds_outputs.csv: case, image, the probability of each class, and trust."""
    return [
        {"case": result.case.id, "image": result.case.image_name}
        | dict(result.probabilities)
        | (result.trust.as_row() if result.trust else {})
        for result in results
    ]


def write_classes(
    results: Sequence[ClassifiedCase],
    spec: ModelSpec,
    out: Path,
    options: InferOptions,
    *,
    reviewer: RadiographReviewer | None = None,
) -> None:
    """Write preds_outputs.csv of a classification, and the picture of its first cases.

    Args:
        results: in order.
        spec: of the model, for the columns.
        out: the folder of the results.
        options: ``overlays``: whether a picture is drawn.
        reviewer: who calibrated the answers; None: nobody.
    """
    sheet = ContactSheet()
    for result in results if options.overlays else ():
        sheet.add(result.case.id, result.image, result.probabilities)
    sheet.write(out / "overlays" / "contact_sheet.png")
    write_predictions(out, make_prediction_rows(results), name_prediction_columns(spec.class_names, reviewer))
