"""Compares an adopted model's masks with those that the original made, by case and class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import LIBRARY_ERRORS, DataError, InputError, ParityError
from voxflow.prediction import PredictOptions, class_values, predict_volume, select_values
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.volumes import Volume

# The share of voxels that are equal, below which a model is not adopted.
LEAST_EQUAL = 0.9999


@dataclass(frozen=True)
class CaseParity:
    """How far a case's mask is that of the original.

    Attributes:
        case: its name, as the files have it.
        dice: by class; NaN where neither mask has it.
        differing: voxels that have other values.
        voxels: of the mask.
        reason: why it could not be compared; empty where it was.
    """

    case: str
    dice: dict[str, float]
    differing: int = 0
    voxels: int = 0
    reason: str = ""

    @property
    def equal(self) -> float:
        """The share of voxels that are equal."""
        return 1 - self.differing / self.voxels if self.voxels else 0.0

    @property
    def line(self) -> str:
        """One line for a person."""
        if self.reason:
            return f"{self.case}: {self.reason}"
        scores = ", ".join(f"{name} {dice:.4f}" for name, dice in self.dice.items() if not math.isnan(dice))
        return f"{self.case}: {self.differing} of {self.voxels} voxels differ; Dice: {scores or 'no class in either'}"


def compare_with_original(engine: Engine, images: Path, masks: Path, ending: str) -> Iterator[CaseParity]:
    """Segment the images of each mask of a folder, and compare.

    Args:
        engine: the adopted model.
        images: the folder of images, named as nnU-Net names them: CASE_0000.nii.gz, CASE_0001.nii.gz and so on; one of
            a model with one channel may be CASE.nii.gz.
        masks: the folder of masks that the original made, CASE.nii.gz.
        ending: of the files' names.

    Yields:
        Each case in turn; one that can't be compared with its reason.

    Raises:
        DataError: a folder is missing, or there is no mask.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError("no folder", path=folder)
    files = sorted(path for path in masks.glob(f"*{ending}") if path.is_file())
    if not files:
        raise DataError(f"no mask CASE{ending}", path=masks)
    for file in files:
        case = file.name.removesuffix(ending)
        try:
            yield _compare_case(engine, case, _find_images(engine, images, case, ending), file)
        except InputError as error:
            yield CaseParity(case, {}, reason=str(error))
        except LIBRARY_ERRORS as error:
            yield CaseParity(case, {}, reason=(str(error).splitlines() or [type(error).__name__])[0])


def require_parity(cases: list[CaseParity], least: float = LEAST_EQUAL) -> None:
    """Refuse a model whose masks are not those of the original.

    Raises:
        ParityError: a case is below the bound, or could not be compared.
    """
    failed = [case for case in cases if case.reason]
    if failed:
        raise ParityError(f"{len(failed)} of {len(cases)} cases can't be compared; {failed[0].line}")
    worst = min(cases, key=lambda case: case.equal)
    if worst.equal < least:
        raise ParityError(
            f"the masks are not those of the original: {worst.line}; {worst.equal:.6f} of the voxels are equal, at "
            f"least {least:g} are needed. The grids agree, so that they part in the intensities, the logits or the way "
            "back: masks made with other folds, another checkpoint or without mirroring differ so"
        )


def _find_images(engine: Engine, folder: Path, case: str, ending: str) -> list[Path]:
    count = engine.spec.image_count
    files = [folder / f"{case}_{number:04d}{ending}" for number in range(count)]
    if count == 1 and not files[0].is_file() and (folder / f"{case}{ending}").is_file():
        return [folder / f"{case}{ending}"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(f"no image {', '.join(missing)} in {folder}")
    return files


def _compare_case(engine: Engine, case: str, files: list[Path], mask_file: Path) -> CaseParity:
    original = read_volume(mask_file)
    volumes = [read_volume(file) for file in files]
    native = volumes[engine.spec.reference].geometry
    if not original.geometry.is_close(native, tolerance_mm=0.01 * min(native.spacing)):
        message = f"its mask lies on another grid, {original.geometry.size} voxels of "
        message += f"{_format_spacing(original)} mm, than its image, {native.size} voxels of "
        message += f"{_format_spacing(volumes[engine.spec.reference])} mm: it is of another case"
        raise DataError(message)
    mask = predict_volume(engine, volumes, PredictOptions()).mask
    dice = {}
    for name, values in class_values(engine.spec).items():
        here, there = select_values(mask.array, values), select_values(original.array, values)
        total = int(here.sum()) + int(there.sum())
        dice[name] = 2 * int((here & there).sum()) / total if total else math.nan
    return CaseParity(case, dice, int(np.count_nonzero(mask.array != original.array)), original.array.size)


def _format_spacing(volume: Volume) -> str:
    return " × ".join(f"{step:g}" for step in volume.geometry.spacing)
