"""The names of Clara and TLT that can't exist here: why, and what to use instead."""

from __future__ import annotations

from dataclasses import dataclass

_AUTOML = "AutoML ran many TensorFlow trainings by itself; train with other values by --set, one run for each"
_FEDERATED = "learning between sites is not part of Voxflow; train at each site, or on the pooled data"
_SESSION = ("it changes a TensorFlow session from outside", "write an own component in the workspace's custom folder")
_TRITON = "it is Triton's client; evaluate the exported model with one of the engines"
_FILES = ("TensorFlow's files can't be read", "use CheckpointLoader or FrozenGraphModelLoader")
_TENSORFLOW = ("it is TensorFlow's session", "use TFSimpleInferer or TFScanWindowInferer, which run torch here")

# Why, and what to do instead where one thing is sure to do; the names that it is true of.
_REFUSED: tuple[tuple[str | tuple[str, str], str], ...] = (
    (_AUTOML, "MMARExecutor MMARHandler MMARStatsHandler MMARTensorboardHandler RLController"),
    (_FEDERATED, "BestMetricGenerator DataCompressor DataDeCompressor IteratorNumberGenerator TrainingCommandModule"),
    (_FEDERATED, "LaplacianProtocol PercentileProtocol SVTProtocol ModelAggregator ModelDecryptor ModelEncryptor"),
    (_FEDERATED, "TFModelReaderWriter TFModelSaver TFModelValidator ValidateResultProcessor"),
    (_TRITON, "TRTISInference TRTISSession"),
    (_SESSION, "AdjustLayerLRs"),
    (_FILES, "SavedModelLoader"),
    (_TENSORFLOW, "TFInference"),
)
_REASONS = {name: reason for reason, names in _REFUSED for name in names.split()}
_MODULES = ("ai4med.", "dlmed.", "tensorflow.", "tf.", "keras.", "nvmidl.")


@dataclass(frozen=True)
class Refusal:
    """Why a component can't be had.

    Attributes:
        message: the reason, with the component's name.
        fix: what to do instead; empty where the reason says it.
    """

    message: str
    fix: str = ""

    def __str__(self) -> str:
        """Both as one sentence."""
        return f"{self.message}; {self.fix}" if self.fix else self.message


def explain_refusal(name: str) -> Refusal | None:
    """Return why a component can't be had here, and what to use instead.

    Args:
        name: as a configuration writes it; a dotted path counts by its module, too.

    Returns:
        None where the name is simply unknown.

    Example:
        >>> print(explain_refusal("SavedModelLoader"))
        'SavedModelLoader' exists only for TensorFlow: TensorFlow's files can't be read; use CheckpointLoader or
        FrozenGraphModelLoader
        >>> explain_refusal("Dice") is None
        True
    """
    reason = _REASONS.get(name.rpartition(".")[2])
    if reason is not None:
        why, fix = (reason, "") if isinstance(reason, str) else reason
        return Refusal(f"{name!r} exists only for TensorFlow: {why}", fix)
    if name.startswith(_MODULES):
        return Refusal(
            f"{name!r} is a class of TensorFlow's Clara, which torch can't run: name the component without its module, "
            "or write an own one in the workspace's custom folder"
        )
    return None
