"""The work of one HTTP request: from the upload to the file that is sent back."""

from __future__ import annotations

import json
import secrets
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from voxflow.errors import InputError
from voxflow.inference import InferenceCase, InferOptions, infer_cases
from voxflow.serving.limits import RefusedError
from voxflow.serving.uploads import check_nifti, detect_kind, unpack_zip

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.serving.limits import ServeLimits

Format = Literal["auto", "nifti", "seg", "json"]

NIFTI, DICOM, ZIP, JSON = "application/gzip", "application/dicom", "application/zip", "application/json"


@dataclass(frozen=True)
class Answer:
    """A file to send back.

    Attributes:
        path: the file.
        media_type: its content type.
        name: what a client may call it.
    """

    path: Path
    media_type: str
    name: str


def answer_request(
    engine: Engine, folder: Path, options: InferOptions, limits: ServeLimits, response_format: Format
) -> Answer:
    """Infer on ``folder``/upload and return what is sent back; everything is written below ``folder``.

    Raises:
        RefusedError: the upload can't be used.
    """
    upload, out = folder / "upload", folder / "out"
    kind = detect_kind(upload)
    is_segmentation = engine.spec.task == "segmentation"
    if (kind == "png") is is_segmentation and kind != "zip":
        raise RefusedError(415, f"the model does {engine.spec.task}, received {kind}")
    if kind == "zip":
        cases = _convert_dicom(upload, folder, limits, is_segmentation=is_segmentation)
    else:
        if kind != "png":
            check_nifti(upload, kind, limits)
        image = upload.rename(folder / {"nifti": "image.nii", "nifti.gz": "image.nii.gz", "png": "image.png"}[kind])
        cases = [InferenceCase("image", (image,))]
    out.mkdir()
    result = infer_cases(engine, cases, out, options)
    if result.failures.rows and len(result.failures.cases) == len(cases):
        reasons = "; ".join(dict.fromkeys(row["reason"] for row in result.failures.rows))
        raise RefusedError(422, reasons.replace(f"{folder}/", ""))
    if response_format == "json" or not is_segmentation:
        return _write_table(out)
    masks, segs = sorted(out.glob("*/*.nii.gz")), sorted(out.glob("*/*_seg.dcm"))
    if len(masks) == 1 and response_format == "nifti":
        return Answer(masks[0], NIFTI, "mask.nii.gz")
    if len(segs) == 1 and len(masks) == 1 and response_format in ("auto", "seg"):
        return Answer(segs[0], DICOM, "seg.dcm")
    if response_format == "seg" and not segs:
        reasons = "; ".join(row["reason"] for row in result.failures.rows)
        raise RefusedError(422, f"there is no DICOM SEG: {reasons or 'the upload was no DICOM'}")
    if len(masks) == 1 and not segs:
        return Answer(masks[0], NIFTI, "mask.nii.gz")
    return _write_zip(
        out, segs if response_format == "seg" else masks if response_format == "nifti" else [*masks, *segs]
    )


def _convert_dicom(upload: Path, folder: Path, limits: ServeLimits, *, is_segmentation: bool) -> list[InferenceCase]:
    """Convert a zip of DICOM, as the stage convert does."""
    from voxflow.dicom import ConvertOptions
    from voxflow.inference import convert_dicom_cases

    source, volumes = folder / "dicom", folder / "volumes"
    source.mkdir()
    unpack_zip(upload, source, limits)
    upload.unlink()
    # The pseudonyms leave this folder nowhere: any key will do, and no file leads from them back to patients.
    options = ConvertOptions(pseudonym_key=secrets.token_hex(16), workers=1, mapping=False)
    try:
        converted = convert_dicom_cases(source, volumes, is_segmentation=is_segmentation, options=options)
    except InputError as error:
        raise RefusedError(422, str(error).replace(str(source), "the zip").replace(f"{folder}/", "")) from error
    return list(converted.cases)


def _write_table(out: Path) -> Answer:
    import csv

    with (out / "preds_outputs.csv").open(encoding="utf-8") as stream:
        rows = [{key: _parse_number(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    failures = json.loads((out / "failures.json").read_text(encoding="utf-8").replace(f"{out.parent}/", ""))
    path = out / "answer.json"
    path.write_text(json.dumps({"cases": rows, "failures": failures}), encoding="utf-8")
    return Answer(path, JSON, "answer.json")


def _parse_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _write_zip(out: Path, files: list[Path]) -> Answer:
    path = out / "answer.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in [*files, out / "preds_outputs.csv", out / "failures.json"]:
            archive.write(file, file.name)
    return Answer(path, ZIP, "answer.zip")
