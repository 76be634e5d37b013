"""Runs the training loop: steps, validation, checkpoints, and every way that a training can end.

The plan of one training:

1. For each epoch, each batch (or each ``accumulate`` batches) makes one step of the optimizer.
2. After each step the processes agree on the most urgent :class:`voxflow.training.distributed.Signal`: go on, write
   state.pt, end because the time is up, or end because someone interrupted.
3. Every ``num_training_epoch_per_valid`` epochs the network is validated on whole cases. The best one by the key
   metric is model.pt, the last one model_final.pt.
4. state.pt holds all that a continuation needs: weights, optimizer, generators of every process, the place in the
   epoch. A training that was killed and continued ends in the same weights, bit for bit, as one that ran through.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

from voxflow.components import build_network, judge_levels
from voxflow.errors import ConfigError, TrainingError
from voxflow.progress import say
from voxflow.training.checkpoint import read_checkpoint, save_model
from voxflow.training.device import clip_gradients, pays_to_compile
from voxflow.training.distributed import Signal
from voxflow.training.ema import WeightAverage
from voxflow.training.meter import LossMeter, LossNotFinite
from voxflow.training.result import Ending, TrainingResult
from voxflow.training.state import STATE, get_random_state, restore_random_state, save_state
from voxflow.training.stopping import Patience
from voxflow.training.validation import validate
from voxflow.training.weights import freeze, load_weights, to_training_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from voxflow.components import Component
    from voxflow.spec import ModelSpec
    from voxflow.training.data import Batch, Batches, SampleStore
    from voxflow.training.distributed import World
    from voxflow.training.first_stage import FirstStage
    from voxflow.training.interruption import Interruption
    from voxflow.training.options import TrainOptions
    from voxflow.training.plan import TrainingPlan
    from voxflow.training.recorder import Recorder

BEST, FINAL = "model.pt", "model_final.pt"
Result = TypeVar("Result")


class TrainingLoop:
    """The state of one training.

    Args:
        plan: network, loss, optimizer, chains, metrics: the parts of the training.
        options: how to run them.
        fabric: lightning-fabric, which knows device and precision.
        world: the processes that train together; only the first writes.
        batches: random batches to learn from.
        validation_store: cases to validate on.
        out: folder of the checkpoints.
        recorder: gets one row for each validation; None in all processes but the first.
        run: facts that name the run in state.pt: the key "fingerprint", its digests, and "run_id", the tracker's.
        start: weights to begin from, by name; None: those of the configured network.
        first_stage: in the second of two stages, the models that stand in the model file beside this one.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        options: TrainOptions,
        fabric: Any,
        world: World,
        *,
        batches: Batches,
        validation_store: SampleStore,
        out: Path,
        recorder: Recorder | None,
        run: Mapping[str, Any],
        start: Mapping[str, torch.Tensor] | None = None,
        first_stage: FirstStage | None = None,
    ) -> None:
        from voxflow.training.losses import choose_loss

        self.first_stage = first_stage
        self.plan, self.options, self.fabric, self.world = plan, options, fabric, world
        self.batches, self.validation_store = batches, validation_store
        self.out, self.recorder, self.run_facts = out, recorder, dict(run)
        self.result = TrainingResult()
        self.meter = LossMeter()
        self.patience = Patience(options.early_stopping)
        channels = batches.channels
        self.component: Component = plan.complete_network(channels)
        self.spec: ModelSpec = plan.make_spec(channels)
        self.loss = judge_levels(choose_loss(plan, fabric.device))
        self.steps_an_epoch = -(-batches.steps // options.accumulate)
        self.total_steps = plan.workflow.globals.epochs * self.steps_an_epoch
        self._epoch_number, self._epoch_batch = 1, 0
        self._start_time = time.monotonic()
        self._build_network(start)

    def _build_network(self, start: Mapping[str, torch.Tensor] | None) -> None:
        """Build network and optimizer, and hand them to fabric."""
        import torch

        network = build_network(self.component)
        if start is not None and self.options.checkpoint is not None:
            report = load_weights(network, start, self.options.checkpoint)
            self.world.say(f"start weights from {self.options.checkpoint}: {report.line()}")
        elif line := self.plan.network.load_pretrained(network):
            self.world.say(f"start weights: {line}")
        frozen = freeze(network, self.options.freeze)
        if frozen:
            self.world.say(f"frozen: {len(frozen)} of {len(list(network.parameters()))} parameters")
        self.memory_format = torch.channels_last_3d if self.plan.network.spatial_dims == 3 else torch.channels_last
        if not self.plan.network.channels_last:
            self.memory_format = torch.contiguous_format
        decay = getattr(self.plan.network, "weight_decay", 0.0)
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = self.plan.optimizer.build(trainable, self.plan.workflow.globals.learning_rate, decay)
        self.base_learning_rate = float(optimizer.param_groups[0]["lr"])
        network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.average = None
        if self.options.ema:
            self.average = WeightAverage(network, self.options.ema)
            self.average.network.to(self.fabric.device)
        self.is_compiled = pays_to_compile(self.options, self.fabric.device, self.total_steps, self.plan.input_size)
        if self.is_compiled:
            network.compile()  # in place, so that the weights keep their names
        self.network, self.optimizer = self.fabric.setup(network, optimizer)
        # Processes begin with the same weights, and draw dropout apart from each other.
        torch.manual_seed(torch.initial_seed() + self.world.rank)

    @property
    def bare_network(self) -> torch.nn.Module:
        """The network that is trained, without fabric's wrappers, whose names would stand in the checkpoint."""
        return cast("torch.nn.Module", self.network.module)

    @property
    def saved_network(self) -> torch.nn.Module:
        """The network that is validated and saved: the running average where there is one."""
        return self.average.network if self.average else self.bare_network

    def run(self, interruption: Interruption) -> None:
        """Train until the last epoch, the time budget, the end of patience or an interruption.

        Args:
            interruption: asked after every step.

        Raises:
            ConfigError: ``stopping_metric`` names no metric.
            TrainingError: the loss is not a number.
            OSError: the final checkpoint can't be written.
        """
        values, minutes = self.plan.workflow.globals, self.options.max_minutes
        # What ran before a continuation counts against the time budget.
        self._start_time = time.monotonic() - self.result.seconds
        self._state_time = time.monotonic()
        deadline = self._start_time + minutes * 60 if minutes else math.inf
        to_training_mode(self.bare_network)
        for epoch in range(self._epoch_number, values.epochs + 1):
            self.result.epochs = epoch
            ending = self._train_epoch(epoch, interruption, deadline)
            is_last = epoch == values.epochs or ending == "time is up"
            if ending != "interrupted":
                self._end_epoch(epoch, validates=is_last or epoch % values.num_training_epoch_per_valid == 0)
                if ending == "finished" and self.patience.is_over:
                    ending = "no more improvement"
            if ending != "finished":
                self.result.ending = ending
                break
        self._finish()

    def _train_epoch(self, epoch: int, interruption: Interruption, deadline: float) -> Ending:
        group: list[Batch] = []
        for number, batch in enumerate(self.batches.iterate_epoch(epoch, self._epoch_batch), self._epoch_batch + 1):
            group.append(batch)
            # The last step of an epoch takes what is left, so that an epoch never ends between two steps.
            if len(group) < self.options.accumulate and number < self.batches.steps:
                continue
            self.step(epoch, group)
            group = []
            self._epoch_number, self._epoch_batch = epoch, number
            match self._decide_next(interruption, deadline):
                case Signal.INTERRUPTED:
                    return "interrupted"
                case Signal.TIME_UP:
                    return "time is up"
                case Signal.SAVE:
                    self._save_state()
        return "finished"

    def _decide_next(self, interruption: Interruption, deadline: float) -> Signal:
        """Agree with the other processes on what to do after a step: the most urgent of what each would do."""
        now = time.monotonic()
        if interruption.is_requested:
            signal = Signal.INTERRUPTED
        elif now > deadline:
            signal = Signal.TIME_UP
        else:
            signal = Signal.SAVE if now - self._state_time > self.options.state_minutes * 60 else Signal.GO
        return self.world.agree(signal)

    def step(self, epoch: int, group: list[Batch]) -> None:
        """Take one step of the optimizer, on one batch or on several whose gradients add up.

        Where a GPU's memory is not enough, it is taken once more, without the cases that were kept there.

        Args:
            epoch: for the message when the loss is not a number.
            group: batches; each counts alike.

        Raises:
            TrainingError: the loss is not a number; on a GPU it may be that of an earlier step.
        """
        # Set before each step and not by a torch scheduler: a continued training then needs no scheduler's state.
        rate = self._learning_rate()
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self._use_memory(lambda: self._add_gradients(epoch, group))
        if self.options.clip_norm:
            clip_gradients(self.fabric, self.network, self.optimizer, self.options.clip_norm)
        self.optimizer.step()
        self.result.steps += 1
        if self.average:
            self.average.update(self.bare_network, self.result.steps)

    def _use_memory(self, work: Callable[[], Result]) -> Result:
        """Do something on the device; once more without the cases that are kept there, where memory is not enough."""
        import torch

        try:
            return work()
        except torch.OutOfMemoryError as error:
            if self.batches.augmenter is None or not self.batches.augmenter.cases.release():
                raise
            # What the failed attempt held hangs on the frames of its traceback.
            error.__traceback__ = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say("the GPU has too little memory beside the cases that were kept there: they are copied patch by patch now")
        return work()

    def _add_gradients(self, epoch: int, group: list[Batch]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(group, 1):
            image, label = batch.copy_to(self.fabric.device, self.memory_format)
            with self.fabric.no_backward_sync(self.network, enabled=number < len(group)):
                loss = self.loss(self.network(image), label)
                # A SegResNet with a VAE branch adds what its reconstruction of the image costs.
                extra = getattr(self.bare_network, "extra_loss", None)
                loss = loss if extra is None else loss + extra
                with self._explain_loss_not_finite():
                    self.meter.add(loss, (epoch, batch.cases))
                self.fabric.backward(loss / len(group) if len(group) > 1 else loss)

    def _learning_rate(self) -> float:
        policy = self.plan.policy
        return self.base_learning_rate * (policy.factor(self._schedule_position(), self.total_steps) if policy else 1.0)

    def _schedule_position(self) -> int:
        """How far along the learning-rate policy is: the steps done, or the share of the minutes that is over."""
        minutes = self.options.max_minutes
        if self.options.schedule == "epochs" or minutes is None:
            return self.result.steps
        # Processes whose clocks differ must not step by different rates.
        share: float = self.world.broadcast((time.monotonic() - self._start_time) / (minutes * 60))
        return max(self.result.steps, min(self.total_steps - 1, round(share * self.total_steps)))

    @contextlib.contextmanager
    def _explain_loss_not_finite(self) -> Any:
        """Turn a loss that is no number into an error that names the epoch, the cases and what is kept."""
        try:
            yield
        except LossNotFinite as fault:
            epoch, cases = fault.place
            best = self.out / BEST
            checkpoint = (
                f"{best} holds epoch {self.result.best_epoch}" if best.exists() else "no checkpoint was written yet"
            )
            case_names = ", ".join(dict.fromkeys(cases))
            message = f"the loss is {fault.value} in epoch {epoch}, batch of case(s) {case_names}; {checkpoint}"
            raise TrainingError(message) from fault

    def _end_epoch(self, epoch: int, *, validates: bool) -> None:
        # From here on a continuation begins the next epoch.
        self._epoch_number, self._epoch_batch = epoch + 1, 0
        if validates:
            self._validate(epoch)
        every = self.options.state_epochs
        if validates if every is None else epoch % every == 0:
            self._save_state()

    def _validate(self, epoch: int) -> None:
        """Judge the network, keep it when it is the best so far, record the row."""
        with self._explain_loss_not_finite():
            self.meter.drain()
        metrics = self._use_memory(self._measure) if len(self.validation_store) else {}
        to_training_mode(self.bare_network)
        losses = self.world.gather((self.meter.total, self.meter.count))
        self.result.train_loss = sum(total for total, _ in losses) / max(1, sum(count for _, count in losses))
        self.meter.reset()
        seconds = time.monotonic() - self._start_time
        rate = float(self.optimizer.param_groups[0]["lr"])
        row = {"train_loss": self.result.train_loss, "learning_rate": rate, "seconds": seconds, **metrics}
        if self.recorder:
            self.recorder.write_row(epoch, row)
        self._keep_if_best(epoch, metrics)
        key = self.plan.key_metric
        best = f" (best {self.result.best_metric:.4f})" if self.result.kept == "best" else ""
        score = f", {key.name} {metrics[key.name]:.4f}{best}" if key and metrics else ""
        self.world.say(f"epoch {epoch}: loss {self.result.train_loss:.4f}{score}, {seconds:.0f} s")

    def _measure(self) -> dict[str, float]:
        """Every metric over the validation cases."""
        import torch

        is_on_gpu = self.fabric.device.type == "cuda"
        # Windows come in batches of other sizes than training's, and each would be compiled for.
        stance: Any = torch.compiler.set_stance("force_eager") if self.is_compiled and is_on_gpu else None
        with stance or contextlib.nullcontext():
            return validate(
                self.saved_network,
                self.validation_store,
                self.plan,
                self.fabric,
                self.world,
                counts_on_device=is_on_gpu or self.options.augment_on == "device",
            )

    def _keep_if_best(self, epoch: int, metrics: dict[str, float]) -> None:
        """Keep the network if it is the best so far, or if the last counts; count how long nothing got better."""
        key = self.plan.key_metric
        if key is None or not metrics:
            return
        stopping_metric = self.options.stopping_metric or key.name
        if stopping_metric not in metrics:
            raise ConfigError(f"stopping_metric: no metric {stopping_metric!r}; there are {', '.join(metrics)}")
        self.patience.note(metrics[stopping_metric])
        value = metrics[key.name]
        # Written so that a first value beats NaN, NaN never wins, and of equal ones the longer trained is kept.
        if math.isnan(value) or (value < self.result.best_metric and self.result.kept == "best"):
            return
        if self._try_to_write(f"{BEST} of epoch {epoch}", lambda: self._save(BEST, value)):
            self.result.best_epoch, self.result.best_metric, self.result.metrics = epoch, value, metrics
            self.result.key_metric = key.name

    def _finish(self) -> None:
        """Write the final checkpoint; a run that is complete leaves no state, an interrupted one does."""
        with self._explain_loss_not_finite():
            self.meter.drain()
        self.result.seconds = time.monotonic() - self._start_time
        if self.result.ending == "interrupted":
            self._save_state()
        self._save(FINAL, math.nan)
        if self.result.ending == "interrupted":
            return
        if not self.result.best_epoch:
            self.result.best_epoch = self.result.epochs
            self._save(BEST, math.nan)
        if self.world.is_first:
            (self.out / STATE).unlink(missing_ok=True)

    def _save(self, name: str, metric: float) -> None:
        if self.world.is_first:
            epoch = self.result.epochs
            save_model(
                self.out / name,
                self.saved_network,
                self.component,
                spec=self.spec,
                epoch=epoch,
                metric=metric,
                first_stage=self.first_stage,
            )

    def _save_state(self) -> None:
        """Write down everything that a continuation needs; batches need no more than their epoch and number."""
        with self._explain_loss_not_finite():
            self.meter.drain()
        self.result.seconds = time.monotonic() - self._start_time
        process_states = self.world.gather((get_random_state(), self.meter.total, self.meter.count))
        self._state_time = time.monotonic()
        if not self.world.is_first:
            return
        state = {
            **self.run_facts,
            "epoch": self._epoch_number,
            "batch": self._epoch_batch,
            "processes": self.world.size,
            "network": self.bare_network.state_dict(),
            "average": self.average.network.state_dict() if self.average else None,
            "optimizer": self.optimizer.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "everyone": process_states,
            "patience": asdict(self.patience),
            "result": asdict(self.result),
            "rows": self.recorder.rows if self.recorder else [],
        }
        self._try_to_write(STATE, lambda: save_state(self.out / STATE, state))

    def _try_to_write(self, subject: str, write: Any) -> bool:
        """Write; a disk that is full must not end the training, and what was written before is still there."""
        try:
            write()
        except OSError as error:
            say(f"warning: {subject} could not be written, training goes on: {error}")
            return False
        return True

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``_save_state`` wrote.

        Args:
            state: as :func:`voxflow.training.state.find_matching_state` returns it. With another number of processes
                the same cases of the epoch count as seen, but the generators start afresh.
        """
        self.bare_network.load_state_dict(state["network"])
        if self.average and state["average"]:
            self.average.network.load_state_dict(state["average"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.result = TrainingResult(**state["result"])
        self.patience = Patience(**state["patience"])
        self._epoch_number, self._epoch_batch = state["epoch"], state["batch"]
        # With as many processes as before, each goes on with its own generators: the weights are the same bit for bit.
        if self.world.size == state["processes"]:
            generators, self.meter.total, self.meter.count = state["everyone"][self.world.rank]
            restore_random_state(generators)
        else:
            self._resume_with_other_process_count(state["processes"])
        self.result.ending, self.result.continued_at = "finished", self.result.steps
        self._adopt_newer_best()

    def _resume_with_other_process_count(self, processes: int) -> None:
        """The place of a run of another number of processes: the same cases of the epoch have been seen."""
        self._epoch_batch = min(self._epoch_batch * processes // self.world.size, self.batches.steps - 1)
        begun = (self._epoch_number - 1) * self.steps_an_epoch
        self.result.steps = begun + self._epoch_batch // self.options.accumulate

    def _adopt_newer_best(self) -> None:
        """A model.pt that was written just before the end, and is newer than what the state knows of, counts."""
        if not (self.out / BEST).is_file():
            return
        best = read_checkpoint(self.out / BEST)
        if self.plan.key_metric and best["epoch"] > self.result.best_epoch and not math.isnan(best["metric"]):
            self.result.key_metric = self.plan.key_metric.name
            self.result.best_epoch, self.result.best_metric = best["epoch"], best["metric"]
            self.result.metrics = {self.result.key_metric: best["metric"]}
