"""Owns images as files and grids: reading, writing, resampling."""

from voxflow.volumes.dataset import CHANNELS, ResampleOptions, resample_cases, worker_count
from voxflow.volumes.files import (
    VOLUME_SUFFIXES,
    read_channels,
    read_geometry,
    read_radiograph,
    read_volume,
    write_radiograph,
    write_volume,
)
from voxflow.volumes.fingerprint import FINGERPRINT, Fingerprint, measure, read_fingerprint, write_fingerprint
from voxflow.volumes.resample import Extent, Interpolation, isotropic_or_per_axis, resample, target_geometry
from voxflow.volumes.spacing import target_spacing
from voxflow.volumes.volume import Volume

__all__ = [
    "CHANNELS",
    "FINGERPRINT",
    "VOLUME_SUFFIXES",
    "Extent",
    "Fingerprint",
    "Interpolation",
    "ResampleOptions",
    "Volume",
    "isotropic_or_per_axis",
    "measure",
    "read_channels",
    "read_fingerprint",
    "read_geometry",
    "read_radiograph",
    "read_volume",
    "resample",
    "resample_cases",
    "target_geometry",
    "target_spacing",
    "worker_count",
    "write_fingerprint",
    "write_radiograph",
    "write_volume",
]
