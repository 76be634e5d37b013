"""What an engine is: a loaded model that runs (Engine), and all that is particular to one engine (EngineKind).

A module of this package holds one of each. Nothing else in Voxflow knows an engine's file, package or device: it asks
the catalogue, which lists the kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from voxflow.engines.files import list_network_files
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from voxflow.engines.options import WriteOptions
    from voxflow.engines.source import ExportSource
    from voxflow.spec import ModelSpec


class Engine(ABC):
    """A loaded model; an engine's class derives from it, and so inherits what it need not change.

    Attributes:
        name: which engine it is, as the catalogue names it.
        spec: what the model file says of itself.
        is_local: whether a voxel's answer depends on a bounded neighbourhood alone, as with plain convolutions and
            batch norm; instance norm, say, averages over the window, so that a larger one changes every answer.
        smallest: least spatial size (i, j, k) or (rows, columns) of an input; None: no bound but the divisor.
        largest: greatest one; equal to ``smallest`` where the file allows one size only.
        batch: how many windows it takes at a time where memory allows; 1 where more are no faster.
        device: the device whose torch tensors it takes and gives, such as "cuda"; None: it takes NumPy arrays alone.
        previous: of a cascade, what runs its first stage: one engine, or several that answer together; empty: there is
            none, or it can't be run.
        parts: of a joined model, what runs each of its parts; empty: it is none, or they can't be run.
    """

    name: str
    spec: ModelSpec
    is_local: bool
    smallest: tuple[int, ...] | None = None
    largest: tuple[int, ...] | None = None
    batch: int = 1
    device: str | None = None
    previous: tuple[Engine, ...] = ()
    parts: tuple[Engine, ...] = ()

    @property
    def members(self) -> tuple[Engine, ...]:
        """The models that answer together: of an ensemble each one, else the engine itself."""
        return (self,)

    @abstractmethod
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map an input to logits.

        Args:
            batch: (batch, channel, i, j, k) or (batch, channel, rows, columns).

        Returns:
            (batch, class, i, j, k), or (batch, class) for a classification. An engine may hand out the same memory
            at every call, so that who keeps an answer copies it.
        """

    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """Map an input to logits without leaving the device; engines with a ``device`` can.

        Args:
            batch: (batch, channel, i, j, k) or (batch, channel, rows, columns), float32, on ``device``.

        Returns:
            (batch, class, ...), on the same device, float32 or less precise.
        """
        raise NotImplementedError(f"{self.name} takes no tensors")

    def on_processor(self) -> Engine:
        """Return the same model on the processor, for an image that a GPU has no memory for.

        Raises:
            DataError: the file runs on a GPU alone.
        """
        if self.device in (None, "cpu"):
            return self
        raise DataError(f"the GPU has too little free memory, and {self.name} does not run on the processor")

    def release_memory(self) -> None:  # noqa: B027 - most engines hold nothing
        """Give back what the last image took, where another network runs before the next one."""

    def expect(self, shape: tuple[int, ...]) -> None:  # noqa: B027 - most engines have nothing to prepare
        """Get ready for inputs to come; called from another thread, and returns at once.

        Args:
            shape: (batch, channel, i, j, k), known before the image itself is read and prepared.
        """


class EngineKind(ABC):
    """One engine: how its file is written, opened and named, what it computes on, and whether it can run here.

    Attributes:
        name: as ``engine:`` in params.yaml names it, such as "openvino".
        title: as a sentence names it, such as "OpenVINO".
        file: its file in a folder of exported models, such as "model.xml". No other kind's file ends alike; of two
            endings that fit, as ".rtx.engine" and ".engine", the longer one counts.
        format: as ``engines:`` of the stage export names it; None: nothing is exported, the checkpoint itself is run.
        package: the module that Python imports for it; :meth:`explain_unavailable` says what pip installs.
        variants: other ways to run the same file, such as "torch-bf16". They are not taken unasked, but for what
            :meth:`open_fastest` compares first.
        is_optimised: whether an MMAR knows its file as the optimised model (.trt), and not as the regular export
            (.fzn).
        is_portable: whether its file runs on other machines than the one that wrote it.
        is_reproducible: whether the same model gives the same bytes; else its file does not tell models apart.
        is_compared_at_first_use: whether each machine compares it with the ONNX file, which then stays beside it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    file: ClassVar[str]
    format: ClassVar[str | None] = None
    package: ClassVar[str]
    variants: ClassVar[tuple[str, ...]] = ()
    is_optimised: ClassVar[bool] = False
    is_portable: ClassVar[bool] = True
    is_reproducible: ClassVar[bool] = True
    is_compared_at_first_use: ClassVar[bool] = False

    @property
    def suffix(self) -> str:
        """The ending of its files, such as ".xml"."""
        return self.file[self.file.index(".") :]

    def explain_unavailable(self) -> str | None:
        """Say why no model can run on this machine; None when all is there.

        Returns:
            What is missing and what would help, as in "the engine tensorrt can't run here: torch sees no NVIDIA GPU".
            "auto" passes it over.
        """
        return None if find_spec(self.package) else f"{self.package} is not installed (pip install {self.package})"

    def explain_unwritable(self) -> str | None:
        """Say why no model can be written on this machine; None when all is there.

        Returns:
            A reason, with which the export leaves the engine out. Most engines write where they run.
        """
        return self.explain_unavailable()

    def explain_unfit(self, file: Path) -> str | None:
        """Say why this very file can't run on this machine, though the engine can; None when it fits.

        Args:
            file: of this kind; it is not loaded.

        Returns:
            A reason that a person is told, since another engine, a slower one, takes its place.
        """
        return None

    def uses_gpu(self) -> bool:
        """Tell whether a model would compute on a GPU of this machine.

        "auto" takes such engines before all that compute on the processor.
        """
        return False

    def list_sidecars(self, file: Path) -> tuple[Path, ...]:
        """List the files that belong to a model file and lie beside it.

        Args:
            file: of any name and folder, whether it is there or not.

        Returns:
            Such as model.bin for model.xml. They are moved, removed and digested with it.
        """
        return ()

    def list_files(self, file: Path) -> tuple[Path, ...]:
        """List all files of a model that are there.

        Args:
            file: of any name and folder.

        Returns:
            The file, what belongs to it, and the same of each further network of the model.
        """
        networks = (file, *list_network_files(file))
        places = (place for network in networks for place in (network, *self.list_sidecars(network)))
        return tuple(place for place in places if place.is_file())

    def pair_files(self, file: Path, target: Path) -> list[tuple[Path, Path]]:
        """Pair each file of a model with its place under another name, such as model.bin with model.trt.bin.

        Args:
            file: the model's.
            target: what it is called there.

        Returns:
            The model file itself is the last pair: what belongs to it must be there when somebody opens it.
        """
        start, end = file.name.partition(".")[0], target.name.partition(".")[0]
        ending, new_ending = file.name[len(start) :], target.name[len(end) :]
        pairs = []
        for network in (*list_network_files(file), file):
            place = target.with_name(end + network.name[len(start) : len(network.name) - len(ending)] + new_ending)
            both = zip((*self.list_sidecars(network), network), (*self.list_sidecars(place), place), strict=True)
            pairs += [(source, new) for source, new in both if source.is_file()]
        return pairs

    @abstractmethod
    def open(self, file: Path, variant: str | None = None) -> Engine:
        """Load a model.

        Args:
            file: of this kind.
            variant: one of ``variants``; None: the engine as it is.

        Raises:
            DataError: the file holds no Voxflow model.
        """

    def open_uncompared(self, file: Path) -> Engine:
        """Load a model as it is, for a comparison with torch: what answers must be the file itself.

        Args:
            file: of this kind.

        Raises:
            DataError: the file holds no Voxflow model.
        """
        return self.open(file)

    def open_fastest(self, file: Path) -> Engine:
        """Load a model for "auto": in the way that is fastest on this machine and has been compared here.

        Args:
            file: of this kind.

        Raises:
            DataError: the file holds no Voxflow model.
        """
        return self.open(file)

    def write(self, source: ExportSource) -> None:
        """Write the model in float32 to ``file`` in the source's folder; kinds with a ``format`` can.

        Raises:
            VoxflowError: the network can't be expressed in this format.
        """
        raise NotImplementedError(f"{self.name} writes no file")

    def read_precision(self, options: WriteOptions) -> str:
        """Say which precision the options ask for.

        Returns:
            "fp32", or one that :meth:`write_reduced` can write; such a model is made after the one in float32, and
            published where its masks are near enough.
        """
        return "fp32"

    def is_calibrated(self, precision: str) -> bool:
        """Tell whether a model of this precision is made with samples of real images.

        Where there is no case to take them from, it is left out.
        """
        return False

    def explain_no_precision(self, precision: str, source: ExportSource) -> str | None:
        """Say why a model of this precision can't be written here; None when it can.

        Args:
            precision: as :meth:`read_precision` gave it.
            source: what it would be made from.
        """
        return None

    def write_reduced(
        self, source: ExportSource, file: Path, precision: str, samples: Sequence[NDArray[np.float32]]
    ) -> None:
        """Write a model of less precision; the one in float32 lies in ``source.folder``.

        Args:
            source: what it is made from.
            file: the new one, in another folder.
            precision: as :meth:`read_precision` gave it.
            samples: inputs (1, channel, *space) to calibrate on; none where the precision needs none.
        """
        raise NotImplementedError(f"{self.name} has one precision")
