"""Owns the training loop: steps, validation, best and final checkpoint, and every way that it can end."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from voxflow.components import build_network
from voxflow.errors import DataError, TrainingError
from voxflow.progress import say
from voxflow.training.checkpoint import save_model
from voxflow.training.data import Batches, MemoryStore
from voxflow.training.device import choose_precision, cpu_count, open_fabric, seed_everything, share_cores
from voxflow.training.interruption import Interruption
from voxflow.training.plan import Plan
from voxflow.training.recorder import Recorder
from voxflow.training.validation import validate

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.components.component import Component
    from voxflow.config import Workflow
    from voxflow.datalist import Case, Datalist
    from voxflow.spec import ModelSpec
    from voxflow.tracking import Tracker
    from voxflow.training.data import Batch
    from voxflow.training.options import DataFacts, TrainOptions

BEST, FINAL, CURVES, EVENTS = "model.pt", "model_final.pt", "curves.csv", "events"
Ending = Literal["finished", "time is up", "interrupted"]


@dataclass
class TrainingResult:
    """How a training went.

    Attributes:
        ending: why it stopped.
        epochs: epochs that were begun.
        steps: steps that were taken.
        seconds: of the loop, reading the data left out.
        key_metric: name of the metric that chose the best model; empty when nothing could be validated.
        best_epoch: the best model's epoch.
        best_metric: its key metric; NaN when there is none.
        metrics: every metric at the best epoch.
        train_loss: mean loss since the last validation.
        precision: what it computed in.
    """

    ending: Ending = "finished"
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    key_metric: str = ""
    best_epoch: int = 0
    best_metric: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    train_loss: float = math.nan
    precision: str = "fp32"


def train(
    workflow: Workflow,
    datalist: Datalist,
    options: TrainOptions,
    out: Path,
    *,
    facts: DataFacts,
    tracker: Tracker,
    curves: Path | None = None,
) -> TrainingResult:
    """Train a network and keep its best and its final state.

    Args:
        workflow: what to train, checked.
        datalist: cases under the keys that the workflow's pipelines name.
        options: seed, precision, threads, time budget.
        out: folder for model.pt (best key metric), model_final.pt and events/; an older run's are removed.
        facts: class names and grid of the data, for the model file.
        tracker: gets metrics by epoch.
        curves: the CSV of metrics by epoch; ``out``/curves.csv when left out.

    Raises:
        ConfigError: the workflow does not fit the data.
        DataError: cases are missing or can't be used.
        TrainingError: the loss is not a number; the best checkpoint so far is kept.
    """
    share_cores()
    plan = Plan.build(workflow, facts)
    training, validation = _cases(datalist, plan)
    _clear(out)
    seed = seed_everything(options.seed, workflow.globals.determinism)
    precision = choose_precision(options, workflow.globals.use_amp)
    fabric = open_fabric(options, precision)
    threads = options.threads or cpu_count()
    classes = len(facts.class_names) if workflow.task == "segmentation" else None
    store = MemoryStore(training, plan.train_chain, threads=threads, classes=classes)
    unseen = MemoryStore(validation, plan.valid_chain, threads=threads, classes=classes)
    workers = min(1, threads - 1) if options.workers is None else options.workers
    batches = Batches(store, plan.train_chain, plan.train_pipeline, seed, workers)
    with Interruption() as interruption, Recorder(out / EVENTS, curves or out / CURVES, tracker) as recorder:
        loop = _Loop(plan, fabric, batches, unseen=unseen, out=out, recorder=recorder)
        loop.result.precision = precision
        loop.run(interruption, options.max_minutes)
    return loop.result


def _cases(datalist: Datalist, plan: Plan) -> tuple[list[Case], list[Case]]:
    """The labelled cases to learn from and to validate on."""
    keys = plan.train_pipeline.data_list_key, plan.valid_pipeline.data_list_key
    training, validation = ([case for case in datalist.cases(key) if case.label is not None] for key in keys)
    if not training:
        raise DataError(f"the datalist has no labelled case under {keys[0]!r}")
    if not validation:
        say(f"no labelled case under {keys[1]!r}: nothing is validated, the best model is the final one")
    return training, validation


def _clear(out: Path) -> None:
    """Remove what an older run left, so that no model outlives the data and options that made it."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (BEST, FINAL):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / EVENTS, ignore_errors=True)


class _Loop:
    """The state of one training."""

    def __init__(
        self, plan: Plan, fabric: Any, batches: Batches, *, unseen: MemoryStore, out: Path, recorder: Recorder
    ) -> None:
        import torch

        self.plan, self.fabric, self.batches, self.unseen = plan, fabric, batches, unseen
        self.out, self.recorder = out, recorder
        self.result = TrainingResult()
        channels = batches.channels
        self.component: Component = plan.network_component(channels)
        self.spec: ModelSpec = plan.spec(channels)
        network = build_network(self.component)
        self.layout = torch.channels_last_3d if plan.network.spatial_dims == 3 else torch.channels_last
        if not plan.network.channels_last:
            self.layout = torch.contiguous_format
        decay = getattr(plan.network, "weight_decay", 0.0)
        optimizer = plan.optimizer.build(network.parameters(), plan.workflow.globals.learning_rate, decay)
        self.base_rate = float(optimizer.param_groups[0]["lr"])
        network = network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.loss = plan.loss.build(plan.network.final_activation)
        self.total = plan.workflow.globals.epochs * batches.steps
        self.losses: list[float] = []

    def run(self, interruption: Interruption, max_minutes: float | None) -> None:
        """Train until the last epoch, the time budget or an interruption; write the final checkpoint."""
        began = time.monotonic()
        values = self.plan.workflow.globals
        self.network.train()
        for epoch in range(1, values.epochs + 1):
            self.result.epochs = epoch
            ending = self._epoch(epoch, interruption, began + max_minutes * 60 if max_minutes else math.inf)
            is_last = epoch == values.epochs or ending == "time is up"
            if ending != "interrupted" and (is_last or epoch % values.num_training_epoch_per_valid == 0):
                self._validate(epoch, time.monotonic() - began)
            if ending != "finished":
                self.result.ending = ending
                break
        self.result.seconds = time.monotonic() - began
        self._save(FINAL, math.nan)
        if not (self.out / BEST).exists() and self.result.ending != "interrupted":
            self.result.best_epoch = self.result.epochs
            self._save(BEST, math.nan)

    def _epoch(self, epoch: int, interruption: Interruption, deadline: float) -> Ending:
        for batch in self.batches.epoch(epoch):
            self._step(epoch, batch)
            if interruption.asked:
                return "interrupted"
            if time.monotonic() > deadline:
                return "time is up"
        return "finished"

    def _step(self, epoch: int, batch: Batch) -> None:
        """One step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        image = batch.image.to(self.fabric.device, memory_format=self.layout, non_blocking=True)
        loss = self.loss(self.network(image), batch.label.to(self.fabric.device, non_blocking=True))
        value = float(loss.detach())
        if not math.isfinite(value):
            self._fail(epoch, batch, value)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimizer.step()
        self.losses.append(value)
        self.result.steps += 1

    def _rate(self) -> float:
        policy = self.plan.policy
        return self.base_rate * (policy.factor(self.result.steps, self.total) if policy else 1.0)

    def _fail(self, epoch: int, batch: Batch, value: float) -> None:
        best = self.out / BEST
        kept = f"{best} holds epoch {self.result.best_epoch}" if best.exists() else "no checkpoint was written yet"
        cases = ", ".join(dict.fromkeys(batch.cases))
        raise TrainingError(f"the loss is {value} in epoch {epoch}, batch of case(s) {cases}; {kept}")

    def _validate(self, epoch: int, seconds: float) -> None:
        """Judge the network, keep it when it is the best so far, record the row."""
        metrics = validate(self.network, self.unseen, self.plan, self.fabric.device) if len(self.unseen) else {}
        self.result.train_loss = sum(self.losses) / max(1, len(self.losses))
        self.losses = []
        rate = float(self.optimizer.param_groups[0]["lr"])
        row = {"train_loss": self.result.train_loss, "learning_rate": rate, "seconds": seconds, **metrics}
        self.recorder.row(epoch, row)
        key = self.plan.key_metric
        value = metrics.get(key.name, math.nan) if key else math.nan
        # Written so that a first value beats NaN, NaN never wins, and of equal ones the longer trained is kept.
        if key and not math.isnan(value) and not value < self.result.best_metric:
            self.result.best_epoch, self.result.best_metric, self.result.metrics = epoch, value, metrics
            self.result.key_metric = key.name
            self._save(BEST, value)
        shown = f", {key.name} {value:.4f} (best {self.result.best_metric:.4f})" if key and metrics else ""
        say(f"epoch {epoch}: loss {self.result.train_loss:.4f}{shown}, {seconds:.0f} s")

    def _save(self, name: str, metric: float) -> None:
        network: torch.nn.Module = self.network.module
        save_model(self.out / name, network, self.component, spec=self.spec, epoch=self.result.epochs, metric=metric)
