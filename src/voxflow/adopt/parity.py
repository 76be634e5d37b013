"""Compares an adopted model's masks with those that the original made, by case and class."""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxflow.adopt.original import read_arrays
from voxflow.adopt.steps import compare_steps, find_first_difference
from voxflow.errors import LIBRARY_ERRORS, DataError, InputError, ParityError
from voxflow.prediction import PredictOptions, class_values, predict_volume, select_values
from voxflow.progress import say
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxflow.adopt.original import Original, OriginalRun
    from voxflow.adopt.steps import StepComparison
    from voxflow.engines import Engine
    from voxflow.spec import ModelSpec
    from voxflow.volumes import Volume

# The share of voxels that are equal, below which a model is not adopted.
LEAST_EQUAL = 0.9999
# A Dice below which two masks with one class are those of two cases, and not of two tools.
OTHER_CASE = 0.05
_CHANNEL = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class CaseParity:
    """How far a case's mask is that of the original.

    Attributes:
        case: its name, as the files have it.
        dice: by class; NaN where neither mask has it.
        differing: voxels that have other values.
        voxels: of the mask.
        reason: why it could not be compared; empty where it was.
        images: its files.
    """

    case: str
    dice: dict[str, float]
    differing: int = 0
    voxels: int = 0
    reason: str = ""
    images: tuple[Path, ...] = ()

    @property
    def equal(self) -> float:
        """The share of voxels that are equal."""
        return 1 - self.differing / self.voxels if self.voxels else 0.0

    @property
    def is_of_another_case(self) -> bool:
        """Whether the masks have the same classes in other places: they are rather those of two images."""
        scores = [dice for dice in self.dice.values() if not math.isnan(dice)]
        return bool(scores) and max(scores) < OTHER_CASE

    @property
    def line(self) -> str:
        """One line for a person."""
        if self.reason:
            return f"{self.case}: {self.reason}"
        scores = ", ".join(f"{name} {dice:.4f}" for name, dice in self.dice.items() if not math.isnan(dice))
        return f"{self.case}: {self.differing} of {self.voxels} voxels differ; Dice: {scores or 'no class in either'}"


@dataclass(frozen=True)
class ParityResult:
    """A comparison with the original.

    Attributes:
        cases: each one.
        least_equal: the share of equal voxels that each needs.
        steps: of the worst case, up to the first that differs; empty where they were not compared.
        original: how long the original took; None where its masks were there already.
    """

    cases: tuple[CaseParity, ...]
    least_equal: float = LEAST_EQUAL
    steps: tuple[StepComparison, ...] = ()
    original: OriginalRun | None = None

    @property
    def failed(self) -> tuple[CaseParity, ...]:
        """The cases that could not be compared."""
        return tuple(case for case in self.cases if case.reason)

    @property
    def worst(self) -> CaseParity | None:
        """The case with the fewest equal voxels; None where none was compared."""
        return min((case for case in self.cases if not case.reason), key=lambda case: case.equal, default=None)

    @property
    def problem(self) -> str:
        """Why the model is not adopted, in one line; empty where it is."""
        if self.failed:
            return f"{len(self.failed)} of {len(self.cases)} cases can't be compared; {self.failed[0].line}"
        worst = self.worst
        if worst is None:
            return "no case was compared"
        if worst.equal >= self.least_equal:
            return ""
        return (
            f"the masks are not those of the original: {worst.line}; {worst.equal:.6f} of the voxels are equal, at "
            f"least {self.least_equal:g} are needed. {self._word_steps(worst)}"
        )

    def _word_steps(self, worst: CaseParity) -> str:
        first = find_first_difference(self.steps)
        if first:
            return f"The first step that differs: {first.step}; {first.numbers}"
        if self.steps:
            return (
                "The original, run here in single precision, gives our masks: those that were compared were made "
                "otherwise, or differ by its rounding in half precision"
            )
        if worst.is_of_another_case:
            return "The masks hardly overlap: it may be the mask of another case"
        return (
            "The grids agree, so that they part in the intensities, the logits or the way back: masks made with other "
            "folds, another checkpoint or without mirroring differ so. --original-python finds the step"
        )


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        engine: the adopted model.
        images: the folder of images, named as nnU-Net names them: CASE_0000.nii.gz, CASE_0001.nii.gz and so on; one of
            a model with one channel may be CASE.nii.gz.
        masks: the folder of masks that the original made, CASE.nii.gz; None: it is run.
        ending: of the files' names.
        least_equal: the share of equal voxels that each case needs.
        original: the tool itself; None where it is not at hand.
    """

    engine: Engine
    images: Path
    masks: Path | None = None
    ending: str = ".nii.gz"
    least_equal: float = LEAST_EQUAL
    original: Original | None = None


def compare_adoption(comparison: Comparison) -> ParityResult:
    """Compare every case, and the steps of the worst one where the original is at hand; each case is said in a line.

    Raises:
        DataError: there is nothing to compare, or the original can't be run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        masks, run, cases = comparison.masks, None, []
        if masks is None:
            masks = Path(scratch)
            run = _run_original(comparison, masks)
            cases += [
                CaseParity(case, {}, reason=f"the original failed: {run.failures[case]}") for case in run.failures
            ]
        for case in compare_with_original(comparison.engine, comparison.images, masks, comparison.ending):
            say(f"compare {case.line}")
            cases.append(case)
    steps = _compare_worst_steps(comparison, cases)
    return ParityResult(tuple(cases), comparison.least_equal, steps, run)


def compare_with_original(engine: Engine, images: Path, masks: Path, ending: str) -> Iterator[CaseParity]:
    """Segment the images of each mask of a folder, and compare.

    Args:
        engine: the adopted model.
        images: see :class:`Comparison`.
        masks: the folder of masks that the original made, CASE.nii.gz.
        ending: of the files' names.

    Yields:
        Each case in turn; one that can't be compared with its reason.

    Raises:
        DataError: a folder is missing, or there is no mask.
    """
    for folder in (images, masks):
        _require_folder(folder)
    files = sorted(path for path in masks.glob(f"*{ending}") if path.is_file())
    if not files:
        raise DataError(f"no mask CASE{ending}", path=masks)
    for file in files:
        case = file.name.removesuffix(ending)
        try:
            yield _compare_case(engine, case, _find_images(images, case, engine.spec, ending), file)
        except InputError as error:
            yield CaseParity(case, {}, reason=str(error))
        except LIBRARY_ERRORS as error:
            yield CaseParity(case, {}, reason=(str(error).splitlines() or [type(error).__name__])[0])


def require_parity(result: ParityResult) -> None:
    """Refuse a model whose masks are not those of the original.

    Raises:
        ParityError: a case is below the bound, or could not be compared.
    """
    if result.problem:
        raise ParityError(result.problem)


def compare_masks(case: str, mask: Volume, original: Volume, spec: ModelSpec) -> CaseParity:
    """Compare two masks of one grid.

    Args:
        case: its name.
        mask: ours.
        original: the other one.
        spec: of the model, for the classes.
    """
    dice = {}
    for name, values in class_values(spec).items():
        ours, theirs = select_values(mask.array, values), select_values(original.array, values)
        total = int(ours.sum()) + int(theirs.sum())
        dice[name] = 2 * int((ours & theirs).sum()) / total if total else math.nan
    return CaseParity(case, dice, int(np.count_nonzero(mask.array != original.array)), original.array.size)


def list_cases(images: Path, spec: ModelSpec, ending: str) -> dict[str, list[Path]]:
    """List the cases of a folder of images, with the files of each in the order of the model's channels.

    Raises:
        DataError: there is no folder, no image, or a channel is missing.
    """
    _require_folder(images)
    names = sorted(path.name.removesuffix(ending) for path in images.glob(f"*{ending}"))
    cases = [name.removesuffix("_0000") for name in names if name.endswith("_0000")]
    if spec.image_count == 1:
        # Also a case that is called after a year, such as liver_2024.
        cases += [name for name in names if name[:-5] not in cases or not _CHANNEL.search(name)]
    if not cases:
        raise DataError(f"no image CASE_0000{ending}", path=images)
    return {case: _find_images(images, case, spec, ending) for case in cases}


def _run_original(comparison: Comparison, masks: Path) -> OriginalRun:
    if comparison.original is None:
        raise DataError("the original is not at hand: --masks names masks that it made", path=comparison.images)
    cases = list_cases(comparison.images, comparison.engine.spec, comparison.ending)
    say(f"compare: the original segments {len(cases)} case(s), by {comparison.original.python}")
    run = comparison.original.segment(cases, masks)
    if len(run.failures) == len(cases):
        case, reason = next(iter(run.failures.items()))
        raise DataError(f"the original failed on every case; {case}: {reason}", path=comparison.images)
    say(f"compare: the original took {run.total_seconds:.1f} s")
    return run


def _compare_worst_steps(comparison: Comparison, cases: Sequence[CaseParity]) -> tuple[StepComparison, ...]:
    """Run the original on the worst case again, and compare what both tools had on the way to its mask."""
    worst = ParityResult(tuple(cases)).worst
    if comparison.original is None or worst is None or not worst.differing or comparison.engine.parts:
        return ()  # of a joined model each part has steps of its own
    if comparison.engine.spec.totalsegmentator:
        return ()  # which keeps no arrays
    with tempfile.TemporaryDirectory() as scratch:
        run = comparison.original.segment({worst.case: worst.images}, Path(scratch), keeps_arrays=True)
        if run.failures:
            return ()
        volumes = [read_volume(file) for file in worst.images]
        mask = read_volume(Path(scratch) / f"{worst.case}{comparison.ending}")
        return compare_steps(comparison.engine, volumes, read_arrays(Path(scratch), worst.case), mask)


def _find_images(folder: Path, case: str, spec: ModelSpec, ending: str) -> list[Path]:
    count = spec.image_count
    files = [folder / f"{case}_{number:04d}{ending}" for number in range(count)]
    if count == 1 and not files[0].is_file() and (folder / f"{case}{ending}").is_file():
        return [folder / f"{case}{ending}"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(f"no image {', '.join(missing)} in {folder}")
    return files


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError("no folder", path=folder)


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
    return replace(compare_masks(case, mask, original, engine.spec), images=tuple(files))


def _format_spacing(volume: Volume) -> str:
    return " × ".join(f"{step:g}" for step in volume.geometry.spacing)
