"""The weights of a bundle: a plain state dictionary, tested against the network that it came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from voxflow.errors import ParityError
from voxflow.migrate.networks import SCRIPTS
from voxflow.torch_files import save_torch

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.migrate.translation import Node
    from voxflow.spec import ModelSpec

# Both networks are the same arithmetic, so that only the order of additions may differ.
MAX_DIFFERENCE = 1e-5


def write_weights(
    model: Path, network_def: Node, target: Path, bare: tuple[torch.nn.Module, ModelSpec] | None = None
) -> float:
    """Write model.pt for ``network_def`` from a trained model; return the greatest difference of their logits.

    Args:
        model: its file.
        network_def: the bundle's network.
        target: the file to write.
        bare: the network and what is known of it, where the file holds weights alone.

    Raises:
        ParityError: the weights don't fit the bundle's network, or its logits differ; nothing is written.
    """
    import torch

    from voxflow.training import load_model

    network, spec = bare or load_model(model)
    twin = build_bundle_network(network_def)
    try:
        twin.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise ParityError(
            f"{model}: the weights don't fit the bundle's network: {str(error).splitlines()[0]}"
        ) from error
    example = _make_example(spec)
    with torch.inference_mode():
        expected, received = network(example), twin.eval()(example)
    # Relative to the largest logit: an absolute bound would mean nothing for networks of another scale.
    difference = float((expected - received).abs().max() / max(1.0, float(expected.abs().max())))
    if difference > MAX_DIFFERENCE:
        raise ParityError(
            f"{model}: the bundle's network answers otherwise, by {difference:.2g} (at most {MAX_DIFFERENCE})"
        )
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_torch(target, weights)
    return difference


def build_bundle_network(network_def: Node) -> torch.nn.Module:
    """Build a bundle's network as MONAI's parser does, with Voxflow's own modules in the place of the folder scripts/.

    Args:
        network_def: the node ``network_def`` of the bundle's configurations.
    """
    from monai.bundle import ConfigParser

    from voxflow.components import NETWORK_MODULES

    # The bundle's folder scripts/ holds copies of these modules.
    definition = json.loads(json.dumps(network_def).replace(f'"{SCRIPTS}', f'"{NETWORK_MODULES}.'))
    parser: Any = ConfigParser({"network_def": definition})
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    return network


def _make_example(spec: ModelSpec) -> torch.Tensor:
    """A fixed random batch of one training window."""
    from voxflow.engines import make_example_input

    return make_example_input(spec)
