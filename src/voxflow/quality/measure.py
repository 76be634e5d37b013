"""Measuring every case from its files, independently of what conversion wrote in the table."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import InputError
from voxflow.machine import count_cores
from voxflow.progress import track
from voxflow.tables import FINDING_PREFIX
from voxflow.volumes import CHANNEL_SEPARATOR, read_radiograph, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

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
        ``pixel_hash`` and the findings. Where channels differ, the lowest and the highest value count.
    """
    import pandas as pd

    rows = table.to_dict("records")
    with ThreadPoolExecutor(count_cores()) as pool:
        measurements = pool.map(lambda row: _measure_case(row, folder, ignore), rows)
        measured = list(track(measurements, "measuring", total=len(rows)))
    findings = [column for column in table.columns if column.startswith(FINDING_PREFIX)]
    identity = table[["case", "patient", "modality", *findings]].reset_index(drop=True)
    return pd.concat([identity, pd.DataFrame(measured)], axis=1)


def _measure_case(row: dict[Any, Any], folder: Path, ignore: int | None) -> dict[str, Any]:
    try:
        images = [folder / name for name in str(row["image"]).split(CHANNEL_SEPARATOR)]
        if images[0].suffix == ".png":
            return {"readable": True, "reason": "", **_measure_radiograph(images)}
        return {
            "readable": True,
            "reason": "",
            **_measure_volume(images, folder / row["label"] if row["label"] else None, ignore),
        }
    # What a library raises on one file, too: the others are measured all the same.
    except (InputError, OSError, EOFError, RuntimeError, ValueError, MemoryError) as error:
        reason = error.message if isinstance(error, InputError) else str(error) or type(error).__name__
        return {"readable": False, "reason": reason}


def _measure_radiograph(images: list[Path]) -> dict[str, Any]:
    arrays = [read_radiograph(path) for path in images]
    rows, columns = arrays[0].shape
    return {"rows": rows, "columns": columns, **_measure_intensity(arrays)}


def _measure_volume(images: list[Path], label: Path | None, ignore: int | None) -> dict[str, Any]:
    volumes = [read_volume(path) for path in images]
    geometry = volumes[0].geometry
    facts: dict[str, Any] = {f"size_{axis}": n for axis, n in zip("ijk", geometry.size, strict=True)}
    facts |= {f"spacing_{axis}": round(mm, 4) for axis, mm in zip("ijk", geometry.spacing, strict=True)}
    facts |= _measure_intensity([volume.array for volume in volumes])
    facts["channels_on_grid"] = all(volume.geometry.find_axes(geometry) is not None for volume in volumes)
    if label is not None:
        mask = read_volume(label)
        # It is drawn on one of the channels, which may lie on grids of their own.
        facts["label_on_grid"] = any(mask.geometry.find_axes(volume.geometry) is not None for volume in volumes)
        facts["label_values"] = " ".join(f"{value:g}" for value in np.unique(mask.array))
        facts["label_voxels"] = int(np.count_nonzero(mask.array))
        if ignore is not None:
            facts["ignored_voxels"] = int((mask.array == ignore).sum())
            facts["label_voxels"] -= facts["ignored_voxels"]
    return facts


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
