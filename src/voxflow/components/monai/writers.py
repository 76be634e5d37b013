"""The savers that Clara 4's evaluations name: masks on the image's own grid, and the table of findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components.registry import register
from voxflow.components.transforms.grids import SOURCE, affine_key, return_to_source
from voxflow.components.transforms.saving import VoxelType, write_field
from voxflow.components.writers import WriteClassificationResults, WriteNifti

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from voxflow.components.transforms.base import Sample


@register("writer", "clara4", name="SegmentationSaver")
class SegmentationSaver(WriteNifti):
    """Write a mask as CASE/CASE_POSTFIX.nii.gz on the grid of the image's file.

    Channels that exclude each other, one a class, become one mask of class indices; others are written one a file.

    Attributes:
        postfix: what the file's name ends with.
    """

    postfix: str = "seg"

    def file_name(self, case: str) -> str:
        """The file of a case, as MONAI names it."""
        return f"{case}_{self.postfix}.nii.gz"

    def write(self, samples: Iterable[Sample], out: Path, class_names: Sequence[str] = ()) -> list[Path]:
        """Write a file a case, or one a channel."""
        folder = Path(self.write_path) if self.write_path else out
        return [path for sample in samples for path in self._write_case(sample, folder)]

    def _write_case(self, sample: Sample, folder: Path) -> list[Path]:
        masks = np.asarray(sample[self.field])
        if len(masks) > 1 and _is_exclusive(masks):
            masks = masks.argmax(0, keepdims=True)
        is_mask = np.array_equal(masks, np.rint(masks)) and masks.min(initial=0) >= 0 and masks.max(initial=0) < 256
        case, name = str(sample.get("case", "case")), self.postfix
        affine = {key: sample[key] for key in (SOURCE, affine_key(self.field)) if key in sample}
        placed: Sample = {"case": case, name: masks.astype(np.uint8 if is_mask else np.float32)}
        if affine_key(self.field) in affine:
            placed[affine_key(name)] = affine.pop(affine_key(self.field))
        placed |= return_to_source(placed | affine, name, is_nearest=is_mask)
        dtype: VoxelType = "uint8" if is_mask else "float32"
        if len(placed[name]) == 1:
            return [write_field(placed, name, folder, dtype)]
        split: Sample = {f"{name}_{n}": placed[name][n : n + 1] for n in range(len(placed[name]))}
        grids = {affine_key(part): placed[affine_key(name)] for part in split if affine_key(name) in placed}
        return [write_field({"case": case, **split, **grids}, part, folder, dtype) for part in split]


def _is_exclusive(masks: NDArray[Any]) -> bool:
    """Whether channels (class, ...) say of each voxel which one class it has: one-hot masks, or probabilities."""
    return bool(np.allclose(masks.sum(0), 1, atol=1e-3))


@register("writer", "clara4", name="ClassificationSaver")
class ClassificationSaver(WriteClassificationResults):
    """Write one table of all cases, predictions in the columns of the findings."""
