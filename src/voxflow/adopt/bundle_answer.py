"""Reads a bundle's inferer and post-processing: windows, activation, the way back, and what the channels mean."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from voxflow.adopt.bundle_steps import plain_transform, read_names, read_of, refuse, require_known
from voxflow.errors import ConfigError
from voxflow.spec import MonaiCleaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.bundle import BundlePart

WINDOWED = {"SlidingWindowInferer", "SlidingWindowInfererAdapt"}
# Of the classes of BraTS the label values, as MONAI's ConvertToMultiChannelBasedOnBratsClasses reads them.
BRATS = {"tumor core": (1, 4), "whole tumor": (1, 2, 4), "enhancing tumor": (4,)}
BRATS_SHORT = {"tc": "tumor core", "wt": "whole tumor", "et": "enhancing tumor"}
_INFERER: dict[str, tuple[Any, ...] | None] = {
    "roi_size": None, "overlap": None, "mode": ("constant", "gaussian"), "padding_mode": ("constant", "replicate"),
    "sigma_scale": (0.125,), "cval": (0, 0.0), "with_coord": (False,), "sw_batch_size": None, "sw_device": None,
    "device": None, "progress": None, "cache_roi_weight_map": None, "cpu_thresh": None, "buffer_steps": None,
    "buffer_dim": None,
}  # fmt: skip
_INVERT: dict[str, tuple[Any, ...] | None] = {
    "transform": None, "orig_keys": None, "orig_meta_keys": None, "nearest_interp": None, "to_tensor": None,
    "device": None, "post_func": (None,),
}  # fmt: skip
# Of each transform that cleans a mask, the arguments that are known.
_CLEANING: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "KeepLargestConnectedComponent": {"applied_labels": None, "independent": (True,), "connectivity": (None, 3),
                                      "num_components": (1,), "is_onehot": (None, False)},
    "FillHoles": {"applied_labels": None, "connectivity": (None, 1, 2, 3)},
    "RemoveSmallObjects": {"min_size": None, "connectivity": (None, 1, 2, 3), "independent_channels": (True, False),
                           "by_measure": (True, False), "pixdim": None},
}  # fmt: skip
PREDICTION = ("pred",)
_PASSING = {"EnsureType", "ToTensor", "CastToType", "SelectItems", "DeleteItems", "ToDevice", "Identity", "SqueezeDim"}


@dataclass(frozen=True)
class Windows:
    """How a bundle shows a network an image.

    Attributes:
        size: voxels (i, j, k); None: the whole image.
        overlap: share that neighbours share.
        blend: how they are weighted.
        padding: what surrounds a smaller image.
    """

    size: tuple[int, int, int] | None = None
    overlap: float = 0.25
    blend: Literal["constant", "gaussian"] = "constant"
    padding: Literal["constant", "replicate"] = "constant"


def read_inferer(part: BundlePart | None) -> Windows:
    """Read an inferer.

    Raises:
        ConfigError: it is none of MONAI's, or one of its arguments can't be adopted.
    """
    if part is None or part.name == "SimpleInferer":
        return Windows()
    if part.name not in WINDOWED:
        raise ConfigError(f"{part.name}: no inferer that can be adopted, needs SlidingWindowInferer", where=part.place)
    require_known(part, _INFERER)
    roi = part.read("roi_size")
    sides = roi if isinstance(roi, list) else [roi] * 3
    if len(sides) == 2:
        refuse(part, "roi_size", "the network is shown planes, and models of two dimensions can't be adopted")
    if len(sides) != 3 or not all(isinstance(side, int) and 0 < side <= 1024 for side in sides):
        refuse(part, "roi_size", "needs three sides in voxels, from 1 to 1024")
    overlap = part.read("overlap", 0.25)
    shares = overlap if isinstance(overlap, list) else [overlap]
    if len(set(shares)) != 1 or not isinstance(shares[0], int | float) or not 0 <= shares[0] < 1:
        refuse(part, "overlap", "needs one share below 1 for all axes")
    i, j, k = sides
    return Windows((i, j, k), float(shares[0]), part.read("mode", "constant"), part.read("padding_mode", "constant"))


@dataclass
class Answer:
    """What a bundle makes of a network's answer.

    Attributes:
        classes: channels of it.
        preprocessing: id of the pre-processing, which Invertd goes back.
        activation: "softmax", "sigmoid", or "" where there is none.
        kind: how the class is chosen: "argmax", "threshold", or "" as long as none is.
        back: what is brought to the image's grid; "" as long as nothing is.
        values: of each channel the label value that it writes, the last one over those before; where a Lambda says so.
        cleaning: what is done to the mask, in this order.
        is_onehot: whether it has a channel for each class by then.
        key: the field whose way to the network is gone back.
        notes: what the masks differ by from the bundle's files.
    """

    classes: int
    preprocessing: str = ""
    activation: Literal["softmax", "sigmoid", ""] = ""
    kind: Literal["argmax", "threshold", ""] = ""
    back: Literal["labels", "probabilities", "logits", ""] = ""
    values: tuple[tuple[int, int], ...] = ()
    cleaning: tuple[MonaiCleaning, ...] = ()
    is_onehot: bool = False
    key: str = ""
    notes: tuple[str, ...] = ()

    def add(self, part: BundlePart) -> None:
        """Take in the next transform.

        Raises:
            ConfigError: it, or one of its arguments, is none that a model file can hold.
        """
        name = plain_transform(part.name)
        steps = {
            "Activations": self._activate,
            "AsDiscrete": self._discretise,
            "Invert": self._invert,
            **dict.fromkeys(_CLEANING, self._clean),
            "Lambda": self._combine,
            "SaveImage": self._save,
        }
        if "keys" in part.arguments and not set(read_names(part, "keys")) & set(PREDICTION):
            return
        if name in steps:
            steps[name](part)
        elif name not in _PASSING:
            raise ConfigError(f"{part.name}: no post-processing that a model file can hold", where=part.place)

    def _activate(self, part: BundlePart) -> None:
        require_known(
            part, {"softmax": (True, False, None), "sigmoid": (True, False, None), "other": (None,)}, PREDICTION
        )
        if self.kind:
            refuse(part, "softmax", "the class has been chosen by then")
        if read_of(part, "softmax", PREDICTION):
            self.activation = "softmax"
        elif read_of(part, "sigmoid", PREDICTION):
            self.activation = "sigmoid"

    def _discretise(self, part: BundlePart) -> None:
        known = {"argmax": None, "threshold": (None, 0.5), "to_onehot": None, "rounding": (None,), "dtype": None}
        require_known(part, known, PREDICTION)
        argmax, threshold = (read_of(part, key, PREDICTION) for key in ("argmax", "threshold"))
        if argmax is True and threshold is None and not self.kind:
            self.kind = "argmax"
        elif not argmax and threshold == 0.5 and not self.kind:
            self.kind = "threshold"
        else:
            refuse(part, "argmax", "needs either argmax or a threshold of 0.5, once")
        if read_of(part, "to_onehot", PREDICTION):
            self.is_onehot = True
            self.notes += ("a mask holds one label a voxel, where the bundle writes a channel for each",)

    def _invert(self, part: BundlePart) -> None:
        require_known(part, _INVERT)
        if self.back:
            refuse(part, "transform", "the answer is brought back once")
        transform = part.read("transform")
        if getattr(transform, "place", None) != self.preprocessing:
            refuse(part, "transform", f"the way back is that of {self.preprocessing or 'a Compose'}")
        self.key = read_of(part, "orig_keys", PREDICTION)
        is_nearest = read_of(part, "nearest_interp", PREDICTION, default=True)
        if not isinstance(is_nearest, bool):
            refuse(part, "nearest_interp", "needs true or false")
        if self.kind or is_nearest:
            self.back = "labels"
        else:
            self.back = "probabilities" if self.activation else "logits"
        if self.kind and not is_nearest:
            self.notes += (
                "labels are brought back by the nearest voxel, where the bundle interpolates them as numbers "
                f"({part.place}: nearest_interp is false behind AsDiscrete)",
            )

    def _clean(self, part: BundlePart) -> None:
        name = plain_transform(part.name)
        require_known(part, _CLEANING[name])
        if self.kind != "argmax":
            raise ConfigError(f"{part.name}: needs to stand behind AsDiscrete with argmax", where=part.place)
        if self.is_onehot and name != "KeepLargestConnectedComponent":
            raise ConfigError(f"{part.name}: behind to_onehot, where classes may overlap", where=part.place)
        step: dict[str, Any] = {"is_before": not self.back}
        if name == "RemoveSmallObjects":
            self.cleaning += (self._read_small(part, step),)
            return
        values = self._read_applied(part)
        if name == "FillHoles":
            step |= {"connectivity": part.read("connectivity") or 3}
            self.cleaning += (MonaiCleaning(kind="fill_holes", values=values, **step),)
        else:
            every = tuple(range(1, self.classes))
            self.cleaning += (MonaiCleaning(kind="largest", values=values or every, **step),)

    def _read_applied(self, part: BundlePart) -> tuple[int, ...]:
        """The label values that a mask is cleaned of; empty: all."""
        labels = part.read("applied_labels")
        if labels is None:
            return ()
        values = labels if isinstance(labels, list) else [labels]
        if not values or not all(isinstance(value, int) and 0 < value < self.classes for value in values):
            refuse(part, "applied_labels", f"needs label values from 1 to {self.classes - 1}")
        return tuple(values)

    def _read_small(self, part: BundlePart, step: dict[str, Any]) -> MonaiCleaning:
        least = part.read("min_size", 64)
        if not isinstance(least, int | float) or isinstance(least, bool) or least < 0:
            refuse(part, "min_size", "needs a number of voxels, or of mm³")
        return MonaiCleaning(
            kind="small_objects",
            least=float(least),
            in_mm3=part.read("by_measure", False),
            is_joint=not part.read("independent_channels", True),
            connectivity=part.read("connectivity", 1) or 1,
            **step,
        )

    def _combine(self, part: BundlePart) -> None:
        text = part.content.get("func")
        values = read_priorities(text, self.classes) if isinstance(text, str) else ()
        if not values or self.kind != "threshold":
            refuse(part, "func", "it is code, and none of a bundle is run when it is adopted")
        self.values = values

    def _save(self, part: BundlePart) -> None:
        if not self.kind:
            raise ConfigError(f"{part.name}: saves no mask, as no AsDiscrete stands before it", where=part.place)

    def finish(self, part: BundlePart, moved_keys: Sequence[tuple[str, ...]]) -> None:
        """Judge the whole.

        Args:
            part: the post-processing.
            moved_keys: of each transform of the pre-processing that changes the grid, the fields that it changes.

        Raises:
            ConfigError: it makes no mask that Voxflow could make.
        """
        if not self.kind:
            raise ConfigError("makes no mask: no AsDiscrete chooses a class", where=part.place)
        if not self.back and moved_keys:
            # What MONAI's writer makes of it depends on its version.
            raise ConfigError("leaves the mask on the network's grid: no Invertd stands in it", where=part.place)
        if self.back and any(self.key not in keys for keys in moved_keys):
            message = f"Invertd goes back the way of the field {self.key!r}, and not that of all transforms of the grid"
            raise ConfigError(message, where=part.place)
        self.back = self.back or "probabilities"
        if self.kind == "argmax":
            if self.activation == "sigmoid" and self.back == "probabilities" and moved_keys:
                raise ConfigError("argmax of probabilities of a sigmoid can't be adopted", where=part.place)
            self.activation = "softmax"
            if self.classes == 1:
                raise ConfigError("argmax of one channel is always background", where=part.place)
        elif self.activation != "sigmoid":
            raise ConfigError("a threshold of 0.5 needs a sigmoid before it", where=part.place)

    def name_regions(self, names: Sequence[str], part: BundlePart) -> tuple[tuple[int, ...], ...]:
        """Find the label values of each channel, where channels may overlap; empty where they can't.

        Raises:
            ConfigError: nothing says them.
        """
        if self.kind == "argmax" or self.classes == 1:
            return ()
        if self.values:
            order = [channel for channel, _ in self.values]
            value = dict(self.values)
            # A channel that is written earlier is the larger region: it holds what is written over it.
            return tuple(
                (value[channel], *(value[later] for later in order[order.index(channel) + 1 :]))
                for channel in range(self.classes)
            )
        plain = [name.casefold().replace("tumour", "tumor") for name in names]
        regions = tuple(BRATS.get(BRATS_SHORT.get(name, name), ()) for name in plain)
        if all(regions):
            self.notes += ("a mask holds the labels 1, 2 and 4, where the bundle writes a channel for each region",)
            return regions
        message = (
            f"{self.classes} channels that may overlap, {', '.join(names[:6])}: nothing says what label each writes"
        )
        raise ConfigError(message, where=part.place)


def read_priorities(text: str, classes: int) -> tuple[tuple[int, int], ...]:
    """Read which channel writes which label, of a function of nested ``torch.where``; empty where it is another one.

    Args:
        text: of the expression.
        classes: channels of the answer.

    Returns:
        Channel and label value of each, the one that wins last.

    Example:
        >>> read_priorities("$lambda x: torch.where(x[[1]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))", 2)
        ((0, 1), (1, 4))
    """
    try:
        node: Any = ast.parse(text.removeprefix("$").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    if not isinstance(node, ast.Lambda) or len(node.args.args) != 1:
        return ()
    variable, node, pairs = node.args.args[0].arg, node.body, []
    while isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.where" and len(node.args) == 3:
        test, value, node = node.args
        channel = _read_channel(test, variable)
        if channel is None or not isinstance(value, ast.Constant) or not isinstance(value.value, int):
            return ()
        pairs.append((channel, value.value))
    is_whole = isinstance(node, ast.Constant) and node.value == 0
    values = [value for _, value in pairs]
    if not is_whole or sorted(channel for channel, _ in pairs) != list(range(classes)):
        return ()
    return tuple(reversed(pairs)) if len(set(values)) == classes and min(values) > 0 else ()


def _read_channel(test: ast.expr, variable: str) -> int | None:
    """The channel of ``x[[2]] > 0``, ``x[2:3] > 0`` or ``x[2] > 0``."""
    text = ast.unparse(test).replace(" ", "")
    for channel in range(32):
        forms = (f"[[{channel}]]", f"[{channel}:{channel + 1}]", f"[{channel}]", f"[[{channel}],...]")
        if text in {f"{variable}{form}{test}" for form in forms for test in (">0", ">0.5", "==1")}:
            return channel
    return None
