"""Finds the cases in what a user names: one file, a folder, a datalist, or DICOM."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voxflow.datalist import Datalist
from voxflow.dicom import ConvertOptions, convert_folder, find_sources
from voxflow.errors import DataError
from voxflow.images import list_files
from voxflow.inference.cases import InferenceCase, find_native_cases
from voxflow.naming import fold_name, name_cases
from voxflow.tables import read_rows
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RADIOGRAPH_SUFFIXES = (".png",)


@dataclass(frozen=True)
class InputCases:
    """The cases of an input.

    Attributes:
        cases: those that a model can be shown.
        refused: what can't be used: case (or series) and reason.
    """

    cases: tuple[InferenceCase, ...]
    refused: tuple[dict[str, str], ...] = ()


def find_cases(
    source: Path, scratch: Path, *, is_segmentation: bool, key: str = "inference", root: Path | None = None
) -> InputCases:
    """Find what a model is to be shown.

    Args:
        source: a volume (.nii.gz, .nii, .mha, .mhd, .nrrd) or a PNG radiograph; a folder tree of them; a datalist
            (.json); any other file, or a folder without such files, is taken for DICOM.
        scratch: an empty folder for what DICOM is converted to; must stay until the cases are done.
        is_segmentation: whether the model takes volumes, or else radiographs.
        key: the datalist's key.
        root: what the datalist's paths are relative to; None: its folder.

    Raises:
        DataError: nothing is there, or nothing that the model takes.
    """
    suffixes = VOLUME_SUFFIXES if is_segmentation else RADIOGRAPH_SUFFIXES
    if not source.exists():
        raise DataError("no such file or folder", path=source)
    if source.name.lower().endswith(".json"):
        datalist_cases = Datalist.read(source, root, outside_root=True).cases(key)
        return InputCases(tuple(InferenceCase(case.id, case.image) for case in datalist_cases))
    if source.is_file() and _has_suffix(source, (*VOLUME_SUFFIXES, *RADIOGRAPH_SUFFIXES)):
        if not _has_suffix(source, suffixes):
            raise DataError(f"the model takes {' '.join(suffixes)}", path=source)
        return InputCases(_name_files(source.parent, [source]))
    files = _list_images(source, suffixes) if source.is_dir() else []
    if files:
        return InputCases(_name_files(source, files))
    return convert_dicom_cases(_make_folder(source, scratch), scratch / "volumes", is_segmentation=is_segmentation)


def convert_dicom_cases(
    source: Path,
    volumes: Path,
    *,
    is_segmentation: bool,
    options: ConvertOptions | None = None,
    decoded_mb: int | None = None,
) -> InputCases:
    """Convert a folder of DICOM as the stage convert does, and find the cases in it with the files they came from.

    Args:
        source: the folder.
        volumes: the folder to convert it to.
        is_segmentation: whether volumes are wanted; else radiographs.
        options: of the conversion.
        decoded_mb: as in :func:`convert_folder`.

    Raises:
        DataError: nothing could be converted, or nothing of the kind that the model takes.
    """
    options = options or ConvertOptions(mapping=False)
    convert_folder(source, volumes, options, decoded_mb=decoded_mb)
    rows = read_rows(volumes / "cases.csv") or []
    names = [row["case"] for row in rows if row["image"].endswith(RADIOGRAPH_SUFFIXES) is not is_segmentation]
    if not names:
        raise DataError("it holds no image of the kind that the model takes", path=source)
    cases = find_native_cases([(name, None) for name in names], volumes, is_mask=False)
    kind = {case.origin for case in cases if case.origin}
    sources = find_sources(source, kind, options) if is_segmentation and kind else {}
    refused = [
        {"case": row.get("series") or row.get("case") or "series", "reason": row.get("reason", "")}
        for row in read_rows(volumes / "conversion.csv") or []
        if row.get("verdict") == "quarantined"
    ]
    native = [replace(case, source=sources.get(case.origin) if case.origin else None) for case in cases]
    return InputCases(tuple(native), tuple(refused))


def _list_images(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Image files below a folder, hidden ones left out; links are followed."""
    return sorted(path for path in list_files(folder) if _has_suffix(path, suffixes) and not path.name.startswith("."))


def _name_files(folder: Path, files: Sequence[Path]) -> tuple[InferenceCase, ...]:
    """A case is called as its file is; where names meet, as its way from the folder, made distinct by a digest.

    Names that differ only in case meet, too: their results would be one file on some disks.
    """
    places = [path.relative_to(folder) for path in files]
    names = [_strip_suffix(path.name) for path in files]
    has_equal = len({fold_name(name) for name in names}) < len(names)
    if has_equal:
        names = ["/".join((*place.parts[:-1], name)) for place, name in zip(places, names, strict=True)]
        counts = Counter(names)  # as of a.nii and a.mha
        names = [name if counts[name] == 1 else place.as_posix() for place, name in zip(places, names, strict=True)]
    ids = name_cases(names)
    return tuple(
        InferenceCase(ids[name], (path,), file=place.as_posix() if has_equal or ids[name] != name else "")
        for name, path, place in zip(names, files, places, strict=True)
    )


def _has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name ends so, in upper or lower case."""
    return path.name.lower().endswith(suffixes)


def _strip_suffix(name: str) -> str:
    suffix = next(ending for ending in (*VOLUME_SUFFIXES, *RADIOGRAPH_SUFFIXES) if name.lower().endswith(ending))
    return name[: -len(suffix)]


def _make_folder(source: Path, scratch: Path) -> Path:
    """A folder that holds one file alone, since conversion reads folders."""
    if source.is_dir():
        return source
    alone = scratch / "dicom"
    alone.mkdir()
    (alone / "file.dcm").symlink_to(source.resolve())
    return alone
