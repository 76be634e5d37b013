"""Voxflow: from a folder of hospital DICOM to a trained, exported, evaluated and tracked model."""

from voxflow.offline import silence_telemetry

__version__ = "0.1.0"

silence_telemetry()
