"""Describes the network of an adopted model for config_train.json, so that a training can begin from its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxflow.adopt.model import AdoptedModel

SIZES = ("kernel_sizes", "strides")  # arguments with one number for each axis
COUNTS = ("in_channels", "num_classes")  # arguments that a training takes from its data
NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")


def describe_start(model: AdoptedModel) -> dict[str, Any] | None:
    """Describe the network along the axes (i, j, k) that trainings here have; nnU-Net's are mostly (k, j, i).

    Returns:
        The value of ``train.model``; None where no training can begin from the model: it is not from nnU-Net, is of
        several folds or of planes.
    """
    component, steps = model.component, model.spec.nnunet
    sizes = [size for name in SIZES for size in component.args.get(name, ())]
    is_single = component.name in NETWORKS and len(model.folds) == 1
    if steps is None or not is_single or any(len(size) != len(steps.axes) for size in sizes):
        return None
    args = {name: value for name, value in component.args.items() if name not in COUNTS}
    for name in SIZES:
        args[name] = [[size[steps.axes.index(axis)] for axis in range(3)] for size in args[name]]
    return {"name": component.name, "args": args}
