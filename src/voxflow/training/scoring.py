"""Scores a trained model on each case of validation, as the training itself validated it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components import ComputeAverageDice, create
from voxflow.training.checkpoint import load_model
from voxflow.training.device import choose_precision, open_fabric
from voxflow.training.distributed import World
from voxflow.training.session import plan_training_data, prepare_data
from voxflow.training.validation import measure_batches

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.config import Workflow
    from voxflow.datalist import Datalist
    from voxflow.training.options import DataFacts, TrainOptions


def find_dice(workflow: Workflow) -> tuple[int, ComputeAverageDice] | None:
    """Find the mean Dice among the metrics of validation, the key metric before others: its place, and itself."""
    metrics = [create("metric", metric) for metric in workflow.validate.metrics]
    dice = [(n, m) for n, m in enumerate(metrics) if isinstance(m, ComputeAverageDice) and m.field == "model"]
    return min(dice, key=lambda pair: not pair[1].is_key_metric, default=None)


def score_cases(
    workflow: Workflow, datalist: Datalist, options: TrainOptions, model: Path, *, facts: DataFacts
) -> tuple[float, ...]:
    """Return the Dice of each validation case, mean over classes; NaN where none is defined.

    Args:
        workflow: that was trained; its metrics have a mean Dice.
        datalist: that it was trained on.
        options: of the training.
        model: the model.pt that it left.
        facts: class names and grid of the data.

    Raises:
        DataError: there is no model, or cases can't be used.
    """
    dice = find_dice(workflow)
    if dice is None:
        return ()
    plan, training, validation = plan_training_data(workflow, datalist, facts)
    fabric, world = open_fabric(options, choose_precision(options, workflow.globals.use_amp)), World()
    _, store = prepare_data(plan, (training[:1], validation), options, world, seed=0)
    network, _ = load_model(model, workflow.train.model.custom)
    batches = measure_batches(network.to(fabric.device), store, plan, fabric, world)
    return tuple(dice[1].average_by_case([values[dice[0]] for values in batches]))
