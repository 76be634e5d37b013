"""Owns export: a checkpoint as TorchScript, ONNX, OpenVINO IR and TensorRT engine, behind a parity gate."""

from voxflow.export.model import export_model, remove_engine
from voxflow.export.options import ExportFormat, ExportOptions
from voxflow.export.parity import Parity, ParityReport

__all__ = ["ExportFormat", "ExportOptions", "Parity", "ParityReport", "export_model", "remove_engine"]
