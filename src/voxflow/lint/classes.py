"""Compares the numbers of channels and classes of network, loss, labels and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components import (
    ClassificationImagePipeline,
    ClassificationLoss,
    ComputeAUC,
    Network,
    OverlapLoss,
    Transform,
)

if TYPE_CHECKING:
    from voxflow.findings import FindingCollector
    from voxflow.lint.data import WorkspaceData
    from voxflow.lint.flow import FieldFlow
    from voxflow.lint.reading import ConfigReading, PlacedComponent


def check_classes(
    reading: ConfigReading, data: WorkspaceData, flow: FieldFlow, datalist_findings: FindingCollector | None
) -> None:
    """Note counts that differ.

    Args:
        reading: the training configuration.
        data: the workspace's data.
        flow: what training's transforms leave.
        datalist_findings: where the faults of the datalist are noted; None where there is no datalist.
    """
    network = reading.part_of("train", "model")
    model = network.model if network and isinstance(network.model, Network) else None
    label = flow.channels.get("label")
    # A single nested class is one channel, too, and yet no longer the values of the file.
    # The check runs no code of a user's: what that makes of a label stays open.
    transforms = [part.model for part in reading.parts_of("train", "pre_transforms") if not part.component.path]
    nested = any(isinstance(transform, Transform) and transform.list_regions(()) for transform in transforms)
    if network and model:
        _check_answer(reading, network, model, data, label, nested=nested)
        _check_input(reading, network, model, flow.channels.get("image"))
        _check_task(reading, network, model)
    if not nested or label != 1:
        _check_loss(reading, label)
    classes = (model.num_classes if model else None) or len(data.class_names) or None
    check_metrics_classes(reading, reading.parts_of("validate", "metrics"), classes)
    if datalist_findings:
        _check_channels(data, datalist_findings)


def _check_answer(
    reading: ConfigReading,
    network: PlacedComponent,
    model: Network,
    data: WorkspaceData,
    label: int | None,
    *,
    nested: bool,
) -> None:
    configured = model.num_classes
    json_path = network.argument("num_classes")
    if label is not None and (label > 1 or nested):
        if configured is not None and configured != label:
            message = f"{configured}, but the label has {label} channel(s) after the transforms"
            reading.notes.error("class-count", json_path, message, f"write {label}")
        return
    names = data.class_names
    if not names:
        return
    # A sigmoid's channels may leave the background out.
    allowed = {len(names), len(names) - 1} if model.final_activation == "sigmoid" else {len(names)}
    if configured is not None and configured not in allowed:
        first_names = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        message = f"{configured}, but the {data.classes_from} say {len(names)}: {first_names}"
        reading.notes.error("class-count", json_path, message, f"write {len(names)}, or leave it out")
    if reading.task == "segmentation" and model.final_activation == "sigmoid" and label == 1 and len(names) > 2:
        message = f"'sigmoid', but the label holds one of {len(names)} classes a voxel"
        fix = "use 'softmax', or split the label into channels"
        reading.notes.error("activation", network.argument("final_activation"), message, fix)


def _check_input(reading: ConfigReading, network: PlacedComponent, model: Network, images: int | None) -> None:
    if model.in_channels is not None and images is not None and model.in_channels != images:
        message = f"{model.in_channels}, but the images have {images} channel(s) after the transforms"
        reading.notes.error(
            "channel-count", network.argument("in_channels"), message, f"write {images}, or leave it out"
        )
    pipeline = reading.part_of("train", "image_pipeline")
    read = pipeline.model if pipeline else None
    declared = read.output_image_channels if isinstance(read, ClassificationImagePipeline) else None
    if pipeline and declared is not None and images is not None and declared != images:
        message = f"{declared}, but the images have {images} channel(s) after the transforms"
        reading.notes.error("channel-count", pipeline.argument("output_image_channels"), message, f"write {images}")


def _check_task(reading: ConfigReading, network: PlacedComponent, model: Network) -> None:
    if reading.task is None:
        return
    dimensions = 3 if reading.task == "segmentation" else 2
    if model.spatial_dims != dimensions:
        message = f"{network.name} is for volumes, the task is classification, of radiographs"
        fix = "take a network for the task"
        if reading.task == "segmentation":
            message = f"{network.name} works on slices; masks are learnt on whole volumes in 3D, not in 2D or 2.5D"
            fix = "let it work in 3 dimensions, with 3 values for each size, or take a network that does"
        reading.notes.error("wrong-task", f"{network.where}.name", message, fix)
    loss = reading.part_of("train", "loss")
    wrong = ClassificationLoss if reading.task == "segmentation" else OverlapLoss
    if loss and isinstance(loss.model, wrong):
        kinds = "findings" if wrong is ClassificationLoss else "masks"
        message = f"{loss.name} compares {kinds}, the task is {reading.task}"
        reading.notes.error("wrong-task", f"{loss.where}.name", message, "take a loss for the task")


def _check_loss(reading: ConfigReading, label: int | None) -> None:
    loss = reading.part_of("train", "loss")
    if loss is None or label is None or not isinstance(loss.model, OverlapLoss):
        return
    if loss.model.is_onehot_targets != (label > 1):
        configured = "true" if loss.model.is_onehot_targets else "false"
        message = f"{configured}, but the label has {label} channel(s) after the transforms"
        fix = f"write {'false' if loss.model.is_onehot_targets else 'true'}"
        reading.notes.error("class-count", loss.argument("is_onehot_targets"), message, fix)


def check_metrics_classes(reading: ConfigReading, metrics: list[PlacedComponent], classes: int | None) -> None:
    """Note metrics of a class that does not exist.

    Args:
        reading: the configuration that holds them.
        metrics: the metrics.
        classes: how many classes there are; None where nothing tells.
    """
    for part in metrics:
        index = part.model.class_index if isinstance(part.model, ComputeAUC) else None
        if isinstance(index, int) and classes is not None and index >= classes:
            message = f"{index}, but there are {classes} classes, counted from 0"
            reading.notes.error("class-count", part.argument("class_index"), message, f"write 0 to {classes - 1}")


def _check_channels(data: WorkspaceData, findings: FindingCollector) -> None:
    """Every case of a key must have as many channels, and a label of the task's kind."""
    for section in ("train", "validate"):
        counts: dict[int, str] = {}
        for item, header in data.grids(section):
            counts.setdefault(len(item.images) * header.channels, item.json_path)
        if len(counts) > 1 and data.listing:
            differences = ", ".join(f"{count} in {json_path}" for count, json_path in sorted(counts.items()))
            json_path = next(reversed(counts.values()))
            message = f"cases differ in their channels: {differences}"
            findings.error("channel-count", f"{json_path}.image", message, "list as many for each")
        named = len(data.listing.modality) if data.listing else 0
        # One modality for all channels, or the modalities of a mixed data set of one channel, are all right.
        if data.listing and named > 1 and len(counts) == 1 and 1 < next(iter(counts)) != named:
            count = next(iter(counts))
            message = f"names {named} modalities, but the images have {count} channels"
            fix = f"name {count}, in the order of the channels"
            findings.warning("datalist-modality", "modality", message, fix)
