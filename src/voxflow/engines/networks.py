"""Models of several networks: opens the file of each, and makes one engine of them.

The model's own file holds the network that is run last of a cascade, or first of a joined model, with the spec of the
whole. Those of a cascade's first stage, or of the further parts, lie beside it, each with its own spec: model.xml,
model-2of3.xml, model-3of3.xml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from voxflow.engines.files import count_networks, list_network_files
from voxflow.engines.protocol import Engine
from voxflow.errors import DataError, VoxflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec


class NetworksEngine(Engine):
    """Runs one network of a model that has several, and knows the others.

    Args:
        network: runs the network of the model's own file.
        spec: of the model, or of one part of a joined model.
        previous: what runs the first stage of a cascade.
        parts: what runs each part of a joined model.
    """

    def __init__(
        self, network: Engine, spec: ModelSpec, *, previous: Sequence[Engine] = (), parts: Sequence[Engine] = ()
    ) -> None:
        self.name, self.spec, self.is_local = network.name, spec, network.is_local
        self.smallest, self.largest, self.batch = network.smallest, network.largest, network.batch
        self.device, self.previous, self.parts = network.device, tuple(previous), tuple(parts)
        self._network = network

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self._require_one()
        return self._network.run(batch)

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        self._require_one()
        return self._network.run_tensor(batch)

    @override
    def on_processor(self) -> Engine:
        # Who asks has an image for this network; the others are asked by themselves.
        network = self._network.on_processor()
        return NetworksEngine(network, self.spec, previous=self.previous, parts=self.parts)

    @override
    def expect(self, shape: tuple[int, ...]) -> None:
        self._network.expect(shape)

    @override
    def release_memory(self) -> None:
        self._network.release_memory()

    def _require_one(self) -> None:
        if self.parts:
            raise VoxflowError(f"a joined model has {len(self.parts)} networks, which are run one by one")


def open_networks(file: Path, open_file: Callable[[Path], Engine]) -> Engine:
    """Open a model file, and the files of the model's other networks where it has several.

    Args:
        file: the model's.
        open_file: opens a file of one network, such as a method of its kind.

    Raises:
        DataError: a file is missing or no model, or they are not of one model.
    """
    network = open_file(file)
    if not network.spec.has_several_networks or network.previous or network.parts:
        return network
    count_networks(file)
    return join_networks([network, *map(open_file, list_network_files(file))], file)


def join_networks(networks: Sequence[Engine], file: Path) -> Engine:
    """Make one engine of those of a model's networks.

    Args:
        networks: that of the model's own file, whose spec is that of the whole, and the others in order; a single one
            is given back as it is.
        file: the model's, for messages.

    Raises:
        DataError: they are not of one model.
    """
    first, *others = networks
    spec = first.spec
    if not spec.has_several_networks:
        return first
    expected = [part.spec for part in spec.parts[1:]]
    if spec.previous:
        expected = [spec.previous.spec] * max(1, len(others))
    # Where a workspace keeps its own transforms is no part of what a file says.
    if [engine.spec.model_dump() for engine in others] != [other.model_dump() for other in expected]:
        message = f"some of the model's {len(expected) + 1} networks are missing beside it, or are another model's"
        raise DataError(f"{message}; export it again", path=file)
    if spec.previous:
        return NetworksEngine(first, spec, previous=others)
    return NetworksEngine(first, spec, parts=(NetworksEngine(first, spec.parts[0].spec), *others))
