"""Adopts models that were trained elsewhere: nnU-Net v2's result folders, files of weights, TorchScript, ONNX."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
