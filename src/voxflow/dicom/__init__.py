"""Owns DICOM: scanning, checking, converting to volumes, labels in and out, and the pass-through of other formats."""

from voxflow.dicom.convert import convert_folder
from voxflow.dicom.options import ConvertOptions
from voxflow.dicom.scan import find_series
from voxflow.dicom.table import ConversionSummary
from voxflow.dicom.writing import write_segmentation

__all__ = ["ConversionSummary", "ConvertOptions", "convert_folder", "find_series", "write_segmentation"]
