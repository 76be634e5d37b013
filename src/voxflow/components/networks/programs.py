"""Networks of model files that were adopted as TorchScript or ONNX: they run, and nothing trains them further."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components.networks.base import Network
from voxflow.components.registry import register

if TYPE_CHECKING:
    import torch

    from voxflow.components.networks.modules.programs import OnnxNetwork, ScriptedNetwork


@register("network")
class TorchScriptProgram(Network):
    """A TorchScript file of another tool, which stands in the model file; it can't be trained."""

    def build(self) -> ScriptedNetwork:
        """Build it; the program comes with the weights."""
        from voxflow.components.networks.modules.programs import ScriptedNetwork

        return ScriptedNetwork()


@register("network")
class OnnxProgram(Network):
    """An ONNX file of another tool, which stands in the model file; it can't be trained."""

    def build(self) -> OnnxNetwork:
        """Build it; the program comes with the weights."""
        from voxflow.components.networks.modules.programs import OnnxNetwork

        return OnnxNetwork()


def unwrap_program(module: torch.nn.Module) -> torch.nn.Module:
    """Return the TorchScript program of an adopted network, which torch exports by itself alone; else the module."""
    from voxflow.components.networks.modules.programs import ScriptedNetwork

    return module.network if isinstance(module, ScriptedNetwork) else module


def get_onnx_program(module: torch.nn.Module) -> bytes | None:
    """Return the ONNX file of an adopted network, which an export takes as it is; None: it is none."""
    from voxflow.components.networks.modules.programs import OnnxNetwork

    return module.program if isinstance(module, OnnxNetwork) else None
