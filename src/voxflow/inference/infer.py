"""Owns inference: a model on cases without a label; masks, DICOM SEG, tables and pictures out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import NonNegativeInt  # noqa: TC002 - pydantic reads it

from voxflow.errors import DataError, InputError
from voxflow.inference.cases import Failures
from voxflow.inference.engines import EngineChoice  # noqa: TC001 - pydantic reads it
from voxflow.inference.grade import prediction_columns, prediction_rows
from voxflow.inference.overlays import write_overlay
from voxflow.inference.predict import PredictOptions, label_names
from voxflow.inference.run import classified, segmented, written
from voxflow.inference.tables import write_predictions
from voxflow.inference.writing import Sheet
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.inference.cases import InferenceCase
    from voxflow.inference.engines import Engine, EngineName
    from voxflow.inference.evaluate import Metrics
    from voxflow.inference.run import Classified
    from voxflow.spec import ModelSpec
    from voxflow.volumes import Volume


class InferOptions(PredictOptions):
    """What inference does.

    Attributes:
        engine: which engine runs the model.
        key: the datalist's key that holds the cases.
        dicom_seg: write a DICOM SEG beside the NIfTI mask where the image came from DICOM.
        overlays: the first so many cases get a picture.
        overwrite: make masks anew that are there; else a case whose mask is there is not computed again.
    """

    engine: EngineChoice = "auto"
    key: str = "inference"
    dicom_seg: bool = True
    overlays: NonNegativeInt = 8
    overwrite: bool = True


@dataclass(frozen=True)
class Inference:
    """What an inference made.

    Attributes:
        metrics: cases, failed_cases, seconds_per_case.
        failures: the cases that could not be used.
        engine: what ran the model.
    """

    metrics: Metrics
    failures: Failures
    engine: EngineName


def infer_cases(
    engine: Engine,
    cases: Sequence[InferenceCase],
    out: Path,
    options: InferOptions,
    *,
    refused: Sequence[dict[str, str]] = (),
) -> Inference:
    """Run a model over cases and write what it says.

    Args:
        engine: the model.
        cases: no label is read. Those with ``source`` get a DICOM SEG.
        out: an existing folder; gets preds_outputs.csv, preds.csv, failures.json, overlays/, and for a
            segmentation CASE/CASE.nii.gz and CASE/CASE_seg.dcm.
        options: window plan, way back, what to write.
        refused: what could not even be read: case and reason; the first of the failures.

    Raises:
        OSError: a result could not be written.
    """
    failures = Failures(list(refused))
    began = time.perf_counter()
    (out / "overlays").mkdir(exist_ok=True)
    if engine.spec.task == "segmentation":
        rows = segment(engine, cases, out, options, failures)
        write_masks_table(rows, cases, engine.spec, out)
        done = len(rows)
    else:
        classes = list(classified(engine, cases, failures))
        write_classes(classes, engine.spec, out, options)
        done = len(classes)
    return summed(done, failures, out, began, engine=engine.name)


def summed(done: int, failures: Failures, out: Path, began: float, *, engine: EngineName) -> Inference:
    """Write the failures, and count.

    Args:
        done: cases that went well.
        failures: the others.
        out: the folder of the results.
        began: when the work did, as ``time.perf_counter`` has it.
        engine: what ran the model.
    """
    failures.write(out)
    metrics: Metrics = {"cases": done, "failed_cases": len(failures.cases)}
    if done:
        metrics["seconds_per_case"] = round((time.perf_counter() - began) / done, 3)
    return Inference(metrics, failures, engine)


def segment(
    engine: Engine, cases: Sequence[InferenceCase], out: Path, options: InferOptions, failures: Failures
) -> dict[str, dict[str, Any]]:
    """Write masks, DICOM SEG and pictures; returns the rows of preds_outputs.csv by case."""
    names = label_names(engine.spec)
    rows: dict[str, dict[str, Any]] = {}
    left = []
    for case in cases:
        row = None if options.overwrite else failures.attempt(case, partial(_resumed, case, names, out, options))
        if row is None:
            left.append(case)
        else:
            rows[case.id] = row
    for done in written(segmented(engine, left, options, failures), lambda done: out / mask_path(done.case.id)):
        rows[done.case.id] = _mask_row(done.case, done.prediction.mask, names)
        if options.dicom_seg and done.case.source:
            failures.attempt(done.case, partial(_write_segmentation, done.case, done.prediction.mask, names, out))
        if len(rows) <= options.overlays:
            write_overlay(picture_path(done.case.id, out), done.image, done.prediction.mask, names, title=done.case.id)
    return rows


def write_masks_table(
    rows: Mapping[str, dict[str, Any]], cases: Sequence[InferenceCase], spec: ModelSpec, out: Path
) -> None:
    """Write preds_outputs.csv of a segmentation, in the order of the cases."""
    listed = [rows[case.id] for case in cases if case.id in rows]
    write_predictions(out, listed, ["case", "image", "mask", *_volume_columns(label_names(spec))])


def write_classes(done: Sequence[Classified], spec: ModelSpec, out: Path, options: InferOptions) -> None:
    """Write preds_outputs.csv of a classification, and the picture of its first cases."""
    sheet = Sheet()
    for each in done if options.overlays else ():
        sheet.add(each.case.id, each.image, each.chances)
    sheet.write(out / "overlays" / "contact_sheet.png")
    write_predictions(out, prediction_rows(done), prediction_columns(spec.class_names))


def picture_path(case: str, out: Path) -> Path:
    """Where a case's picture lies in the folder of the results."""
    return out / "overlays" / f"{case}.png"


def _resumed(case: InferenceCase, names: Mapping[int, str], out: Path, options: InferOptions) -> dict[str, Any] | None:
    """The row of a case whose mask an earlier run has written; None where there is no readable one."""
    path = out / mask_path(case.id)
    if not path.is_file():
        return None
    try:
        mask = read_volume(path)
    except DataError:
        return None
    if options.dicom_seg and case.source and not _seg_path(case.id, out).is_file():
        _write_segmentation(case, mask, names, out)
    return _mask_row(case, mask, names)


def _mask_row(case: InferenceCase, mask: Volume, names: Mapping[int, str]) -> dict[str, Any]:
    counts = np.bincount(mask.array.ravel(order="K"), minlength=max(names) + 1)
    voxel_ml = math.prod(mask.geometry.spacing) / 1000
    volumes = [float(counts[value] * voxel_ml) for value in names]
    files = {"case": case.id, "image": case.images[0].name, "mask": mask_path(case.id)}
    return files | dict(zip(_volume_columns(names), volumes, strict=True))


def mask_path(case: str) -> str:
    """Where a case's mask lies in the folder of the results."""
    return f"{case}/{case}.nii.gz"


def _seg_path(case: str, out: Path) -> Path:
    return out / case / f"{case}_seg.dcm"


def _volume_columns(names: Mapping[int, str]) -> list[str]:
    return [f"{name}_ml" for name in names.values()]


def _write_segmentation(case: InferenceCase, mask: Volume, names: Mapping[int, str], out: Path) -> None:
    from voxflow.dicom import write_segmentation

    try:
        write_segmentation(_seg_path(case.id, out), mask, case.source or (), names)
    except (InputError, ValueError, RuntimeError) as error:
        raise InputError(f"the mask is there, its DICOM SEG is not: {error}") from error
