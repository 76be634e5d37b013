"""Validates a network on whole cases, by the metrics of the configuration."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import (
    LABEL_FORMAT,
    UNLABELLED_SETS,
    ComputeAverageDice,
    leave_out_unlabelled,
    summarise_metrics,
)
from voxflow.progress import say
from voxflow.training.data import collate
from voxflow.training.distributed import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from voxflow.components import Outputs
    from voxflow.training.data import Batch, SampleStore
    from voxflow.training.plan import TrainingPlan


def validate(
    network: torch.nn.Module,
    store: SampleStore,
    plan: TrainingPlan,
    fabric: Any,
    world: World | None = None,
    *,
    counts_on_device: bool = False,
) -> dict[str, float]:
    """Return every metric of the configuration over all cases; NaN where one is not defined.

    Args:
        network: bare, not wrapped for several processes; left in evaluation mode.
        store: validation cases after their transforms.
        plan: inferer, auxiliary operations and metrics.
        fabric: device and precision.
        world: processes that share the cases; every one gets the same numbers.
        counts_on_device: let masks be compared where the network is, if counts of voxels are all that the metrics
            need; else the logits are brought to the processor.
    """
    in_case_order = measure_batches(network, store, plan, fabric, world, counts_on_device=counts_on_device)
    by_metric = [[values[number] for values in in_case_order] for number in range(len(plan.metrics))]
    numbers = summarise_metrics(plan.metrics, by_metric, plan.facts.class_names)
    return {name: value for values in numbers for name, value in values.items()}


def measure_batches(
    network: torch.nn.Module,
    store: SampleStore,
    plan: TrainingPlan,
    fabric: Any,
    world: World | None = None,
    *,
    counts_on_device: bool = False,
) -> list[list[Any]]:
    """Return what each metric keeps of each batch, in the order of the cases; the arguments are those of validate."""
    import torch

    world = world or World()
    network.eval()
    measurements: list[list[object]] = []
    counts = counts_on_device and has_counts_alone(plan)
    with torch.inference_mode(), fabric.autocast():
        for batch in _iterate_batches(store, plan, world):
            values = _count_on_device(network, batch, plan, fabric.device) if counts else None
            if values is None:
                outputs = _infer(network, batch, plan, fabric.device)
                values = [metric.measure(outputs) for metric in plan.metrics]
            measurements.append(values)
    # In the order of the cases, so that sums don't depend on the number of processes.
    return [values for turn in zip_longest(*world.gather(measurements)) for values in turn if values is not None]


def _iterate_batches(store: SampleStore, plan: TrainingPlan, world: World) -> Iterator[Batch]:
    pipeline = plan.valid_pipeline
    # Whole volumes differ in size; only one at a time can be stacked.
    count = 1 if -1 in pipeline.output_crop_size else pipeline.output_batch_size
    starts = range(0, len(store), count)
    for start in starts[world.rank :: world.size]:
        cases = range(start, min(start + count, len(store)))
        # Each case has its own fixed seed: a crop takes the same place at every validation.
        tails = (plan.valid_chain.run_tail(store[case], np.random.default_rng(case)) for case in cases)
        yield collate([sample for samples in tails for sample in samples], pipeline.output_crop_size)


def has_counts_alone(plan: TrainingPlan) -> bool:
    """Tell whether counts of voxels are all that the metrics need."""
    are_dice = all(
        isinstance(metric, ComputeAverageDice)
        and type(metric).measure is ComputeAverageDice.measure
        and (metric.field, metric.label_field) == ("model", "label")
        for metric in plan.metrics
    )
    return are_dice and plan.workflow.task == "segmentation" and not plan.aux_ops and plan.unlabelled is None


def _count_on_device(
    network: torch.nn.Module, batch: Batch, plan: TrainingPlan, device: torch.device
) -> list[object] | None:
    """What each metric keeps of a batch, of which only counts leave the device; None where its memory is too small."""
    import torch

    metrics: Any = plan.metrics
    activation = plan.network.final_activation
    try:
        logits, labels = plan.inferer.infer(network, batch.image.to(device)), batch.label.to(device)
        rows = [
            [m.score_overlaps(m.count_overlaps(case, label, activation).cpu().numpy()) for m in metrics]
            for case, label in zip(logits, labels, strict=True)
        ]
    except torch.OutOfMemoryError:
        return None
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _infer_within_memory(
    network: torch.nn.Module, batch: Batch, plan: TrainingPlan, device: torch.device
) -> torch.Tensor:
    """The logits of a batch; where a GPU has no room for those of a whole image, its windows are joined in RAM."""
    import torch

    if device.type == "cuda":
        try:
            return plan.inferer.infer(network, batch.image.to(device))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        say("the GPU has too little free memory for a validation image: its windows are joined on the processor")
        return plan.inferer.infer(_answer_on_processor(network, device), batch.image)
    return plan.inferer.infer(network, batch.image.to(device))


def _answer_on_processor(network: torch.nn.Module, device: torch.device) -> Any:
    return lambda windows: network(windows.to(device)).float().cpu()


def _infer(network: torch.nn.Module, batch: Batch, plan: TrainingPlan, device: torch.device) -> Outputs:
    logits = _infer_within_memory(network, batch, plan, device)
    activation, label_format = plan.network.final_activation, plan.facts.label_format
    outputs: Outputs = {"model": logits.float().cpu().numpy(), "label": batch.label.numpy(), "activation": activation}
    if label_format:
        outputs[LABEL_FORMAT] = label_format
    if plan.unlabelled is not None:
        outputs[UNLABELLED_SETS] = plan.unlabelled.sets
    if any(operation.needs_loss for operation in plan.aux_ops):
        loss, label = plan.loss.build(activation, label_format), batch.label.to(device)
        if plan.unlabelled is not None:
            loss = leave_out_unlabelled(plan.loss, activation, plan.unlabelled.sets)
        losses = [loss(logits[n : n + 1].to(device).float(), label[n : n + 1]).item() for n in range(len(label))]
        outputs["loss"] = np.array(losses)
    for operation in plan.aux_ops:
        outputs |= operation.compute(outputs)
    return outputs
