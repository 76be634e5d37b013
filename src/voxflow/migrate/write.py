"""Writing a bundle's folder from a workspace, whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from voxflow.components import read_network
from voxflow.config import read_json
from voxflow.errors import ConfigError
from voxflow.files import atomic_directory, write_json, write_text
from voxflow.migrate.bundle import Bundle
from voxflow.migrate.documents import make_metadata, make_readme
from voxflow.migrate.networks import find_scripts
from voxflow.migrate.weights import write_weights
from voxflow.migrate.workspace import TRAIN, build_trained_network, read_source
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from voxflow.migrate.report import MigrationReport
    from voxflow.migrate.workspace import MigrationSource

REPORT = "migration.json"


@dataclass(frozen=True)
class Migration:
    """A migration that was made.

    Attributes:
        folder: the bundle.
        report: what became of each component.
        logit_difference: greatest relative difference of the logits, trained network against the bundle's; None
            where there were no weights.
        weights_line: why the bundle has no weights; empty where it has some.
        model: the file that the weights are of; None where there are none.
    """

    folder: Path
    report: MigrationReport
    logit_difference: float | None
    weights_line: str = ""
    model: Path | None = None


def migrate_to_bundle(
    workspace: Path, target: Path, *, config: str = TRAIN, overrides: Mapping[str, Any] | None = None
) -> Migration:
    """Write a MONAI bundle of a workspace.

    Args:
        workspace: the MMAR.
        target: the bundle's folder; it must not exist yet.
        config: the training configuration below config/.
        overrides: values that win over the configuration.

    Raises:
        ConfigError: the target exists, the configuration is faulty, or its network, loss, optimizer or inferer has no
            counterpart.
        ParityError: the trained weights give other logits in the bundle's network.
    """
    if target.exists():
        raise ConfigError("exists already; name another folder with --output", path=target)
    source = read_source(workspace, config, overrides)
    bundle = Bundle(source)
    difference = None
    with atomic_directory(target) as folder:
        for name, content in (("train", bundle.train), ("evaluate", bundle.evaluate), ("inference", bundle.inference)):
            write_json(folder / "configs" / f"{name}.json", content)
        write_json(folder / "configs" / "metadata.json", make_metadata(source))
        _write_scripts(find_scripts(bundle.network), folder / "scripts")
        if source.datalist is not None:
            # MONAI reads plain JSON: no byte-order mark, no comments.
            write_json(folder / "configs" / "datalist.json", read_json(source.datalist))
        (folder / "models").mkdir()
        if source.model is not None:
            bare = _build_bare(source) if source.spec is None else None
            difference = write_weights(source.model, bundle.network, folder / "models" / "model.pt", bare)
        report = bundle.report
        write_text(folder / "docs" / "README.md", make_readme(source, report))
        licence = workspace / "docs" / "license.txt"
        if licence.is_file():
            shutil.copyfile(licence, folder / "docs" / "license.txt")
        write_json(folder / "docs" / REPORT, report.as_json() | {"logit_difference": difference})
    return Migration(target, report, difference, source.weights_line, source.model)


def _build_bare(source: MigrationSource) -> tuple[torch.nn.Module, ModelSpec]:
    """The network of a file of weights alone, and what the configuration says of it."""
    facts = source.facts
    spec = ModelSpec(
        task=facts.task,
        in_channels=facts.in_channels,
        class_names=facts.class_names,
        activation="sigmoid" if facts.activation == "sigmoid" else "softmax",
        window=(facts.patch[0], facts.patch[1], facts.patch[2]) if facts.patch and len(facts.patch) == 3 else None,
        divisor=read_network(source.network).divisor,
    )
    return build_trained_network(source.network, facts, cast("Path", source.model)), spec


def _write_scripts(modules: set[str], folder: Path) -> None:
    """Copy the networks' own modules, which need torch and MONAI alone; a folder of scripts has an __init__.py."""
    from voxflow.components import network_module_file

    if not modules:
        return
    folder.mkdir()
    write_text(folder / "__init__.py", "")
    for name in sorted(modules):
        shutil.copyfile(network_module_file(name), folder / f"{name}.py")
