"""Puts a correction into the workspace's source, where the conversion finds it as any other label.

The patients that a split has keep their parts: those of testing and validation are listed by name in params.yaml before
the first new label, as ``voxflow add`` lists those of testing. So a new patient goes to training.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.dicom import write_segmentation
from voxflow.files import atomic_path, read_text, write_text
from voxflow.places import PARAMS
from voxflow.tables import read_rows
from voxflow.volumes import Volume
from voxflow.workspace import dvc_add, set_value

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.corrections.results import OwnResult
    from voxflow.corrections.versions import VersionComparison
    from voxflow.dicom import ConvertOptions
    from voxflow.places import WorkspaceLayout

FOLDER = "corrections"


def explain_no_place(places: WorkspaceLayout, options: ConvertOptions, *, is_sample: bool) -> str:
    """Say why the workspace's source can take no DICOM label; empty where it can.

    Args:
        places: of the workspace.
        options: of its conversion.
        is_sample: the stage sample makes the source.
    """
    if is_sample:
        return f"the stage sample makes {places.source}, and would remove it"
    if options.layout or options.suffixes:
        return f"the source is a data set of {options.layout or 'files'}, which takes no DICOM"
    if options.cases:
        return f"the table {options.cases} says which series are cases; add a row for it by hand"
    return ""


@dataclass(frozen=True)
class LabelPlace:
    """Where the label of one image is.

    Attributes:
        source: of the workspace.
        result: our mask of the image.
    """

    source: Path
    result: OwnResult

    @property
    def folder(self) -> Path:
        """The folder of the image's unit."""
        return self.source / FOLDER / self.result.unit

    @property
    def label(self) -> Path:
        """The label."""
        return self.folder / f"label_{self.result.number + 1}.dcm"

    def put(self, comparison: VersionComparison, places: WorkspaceLayout, options: ConvertOptions) -> None:
        """Put the label in its place, with its image where the source does not have it.

        Args:
            comparison: the corrected masks.
            places: of the workspace.
            options: of its conversion.
        """
        _keep_parts(places)
        for file in [] if self._has_image(comparison, places) else comparison.files:
            target = self.folder / "images" / file.parent.name / file.name
            if not target.is_file():
                with atomic_path(target) as temporary:
                    shutil.copyfile(file, temporary)
        regions = {name: tuple(values) for name, values in comparison.combinations.items()}
        values = sorted({value for members in regions.values() for value in members}) or [1]
        write_segmentation(
            self.label,
            Volume(comparison.array, comparison.geometry),
            comparison.source,
            {value: str(value) for value in values},
            regions=regions,
        )
        if self.source.with_name(f"{self.source.name}.dvc").is_file():
            dvc_add(self.source)

    def _has_image(self, comparison: VersionComparison, places: WorkspaceLayout) -> bool:
        """Whether the source has the image, elsewhere than beside the label."""
        if all(file.resolve().is_relative_to(self.source.resolve()) for file in comparison.files):
            return True
        rows = read_rows(places.volumes / "cases.csv") or []
        series = {uid for row in rows for uid in (row.get("series_uid") or "").split(";")}
        return self.result.image_series <= series and not (self.folder / "images").is_dir()


def _keep_parts(places: WorkspaceLayout) -> None:
    """List the patients of testing and validation by name in params.yaml, so that the split keeps them there."""
    split = read_rows(places.datalists / "split.csv") or []
    block = places.block.get("split") or {}
    text = read_text(PARAMS) if split else ""
    before = text
    for part in ("testing", "validation"):
        patients = sorted({row["patient"] for row in split if row["part"] == part})
        choice = block.get(part)
        if patients and not isinstance(choice, (list, tuple)) and choice != "dataset":
            text = set_value(text, ("workspaces", places.workspace, "split", part), patients)
    if text != before:
        write_text(PARAMS, text)
