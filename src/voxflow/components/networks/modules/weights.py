"""Filling networks with weights from elsewhere: torch files; 2D kernels are stretched to 3D."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from voxflow.errors import DataError
from voxflow.torch_files import read_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Tensors = dict[str, torch.Tensor]
    Renamer = Callable[[str, torch.Tensor, Mapping[str, torch.Tensor]], tuple[str, torch.Tensor]]

TENSORFLOW = (".h5", ".hdf5", ".ckpt", ".pb", ".index", ".meta", ".npz")
_DENSE_LAYER = re.compile(r"(denselayer\d+)\.(norm|conv)\.?(\d)")
_FIRST_KERNELS = ("features.conv0.weight", "conv1.weight")


def load_fitting(network: torch.nn.Module, name: str, rename: Renamer) -> str:
    """Fill what fits of a network, and return one line on what came of it.

    Args:
        network: fresh; filled in place.
        name: the path that the configuration gives; "" for none.
        rename: the network's name and shape of one tensor of the file.

    Raises:
        DataError: the file can't be read, or nothing in it fits.
    """
    if not name:
        return ""
    path = Path(name)
    if path.suffix.lower() in TENSORFLOW:
        return f"{path}: TensorFlow's weights can't be read; training begins from fresh ones. Give a torch file instead"
    if not path.is_file():
        return f"{path}: no such file; training begins from fresh weights"
    state = network.state_dict()
    tensors = dict(rename(key, value, state) for key, value in _read(path).items())
    fitting = {key: value for key, value in tensors.items() if key in state and state[key].shape == value.shape}
    if not fitting:
        raise DataError(f"none of its {len(tensors)} tensors fits the network by name and shape", path=path)
    network.load_state_dict(fitting, strict=False)
    return (
        f"{path}: {len(fitting)} of the network's {len(state)} tensors taken, {len(tensors) - len(fitting)} left aside"
    )


def convert_resnet_tensor(key: str, value: torch.Tensor, state: Mapping[str, torch.Tensor]) -> tuple[str, torch.Tensor]:
    """A tensor of torchvision's ResNet-50 as MONAI's AHNet has it.

    Kernels within a slice get a last axis of 1; the first one's three colours become three neighbouring slices.
    """
    key = key.removeprefix("module.").replace("downsample.1.", "downsample.2.")
    key = re.sub(r"^bn1\.", "bn0.", key)
    target = state.get(key)
    if target is not None and target.ndim == value.ndim + 1:
        if key == "conv1.weight":
            value = value.permute(0, 2, 3, 1).unsqueeze(1).repeat(1, target.shape[1], 1, 1, 1)
        else:
            value = value.unsqueeze(-1)
    return key, value


def convert_radiograph_tensor(
    key: str, value: torch.Tensor, state: Mapping[str, torch.Tensor]
) -> tuple[str, torch.Tensor]:
    """A tensor of torchvision's DenseNet or ResNet as MONAI's has it; colours are shared out among the channels.

    The first kernel's colours are summed so that its answer to a grey image stays what it was. Names of torchvision's
    first files (``norm.1``) are read like those of its later ones (``norm1``).
    """
    key = _DENSE_LAYER.sub(r"\1.layers.\2\3", key.removeprefix("module."))
    target = state.get(key)
    if key in _FIRST_KERNELS and target is not None and target.shape[1] != value.shape[1]:
        share = value.sum(1, keepdim=True) / target.shape[1]
        value = share.repeat(1, target.shape[1], 1, 1)
    return key, value


def _read(path: Path) -> Tensors:
    content = read_torch(path, "torch file of weights")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise DataError(f"expected a state dict, received {type(content).__name__}", path=path)
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
