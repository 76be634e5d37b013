"""Headers of the frames of multi-frame objects, so that they are divided into volumes as single slices are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voxflow.dicom.enhanced import FRAME_TYPE_GROUPS, find_functional_group, read_frame_planes
from voxflow.dicom.headers import PARSE_ERRORS, VARYING, DicomHeader, read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

# Where a frame has an attribute of VARYING: the functional group, and its keyword there.
_VARYING_GROUPS = {
    "InversionTime (0018,0082)": ("MRModifierSequence", "InversionTimes"),
    "FlipAngle (0018,1314)": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "DiffusionBValue (0018,9087)": ("MRDiffusionSequence", "DiffusionBValue"),
    "TriggerTime (0018,1060)": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
}


def read_frame_headers(objects: Sequence[DicomHeader]) -> list[DicomHeader]:
    """Make a header of each frame of a multi-frame object, or of a concatenation, with what its functional groups say.

    Args:
        objects: one, or the parts of a concatenation in their order.

    Returns:
        One header a frame; the objects' own headers alone where the frames can't be read.
    """
    headers = []
    try:
        for header in objects:
            dataset = read_dataset(header.path)
            planes = read_frame_planes(dataset)
            headers += [
                replace(header, plane=plane, **_read_frame_attributes(dataset, n)) for n, plane in enumerate(planes)
            ]
    except (DicomError, *PARSE_ERRORS):
        return list(objects)
    return headers


def _read_frame_attributes(dataset: Dataset, frame: int) -> dict[str, Any]:
    content = find_functional_group(dataset, frame, "FrameContentSequence")
    echo = find_functional_group(dataset, frame, "MREchoSequence")
    kinds = (find_functional_group(dataset, frame, group) for group in FRAME_TYPE_GROUPS)
    frame_type = next((kind.get("FrameType") for kind in kinds if kind is not None), None)
    values = dict.fromkeys(VARYING, "")
    for name, (group, keyword) in _VARYING_GROUPS.items():
        values[name] = _read_text(find_functional_group(dataset, frame, group), keyword)
    return {
        "image_type": tuple(frame_type or ()),
        "echo_time": _read_text(echo, "EffectiveEchoTime"),
        "acquisition": _read_text(content, "FrameAcquisitionNumber"),
        "temporal_position": _read_text(content, "TemporalPositionIndex"),
        "varying": tuple(values.values()),
    }


def _read_text(item: Dataset | None, keyword: str) -> str:
    value = item.get(keyword) if item is not None else None
    return "" if value is None else str(value)
