"""Owns channels and classes: model, loss, labels and metrics must count alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components import (
    BratsConvertLabels,
    ClassificationImagePipeline,
    ClassificationLoss,
    ComputeAUC,
    Network,
    OverlapLoss,
)

if TYPE_CHECKING:
    from voxflow.findings import FindingCollector
    from voxflow.lint.data import Data
    from voxflow.lint.flow import Flow
    from voxflow.lint.reading import Part, Reading


def check_classes(reading: Reading, data: Data, flow: Flow, listed: FindingCollector | None) -> None:
    """Note counts that differ.

    Args:
        reading: the training configuration.
        data: the workspace's data.
        flow: what training's transforms leave.
        listed: where the faults of the datalist are noted; None where there is no datalist.
    """
    network = reading.one("train", "model")
    model = network.model if network and isinstance(network.model, Network) else None
    label = flow.channels.get("label")
    # A single nested class is one channel, too, and yet no longer the values of the file.
    nested = any(isinstance(part.model, BratsConvertLabels) for part in reading.many("train", "pre_transforms"))
    if network and model:
        _check_answer(reading, network, model, data, label, nested=nested)
        _check_input(reading, network, model, flow.channels.get("image"))
        _check_task(reading, network, model)
    if not nested or label != 1:
        _check_loss(reading, label)
    classes = (model.num_classes if model else None) or len(data.class_names) or None
    check_metrics_classes(reading, reading.many("validate", "metrics"), classes)
    if listed:
        _check_channels(data, listed)


def _check_answer(
    reading: Reading, network: Part, model: Network, data: Data, label: int | None, *, nested: bool
) -> None:
    given = model.num_classes
    where = network.argument("num_classes")
    if label is not None and (label > 1 or nested):
        if given is not None and given != label:
            message = f"{given}, but the label has {label} channel(s) after the transforms"
            reading.notes.error("class-count", where, message, f"write {label}")
        return
    names = data.class_names
    if not names:
        return
    # A sigmoid's channels may leave the background out.
    allowed = {len(names), len(names) - 1} if model.final_activation == "sigmoid" else {len(names)}
    if given is not None and given not in allowed:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        message = f"{given}, but the {data.classes_from} say {len(names)}: {shown}"
        reading.notes.error("class-count", where, message, f"write {len(names)}, or leave it out")
    if reading.task == "segmentation" and model.final_activation == "sigmoid" and label == 1 and len(names) > 2:
        message = f"'sigmoid', but the label holds one of {len(names)} classes a voxel"
        fix = "use 'softmax', or split the label into channels"
        reading.notes.error("activation", network.argument("final_activation"), message, fix)


def _check_input(reading: Reading, network: Part, model: Network, images: int | None) -> None:
    if model.in_channels is not None and images is not None and model.in_channels != images:
        message = f"{model.in_channels}, but the images have {images} channel(s) after the transforms"
        reading.notes.error(
            "channel-count", network.argument("in_channels"), message, f"write {images}, or leave it out"
        )
    pipeline = reading.one("train", "image_pipeline")
    read = pipeline.model if pipeline else None
    told = read.output_image_channels if isinstance(read, ClassificationImagePipeline) else None
    if pipeline and told is not None and images is not None and told != images:
        message = f"{told}, but the images have {images} channel(s) after the transforms"
        reading.notes.error("channel-count", pipeline.argument("output_image_channels"), message, f"write {images}")


def _check_task(reading: Reading, network: Part, model: Network) -> None:
    if reading.task is None:
        return
    wanted = 3 if reading.task == "segmentation" else 2
    if model.spatial_dims != wanted:
        kind = "volumes" if model.spatial_dims == 3 else "radiographs"
        message = f"{network.name} is for {kind}, the task is {reading.task}"
        reading.notes.error("wrong-task", f"{network.where}.name", message, "take a network for the task")
    loss = reading.one("train", "loss")
    wrong = ClassificationLoss if reading.task == "segmentation" else OverlapLoss
    if loss and isinstance(loss.model, wrong):
        kinds = "findings" if wrong is ClassificationLoss else "masks"
        message = f"{loss.name} compares {kinds}, the task is {reading.task}"
        reading.notes.error("wrong-task", f"{loss.where}.name", message, "take a loss for the task")


def _check_loss(reading: Reading, label: int | None) -> None:
    loss = reading.one("train", "loss")
    if loss is None or label is None or not isinstance(loss.model, OverlapLoss):
        return
    if loss.model.is_onehot_targets != (label > 1):
        told = "true" if loss.model.is_onehot_targets else "false"
        message = f"{told}, but the label has {label} channel(s) after the transforms"
        fix = f"write {'false' if loss.model.is_onehot_targets else 'true'}"
        reading.notes.error("class-count", loss.argument("is_onehot_targets"), message, fix)


def check_metrics_classes(reading: Reading, metrics: list[Part], classes: int | None) -> None:
    """Note metrics of a class that is not there."""
    for part in metrics:
        index = part.model.class_index if isinstance(part.model, ComputeAUC) else None
        if isinstance(index, int) and classes is not None and index >= classes:
            message = f"{index}, but there are {classes} classes, counted from 0"
            reading.notes.error("class-count", part.argument("class_index"), message, f"write 0 to {classes - 1}")


def _check_channels(data: Data, listed: FindingCollector) -> None:
    """Every case of a key must have as many channels, and a label of the task's kind."""
    for section in ("train", "validate"):
        counts: dict[int, str] = {}
        for item, header in data.grids(section):
            counts.setdefault(len(item.images) * header.channels, item.where)
        if len(counts) > 1 and data.listing:
            told = ", ".join(f"{count} in {where}" for count, where in sorted(counts.items()))
            where = next(reversed(counts.values()))
            listed.error(
                "channel-count", f"{where}.image", f"cases differ in their channels: {told}", "list as many for each"
            )
        named = len(data.listing.modality) if data.listing else 0
        # One modality for all channels, or the modalities of a mixed data set of one channel, are all right.
        if data.listing and named > 1 and len(counts) == 1 and 1 < next(iter(counts)) != named:
            count = next(iter(counts))
            message = f"names {named} modalities, but the images have {count} channels"
            fix = f"name {count}, in the order of the channels"
            listed.warning("datalist-modality", "modality", message, fix)
