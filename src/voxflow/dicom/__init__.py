"""Owns DICOM: scanning, checking, converting to volumes, labels in and out, and the pass-through of other formats."""

from voxflow.dicom.convert import convert_folder
from voxflow.dicom.options import ConvertOptions
from voxflow.dicom.sources import Origin, SourceFiles, find_sources
from voxflow.dicom.table import ConversionSummary
from voxflow.dicom.writing import write_segmentation

__all__ = [
    "ConversionSummary",
    "ConvertOptions",
    "Origin",
    "SourceFiles",
    "convert_folder",
    "find_sources",
    "write_segmentation",
]
