"""Owns the names of Clara and TLT that can't exist here: why, and what to use instead."""

from __future__ import annotations

_AUTOML = "AutoML ran many TensorFlow trainings by itself; train with other values by --set, one run for each"
_FEDERATED = "learning between sites is not part of Voxflow; train at each site, or on the pooled data"
_SESSION = "it changes a TensorFlow session from outside; write an own component in the workspace's custom folder"
_TRITON = "it is Triton's client; evaluate the exported model with one of the engines"
_FILES = "TensorFlow's files can't be read; use CheckpointLoader or FrozenGraphModelLoader"

_REASONS = {
    "AdjustLayerLRs": _SESSION,
    "BestMetricGenerator": _FEDERATED,
    "DataCompressor": _FEDERATED,
    "DataDeCompressor": _FEDERATED,
    "IteratorNumberGenerator": _FEDERATED,
    "LaplacianProtocol": _FEDERATED,
    "MMARExecutor": _AUTOML,
    "MMARHandler": _AUTOML,
    "MMARStatsHandler": _AUTOML,
    "MMARTensorboardHandler": _AUTOML,
    "ModelAggregator": _FEDERATED,
    "ModelDecryptor": _FEDERATED,
    "ModelEncryptor": _FEDERATED,
    "PercentileProtocol": _FEDERATED,
    "RLController": _AUTOML,
    "SVTProtocol": _FEDERATED,
    "SavedModelLoader": _FILES,
    "TFInference": "it is TensorFlow's session; use TFSimpleInferer or TFScanWindowInferer, which run torch here",
    "TFModelReaderWriter": _FEDERATED,
    "TFModelSaver": _FEDERATED,
    "TFModelValidator": _FEDERATED,
    "TRTISInference": _TRITON,
    "TRTISSession": _TRITON,
    "TrainingCommandModule": _FEDERATED,
    "ValidateResultProcessor": _FEDERATED,
}
_MODULES = ("ai4med.", "dlmed.", "tensorflow.", "tf.", "keras.", "nvmidl.")


def explain_refusal(name: str) -> str | None:
    """Why a component of this name, or at this module path, can't be had here; None when there is no such reason."""
    reason = _REASONS.get(name.rpartition(".")[2])
    if reason is not None:
        return f"{name!r} exists only for TensorFlow: {reason}"
    if name.startswith(_MODULES):
        return (
            f"{name!r} is a class of TensorFlow's Clara, which torch can't run: name the component without its module, "
            "or write an own one in the workspace's custom folder"
        )
    return None
