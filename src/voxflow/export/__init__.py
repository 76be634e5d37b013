"""Exports a checkpoint as TorchScript, ONNX, OpenVINO IR and TensorRT engine, and compares each with the model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
