"""Owns what an evaluation's writers leave of each case: masks on the image's grid, a table of predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import create
from voxflow.components.grids import affine_key, geometry_of
from voxflow.components.transform import field_of
from voxflow.errors import DataError
from voxflow.inference.tables import write_predictions
from voxflow.mmar.reports import file_name
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.components import Sample
    from voxflow.components.writers import Writer
    from voxflow.config import Evaluation
    from voxflow.inference import InferenceCase


@dataclass
class Writing:
    """The writers of a configuration, and the tables that they fill.

    Attributes:
        writers: each writer and the folder that it writes to.
        class_names: columns of a table of predictions.
        overwrite: replace what is there.
    """

    writers: Sequence[tuple[Writer, Path]]
    class_names: Sequence[str]
    overwrite: bool = True
    _rows: dict[Path, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, evaluation: Evaluation, root: Path, default: Path, class_names: Sequence[str], *, overwrite: bool
    ) -> Writing:
        """Build the writers.

        Args:
            evaluation: names them.
            root: where relative folders begin.
            default: the folder of a writer that names none.
            class_names: of the model.
            overwrite: replace what is there.
        """
        built: list[Writer] = [create("writer", component) for component in evaluation.writers]
        pairs = [(writer, root / writer.write_path if writer.write_path else default) for writer in built]
        return cls(pairs, class_names, overwrite)

    def is_done(self, case: InferenceCase) -> bool:
        """Whether nothing is left to write for a case, since all its files are there and must stay."""
        masks = [(writer, folder) for writer, folder in self.writers if writer.writes_volumes]
        if self.overwrite or not masks or len(masks) < len(self.writers):
            return False
        return all(_mask_file(folder, case, writer.field).is_file() for writer, folder in masks)

    def write(self, sample: Sample, case: InferenceCase) -> None:
        """Write a case's volumes, and note its row of predictions.

        Raises:
            DataError: a field is no volume, or no list of numbers.
        """
        for writer, folder in self.writers:
            array = np.asarray(field_of(sample, writer.field, writer))
            if not writer.writes_volumes:
                self._rows.setdefault(folder, []).append(self._row(array, case, writer.field))
                continue
            path = _mask_file(folder, case, writer.field)
            if self.overwrite or not path.is_file():
                _write_field(path, sample, writer.field, array, writer.dtype)

    def finish(self) -> None:
        """Write the tables."""
        for folder, rows in self._rows.items():
            folder.mkdir(parents=True, exist_ok=True)
            write_predictions(folder, rows, list(rows[0]))

    def _row(self, array: Any, case: InferenceCase, name: str) -> dict[str, Any]:
        values = array.ravel()
        if array.ndim != 1:
            raise DataError(f"the field {name!r} has shape {array.shape}; a table takes one number a class")
        columns = self.class_names if len(self.class_names) == len(values) else range(len(values))
        chances = {str(column): float(value) for column, value in zip(columns, values, strict=True)}
        return {"case": case.id, "image": case.images[0].name, **chances}


def _mask_file(folder: Path, case: InferenceCase, name: str) -> Path:
    return folder / case.id / f"{case.id}_{file_name(name)}.nii.gz"


def _write_field(path: Path, sample: Sample, name: str, array: Any, dtype: str) -> None:
    """Write (channel, i, j, k): one channel as a volume, several as one of four axes."""
    if array.ndim != 4:
        raise DataError(f"the field {name!r} has shape {array.shape}; a volume has (channel, i, j, k)")
    wanted = np.dtype(dtype)
    # What was resampled may lie a little beside a whole number; cutting it off would lose it.
    values = (np.rint(array) if wanted.kind in "iu" else array).astype(wanted)
    geometry = geometry_of(sample, _with_grid(sample, name, array))
    if len(values) == 1:
        write_volume(path, Volume(values[0], geometry))
        return
    import nibabel

    from voxflow.files import atomic_path

    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine
    with atomic_path(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(np.moveaxis(values, 0, -1), to_ras), temporary)


def _with_grid(sample: Sample, name: str, array: Any) -> str:
    """The field whose grid a field lies on: its own, else the image's where both have one shape."""
    image = sample.get("image")
    if affine_key(name) not in sample and isinstance(image, np.ndarray) and image.shape[1:] == array.shape[1:]:
        return "image"
    return name
