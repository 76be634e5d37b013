"""Runs an image through a model with the inferer of an MMAR's configuration: as a window plan, or called directly.

Clara's two inferers, and those of MONAI that do the same, become the plan of windows that every other way to a mask
takes. Any other inferer, such as a user's own, is called with the network and the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.components import MonaiInferer, TFScanWindowInferer, TFSimpleInferer, create
from voxflow.errors import ConfigError
from voxflow.prediction import PredictOptions, predict_logits, require_channels
from voxflow.volumes import require_finite

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from voxflow.components import Inferer
    from voxflow.config import Evaluation
    from voxflow.engines import Engine
    from voxflow.spec import ModelSpec

Setup = Literal["scanning_window", "standard"]
# Arguments of MONAI's SlidingWindowInferer that a window plan can say, and the options that say two of them.
PLANNED = {"roi_size": "", "overlap": "", "sw_batch_size": "batch", "mode": "blend"}


@dataclass(frozen=True)
class Passage:
    """How images go through a model.

    Attributes:
        engine: the model.
        options: plan, blending and memory.
        spec: size and overlap of the windows; None: the whole image at once.
        inferer: what is called in their place; None: nothing.
    """

    engine: Engine
    options: PredictOptions
    spec: ModelSpec | None = None
    inferer: Inferer | None = None

    @classmethod
    def build(cls, evaluation: Evaluation, engine: Engine, setup: Setup | None) -> Passage:
        """Read how images go through the model.

        Args:
            evaluation: its inferer is taken, where it has one.
            engine: the model.
            setup: what is done where it has none; None: windows of the training's size for volumes, the whole image
                for radiographs.

        Raises:
            ConfigError: the window does not fit the model.
        """
        if evaluation.inferer is not None:
            inferer: Inferer = create("inferer", evaluation.inferer)
        elif engine.spec.window is None or "standard" in (setup, _read_setup(evaluation)):
            inferer = TFSimpleInferer()
        else:
            inferer = TFScanWindowInferer(roi_size=engine.spec.window, overlap=engine.spec.overlap)
        roi, axes = getattr(inferer, "roi_size", None), 3 if engine.spec.task == "segmentation" else 2
        is_of_slices = getattr(inferer, "target", "") == "SliceInferer"
        if isinstance(roi, list | tuple) and len(roi) != axes and not is_of_slices:
            message = f"{list(roi)} has {len(roi)} axes, and the model's images have {axes}"
            raise ConfigError(message, path=evaluation.path, where="inferer.args.roi_size")
        passage = cls._plan(engine, inferer)
        if passage.spec is not None and passage.spec.window is not None:
            _check_window(passage.spec.window, engine, evaluation)
        return passage

    @classmethod
    def _plan(cls, engine: Engine, inferer: Inferer) -> Passage:
        whole = PredictOptions(plan="whole")
        match inferer:
            case TFScanWindowInferer():
                # Windows of the size that the configuration states, also where memory would allow larger ones.
                options = PredictOptions(plan="windows", batch=inferer.batch_size)
                return cls(engine, options, _with_windows(engine, inferer.roi_size, inferer.overlap))
            case TFSimpleInferer():
                return cls(engine, whole)
            case MonaiInferer() if inferer.target == "SimpleInferer" and not inferer.model_extra:
                return cls(engine, whole)
            case MonaiInferer() if inferer.roi_size is not None and _is_plannable(inferer):
                # MONAI's windows count alike where they overlap, unless told otherwise.
                arguments = {"blend": "constant", "batch": 1} | {
                    PLANNED[name]: value for name, value in (inferer.model_extra or {}).items() if PLANNED[name]
                }
                options = PredictOptions.model_validate({"plan": "windows", **arguments})
                return cls(engine, options, _with_windows(engine, inferer.roi_size, inferer.overlap))
        return cls(engine, whole, inferer=inferer)

    def compute_logits(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Show the model an image.

        Args:
            image: (channel, ...spatial), after the configuration's transforms.

        Returns:
            (class, ...spatial) of a volume, (class,) of a radiograph.

        Raises:
            DataError: values that are no numbers, or another number of channels than the network takes.
        """
        spec = self.engine.spec
        if self.inferer is None and spec.task == "segmentation":
            # A window of the image's own size: one smaller than the training's is not padded up to that.
            windows = self.spec or _with_windows(self.engine, image.shape[1:], spec.overlap)
            return predict_logits(self.engine, image, self.options, spec=windows)
        require_finite(image)
        require_channels(image, spec)
        if self.inferer is not None:
            return self._ask_inferer(self.inferer, image)
        return np.array(self.engine.run(image[None])[0])

    def _ask_inferer(self, inferer: Inferer, image: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        return inferer.infer(self._network(), torch.from_numpy(image)[None])[0].numpy()

    def _network(self) -> Any:
        """The engine as a torch function; sizes that the network can't halve often enough are filled up with zeros."""
        import torch

        def run(batch: torch.Tensor) -> torch.Tensor:
            array = batch.numpy()
            if self.engine.spec.task == "classification":
                return torch.from_numpy(np.array(self.engine.run(array)))
            space = array.shape[2:]
            padding = [(0, n - side) for n, side in zip(self.engine.spec.round_up(space), space, strict=True)]
            padded = np.pad(array, [(0, 0), (0, 0), *padding]) if any(behind for _, behind in padding) else array
            logits = self.engine.run(padded)
            inside: tuple[Any, ...] = (..., *(slice(side) for side in space))
            return torch.from_numpy(np.array(logits[inside]))

        return run


def _read_setup(evaluation: Evaluation) -> Setup | None:
    """What ``use_scanning_window`` asks for, where the file has no inferer."""
    if evaluation.use_scanning_window is None:
        return None
    return "scanning_window" if evaluation.use_scanning_window else "standard"


def _is_plannable(inferer: MonaiInferer) -> bool:
    """Whether a window plan says all that an inferer of MONAI's is told."""
    arguments, roi = inferer.model_extra or {}, inferer.roi_size or ()
    is_sliding_window = inferer.target == "SlidingWindowInferer" and not arguments.keys() - PLANNED.keys()
    return is_sliding_window and len(roi) == 3 and min(roi) > 0 and isinstance(inferer.overlap, float)


def _with_windows(engine: Engine, window: tuple[int, ...], overlap: float) -> ModelSpec:
    return engine.spec.model_copy(update={"window": tuple(window), "overlap": overlap})


def _check_window(roi: tuple[int, ...], engine: Engine, evaluation: Evaluation) -> None:
    """Say in one line what an engine would say in many: it takes sizes in a range, and multiples of its stride."""
    least, most = engine.smallest, engine.largest
    if least and most and not all(low <= side <= high for low, side, high in zip(least, roi, most, strict=True)):
        sizes = f"{list(least)}" if least == most else f"{list(least)} to {list(most)}"
        message = f"{list(roi)}, but the {engine.name} engine takes {sizes}"
        raise ConfigError(message, path=evaluation.path, where="inferer.args.roi_size")
