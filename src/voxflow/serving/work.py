"""The work of one HTTP request: from the upload to the file that is sent back."""

from __future__ import annotations

import json
import secrets
import time
import zipfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from voxflow.errors import InputError
from voxflow.inference import Failures, InferenceCase, InferOptions, InputCases, infer_cases, list_extra_files
from voxflow.serving.channels import has_nifti, read_form, read_nifti_files
from voxflow.serving.limits import RefusedError
from voxflow.serving.uploads import check_nifti, check_voxels, detect_kind, unpack_zip
from voxflow.tables import read_rows
from voxflow.volumes import read_geometry

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.serving.limits import ServeLimits
    from voxflow.serving.requestlog import RequestRecord
    from voxflow.spec import ModelSpec
    from voxflow.trust import AnyReviewer

Format = Literal["auto", "nifti", "seg", "json"]

NIFTI, DICOM, ZIP, JSON = "application/gzip", "application/dicom", "application/zip", "application/json"


@dataclass(frozen=True)
class Answer:
    """A file to send back.

    Attributes:
        path: the file.
        media_type: its content type.
        name: what a client may call it.
        failed: how many series or images of the upload could not be used.
        trust: of a single case, the verdict and the bound of its Dice, as headers; empty where nobody asks.
    """

    path: Path
    media_type: str
    name: str
    failed: int = 0
    trust: dict[str, str] = field(default_factory=dict)


def answer_request(
    engine: Engine,
    folder: Path,
    options: InferOptions,
    limits: ServeLimits,
    response_format: Format,
    *,
    boundary: bytes | None = None,
    record: RequestRecord | None = None,
    reviewer: AnyReviewer | None = None,
) -> Answer:
    """Infer on ``folder``/upload; everything is written below ``folder``.

    Args:
        engine: the model.
        folder: of this request.
        options: of the inference.
        limits: on what is taken.
        response_format: what is sent back.
        boundary: what separates the parts, where the upload is a form.
        record: gets the seconds of inference.
        reviewer: who sorts the cases, where the options ask for it.

    Raises:
        RefusedError: the upload can't be used.
    """
    if response_format != "auto":  # no other answer has a place for them
        options = options.model_copy(update={"extra_outputs": ()})
    try:
        inputs = _read_inputs(folder, limits, engine.spec, boundary)
        out = folder / "out"
        out.mkdir()
        began = time.perf_counter()
        try:
            result = infer_cases(engine, inputs.cases, out, options, refused=inputs.refused, reviewer=reviewer)
        finally:
            if record is not None:
                record.inference_seconds = time.perf_counter() - began
    except InputError as error:
        raise RefusedError(422, _hide_folder(str(error), folder)) from error
    if not result.metrics["cases"]:
        reasons = "; ".join(dict.fromkeys(row["reason"] for row in result.failures.rows))
        raise RefusedError(422, _hide_folder(reasons, folder))
    is_segmentation = engine.spec.task == "segmentation"
    answer = _choose_answer(out, response_format, result.failures, is_segmentation=is_segmentation)
    trust = _describe_trust(out) if reviewer is not None else {}
    return replace(answer, failed=len(result.failures.cases), trust=trust)


def _describe_trust(out: Path) -> dict[str, str]:
    rows = read_rows(out / "preds_outputs.csv") or []
    if len(rows) != 1:
        return {}
    headers = {"X-Voxflow-Verdict": rows[0]["verdict"], "X-Voxflow-Dice-Bound": rows[0].get("dice_bound", "")}
    return {name: value for name, value in headers.items() if value}


def _choose_answer(out: Path, response_format: Format, failures: Failures, *, is_segmentation: bool) -> Answer:
    if response_format == "json" or not is_segmentation:
        return _write_table(out)
    masks, segs = sorted(out.glob("*/*.nii.gz")), sorted(out.glob("*/*_seg.dcm"))
    if response_format == "seg" and not segs:
        reasons = "; ".join(row["reason"] for row in failures.rows)
        raise RefusedError(422, f"there is no DICOM SEG: {reasons or 'the upload was no DICOM'}")
    extra_files = list_extra_files(out)
    if extra_files and response_format == "auto":
        return _write_zip(out, [*masks, *segs, *extra_files])
    # A single file has no place for the reasons of the others.
    is_single = len(masks) == 1 and (response_format != "auto" or not failures.rows)
    if is_single and response_format == "nifti":
        return Answer(masks[0], NIFTI, "mask.nii.gz")
    if is_single and len(segs) == 1:
        return Answer(segs[0], DICOM, "seg.dcm")
    if is_single and not segs:
        return Answer(masks[0], NIFTI, "mask.nii.gz")
    return _write_zip(
        out, segs if response_format == "seg" else masks if response_format == "nifti" else [*masks, *segs]
    )


def _read_inputs(folder: Path, limits: ServeLimits, spec: ModelSpec, boundary: bytes | None) -> InputCases:
    """Make cases of the upload, a file or a form, and hold their sizes against its own."""
    upload_bytes = (folder / "upload").stat().st_size
    inputs = _read_upload(folder, limits, spec) if boundary is None else read_form(folder, boundary, limits, spec)
    if spec.task == "segmentation":
        check_voxels([size for case in inputs.cases for size in _read_sizes(case)], upload_bytes)
    return inputs


def _read_upload(folder: Path, limits: ServeLimits, spec: ModelSpec) -> InputCases:
    """Find out what was sent, and make cases of it."""
    is_segmentation = spec.task == "segmentation"
    upload = folder / "upload"
    kind = detect_kind(upload)
    if (kind == "png") is is_segmentation and kind != "zip":
        does, received = ("segmentation", "a radiograph") if is_segmentation else ("classification", "a volume")
        raise RefusedError(415, f"the model does {does}, received {received} ({kind})")
    if kind == "zip":
        source = folder / "dicom"
        source.mkdir()
        names = unpack_zip(upload, source, limits)
        upload.unlink()
        if spec.has_several_images and has_nifti(source):
            return read_nifti_files(source, names, folder / "images", limits, spec)
        return _convert_dicom(source, folder, limits, spec)
    if kind != "png":
        check_nifti(upload, kind, limits)
    image = upload.rename(folder / {"nifti": "image.nii", "nifti.gz": "image.nii.gz", "png": "image.png"}[kind])
    return InputCases((InferenceCase("image", (image,)),))


def _convert_dicom(source: Path, folder: Path, limits: ServeLimits, spec: ModelSpec) -> InputCases:
    """Convert the unpacked DICOM files, as the stage convert does."""
    from voxflow.dicom import ConvertOptions
    from voxflow.inference import convert_dicom_cases

    volumes = folder / "volumes"
    # The pseudonyms leave this folder nowhere: any key will do, and no file leads from them back to patients.
    options = ConvertOptions(pseudonym_key=secrets.token_hex(16), workers=1, mapping=False)
    try:
        return convert_dicom_cases(source, volumes, spec, options=options, decoded_mb=limits.unpacked_mb)
    except InputError as error:
        raise RefusedError(422, _hide_folder(str(error).replace(str(source), "the zip"), folder)) from error


def _read_sizes(case: InferenceCase) -> list[tuple[int, ...]]:
    return [read_geometry(image, has_channels=True).size for image in case.images]


def _hide_folder(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "")


def _write_table(out: Path) -> Answer:
    import csv

    with (out / "preds_outputs.csv").open(encoding="utf-8") as stream:
        rows = [{key: _parse_number(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    failures = json.loads(_read_failures(out))
    path = out / "answer.json"
    path.write_text(json.dumps({"cases": rows, "failures": failures}), encoding="utf-8")
    return Answer(path, JSON, "answer.json")


def _read_failures(out: Path) -> str:
    return _hide_folder((out / "failures.json").read_text(encoding="utf-8"), out.parent)


def _parse_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _write_zip(out: Path, files: list[Path]) -> Answer:
    path = out / "answer.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in [*files, out / "preds_outputs.csv"]:
            archive.write(file, file.name)
        archive.writestr("failures.json", _read_failures(out))
    return Answer(path, ZIP, "answer.zip")
