"""Finding again what a case was made of: the files, and the frames, of one volume of a series."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.dicom.group import group_headers
from voxflow.dicom.scan import scan_folder
from voxflow.volumes import CHANNEL_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from voxflow.dicom.options import ConvertOptions


@dataclass(frozen=True)
class Origin:
    """Which volume of which series a case is, as cases.csv tells it.

    Attributes:
        series_uid: SeriesInstanceUID (0020,000E).
        volume: its number in the series, from 1.
        instance_uid: the lowest SOPInstanceUID (0008,0018) of its objects. Where it is empty, as in tables of older
            conversions, the whole series is meant.
    """

    series_uid: str
    volume: int = 1
    instance_uid: str = ""


@dataclass(frozen=True)
class SourceFiles:
    """What a volume was made of.

    Attributes:
        files: its DICOM files.
        frames: of a multi-frame file that holds several volumes, those of this one, from 0; else empty.
    """

    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()


def list_origins(row: Mapping[str, str]) -> tuple[Origin, ...]:
    """List which volumes a case is, one a channel.

    Returns:
        None where it was not made of DICOM.

    Example:
        >>> row = {"image": "a_0000.nii;a_0001.nii", "series_uid": "1.2;1.3", "volume": "1;2", "instance_uid": "1;2"}
        >>> [(origin.series_uid, origin.volume) for origin in list_origins(row)]
        [('1.2', 1), ('1.3', 2)]
    """
    if row.get("source") or not row.get("series_uid"):
        return ()
    count = len(row["image"].split(CHANNEL_SEPARATOR))
    texts = [row.get(column) or "" for column in ("series_uid", "volume", "instance_uid")]
    cells = [text.split(CHANNEL_SEPARATOR) if count > 1 else [text] for text in texts]
    if any(len(values) != count for values in cells):
        return ()
    return tuple(Origin(uid, int(volume or 1), instance) for uid, volume, instance in zip(*cells, strict=True))


def find_sources(source: Path, origins: Collection[Origin], options: ConvertOptions) -> dict[Origin, SourceFiles]:
    """Find what volumes were made of, by taking the series below ``source`` apart as conversion did.

    Returns:
        Files and frames of those that are there.
    """
    series = {origin.series_uid for origin in origins}
    headers = [header for header in scan_folder(source).headers if header.series_uid in series]
    parts = [part for part in group_headers(headers, options) if part.kind == "volume"]
    uses = Counter(Origin(*part.key) for part in parts)
    files_by_origin = {
        Origin(*part.key): SourceFiles(tuple(header.path for header in part.headers), part.frames)
        for part in parts
        # Anonymisers may give two patients the same UIDs: nothing then says which of them is meant.
        if uses[Origin(*part.key)] == 1
    }
    return {
        origin: source_files
        for origin in origins
        if (source_files := files_by_origin.get(origin) or _find_whole_series(files_by_origin, origin)) is not None
    }


def _find_whole_series(files_by_origin: Mapping[Origin, SourceFiles], origin: Origin) -> SourceFiles | None:
    if origin.instance_uid:
        return None
    volumes = [volume for key, volume in files_by_origin.items() if key.series_uid == origin.series_uid]
    files = [file for volume in volumes for file in volume.files]
    return SourceFiles(tuple(dict.fromkeys(files))) if files else None
