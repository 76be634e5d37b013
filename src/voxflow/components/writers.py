"""Writers of an evaluation: each case's masks as NIfTI, every case's findings as one table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxflow.components.registry import ComponentModel, register
from voxflow.components.transforms.base import Sample, get_field
from voxflow.components.transforms.saving import VoxelType, write_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Writer(ComponentModel, ABC):
    """Writes one field of every case.

    Attributes:
        field: what is written.
    """

    field: str

    @abstractmethod
    def write(self, samples: Iterable[Sample], out: Path, class_names: Sequence[str] = ()) -> list[Path]:
        """Write one field of every case.

        Args:
            samples: read one after the other, so that a generator keeps one case in memory.
            out: the evaluation's folder.
            class_names: of a classifier's logits, for a table's columns.

        Returns:
            The files that were written.
        """


@register("writer")
class WriteNifti(Writer):
    """Write a field of one channel as CASE/CASE_FIELD.nii.gz.

    Attributes:
        dtype: the file's voxel type; whole numbers are rounded to, and must fit.
        write_path: the folder, instead of the evaluation's own.
    """

    dtype: VoxelType = "float32"
    write_path: str = ""

    def file_name(self, case: str) -> str:
        """The file of a case, below the folder that bears the case's name."""
        return f"{case}_{self.field}.nii.gz"

    def write(self, samples: Iterable[Sample], out: Path, class_names: Sequence[str] = ()) -> list[Path]:
        """Write a file a case."""
        folder = Path(self.write_path) if self.write_path else out
        return [write_field(sample, self.field, folder, self.dtype) for sample in samples]


@register("writer")
class WriteClassificationResults(Writer):
    """Write one table of all cases, preds_outputs.csv, a column a finding.

    Attributes:
        write_path: the folder, instead of the evaluation's own.
    """

    write_path: str = ""

    def write(self, samples: Iterable[Sample], out: Path, class_names: Sequence[str] = ()) -> list[Path]:
        """Write the table of all cases, and preds.csv as a link to it.

        Args:
            samples: each with the case's name under "case" and the field (finding,).
            out: the folder, where the component names none.
            class_names: the columns; where their number differs they are called finding_0, finding_1 ...
        """
        from voxflow.tables import write_predictions

        folder = Path(self.write_path) if self.write_path else out
        folder.mkdir(parents=True, exist_ok=True)
        values = {str(sample["case"]): np.ravel(get_field(sample, self.field, self)) for sample in samples}
        width = max((len(row) for row in values.values()), default=0)
        names = list(class_names) if len(class_names) == width else [f"finding_{n}" for n in range(width)]
        rows = [{"case": case} | dict(zip(names, map(float, row), strict=True)) for case, row in values.items()]
        write_predictions(folder, rows, ["case", *names])
        return [folder / "preds_outputs.csv"]
