"""Makes cases of several channels of an upload: a form with a file for each, or a zip of NIfTI files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from voxflow.errors import join_names
from voxflow.inference import InferenceCase, InputCases, find_channel, find_file_cases
from voxflow.serving.forms import split_form
from voxflow.serving.limits import RefusedError
from voxflow.serving.uploads import NIFTI_STARTS, check_nifti, detect_kind, read_nifti_start
from voxflow.volumes import strip_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.serving.limits import ServeLimits
    from voxflow.serving.uploads import UploadKind
    from voxflow.spec import ModelSpec

SUFFIXES: dict[UploadKind, str] = {"nifti": ".nii", "nifti.gz": ".nii.gz"}
LONGEST_NAME, DEEPEST = 80, 8  # letters of a file's or folder's name; folders of a path


def name_channels(spec: ModelSpec) -> list[str]:
    """Name the fields of the form: the channels, or their numbers where the model has no names for them."""
    return list(spec.channels) or [f"{number:04d}" for number in range(spec.image_count)]


def read_form(folder: Path, boundary: bytes, limits: ServeLimits, spec: ModelSpec) -> InputCases:
    """Make the case of a form: each field is a channel.

    Args:
        folder: of the request; the body is its file "upload", which is removed.
        boundary: what separates the parts.
        limits: on what is taken.
        spec: of the model.

    Raises:
        RefusedError: 400 for a field that is no channel, or twice the same; 422 where a channel is missing; 413 and 415
            where a file is too large, or no NIfTI-1 volume.
    """
    parts = folder / "images"
    parts.mkdir()
    fields = split_form(folder / "upload", boundary, parts)
    (folder / "upload").unlink()
    names = name_channels(spec)
    images: dict[str, Path] = {}
    used_bytes = 0
    for field, path in fields:
        place = find_channel(field, names)
        if place is None:
            raise RefusedError(
                400, f"a field of the form is no channel of the model; the fields are {', '.join(names)}"
            )
        if names[place] in images:
            raise RefusedError(400, f"the form has the field {names[place]} twice")
        kind = _require_nifti(path, f"the field {names[place]}")
        used_bytes = check_nifti(path, kind, limits, used_bytes=used_bytes)
        images[names[place]] = path.rename(parts / f"image_{place:04d}{SUFFIXES[kind]}")
    missing = [name for name in names if name not in images]
    if missing:
        raise RefusedError(422, f"lacks the channel {join_names(missing)} of {', '.join(names)}")
    return InputCases((InferenceCase("image", tuple(images[name] for name in names)),))


def has_nifti(folder: Path) -> bool:
    """Whether the unpacked files are NIfTI-1 volumes: one is there, and no DICOM."""
    paths = sorted(folder.iterdir())
    return any(_detect_nifti(path) is not None for path in paths) and not any(_is_dicom(path) for path in paths)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(128)
        return stream.read(4) == b"DICM"  # PS3.10 7.1


def read_nifti_files(source: Path, names: list[str], target: Path, limits: ServeLimits, spec: ModelSpec) -> InputCases:
    """Make cases of a zip of NIfTI files, whose names tell case and channel.

    Args:
        source: the unpacked files, by number.
        names: what each was called in the zip.
        target: a folder that is made for the files under safe names.
        limits: on what is taken.
        spec: of the model.

    Raises:
        RefusedError: 400 for names that meet or are too deep; 413 where the volumes are too large.
    """
    refused, files, used_bytes = [], [], 0
    for number, (name, path) in enumerate(zip(names, sorted(source.iterdir()), strict=True), start=1):
        kind = _detect_nifti(path)
        if kind is None:
            refused.append({"case": f"file {number}", "reason": f"file {number} of the zip is no NIfTI-1 volume"})
            continue
        used_bytes = check_nifti(path, kind, limits, used_bytes=used_bytes)
        file = target / _make_safe(name, SUFFIXES[kind])
        if file.exists():
            raise RefusedError(400, "two files of the zip have one name, up to letters that are no part of names")
        file.parent.mkdir(parents=True, exist_ok=True)
        files.append(path.rename(file))
    inputs = find_file_cases(target, sorted(files), spec)
    return InputCases(inputs.cases, (*refused, *inputs.refused))


def _make_safe(name: str, suffix: str) -> PurePosixPath:
    parts = [re.sub(r"[^\w.-]+", "_", part).lstrip(".")[-LONGEST_NAME:] or "_" for part in
             PurePosixPath(name.replace("\\", "/")).parts]  # fmt: skip
    if len(parts) > DEEPEST:
        raise RefusedError(400, f"the zip has folders in more than {DEEPEST} levels")
    return PurePosixPath(*parts[:-1], strip_suffix(parts[-1]) + suffix)


def _detect_nifti(path: Path) -> UploadKind | None:
    """The kind of a volume; of a compressed one the header decides, since archives hold other compressed files."""
    try:
        kind = detect_kind(path)
        is_volume = kind in SUFFIXES and read_nifti_start(path, kind)[:4] in NIFTI_STARTS
    except RefusedError:
        return None
    return kind if is_volume else None


def _require_nifti(path: Path, part: str) -> UploadKind:
    kind = _detect_nifti(path)
    if kind is None:
        raise RefusedError(415, f"{part} is no NIfTI-1 volume (.nii, .nii.gz)")
    return kind
