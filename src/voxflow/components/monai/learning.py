"""Owns MONAI's and torch's networks, losses, optimizers, schedulers and inferers as components."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pydantic import ConfigDict, Field, PositiveInt, PrivateAttr, model_validator

from voxflow.components.learning.inferers import Inferer
from voxflow.components.learning.optimizers import Optimizer, Policy
from voxflow.components.losses.base import Loss
from voxflow.components.monai.names import check_arguments, lookup, modern
from voxflow.components.monai.names import parameters as parameters_of
from voxflow.components.networks.base import Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from voxflow.components.losses.base import LossFunction
    from voxflow.components.registry import ComponentModel, Kind

OPEN = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
# Total strides that no argument states.
STRIDES = {"BasicUNet": 16, "BasicUnet": 16, "VNet": 16, "AHNet": 32, "UNETR": 16, "SwinUNETR": 32, "HighResNet": 1}
# Schedulers whose rates are absolute or follow a metric; a factor of the first rate can't say them.
NOT_FACTORS = ("OneCycleLR", "CyclicLR", "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler", "MultiplicativeLR")


class MonaiNetwork(Network):
    """Any network of ``monai.networks.nets`` that answers with logits; its arguments are MONAI's."""

    model_config = OPEN
    target: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _modern(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not cls.target:
            return given
        made = modern(given, cls._takes())
        if "num_classes" not in made and "out_channels" in made:
            made["num_classes"] = made["out_channels"]
        return made

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.target:
            check_arguments(
                "network", self.target, self.model_extra or {}, ("in_channels", "out_channels", "num_classes")
            )
            out = (self.model_extra or {}).get("out_channels")
            if out is not None and self.num_classes is not None and out != self.num_classes:
                raise ValueError(f"out_channels is {out}, but {self.num_classes} classes are learnt")
        return self

    @classmethod
    def _takes(cls) -> set[str]:
        return set(parameters_of(lookup("network", cls.target))[0])

    def build(self) -> torch.nn.Module:
        """Build MONAI's network."""
        takes, args = self._takes(), dict(self.model_extra or {})
        counts = {"in_channels": self.in_channels, "out_channels": self.num_classes, "num_classes": self.num_classes}
        filled = {name: value for name, value in counts.items() if name in takes and value is not None}
        return cast("torch.nn.Module", lookup("network", self.target)(**{**filled, **args}))

    @property
    def spatial_dims(self) -> int:
        """What the configuration says; 3 when it says nothing."""
        return int((self.model_extra or {}).get("spatial_dims", 3))

    @property
    def divisor(self) -> int:
        """The total stride, as far as the arguments tell."""
        args = self.model_extra or {}
        if isinstance(args.get("strides"), list):
            steps = [step if isinstance(step, list) else [step] * self.spatial_dims for step in args["strides"]]
            return max(int(math.prod(axis)) for axis in zip(*steps, strict=True))
        if self.target == "SegResNet":
            return int(2 ** (len(args.get("blocks_down", (1, 2, 2, 4))) - 1))
        return STRIDES.get(self.target, 1)


class MonaiLoss(Loss):
    """Any loss of ``monai.losses`` or ``torch.nn``; its arguments are MONAI's."""

    model_config = OPEN
    target: ClassVar[str] = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.target:
            check_arguments("loss", self.target, self.model_extra or {})
        return self

    @property
    def activation(self) -> str:
        """What it turns logits into probabilities with; empty when it does not say."""
        args = self.model_extra or {}
        if args.get("sigmoid") or self.target == "BCEWithLogitsLoss":
            return "sigmoid"
        return "softmax" if args.get("softmax") or self.target == "CrossEntropyLoss" else ""

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build it; masks of class indices reach it as it wants them."""
        del activation, label_format
        loss: Any = lookup("loss", self.target)(**(self.model_extra or {}))
        is_cross_entropy = self.target in ("CrossEntropyLoss", "NLLLoss")

        def judged(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            if is_cross_entropy:
                label = (label[:, 0] if label.ndim > 1 and label.shape[1] == 1 else label).long()
            elif not (self.model_extra or {}).get("to_onehot_y"):
                label = label.to(logits.dtype)
            value: torch.Tensor = loss(logits, label)
            return value

        return judged


class MonaiOptimizer(Optimizer):
    """Any optimizer of ``torch.optim`` or ``monai.optimizers``."""

    model_config = OPEN
    target: ClassVar[str] = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.target:
            check_arguments("optimizer", self.target, self.model_extra or {}, ("params", "lr", "weight_decay"))
        return self

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Build it; both numbers hold where the configuration gave none of its own."""
        found = lookup("optimizer", self.target)
        takes, _ = parameters_of(found)
        settings = {name: value for name, value in self.settings(lr, weight_decay).items() if name in takes}
        if self.weight_decay is None and not weight_decay:
            settings.pop("weight_decay", None)  # the class's own default, which is not always 0
        return cast("torch.optim.Optimizer", found(parameters, **settings, **(self.model_extra or {})))


class MonaiPolicy(Policy):
    """Any scheduler of ``torch.optim.lr_scheduler`` or ``monai.optimizers`` whose rates are factors of the first.

    Attributes:
        training_epochs: of the whole training; tells an epoch's end.
        by_epoch: it is stepped once an epoch, as MONAI's handler does by default; else every iteration.
    """

    model_config = OPEN
    target: ClassVar[str] = ""
    _factors: list[float] = PrivateAttr(default_factory=list)
    _scheduler: Any = PrivateAttr(default=None)

    training_epochs: PositiveInt = 1
    by_epoch: bool = Field(default=True)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.target in NOT_FACTORS:
            raise ValueError("its rates can't be said as factors of the first one; use another scheduler")
        if self.target:
            check_arguments("lr_policy", self.target, self.model_extra or {}, ("optimizer",))
        return self

    def factor(self, step: int, total: int) -> float:
        """The scheduler's rate after so many of its steps, with a first rate of 1."""
        count = step * self.training_epochs // total if self.by_epoch else step
        while len(self._factors) <= count:
            self._factors.append(self._next())
        return self._factors[count]

    def _next(self) -> float:
        import torch

        if self._scheduler is None:
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            self._scheduler = lookup("lr_policy", self.target)(optimizer, **(self.model_extra or {}))
        else:
            self._scheduler.optimizer.step()
            self._scheduler.step()
        return float(self._scheduler.optimizer.param_groups[0]["lr"])


class MonaiInferer(Inferer):
    """Any inferer of ``monai.inferers``; its arguments are MONAI's."""

    model_config = OPEN
    target: ClassVar[str] = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.target:
            check_arguments("inferer", self.target, self.model_extra or {})
        return self

    @property
    def roi_size(self) -> tuple[int, ...] | None:
        """The window in voxels; None when the whole image goes through at once."""
        size = (self.model_extra or {}).get("roi_size")
        return tuple(size) if isinstance(size, list) else None

    @property
    def overlap(self) -> float:
        """Share of a window that neighbours share."""
        return float((self.model_extra or {}).get("overlap", 0.25))

    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        # What is shown to the network keeps no affine, which every layer would carry along.
        args = {name: value for name, value in (self.model_extra or {}).items() if name not in ("device", "sw_device")}
        return cast("torch.Tensor", lookup("inferer", self.target)(**args)(inputs=image, network=network))


ADAPTERS: dict[Kind, type[ComponentModel]] = {
    "network": MonaiNetwork,
    "loss": MonaiLoss,
    "optimizer": MonaiOptimizer,
    "lr_policy": MonaiPolicy,
    "inferer": MonaiInferer,
}
