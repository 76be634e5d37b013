"""Validates a network on whole cases, by the metrics of the configuration."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import LABEL_FORMAT, UNLABELLED_SETS, leave_out_unlabelled, summarise_metrics
from voxflow.training.data import collate
from voxflow.training.distributed import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from voxflow.components import Outputs
    from voxflow.training.data import Batch, SampleStore
    from voxflow.training.plan import TrainingPlan


def validate(
    network: torch.nn.Module, store: SampleStore, plan: TrainingPlan, fabric: Any, world: World | None = None
) -> dict[str, float]:
    """Return every metric of the configuration over all cases; NaN where one is not defined.

    Args:
        network: bare, not wrapped for several processes; left in evaluation mode.
        store: validation cases after their transforms.
        plan: inferer, auxiliary operations and metrics.
        fabric: device and precision.
        world: processes that share the cases; every one gets the same numbers.
    """
    import torch

    world = world or World()
    network.eval()
    measurements: list[list[object]] = []
    with torch.inference_mode(), fabric.autocast():
        for batch in _iterate_batches(store, plan, world):
            outputs = _infer(network, batch, plan, fabric.device)
            measurements.append([metric.measure(outputs) for metric in plan.metrics])
    # In the order of the cases, so that sums don't depend on the number of processes.
    in_case_order = [
        values for turn in zip_longest(*world.gather(measurements)) for values in turn if values is not None
    ]
    by_metric = [[values[number] for values in in_case_order] for number in range(len(plan.metrics))]
    numbers = summarise_metrics(plan.metrics, by_metric, plan.facts.class_names)
    return {name: value for values in numbers for name, value in values.items()}


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


def _infer(network: torch.nn.Module, batch: Batch, plan: TrainingPlan, device: torch.device) -> Outputs:
    logits = plan.inferer.infer(network, batch.image.to(device))
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
        losses = [loss(logits[n : n + 1].float(), label[n : n + 1]).item() for n in range(len(label))]
        outputs["loss"] = np.array(losses)
    for operation in plan.aux_ops:
        outputs |= operation.compute(outputs)
    return outputs
