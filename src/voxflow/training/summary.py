"""Says in a few words what a training trains: network, loss, optimizer, patch; for records of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxflow.components import Component
    from voxflow.config import Workflow

SIZES = ("size", "roi_size", "spatial_size")  # the arguments of crops that hold their size


def describe_training(workflow: Workflow) -> dict[str, str]:
    """Describe a training by the names of its components and its main numbers.

    Returns:
        network, loss, optimizer, patch (voxels, such as ``96 x 96 x 96``), epochs and learning_rate, as text.
    """
    section = workflow.train
    return {
        "network": _name(section.model),
        "loss": _name(section.loss),
        "optimizer": _name(section.optimizer),
        "patch": _find_patch(workflow),
        "epochs": str(workflow.globals.epochs),
        "learning_rate": f"{workflow.globals.learning_rate:g}",
    }


def _name(component: Component) -> str:
    return component.path or component.name


def _find_patch(workflow: Workflow) -> str:
    """The size of the last crop of training, else of the image pipeline's."""
    crops = [step for step in workflow.train.pre_transforms if "crop" in step.name.lower()]
    sizes = [step.args[key] for step in crops for key in SIZES if isinstance(step.args.get(key), list)]
    size = sizes[-1] if sizes else workflow.train.image_pipeline.args.get("output_crop_size", [-1])
    return "whole image" if -1 in size else " x ".join(map(str, size))
