"""What is exported: one network, or those of a cascade or a joined model, each in a file of its own; and their parity.

Several networks are compared as a whole: the mask that they make together, on each case, is held against torch's. In
the same pass each network's logits are compared on windows that both are shown.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from voxflow.engines import Engine, ExportSource, join_networks, list_exported_kinds, name_network_file, read_place
from voxflow.export.parity import Agreement, Parity, largest_difference
from voxflow.prediction import PredictOptions, logits_to_probabilities, predict_prepared, prepare_image, show_previous

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import EngineKind, TorchEngine, WriteOptions
    from voxflow.spec import ModelSpec
    from voxflow.volumes import Volume

# Mirrored answers are averaged, which hides differences.
UNMIRRORED = PredictOptions(flips=())


@dataclass(frozen=True)
class ExportedModel:
    """The networks of the model that is exported.

    Attributes:
        sources: of each one, in a folder of its own where there are several; that of the model's own file is the first,
            and has the spec of the whole.
    """

    sources: tuple[ExportSource, ...]

    def write(self, kind: EngineKind) -> None:
        """Write the files of one engine.

        Raises:
            VoxflowError: a network can't be expressed in this format.
        """
        for source in self.sources:
            kind.write(source)

    def open(self, kind: EngineKind, folders: Sequence[Path] = ()) -> Engine:
        """Open the files of one engine, uncompared.

        Args:
            kind: the engine.
            folders: where each network's file lies; none: in its source's folder.
        """
        files = [folder / kind.file for folder in folders or [source.folder for source in self.sources]]
        return join_networks([kind.open_uncompared(file) for file in files], files[0])

    def remove(self, kind: EngineKind) -> None:
        """Remove the files of one engine."""
        for source in self.sources:
            for path in kind.list_files(source.folder / kind.file):
                path.unlink()

    def remove_unasked(self, formats: Collection[str]) -> None:
        """See :meth:`voxflow.engines.ExportSource.remove_unasked`."""
        for source in self.sources:
            source.remove_unasked(formats)

    def move_to(self, folder: Path) -> None:
        """Bring the files of several networks beside each other; what an earlier export left there goes."""
        for kind in list_exported_kinds():
            target = folder / kind.file
            for path in kind.list_files(target):
                path.unlink()
            # The model's own file comes last: the others must be there when somebody opens it.
            for number, source in reversed(list(enumerate(self.sources, 1))):
                place = target if number == 1 else name_network_file(target, number, len(self.sources))
                for file, new in kind.pair_files(source.folder / kind.file, place):
                    file.replace(new)


def list_networks(engine: Engine) -> tuple[Engine, ...]:
    """List the engines of a model's networks; that of the model's own file is the first."""
    return engine.parts or (engine, *engine.previous)


def make_sources(engine: TorchEngine, folder: Path, options: WriteOptions) -> ExportedModel:
    """Make the sources of a model of several networks, each with a new folder.

    Args:
        engine: torch's, with ``previous`` or ``parts``.
        folder: where the folders go.
        options: how files are written.
    """
    sources = []
    for number, network in enumerate(list_networks(engine), 1):
        place = folder / f"network{number}"
        place.mkdir()
        spec = engine.spec if number == 1 else network.spec
        sources.append(ExportSource(network.module, spec, place, options))  # type: ignore[attr-defined]
    return ExportedModel(tuple(sources))


@contextmanager
def lay_out_for_export(model: ExportedModel, device: str | None) -> Iterator[None]:
    """Bring a model's networks to the processor while files are written: they are the same wherever they are made.

    Args:
        model: whose networks the reference runs, too.
        device: where they run.
    """
    for source in model.sources:
        source.module.cpu()
        for weights in source.module.parameters():
            weights.data = weights.data.contiguous()  # a GPU has the channels last
    try:
        yield
    finally:
        for source in model.sources:
            source.module.to(device)


def prepare_inputs(cases: Sequence[Sequence[Volume]], engine: Engine) -> list[list[NDArray[np.float32]]]:
    """Prepare cases for each network of a model that has several.

    Args:
        cases: images of each.
        engine: makes the mask of a cascade's first stage.

    Returns:
        For each network, as :func:`list_networks` has them, its inputs (channel, i, j, k).
    """
    inputs = []
    for volumes in cases:
        prepared = prepare_image(volumes, engine.spec)
        if prepared.parts:
            images = [part.image for part in prepared.parts]
        else:
            first = prepared.previous.image if prepared.previous else prepared.image
            images = [show_previous(engine, prepared, UNMIRRORED).image, *[first] * len(engine.previous)]
        inputs.append([np.asarray(image) for image in images])
    return [list(images) for images in zip(*inputs, strict=True)]


class NetworksReference:
    """What torch says of real images, of a model of several networks.

    Args:
        engine: the model that is exported, run by torch.
        cases: images of each case.
    """

    def __init__(self, engine: Engine, cases: Sequence[Sequence[Volume]]) -> None:
        self.engine = engine
        self.cases = cases

    def measure(self, engine: Engine, name: str = "") -> Parity:
        """Compare an engine with torch on every case.

        Args:
            engine: the exported one.
            name: what the engine is called in the report; empty: its own name.
        """
        tally, agreement = _Tally(), Agreement(self.engine.spec)
        paired = _pair(engine, self.engine, tally)
        for volumes in self.cases:
            prepared = prepare_image(volumes, self.engine.spec)
            expected = predict_prepared(paired, prepared, UNMIRRORED).mask.array
            agreement.add_masks(predict_prepared(engine, prepared, UNMIRRORED).mask.array, expected)
        return Parity(
            name or engine.name,
            tally.logit,
            tally.probability,
            agreement.least(),
            tally.seconds,
            tally.torch_seconds,
            compared_on=read_place(engine),
        )


class _Tally:
    """The greatest differences of all networks, and the seconds that both took."""

    def __init__(self) -> None:
        self.logit = self.probability = self.seconds = self.torch_seconds = 0.0

    def add(self, received: NDArray[np.float32], expected: NDArray[np.float32], spec: ModelSpec) -> None:
        """Take in the logits (batch, class, ...) of both engines."""
        for first, second in zip(received, expected, strict=True):
            difference = logits_to_probabilities(first, spec) - logits_to_probabilities(second, spec)
            self.logit = max(self.logit, largest_difference(first - second))
            self.probability = max(self.probability, largest_difference(difference))


class _PairedEngine(Engine):
    """Answers as torch does, in windows that suit another engine, whose answers to the same windows it compares."""

    def __init__(self, engine: Engine, torch_engine: Engine, tally: _Tally) -> None:
        self.name, self.spec, self.is_local = engine.name, torch_engine.spec, engine.is_local
        self.smallest, self.largest, self.batch = engine.smallest, engine.largest, engine.batch
        self._engine, self._torch, self._tally = engine, torch_engine, tally
        self._warm: set[tuple[int, ...]] = set()

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        for engine in (self._engine, self._torch) if batch.shape not in self._warm else ():
            engine.run(batch)  # the first answer of an engine pays for its set-up
        self._warm.add(batch.shape)
        start = time.perf_counter()
        received = self._engine.run(batch).copy()
        between = time.perf_counter()
        expected = self._torch.run(batch)
        self._tally.seconds += between - start
        self._tally.torch_seconds += time.perf_counter() - between
        self._tally.add(received, expected, self.spec)
        return expected

    @override
    def release_memory(self) -> None:
        self._engine.release_memory()


def _pair(engine: Engine, torch_engine: Engine, tally: _Tally) -> Engine:
    """Pair each network of an engine with torch's."""
    paired = _PairedEngine(engine, torch_engine, tally)
    previous = zip(engine.previous, torch_engine.previous, strict=True)
    parts = zip(engine.parts, torch_engine.parts, strict=True)
    paired.previous = tuple(_pair(first, second, tally) for first, second in previous)
    paired.parts = tuple(_pair(first, second, tally) for first, second in parts)
    return paired
