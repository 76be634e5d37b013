"""MONAI's and torch's losses, optimizers, schedulers and inferers as components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field, PositiveInt, PrivateAttr

from voxflow.components.learning.inferers import Inferer
from voxflow.components.learning.optimizers import LearningRatePolicy, Optimizer
from voxflow.components.losses.base import Loss
from voxflow.components.monai.names import MonaiAdapter, adapts, read_parameters
from voxflow.findings import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from voxflow.components.losses.base import LossFunction

# Schedulers whose rates are absolute or follow a metric; a factor of the first rate can't say them.
NOT_FACTORS = ("OneCycleLR", "CyclicLR", "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler", "MultiplicativeLR")

SUMS_OVER_VOXELS = (
    *("DiceLoss", "GeneralizedDiceLoss", "DiceCELoss", "DiceFocalLoss", "GeneralizedDiceFocalLoss"),
    *("TverskyLoss", "FocalLoss", "CrossEntropyLoss", "BCEWithLogitsLoss"),
)


@adapts("loss")
class MonaiLoss(Loss, MonaiAdapter):
    """Any loss of ``monai.losses`` or ``torch.nn``; its arguments are MONAI's."""

    def sums_over_voxels(self) -> bool:
        """Dice, Tversky, focal and cross entropy losses are; those of surfaces, skeletons and images are not."""
        return self.target in SUMS_OVER_VOXELS

    @property
    def activation(self) -> str:
        """What it turns logits into probabilities with; empty when it does not say."""
        args = self.arguments
        if args.get("sigmoid") or self.target == "BCEWithLogitsLoss":
            return "sigmoid"
        return "softmax" if args.get("softmax") or self.target == "CrossEntropyLoss" else ""

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build MONAI's or torch's loss.

        Args:
            activation: ignored; MONAI's own arguments say it.
            label_format: ignored.

        Returns:
            A function that hands the label on as the class wants it: class indices (batch, ...) to a cross entropy,
            else (batch, 1, ...) of integers to a loss that makes it one-hot, or of the logits' type.
        """
        loss: Any = self.find_target()(**self.arguments)
        is_cross_entropy = self.target in ("CrossEntropyLoss", "NLLLoss")

        def compute_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            if is_cross_entropy:
                label = (label[:, 0] if label.ndim > 1 and label.shape[1] == 1 else label).long()
            elif not self.arguments.get("to_onehot_y"):
                label = label.to(logits.dtype)
            value: torch.Tensor = loss(logits, label)
            return value

        return compute_loss


@adapts("optimizer")
class MonaiOptimizer(Optimizer, MonaiAdapter):
    """Any optimizer of ``torch.optim`` or ``monai.optimizers``."""

    filled: ClassVar[tuple[str, ...]] = ("params", "lr", "weight_decay")

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Build MONAI's or torch's optimizer.

        Args:
            parameters: those of the network.
            lr: where the configuration gave none.
            weight_decay: where the configuration gave none; 0 leaves the class its own default.
        """
        optimizer_class = self.find_target()
        takes, _ = read_parameters(optimizer_class)
        settings = {name: value for name, value in self.settings(lr, weight_decay).items() if name in takes}
        if self.weight_decay is None and not weight_decay:
            settings.pop("weight_decay", None)  # the class's own default, which is not always 0
        return cast("torch.optim.Optimizer", optimizer_class(parameters, **settings, **self.arguments))


@adapts("lr_policy")
class MonaiPolicy(LearningRatePolicy, MonaiAdapter):
    """Any scheduler of ``torch.optim.lr_scheduler`` or ``monai.optimizers`` whose rates are factors of the first.

    Attributes:
        training_epochs: of the whole training; tells an epoch's end.
        by_epoch: it is stepped once an epoch, as MONAI's handler does by default; else every iteration.
    """

    filled: ClassVar[tuple[str, ...]] = ("optimizer",)
    _factors: list[float] = PrivateAttr(default_factory=list)
    _scheduler: Any = PrivateAttr(default=None)

    training_epochs: PositiveInt = 1
    by_epoch: bool = Field(default=True)

    def check_arguments(self) -> None:
        """Hold the arguments against the scheduler's constructor; it must be one of factors."""
        if self.target in NOT_FACTORS:
            raise ArgumentError("its rates can't be said as factors of the first one", fix="use another scheduler")
        super().check_arguments()

    def factor(self, step: int, total: int) -> float:
        """Return the scheduler's rate at a step, with a first rate of 1.

        Args:
            step: from 0, in batches; the scheduler itself steps once an epoch, unless ``by_epoch`` is false.
            total: steps of the whole training.
        """
        count = step * self.training_epochs // total if self.by_epoch else step
        while len(self._factors) <= count:
            self._factors.append(self._next())
        return self._factors[count]

    def _next(self) -> float:
        import torch

        if self._scheduler is None:
            # A scheduler drives an optimizer, here one with a single weight that nothing uses.
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            self._scheduler = self.find_target()(optimizer, **self.arguments)
        else:
            self._scheduler.optimizer.step()
            self._scheduler.step()
        return float(self._scheduler.optimizer.param_groups[0]["lr"])


@adapts("inferer")
class MonaiInferer(Inferer, MonaiAdapter):
    """Any inferer of ``monai.inferers``; its arguments are MONAI's."""

    def check_arguments(self) -> None:
        """Hold the arguments against the inferer's constructor, and the overlap against its range."""
        overlap = self.arguments.get("overlap", 0.25)
        is_number = isinstance(overlap, int | float) and not isinstance(overlap, bool)
        if not is_number or not 0 <= overlap < 1:
            raise ArgumentError(f"overlap: expected a number from 0 to below 1, received {overlap!r}")
        super().check_arguments()

    @property
    def roi_size(self) -> tuple[int, ...] | None:
        """The window in voxels; None when the whole image goes through at once."""
        size = self.arguments.get("roi_size")
        return tuple(size) if isinstance(size, list) else None

    @property
    def overlap(self) -> float:
        """Share of a window that neighbours share."""
        return float(self.arguments.get("overlap", 0.25))

    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        # What is shown to the network keeps no affine, which every layer would carry along.
        args = {name: value for name, value in self.arguments.items() if name not in ("device", "sw_device")}
        return cast("torch.Tensor", self.find_target()(**args)(inputs=image, network=network))
