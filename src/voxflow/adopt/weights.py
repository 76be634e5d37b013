"""Says a network in the terms of nnU-Net's plans, with the names that its weights have in a checkpoint of nnU-Net."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxflow.components import Component, PlainUnetNetwork, read_network
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    Weights = dict[str, torch.Tensor]

ARCHITECTURES = "dynamic_network_architectures.architectures.unet"
BOTTLENECK = "dynamic_network_architectures.building_blocks.residual.BottleneckD"
NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
LEAKY_RELU = {"negative_slope": 0.01, "inplace": True}
_LAYER = re.compile(r"\.(conv|norm)\.(\w+)$")
_PLAIN = re.compile(r"^(down|up)\.(\d+)\.(\d+)\.(\w+)$")


def convert_network(component: Component, weights: Mapping[str, torch.Tensor]) -> tuple[Component, list[Weights]]:
    """Bring a network to one of nnU-Net's.

    Args:
        component: as a model file names it.
        weights: its weights.

    Returns:
        The network as nnU-Net has it, and the weights of each fold, under the names of our module.

    Raises:
        ConfigError: nnU-Net has no such network.
    """
    if component.path is None and component.name == PlainUnetNetwork.component_name():
        return _convert_plain_unet(component, dict(weights))
    if component.path is not None or component.name not in NETWORKS:
        names = ", ".join((*NETWORKS, PlainUnetNetwork.component_name()))
        raise ConfigError(f"nnU-Net has no network {component.name}; those that can leave are {names}")
    folds = component.args.get("folds", 1)
    if folds == 1:
        return component, [dict(weights)]
    arguments = {key: value for key, value in component.args.items() if key != "folds"}
    members = [
        {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
        for start in (f"members.{number}." for number in range(folds))
    ]
    return component.model_copy(update={"args": arguments}), members


def describe_architecture(component: Component) -> dict[str, Any]:
    """Describe one of nnU-Net's networks as its plans do."""
    network: Any = read_network(component)
    dimensions = len(network.strides[0])
    is_plain = component.name == "PlainConvUNet"
    arguments: dict[str, Any] = {
        "n_stages": len(network.features_per_stage),
        "features_per_stage": list(network.features_per_stage),
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(kernel) for kernel in network.kernel_sizes],
        "strides": [list(step) for step in network.strides],
        "n_conv_per_stage" if is_plain else "n_blocks_per_stage": list(network.blocks),
        "n_conv_per_stage_decoder": list(network.n_conv_per_stage_decoder),
        "conv_bias": network.conv_bias,
        "norm_op": None,
        "norm_op_kwargs": network.norm_args,
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": f"torch.nn.{network.activation}" if network.activation else None,
        "nonlin_kwargs": network.activation_args,
    }
    if network.norm:
        name = f"{network.norm.capitalize()}Norm{dimensions}d"
        arguments["norm_op"] = f"torch.nn.modules.{network.norm}norm.{name}"
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    if is_plain and network.nonlin_first:
        arguments["nonlin_first"] = True
    if not is_plain and network.stem_channels:
        arguments["stem_channels"] = network.stem_channels
    if not is_plain and network.bottleneck_channels:
        arguments |= {"block": BOTTLENECK, "bottleneck_channels": list(network.bottleneck_channels)}
        imported.append("block")
    return {
        "network_class_name": f"{ARCHITECTURES}.{component.name}",
        "arch_kwargs": arguments,
        "_kw_requires_import": imported,
    }


def repeat_weights(weights: Mapping[str, torch.Tensor], component: Component) -> Weights:
    """Give each weight all its names in a checkpoint of nnU-Net: the encoder and the layers of blocks stand twice."""
    norm = 2 if component.args.get("nonlin_first") and component.args.get("activation") else 1
    numbers = {"conv": 0, "norm": norm}
    repeated = dict(weights)
    for name, value in weights.items():
        layer = _LAYER.search(name)
        if layer:
            repeated[f"{name[: layer.start()]}.all_modules.{numbers[layer[1]]}.{layer[2]}"] = value
    for name in [name for name in repeated if name.startswith("encoder.")]:
        repeated[f"decoder.{name}"] = repeated[name]
    return repeated


def _convert_plain_unet(component: Component, weights: Weights) -> tuple[Component, list[Weights]]:
    """PlainUnet as a PlainConvUNet: the same layers under other names, with a bias of 0 where PlainUnet has none."""
    network: Any = read_network(component)
    layout = network.layout
    is_instance = layout["norm"] == "instance"
    arguments = {
        "in_channels": network.in_channels,
        "num_classes": network.num_classes,
        "features_per_stage": layout["filters"],
        "kernel_sizes": layout["kernels"],
        "strides": [[1, 1, 1], *layout["strides"]],
        "n_conv_per_stage": layout["down"],
        "n_conv_per_stage_decoder": layout["up"][::-1],
        "conv_bias": True,
        "norm": layout["norm"],
        "norm_args": {"eps": 1e-05, "affine": True} if is_instance else {"eps": 1e-05},
        "activation": "LeakyReLU",
        "activation_args": LEAKY_RELU,
    }
    renamed: Weights = {}
    for name, value in weights.items():
        layer = _PLAIN.match(name)
        if layer is None:
            renamed[name.replace("rise.", "decoder.transpconvs.")] = value
            continue
        way, level, position, last = layer[1], int(layer[2]), int(layer[3]), layer[4]
        stage = f"encoder.stages.{level}.0" if way == "down" else f"decoder.stages.{level}"
        number, kind = divmod(position, 3)  # convolution, norm, activation
        target = f"{stage}.convs.{number}.{'norm' if kind else 'conv'}"
        if kind == 0:
            renamed[f"{target}.bias"] = value.new_zeros(value.shape[0])
        # Ours puts the way around in front of what rises, nnU-Net behind it.
        is_joined = way == "up" and position == 0
        renamed[f"{target}.{last}"] = value.roll(value.shape[1] // 2, 1) if is_joined else value
    stages = len(layout["filters"]) - 1
    head = renamed["head.weight"]
    for number in range(stages):
        for part in ("weight", "bias"):
            features = layout["filters"][stages - 1 - number]
            empty = head.new_zeros((len(head), features, 1, 1, 1) if part == "weight" else len(head))
            renamed[f"decoder.seg_layers.{number}.{part}"] = empty if number < stages - 1 else renamed[f"head.{part}"]
    converted = {name: value.contiguous() for name, value in renamed.items() if not name.startswith("head.")}
    return Component(name="PlainConvUNet", args=arguments), [converted]
