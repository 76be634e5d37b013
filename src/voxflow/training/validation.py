"""Owns judging a network on whole cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.training.data import collate

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from voxflow.components.metrics import Outputs
    from voxflow.training.data import Batch, SampleStore
    from voxflow.training.plan import Plan


def validate(network: torch.nn.Module, store: SampleStore, plan: Plan, device: torch.device) -> dict[str, float]:
    """Return every metric of the configuration over all cases; NaN where one is not defined.

    Args:
        network: left in the mode it was in.
        store: validation cases after their transforms.
        plan: inferer, auxiliary operations and metrics.
        device: where the network is.
    """
    import torch

    was_training = network.training
    network.eval()
    kept: list[list[object]] = [[] for _ in plan.metrics]
    with torch.inference_mode():
        for batch in _batches(store, plan):
            outputs = _infer(network, batch, plan, device)
            for metric, values in zip(plan.metrics, kept, strict=True):
                values.append(metric.measure(outputs))
    network.train(was_training)
    numbers: dict[str, float] = {}
    for metric, values in zip(plan.metrics, kept, strict=True):
        numbers |= metric.summarise(values, plan.facts.class_names)  # type: ignore[arg-type]
    return numbers


def _batches(store: SampleStore, plan: Plan) -> Iterator[Batch]:
    pipeline = plan.valid_pipeline
    # Whole volumes differ in size; only one at a time can be stacked.
    count = 1 if -1 in pipeline.output_crop_size else pipeline.output_batch_size
    for start in range(0, len(store), count):
        samples = [store[index] for index in range(start, min(start + count, len(store)))]
        yield collate(samples, pipeline.output_crop_size)


def _infer(network: torch.nn.Module, batch: Batch, plan: Plan, device: torch.device) -> Outputs:
    logits = plan.inferer.infer(network, batch.image.to(device))
    outputs: Outputs = {"model": logits.float().cpu().numpy(), "label": batch.label.numpy()}
    for operation in plan.aux_ops:
        outputs |= operation.compute(outputs)
    return outputs
