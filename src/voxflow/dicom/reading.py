"""Turns one volume's DICOM objects into real values: grid, pixels, padding, units, and the corrections made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.enhanced import FrameAttributes
from voxflow.dicom.grid import IrregularSlicesError, fit_slice_grid
from voxflow.dicom.padding import PADDING_TAGS, replace_padding
from voxflow.dicom.pet import PET_TAGS, compute_suv_scale, read_philips_factors, read_stated_scale
from voxflow.dicom.pixels import read_series
from voxflow.dicom.remedy import RemedyPlan, apply_remedy, plan_remedy
from voxflow.dicom.units import UNIT_TAGS, check_rescales, name_units
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.headers import DicomAttributes, Plane
    from voxflow.dicom.options import ConvertOptions
    from voxflow.geometry import Geometry


@dataclass(frozen=True)
class VolumeReading:
    """A volume of real values, and what has to be said of it.

    Attributes:
        volume: real values, on a regular grid.
        units: of the values; empty where nothing is stated, as in MR.
        remark: what the user should know, though nothing was changed.
        remedy: what was changed to make a volume of it; empty where nothing was.
        remedy_plan: how its slices were moved then, for the labels that were drawn on them.
    """

    volume: Volume
    units: str = ""
    remark: str = ""
    remedy: str = ""
    remedy_plan: RemedyPlan | None = None


def read_part(part: SeriesPart, options: ConvertOptions) -> VolumeReading:
    """Read the objects of a part as a volume of real values.

    Raises:
        DicomError: the slices make no volume that can be trusted, or pixels can't be decoded.
    """
    headers: list[DicomAttributes] = []
    fit_grid = _GridFitter(options)
    volume = read_series(
        part.headers,
        tolerance_mm=options.spacing_tolerance_mm,
        min_slices=options.min_slices,
        fit_grid=fit_grid,
        frames=part.frames,
        on_object=lambda attributes: headers.append(_copy_attributes(attributes)),
    )
    check_rescales(headers)
    # Before units and remedies: blended with real values, padding could no longer be told apart.
    padding_remark = replace_padding(volume.array, headers)
    remedy, plan = "", fit_grid.remedy_plan
    if plan:
        volume, remedy = apply_remedy(volume.array, plan), plan.description
    if part.first.modality == "PT":
        voxel_ml = abs(float(np.linalg.det(volume.geometry.affine[:3, :3]))) / 1000
        integral_ml = float(volume.array.sum(dtype=np.float64)) * voxel_ml
        scale = compute_suv_scale(headers, integral_ml) if options.pet == "suv" else read_stated_scale(headers)
        if scale.factor != 1:
            volume = Volume(volume.array.astype(np.float32) * np.float32(scale.factor), volume.geometry)
        units, unit_remark = scale.units, scale.remark
    else:
        units, unit_remark = name_units(part, headers)
    remarks = "; ".join(text for text in (part.remark, unit_remark, padding_remark) if text)
    return VolumeReading(volume, units, remarks, remedy, plan)


class _GridFitter:
    """Lays planes out on a regular grid, and keeps how to mend those that lie on none."""

    def __init__(self, options: ConvertOptions) -> None:
        self.options = options
        self.remedy_plan: RemedyPlan | None = None

    def __call__(self, planes: Sequence[Plane]) -> tuple[Geometry, list[int]]:
        tolerance = self.options.spacing_tolerance_mm
        try:
            return fit_slice_grid(planes, tolerance_mm=tolerance, min_slices=self.options.min_slices)
        except IrregularSlicesError:
            tilt, irregular = self.options.gantry_tilt == "shear", self.options.irregular_spacing == "resample"
            self.remedy_plan = plan_remedy(planes, tolerance_mm=tolerance, tilt=tilt, irregular=irregular)
            if self.remedy_plan is None:
                raise
            return self.remedy_plan.stack_geometry, self.remedy_plan.order


def _copy_attributes(attributes: DicomAttributes) -> DicomAttributes:
    """A few attributes of an object or frame: kept for all slices, whole objects would be a second volume."""
    if isinstance(attributes, dict):
        return attributes
    values = {keyword: attributes.get(keyword) for keyword in (*PADDING_TAGS, *PET_TAGS, *UNIT_TAGS)}
    if isinstance(attributes, FrameAttributes):
        values |= read_philips_factors(attributes.dataset)
    return values
