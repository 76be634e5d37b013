"""Owns export: a checkpoint as TorchScript, ONNX, OpenVINO IR and TensorRT engine, behind a parity gate."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
