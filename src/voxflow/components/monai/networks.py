"""MONAI's networks as components."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import model_validator

from voxflow.components.monai.names import MonaiAdapter, adapts, modernise_arguments
from voxflow.components.networks.base import Network

if TYPE_CHECKING:
    import torch

# Total strides that no argument states.
STRIDES = {"BasicUNet": 16, "BasicUnet": 16, "VNet": 16, "AHNet": 32, "UNETR": 16, "SwinUNETR": 32, "HighResNet": 1}


@adapts("network")
class MonaiNetwork(Network, MonaiAdapter):
    """Any network of ``monai.networks.nets`` that answers with logits; its arguments are MONAI's."""

    filled: ClassVar[tuple[str, ...]] = ("in_channels", "out_channels", "num_classes")

    @model_validator(mode="before")
    @classmethod
    def _modernise(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not cls.target:
            return values
        arguments = modernise_arguments(values, cls.parameter_names())
        if "num_classes" not in arguments and "out_channels" in arguments:
            arguments["num_classes"] = arguments["out_channels"]
        return arguments

    def check_arguments(self) -> None:
        """Hold the arguments against the network's constructor, and its channels against the classes."""
        super().check_arguments()
        out = self.arguments.get("out_channels")
        if out is not None and self.num_classes is not None and out != self.num_classes:
            raise ValueError(f"out_channels is {out}, but {self.num_classes} classes are learnt")
        self._check_lists()

    def _check_lists(self) -> None:
        """Check the arguments that sizes are computed from, which MONAI would only stumble over when it builds."""
        args, dims = self.arguments, self.arguments.get("spatial_dims", 3)
        if not isinstance(dims, int) or isinstance(dims, bool) or dims not in (1, 2, 3):
            raise ValueError(f"spatial_dims is 1, 2 or 3, not {dims!r}")
        strides = args.get("strides", [])
        steps = strides if isinstance(strides, list) else [strides]
        for step in steps:
            axes = step if isinstance(step, list) else [step] * dims
            if len(axes) != dims or not all(isinstance(n, int) and n > 0 for n in axes):
                raise ValueError(f"strides are whole numbers, or {dims} of them for each level; received {step!r}")
        channels = args.get("channels")
        if "strides" in args and isinstance(channels, list) and len(steps) != len(channels) - 1:
            needed = f"{len(channels)} channels need {len(channels) - 1} strides"
            raise ValueError(f"{needed}, not {len(steps)}")
        if not isinstance(args.get("blocks_down", []), list):
            raise ValueError(f"blocks_down is a list, not {args['blocks_down']!r}")

    def build(self) -> torch.nn.Module:
        """Build MONAI's network."""
        takes, args = self.parameter_names(), self.arguments
        counts = {"in_channels": self.in_channels, "out_channels": self.num_classes, "num_classes": self.num_classes}
        filled = {name: value for name, value in counts.items() if name in takes and value is not None}
        return cast("torch.nn.Module", self.find_target()(**{**filled, **args}))

    @property
    def spatial_dims(self) -> int:
        """What the configuration says; 3 when it says nothing."""
        return int(self.arguments.get("spatial_dims", 3))

    @property
    def divisor(self) -> int:
        """The total stride, as far as the arguments tell."""
        args = self.arguments
        if isinstance(args.get("strides"), list):
            steps = [step if isinstance(step, list) else [step] * self.spatial_dims for step in args["strides"]]
            return max(int(math.prod(axis)) for axis in zip(*steps, strict=True))
        if self.target == "SegResNet":
            return int(2 ** (len(args.get("blocks_down", (1, 2, 2, 4))) - 1))
        return STRIDES.get(self.target, 1)
