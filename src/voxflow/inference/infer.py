"""Runs a model on cases without a label and writes masks, DICOM SEG, tables and pictures."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from voxflow.engines import Device, EngineChoice  # noqa: TC001 - pydantic reads it
from voxflow.errors import DataError
from voxflow.inference.cases import Failures, check_channel_order, read_volumes
from voxflow.inference.channel_overlays import write_overlays
from voxflow.inference.extra_outputs import (
    ExtraOutput,
    ExtraOutputs,
    announce_extra_outputs,
    attempt_dicom,
)
from voxflow.inference.reviewing import NOT_MEASURED, read_measurement, write_measurement
from voxflow.inference.run import classify_cases, count_helpers, segment_cases, write_masks_behind
from voxflow.inference.writing import write_classes
from voxflow.prediction import PredictOptions, class_values, label_names
from voxflow.tables import write_predictions
from voxflow.trust import CaseTrust, RadiographReviewer, Reviewer
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.inference.cases import InferenceCase, Metrics
    from voxflow.inference.ledger import Match, ResultLedger
    from voxflow.inference.run import SegmentedCase
    from voxflow.spec import ModelSpec
    from voxflow.trust import AnyReviewer
    from voxflow.volumes import Volume

# Classes that are sooner counted one by one.
FEW_VALUES = 8
TRUST = "trust"  # of a row, what the reviewer says; no column
REMARK = "remark"  # a column of preds_outputs.csv where a case has one

OTHER_MASK = (
    "another model, other settings or another image made the mask that is there; delete it, or leave --no_overwrite out"
)


class InferOptions(PredictOptions):
    """What inference does.

    Attributes:
        engine: which engine runs the model.
        device: "cpu", "cuda" or, say, "cuda:1"; None: the first GPU where there is one, else the processor.
        key: the datalist's key that holds the cases.
        dicom_seg: write a DICOM SEG beside the NIfTI mask where the image came from DICOM.
        extra_outputs: what else is written beside a mask: "rtstruct" and "sr" (a Structured Report) where the image
            came from DICOM, "stl" and "glb" surfaces, "statistics" of each class, "radiomics" among them.
        overlays: the first so many cases get a picture.
        overwrite: make masks anew that are there; else a case whose mask is there is not computed again. A mask that
            another model, other options or another image made is then neither kept as this one's nor replaced: the
            case counts as failed, and says so.
        review_below: cases are sorted into those to send and those to review, whose Dice may be lower than this; None:
            they are not. With 0 every case gets its bound, and only what has none is to be reviewed.
        confidence: the share of cases whose Dice is to be at least their bound, or whose finding is to be in its set of
            labels.
        calibrated: probabilities of radiograph findings are corrected, and get label sets, where the model has a
            calibration (trust.json); else they stay as the model gives them.
    """

    engine: EngineChoice = "auto"
    device: Device | None = None
    key: str = "inference"
    dicom_seg: bool = True
    extra_outputs: tuple[ExtraOutput, ...] = ()
    overlays: NonNegativeInt = 8
    overwrite: bool = True
    review_below: float | None = Field(default=None, ge=0, le=1)
    confidence: float = Field(default=0.9, gt=0, lt=1)
    calibrated: bool = True

    @property
    def measures_agreement(self) -> bool:
        """See :class:`voxflow.prediction.PredictOptions`."""
        return self.review_below is not None

    @model_validator(mode="after")
    def _check_extra_outputs(self) -> Self:
        if "sr" in self.extra_outputs and not self.dicom_seg:
            raise ValueError("extra_outputs: sr refers to the DICOM SEG; it needs dicom_seg: true")
        return self

    @property
    def needs_sources(self) -> bool:
        """Whether something is written that refers to an image's DICOM files."""
        return self.dicom_seg or "rtstruct" in self.extra_outputs


@dataclass(frozen=True)
class InferenceResult:
    """What an inference made.

    Attributes:
        metrics: cases, failed_cases, seconds_per_case.
        failures: the cases that could not be used.
        engine: what ran the model.
    """

    metrics: Metrics
    failures: Failures
    engine: str


def infer_cases(
    engine: Engine,
    cases: Sequence[InferenceCase],
    out: Path,
    options: InferOptions,
    *,
    refused: Sequence[dict[str, str]] = (),
    ledger: ResultLedger | None = None,
    reviewer: AnyReviewer | None = None,
) -> InferenceResult:
    """Run a model over cases and write what it says.

    Args:
        engine: the model.
        cases: no label is read. Those with ``source`` get a DICOM SEG.
        out: an existing folder; gets preds_outputs.csv, preds.csv, failures.json, overlays/, and for a
            segmentation CASE/CASE.nii.gz and CASE/CASE_seg.dcm.
        options: window plan, way back, what to write.
        refused: what could not even be read: case and reason; the first of the failures.
        ledger: where it is noted what made each mask; None: nowhere, and a mask that is there is this model's.
        reviewer: who sorts masks where ``options.review_below`` asks for it, or calibrates the answers to radiographs;
            see ``open_reviewer``.

    Raises:
        OSError: a result could not be written.
    """
    failures = Failures(list(refused))
    began = time.perf_counter()
    (out / "overlays").mkdir(exist_ok=True)
    announce_extra_outputs(cases, engine.spec, options.extra_outputs)
    if engine.spec.task == "segmentation":
        reviewer = require_reviewer(reviewer if isinstance(reviewer, Reviewer) else None, options)
        rows = segment_and_write(engine, cases, out, options, failures, ledger=ledger, reviewer=reviewer)
        write_masks_table(rows, cases, engine.spec, out, failures, reviewer=reviewer)
        extra = ExtraOutputs(options.extra_outputs, engine.spec, out, failures)
        extra.write_tables([case for case in cases if case.id in rows])
        count = len(rows)
    else:
        calibrator = reviewer if isinstance(reviewer, RadiographReviewer) else None
        classes = list(classify_cases(engine, cases, failures, options, calibrator))
        write_classes(classes, engine.spec, out, options, reviewer=calibrator)
        count = len(classes)
    return summarise_inference(count, failures, out, began, engine=engine.name)


def summarise_inference(count: int, failures: Failures, out: Path, began: float, *, engine: str) -> InferenceResult:
    """Write the failures, and count.

    Args:
        count: cases that went well.
        failures: the others.
        out: the folder of the results.
        began: when the work did, as ``time.perf_counter`` has it.
        engine: what ran the model.
    """
    failures.write(out)
    metrics: Metrics = {"cases": count, "failed_cases": len(failures.cases)}
    if count:
        metrics["seconds_per_case"] = round((time.perf_counter() - began) / count, 3)
    return InferenceResult(metrics, failures, engine)


def segment_and_write(
    engine: Engine,
    cases: Sequence[InferenceCase],
    out: Path,
    options: InferOptions,
    failures: Failures,
    *,
    ledger: ResultLedger | None = None,
    reviewer: Reviewer | None = None,
) -> dict[str, dict[str, Any]]:
    """Segment cases and write masks, DICOM SEG and pictures.

    Args:
        engine: the model.
        cases: in order; a bad one goes to ``failures``.
        out: an existing folder for the results.
        options: of the prediction, and what is written.
        failures: gets the cases that could not be used.
        ledger: where it is noted what made each mask; None: nowhere.
        reviewer: who sorts the cases; None: nobody.

    Returns:
        The rows of preds_outputs.csv by case: image, mask, the volume of each class in ml, and under ``TRUST`` what the
        reviewer says.
    """
    return _SegmentationRun(engine.spec, out, options, failures, ledger, reviewer).run(engine, cases)


def require_reviewer(reviewer: Reviewer | None, options: InferOptions) -> Reviewer | None:
    """Return who sorts the cases; where that is asked for and nobody can, one that has every case reviewed."""
    if options.review_below is None or reviewer is not None:
        return reviewer
    return Reviewer(options.review_below, options.confidence, absence="nobody knows where the model's calibration is")


def write_masks_table(
    rows: Mapping[str, dict[str, Any]],
    cases: Sequence[InferenceCase],
    spec: ModelSpec,
    out: Path,
    failures: Failures,
    *,
    reviewer: Reviewer | None = None,
) -> None:
    """Write preds_outputs.csv of a segmentation, in the order of the cases, and the worklist of a review.

    Args:
        rows: of the cases that went well, by name.
        cases: all.
        spec: of the model, for the columns.
        out: the folder of the results.
        failures: the cases that could not be used.
        reviewer: who sorted the cases; None: nobody.
    """
    ordered = [rows[case.id] for case in cases if case.id in rows]
    columns = ["case", "image", "mask", *_name_volume_columns(spec)]
    if reviewer is not None:
        from voxflow.inference.review_viewer import write_review_viewer
        from voxflow.inference.worklist import write_worklist

        trusts = {row["case"]: row[TRUST] for row in ordered}
        ordered = [row | trusts[row["case"]].as_row() for row in ordered]
        columns += CaseTrust.COLUMNS
        show = partial(write_review_viewer, out=out, cases=cases, rows=rows, spec=spec)
        write_worklist(out, trusts, rows, reviewer, failures, show=show)
    if any(REMARK in row for row in ordered):
        ordered = [{REMARK: "", **row} for row in ordered]
        columns.append(REMARK)
    write_predictions(out, ordered, columns)


def picture_path(case: str, out: Path) -> Path:
    """Where a case's picture lies in the folder of the results."""
    return out / "overlays" / f"{case}.png"


@dataclass(frozen=True)
class _SegmentationRun:
    """One run over cases: what it writes where, and the rows of those that are done."""

    spec: ModelSpec
    out: Path
    options: InferOptions
    failures: Failures
    ledger: ResultLedger | None
    reviewer: Reviewer | None = None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def _extra(self) -> ExtraOutputs:
        return ExtraOutputs(self.options.extra_outputs, self.spec, self.out, self.failures)

    def run(self, engine: Engine, cases: Sequence[InferenceCase]) -> dict[str, dict[str, Any]]:
        """Segment the cases and return the rows of those that are done."""
        remaining = cases if self.options.overwrite else [case for case in cases if not self._is_settled(case)]
        for segmented_case in write_masks_behind(
            segment_cases(engine, remaining, self.options, self.failures), self._place, count_helpers(engine)
        ):
            self._finish(segmented_case)
        return self.rows

    def _place(self, segmented_case: SegmentedCase) -> Path:
        if self.ledger is not None:
            self.ledger.forget(segmented_case.case)
        self._extra.remove(segmented_case.case)
        _seg_path(segmented_case.case.id, self.out).unlink(missing_ok=True)
        return self.out / mask_path(segmented_case.case.id)

    def _finish(self, segmented_case: SegmentedCase) -> None:
        """Everything of a case beside its mask; the note that it is done comes last."""
        case, mask = segmented_case.case, segmented_case.prediction.mask
        self.rows[case.id] = _make_mask_row(case, mask, self.spec, segmented_case.remark)
        if self.reviewer is not None:
            agreement = segmented_case.prediction.agreement
            score = None if agreement is None else agreement.score
            write_measurement(_measurement_path(case.id, self.out), score, segmented_case.features)
            self.rows[case.id][TRUST] = _assess(self.reviewer, mask, self.spec, score, segmented_case.features)
        if self.options.dicom_seg and case.find_source(self.spec):
            self._write_seg(case, mask)
        self._extra.write(case, mask, segmented_case.image, description=self._describe(case))
        if len(self.rows) <= self.options.overlays:
            # The other channels are read again: to keep them for a few pictures would take their memory for all cases.
            images = read_volumes(case, self.spec) if len(self.spec.channels) > 1 else [segmented_case.image]
            write_overlays(picture_path(case.id, self.out), images, mask, self.spec, title=case.id)
        if self.ledger is not None and case.id not in self.failures.cases:
            self.ledger.note(case)

    def _is_settled(self, case: InferenceCase) -> bool:
        """Whether an earlier run has written a mask that counts, or one that must neither count nor be replaced."""
        path = self.out / mask_path(case.id)
        if not path.is_file():
            return False
        match: Match = "unknown" if self.ledger is None else self.ledger.match(case)
        if self.ledger is not None and self.ledger.is_exclusive:
            if match != "same":
                return False
        elif match == "other":
            self.failures.rows.append({"case": case.id, "reason": OTHER_MASK})
            return True
        elif match == "unreadable":
            return False  # the attempt says why
        try:
            mask = read_volume(path)
        except DataError:
            return False
        self.rows[case.id] = _make_mask_row(case, mask, self.spec, self._find_remark(case))
        if self.reviewer is not None:
            agreement, features = read_measurement(_measurement_path(case.id, self.out))
            self.rows[case.id][TRUST] = _assess(self.reviewer, mask, self.spec, agreement, features)
        if self.options.dicom_seg and case.find_source(self.spec) and not _seg_path(case.id, self.out).is_file():
            self._write_seg(case, mask)
            self._extra.remove(case)  # a report refers to the SEG that was there
        self._extra.write(case, mask, keep=True, description=self._describe(case))
        return True

    def _find_remark(self, case: InferenceCase) -> str:
        """Say again what an earlier run remarked on a case; its images are read only where there may be a remark."""
        if not self.spec.profile or self.options.swapped_channels == "refuse":
            return ""
        try:
            return check_channel_order(read_volumes(case, self.spec), self.spec, "warn")
        except DataError:
            return ""  # the image is gone, and its mask is there

    def _write_seg(self, case: InferenceCase, mask: Volume) -> None:
        write = partial(_write_segmentation, case, mask, self.spec, self._describe(case))
        attempt_dicom(self.failures, case, "DICOM SEG", _seg_path(case.id, self.out), write)

    def _describe(self, case: InferenceCase) -> str:
        """What the DICOM files of a case say of its mask; empty where nobody sorts the cases."""
        trust = self.rows[case.id].get(TRUST)
        return trust.description if trust is not None else ""


def _assess(
    reviewer: Reviewer, mask: Volume, spec: ModelSpec, agreement: float | None, features: Mapping[str, float]
) -> CaseTrust:
    if not features:  # of an earlier run that did not measure
        return CaseTrust("review", (NOT_MEASURED,))
    volumes = measure_class_volumes(mask, spec)
    return reviewer.assess(agreement, {**features, **volumes}, is_empty=not mask.array.any())


def _make_mask_row(case: InferenceCase, mask: Volume, spec: ModelSpec, remark: str) -> dict[str, Any]:
    row = {"case": case.id, "image": case.image_name, "mask": mask_path(case.id), **measure_class_volumes(mask, spec)}
    return row | {REMARK: remark} if remark else row


def measure_class_volumes(mask: Volume, spec: ModelSpec) -> dict[str, float]:
    """Measure the volume of each class in ml, by the names of the columns of preds_outputs.csv.

    Args:
        mask: label values.
        spec: of the model that made it.
    """
    voxel_ml = math.prod(mask.geometry.spacing) / 1000
    names = label_names(spec)
    counts = dict(zip(names, _count_voxels(mask.array, names), strict=True))
    volumes = [float(sum(counts[value] for value in values) * voxel_ml) for values in class_values(spec).values()]
    return dict(zip(_name_volume_columns(spec), volumes, strict=True))


def _count_voxels(labels: NDArray[Any], values: Iterable[int]) -> list[int]:
    """How many voxels each value has; many values are counted in one pass, which takes long for a few."""
    value_list = list(values)
    if len(value_list) <= FEW_VALUES:
        return [int(np.count_nonzero(labels == value)) for value in value_list]
    voxel_counts = np.bincount(labels.ravel(order="K"), minlength=max(value_list) + 1)
    return [int(voxel_counts[value]) for value in value_list]


def mask_path(case: str) -> str:
    """Where a case's mask lies in the folder of the results."""
    return f"{case}/{case}.nii.gz"


def _measurement_path(case: str, out: Path) -> Path:
    return out / case / f"{case}_trust.json"


def _seg_path(case: str, out: Path) -> Path:
    return out / case / f"{case}_seg.dcm"


def _name_volume_columns(spec: ModelSpec) -> list[str]:
    return [f"{name}_ml" for name in class_values(spec)]


def _write_segmentation(case: InferenceCase, mask: Volume, spec: ModelSpec, description: str, path: Path) -> None:
    from voxflow.dicom import write_segmentation

    regions = class_values(spec) if spec.regions else None
    files = case.find_source(spec) or ()
    write_segmentation(path, mask, files, label_names(spec), regions=regions, description=description)
