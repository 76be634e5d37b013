"""Owns the training loop: steps, validation, checkpoints, and every way that it can end."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from voxflow.components import build_network
from voxflow.errors import TrainingError
from voxflow.progress import say
from voxflow.training.checkpoint import read_checkpoint, save_model
from voxflow.training.result import Ending, TrainingResult
from voxflow.training.state import STATE, random_state, restore_random_state, save_state
from voxflow.training.validation import validate
from voxflow.training.weights import freeze, load_weights, to_training_mode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from voxflow.components.component import Component
    from voxflow.spec import ModelSpec
    from voxflow.training.data import Batch, Batches, SampleStore
    from voxflow.training.interruption import Interruption
    from voxflow.training.options import TrainOptions
    from voxflow.training.plan import Plan
    from voxflow.training.recorder import Recorder

BEST, FINAL = "model.pt", "model_final.pt"


class Loop:
    """The state of one training.

    Args:
        plan: the parts.
        options: how to run them.
        fabric: device, precision, processes.
        batches: to learn from.
        unseen: to validate on.
        out: folder of the checkpoints.
        recorder: gets a row a validation.
        run: what names the run in state.pt: its fingerprint and the tracker's run id.
        start: weights to begin from, and where they come from.
    """

    def __init__(
        self,
        plan: Plan,
        options: TrainOptions,
        fabric: Any,
        batches: Batches,
        *,
        unseen: SampleStore,
        out: Path,
        recorder: Recorder,
        run: Mapping[str, Any],
        start: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.plan, self.options, self.fabric = plan, options, fabric
        self.batches, self.unseen = batches, unseen
        self.out, self.recorder, self.run_facts = out, recorder, dict(run)
        self.result = TrainingResult()
        channels = batches.channels
        self.component: Component = plan.network_component(channels)
        self.spec: ModelSpec = plan.spec(channels)
        self.loss = plan.loss.build(plan.network.final_activation)
        self.total = plan.workflow.globals.epochs * batches.steps
        self.losses: list[float] = []
        self._epoch_number, self._epoch_step = 1, 0
        self._setup(start)

    def _setup(self, start: Mapping[str, torch.Tensor] | None) -> None:
        """Build network and optimizer, and hand them to fabric."""
        import torch

        network = build_network(self.component)
        if start is not None and self.options.checkpoint is not None:
            report = load_weights(network, start, self.options.checkpoint)
            say(f"start weights from {self.options.checkpoint}: {report.line()}")
        frozen = freeze(network, self.options.freeze)
        if frozen:
            say(f"frozen: {len(frozen)} of {len(list(network.parameters()))} parameters")
        self.layout = torch.channels_last_3d if self.plan.network.spatial_dims == 3 else torch.channels_last
        if not self.plan.network.channels_last:
            self.layout = torch.contiguous_format
        decay = getattr(self.plan.network, "weight_decay", 0.0)
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = self.plan.optimizer.build(trainable, self.plan.workflow.globals.learning_rate, decay)
        self.base_rate = float(optimizer.param_groups[0]["lr"])
        network = network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.network, self.optimizer = self.fabric.setup(network, optimizer)

    def run(self, interruption: Interruption) -> None:
        """Train until the last epoch, the time budget or an interruption; write the final checkpoint."""
        values, minutes = self.plan.workflow.globals, self.options.max_minutes
        self._began = time.monotonic() - self.result.seconds
        self._state_written = time.monotonic()
        deadline = self._began + minutes * 60 if minutes else math.inf
        to_training_mode(self.network)
        for epoch in range(self._epoch_number, values.epochs + 1):
            self.result.epochs = epoch
            ending = self._epoch(epoch, interruption, deadline)
            is_last = epoch == values.epochs or ending == "time is up"
            if ending != "interrupted":
                self._end_epoch(epoch, validates=is_last or epoch % values.num_training_epoch_per_valid == 0)
            if ending != "finished":
                self.result.ending = ending
                break
        self._finish()

    def _epoch(self, epoch: int, interruption: Interruption, deadline: float) -> Ending:
        start = self._epoch_step
        for step, batch in enumerate(self.batches.epoch(epoch, start), start + 1):
            self._step(epoch, batch)
            self._epoch_number, self._epoch_step = epoch, step
            if interruption.asked:
                return "interrupted"
            if time.monotonic() > deadline:
                return "time is up"
            if time.monotonic() - self._state_written > self.options.state_minutes * 60:
                self._save_state()
        return "finished"

    def _end_epoch(self, epoch: int, *, validates: bool) -> None:
        # From here on a continuation begins the next epoch.
        self._epoch_number, self._epoch_step = epoch + 1, 0
        if validates:
            self._validate(epoch)
        every = self.options.state_epochs
        if validates if every is None else epoch % every == 0:
            self._save_state()

    def _finish(self) -> None:
        """Write the final checkpoint; a run that is complete leaves no state, an interrupted one does."""
        self.result.seconds = time.monotonic() - self._began
        self._save(FINAL, math.nan)
        if self.result.ending == "interrupted":
            self._save_state()
            return
        if not (self.out / BEST).exists():
            self.result.best_epoch = self.result.epochs
            self._save(BEST, math.nan)
        (self.out / STATE).unlink(missing_ok=True)

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

    def _validate(self, epoch: int) -> None:
        """Judge the network, keep it when it is the best so far, record the row."""
        metrics = validate(self.network, self.unseen, self.plan, self.fabric.device) if len(self.unseen) else {}
        to_training_mode(self.network)
        self.result.train_loss = sum(self.losses) / max(1, len(self.losses))
        self.losses = []
        seconds = time.monotonic() - self._began
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

    def _save_state(self) -> None:
        """Write down everything that a continuation needs; batches need no more than their epoch and step."""
        self.result.seconds = time.monotonic() - self._began
        state = {
            **self.run_facts,
            "epoch": self._epoch_number,
            "step": self._epoch_step,
            "network": self.network.module.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "random": [random_state()],
            "result": asdict(self.result),
            "losses": self.losses,
            "rows": self.recorder.rows,
        }
        save_state(self.out / STATE, state)
        self._state_written = time.monotonic()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``_save_state`` wrote."""
        self.network.module.load_state_dict(state["network"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.result = TrainingResult(**state["result"])
        self.result.ending, self.result.continued_at = "finished", self.result.steps
        self.losses = list(state["losses"])
        self._epoch_number, self._epoch_step = state["epoch"], state["step"]
        restore_random_state(state["random"][self.fabric.global_rank])
        self._take_newer_best()

    def _take_newer_best(self) -> None:
        """A model.pt that was written just before the end, and is better than what the state knows of, counts."""
        if not (self.out / BEST).is_file():
            return
        best = read_checkpoint(self.out / BEST)
        if self.plan.key_metric and best["epoch"] > self.result.best_epoch and not math.isnan(best["metric"]):
            self.result.key_metric = self.plan.key_metric.name
            self.result.best_epoch, self.result.best_metric = best["epoch"], best["metric"]
            self.result.metrics = {self.result.key_metric: best["metric"]}
