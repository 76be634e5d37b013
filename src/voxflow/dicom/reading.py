"""Owns one volume's way from its objects to real values: grid, pixels, padding, units, and what was remedied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.padding import PADDING_TAGS, replace_padding
from voxflow.dicom.pet import PET_TAGS, PHILIPS_GROUP, pet_scale, stated_scale
from voxflow.dicom.pixels import read_series
from voxflow.volumes.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from voxflow.dicom.group import Part
    from voxflow.dicom.options import ConvertOptions


@dataclass(frozen=True)
class Reading:
    """A volume, and what has to be said of it.

    Attributes:
        volume: real values, on a regular grid.
        units: of the values; empty where nothing is stated, as in MR.
        remark: what the user should know, though nothing was changed.
        remedy: what was changed to make a volume of it; empty where nothing was.
    """

    volume: Volume
    units: str = ""
    remark: str = ""
    remedy: str = ""


def read_part(part: Part, options: ConvertOptions) -> Reading:
    """Read the objects of a part as a volume of real values.

    Raises:
        DicomError: the slices make no volume that can be trusted, or pixels can't be decoded.
    """
    headers: list[Dataset] = []
    volume = read_series(
        part.headers,
        tolerance_mm=options.spacing_tolerance_mm,
        min_slices=options.min_slices,
        seen=lambda dataset: headers.append(_without_pixels(dataset)),
    )
    replace_padding(volume.array, headers)
    if part.first.modality != "PT":
        return Reading(volume, _units(headers[0]))
    scale = pet_scale(headers) if options.pet == "suv" else stated_scale(headers)
    if scale.factor != 1:
        volume = Volume(volume.array.astype(np.float32) * np.float32(scale.factor), volume.geometry)
    return Reading(volume, scale.units, scale.remark)


def _units(header: Dataset) -> str:
    """RescaleType (0028,1054), which CT may leave out when it is HU; MR states none."""
    stated = str(header.get("RescaleType") or "").strip()
    if header.get("Modality") != "CT":
        return ""
    return stated if stated not in ("", "US") else "HU"


def _without_pixels(dataset: Dataset) -> Dataset:
    """A few attributes of an object: kept for all slices, whole objects would be a second volume."""
    from pydicom.dataset import Dataset as New

    kept = New()
    for keyword in (*PADDING_TAGS, *PET_TAGS):
        if keyword in dataset:
            kept[keyword] = dataset[keyword]
    for element in dataset.group_dataset(PHILIPS_GROUP):
        kept.add(element)
    return kept
