"""Measuring every case from its files, independently of what conversion wrote in the table."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import LIBRARY_ERRORS, DataError, InputError, join_names
from voxflow.images import read_channel_rules
from voxflow.machine import count_cores
from voxflow.progress import track
from voxflow.tables import FINDING_PREFIX
from voxflow.volumes import (
    CHANNEL_SEPARATOR,
    find_swaps,
    measure_channels,
    name_channel,
    read_radiograph,
    read_volume,
    require_overlap,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from voxflow.volumes import ChannelFeatures, Volume

# Of cases of several channels: columns of the whole case, and what stands before ":CHANNEL" in those of a channel.
MISSING, APART, OWN_GRIDS, DIFFER, ORDER = (
    *("channels_missing", "channels_apart", "own_grids", "channels_differ", "channel_order"),
)
FEATURES = "features"
SAMPLED_ABOVE = 1_000_000


def measure_cases(table: pd.DataFrame, folder: Path, *, ignore: int | None = None) -> pd.DataFrame:
    """Read every image and label and measure them.

    Args:
        table: one row a case with ``case``, ``patient``, ``modality``, ``image`` and ``label``.
        folder: what the paths are relative to.
        ignore: the label value of voxels that nobody labelled; None where there is none.

    Returns:
        One row a case: ``readable`` and the reason where not; for volumes ``size_*`` (voxels), ``spacing_*`` (mm),
        ``label_on_grid``, ``label_values``, ``label_voxels`` and, with ``ignore``, ``ignored_voxels``; for
        radiographs ``rows`` and ``columns``; for
        both ``minimum``, ``maximum``, ``percentile_1``, ``percentile_99``, ``deviation``, ``finite``,
        ``pixel_hash`` and the findings. Of several channels the lowest and the highest value count in these, and each
        has columns of its own, such as ``percentile_99:PET``. Texts that are empty where all is well say which
        channels are missing, lie elsewhere, have grids of their own, or look swapped: ``channels_missing``,
        ``channels_apart``, ``own_grids``, ``channel_order``; ``channels_differ`` is false where two are one image.
    """
    import pandas as pd

    rows = table.to_dict("records")
    channels = list(read_channel_rules(folder))
    with ThreadPoolExecutor(count_cores()) as pool:
        measurements = pool.map(lambda row: _measure_case(row, folder, ignore, channels), rows)
        measured = list(track(measurements, "measuring", total=len(rows)))
    _judge_orders(measured, channels)
    findings = [column for column in table.columns if column.startswith(FINDING_PREFIX)]
    identity = table[["case", "patient", "modality", *findings]].reset_index(drop=True)
    return pd.concat([identity, pd.DataFrame(measured)], axis=1)


def _judge_orders(measured: Sequence[dict[str, Any]], channels: Sequence[str]) -> None:
    """Put the verdict of each case's order of channels in place of its features."""
    features: list[ChannelFeatures | None] = [facts.pop(FEATURES, None) for facts in measured]
    complete = [f if f is not None and len(f.single) == len(channels) else None for f in features]
    if len(channels) < 2 or not any(f is not None for f in complete):
        return
    for facts, text in zip(measured, find_swaps(channels, complete), strict=True):
        if facts["readable"]:
            facts[ORDER] = text


def _measure_case(row: dict[Any, Any], folder: Path, ignore: int | None, channels: Sequence[str]) -> dict[str, Any]:
    missing = {MISSING: _name_missing(str(row["image"]), channels)} if len(channels) > 1 else {}
    try:
        images = [folder / name for name in str(row["image"]).split(CHANNEL_SEPARATOR)]
        if images[0].suffix == ".png":
            return {"readable": True, "reason": "", **_measure_radiograph(images)}
        return {
            "readable": True,
            "reason": "",
            **_measure_volume(images, folder / row["label"] if row["label"] else None, ignore, channels),
            **missing,
        }
    except (*LIBRARY_ERRORS, InputError, OSError, EOFError) as error:
        reason = error.message if isinstance(error, InputError) else str(error) or type(error).__name__
        return {"readable": False, "reason": reason}


def _measure_radiograph(images: list[Path]) -> dict[str, Any]:
    arrays = [read_radiograph(path) for path in images]
    rows, columns = arrays[0].shape
    return {"rows": rows, "columns": columns, **_measure_intensity(arrays)}


def _name_images(files: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Name the channel of each file: by its place, or in a row that lacks some by the number at the file's end."""
    numbers = [int(match[1]) for file in files if (match := re.search(r"_(\d{4})\.[^/]+$", file))]
    is_numbered = len(set(numbers)) == len(files) and max(numbers) < len(channels)
    places = numbers if len(files) < len(channels) and is_numbered else range(len(files))
    return [name_channel(channels, n) for n in places]


def _name_missing(cell: str, channels: Sequence[str]) -> str:
    """The channels that a row of the table lacks."""
    files = cell.split(CHANNEL_SEPARATOR)
    return join_names([name for name in channels if name not in _name_images(files, channels)])


def _measure_volume(
    images: list[Path], label: Path | None, ignore: int | None, channels: Sequence[str]
) -> dict[str, Any]:
    names = _name_images([path.name for path in images], channels)
    is_single = len(images) == 1
    read = {name: _read_channel(p, "" if is_single else name) for name, p in zip(names, images, strict=True)}
    first, *others = read.values()
    facts = _measure_grid(first)
    facts |= _measure_intensity([volume.array for volume in read.values()])
    facts["channels_on_grid"] = all(volume.geometry.find_axes(first.geometry) is not None for volume in others)
    if label is not None:
        mask = read_volume(label)
        # It is drawn on one of the channels, which may lie on grids of their own.
        facts["label_on_grid"] = any(mask.geometry.find_axes(volume.geometry) is not None for volume in read.values())
        facts["label_values"] = " ".join(f"{value:g}" for value in np.unique(mask.array))
        facts["label_voxels"] = int(np.count_nonzero(mask.array))
        if ignore is not None:
            facts["ignored_voxels"] = int((mask.array == ignore).sum())
            facts["label_voxels"] -= facts["ignored_voxels"]
    return facts | _measure_channels(read) if others else facts


def _read_channel(path: Path, name: str) -> Volume:
    try:
        return read_volume(path)
    except DataError as error:
        raise DataError(f"{name}: {error.message}" if name else error.message) from error


def _measure_grid(volume: Volume) -> dict[str, Any]:
    facts: dict[str, Any] = {f"size_{axis}": n for axis, n in zip("ijk", volume.geometry.size, strict=True)}
    return facts | {f"spacing_{axis}": round(mm, 4) for axis, mm in zip("ijk", volume.geometry.spacing, strict=True)}


def _measure_channels(volumes: Mapping[str, Volume]) -> dict[str, Any]:
    """What each of several channels is like, and how they go together."""
    facts: dict[str, Any] = {}
    hashes: list[str] = []
    for name, volume in volumes.items():
        of_channel = _measure_grid(volume) | _measure_intensity([volume.array])
        pixels = of_channel.pop("pixel_hash")
        hashes += [pixels] if of_channel.get("deviation") else []
        facts |= {f"{column}:{name}": value for column, value in of_channel.items()}
    first = next(iter(volumes.values())).geometry
    grids = {name: volume.geometry for name, volume in volumes.items()}
    facts[OWN_GRIDS] = "; ".join(
        f"{name}: {' × '.join(map(str, grid.size))} voxels of {' × '.join(f'{mm:.4g}' for mm in grid.spacing)} mm"
        for name, grid in grids.items()
        if grid.find_axes(first) is None
    )
    facts[DIFFER] = len(set(hashes)) == len(hashes)
    facts[APART] = ""
    try:
        require_overlap(grids)
    except DataError as error:
        facts[APART] = error.message
    return facts | {FEATURES: measure_channels(list(volumes.values()))}


def _measure_intensity(arrays: list[NDArray[Any]]) -> dict[str, Any]:
    # Of voxels, not of files: the same image saved twice is found as well.
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    finite = [array[np.isfinite(array)] if array.dtype.kind == "f" else array for array in arrays]
    facts = {
        "finite": all(values.size == array.size for values, array in zip(finite, arrays, strict=True)),
        "pixel_hash": digest.hexdigest()[:16],
    }
    if not all(values.size for values in finite):
        return facts
    # Percentiles of every eighth voxel are as telling, and a whole CT takes a second to sort.
    tails = [np.percentile(values.ravel()[:: 8 if values.size > SAMPLED_ABOVE else 1], (1, 99)) for values in finite]
    return facts | {
        "minimum": min(float(values.min()) for values in finite),
        "maximum": max(float(values.max()) for values in finite),
        "percentile_1": min(float(low) for low, _ in tails),
        "percentile_99": max(float(high) for _, high in tails),
        "deviation": min(float(values.std()) for values in finite),
    }
