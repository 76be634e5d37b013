"""Statistics of each class of a mask: its volume, and the intensities of the image inside; by params PyRadiomics."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.files import write_json
from voxflow.tables import write_table
from voxflow.volumes import LabelBoxes, Volume, resample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PERCENTILES = (5, 25, 50, 75, 95)
STATISTICS = ("mean", "std", "min", *(f"p{percent}" for percent in PERCENTILES), "max")
COLUMNS = ("case", "class", "channel", "unit", "volume_ml", "voxels", *STATISTICS, "suv_max", "suv_mean")
TABLES = ("statistics.csv", "statistics.json")


@dataclass(frozen=True, eq=False)
class MeasuredChannel:
    """One image of a case, to be measured under its mask.

    Attributes:
        name: of the channel; empty where there is one alone.
        image: on the mask's grid, or on one of its own: then each of its voxels takes the mask's nearest value, so
            that the image's extremes stay as they are.
        unit: of its intensities, as cases.csv has it; empty where nobody knows.
    """

    name: str
    image: Volume
    unit: str = ""


def measure_classes(
    mask: Volume, members: Mapping[str, Sequence[int]], channels: Sequence[MeasuredChannel], *, radiomics: bool = False
) -> list[dict[str, Any]]:
    """Measure each class in each channel.

    Args:
        mask: label values (i, j, k).
        members: label values by class.
        channels: the images.
        radiomics: add PyRadiomics' features, with its default settings.

    Returns:
        A row for each class and channel: class, channel, unit, volume_ml and voxels of the mask, the numbers of
        :data:`STATISTICS` (std divides by the number of voxels), SUVmax and SUVmean where the unit is an SUV. Of a
        class without a voxel, all but the first five are missing.
    """
    voxel_ml = math.prod(mask.geometry.spacing) / 1000
    boxes = LabelBoxes(mask.array)
    counts = {name: int(boxes.cut(values)[0].sum()) for name, values in members.items()}
    rows = []
    for channel in channels:
        on_grid = resample(mask, channel.image.geometry, "nearest")
        own_boxes = boxes if on_grid.array is mask.array else LabelBoxes(on_grid.array)
        for name, values in members.items():
            inside, box = own_boxes.cut(values)
            row = {
                "class": name,
                "channel": channel.name,
                "unit": channel.unit,
                "volume_ml": counts[name] * voxel_ml,
                "voxels": counts[name],
                **_describe(channel.image.array[box][inside], channel.unit),
            }
            if radiomics and inside.any():
                row |= _compute_radiomics(channel.image, np.isin(on_grid.array, values))
            rows.append(row)
    return rows


def has_radiomics() -> bool:
    """Whether PyRadiomics is installed."""
    return importlib.util.find_spec("radiomics") is not None


def write_statistics_tables(out: Path, files: Sequence[Path]) -> None:
    """Join the statistics of cases to statistics.csv and statistics.json.

    Args:
        out: the folder of the results.
        files: of the cases, in order; those that are missing are left out.
    """
    rows = [row for file in files if file.is_file() for row in json.loads(file.read_text(encoding="utf-8"))]
    columns = dict.fromkeys(COLUMNS) | dict.fromkeys(key for row in rows for key in row)
    write_table(out / TABLES[0], rows, list(columns))
    write_json(out / TABLES[1], rows)


def _describe(values: NDArray[Any], unit: str) -> dict[str, float]:
    if not values.size:
        return {}
    numbers = values.astype(np.float64)
    percentiles = np.percentile(numbers, PERCENTILES).tolist()
    row = {
        "mean": float(numbers.mean()),
        "std": float(numbers.std()),
        "min": float(numbers.min()),
        **dict(zip(STATISTICS[3:], percentiles, strict=False)),
        "max": float(numbers.max()),
    }
    return row | ({"suv_max": row["max"], "suv_mean": row["mean"]} if unit.startswith("SUV") else {})


def _compute_radiomics(image: Volume, inside: NDArray[np.bool_]) -> dict[str, Any]:
    """PyRadiomics' features; a class that it can't measure, as one of a single voxel, gets its reason instead."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    mask = Volume(inside.astype(np.uint8), image.geometry)
    try:
        features = RadiomicsFeatureExtractor().execute(image.to_sitk(), mask.to_sitk())
    except (ValueError, RuntimeError) as error:
        return {"radiomics_remark": f"no features: {type(error).__name__}"}
    numbers = {name: float(value) for name, value in features.items() if not name.startswith("diagnostics_")}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
