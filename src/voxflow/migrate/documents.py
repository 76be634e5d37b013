"""A bundle's metadata.json and README: versions, the network's input and output, how to run it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxflow.migrate.report import MigrationReport
    from voxflow.migrate.workspace import MigrationSource

# MONAI's own form for metadata.json; ``monai.bundle verify_metadata`` reads it.
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
NEEDED = ("pytorch-ignite", "nibabel", "tensorboard")


def make_metadata(source: MigrationSource) -> dict[str, Any]:
    """Make the content of configs/metadata.json, as ``monai.bundle verify_metadata`` wants it."""
    facts, name = source.facts, source.folder.name
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "made from a Clara Train workspace"},
        "monai_version": _find_version("monai"),
        "pytorch_version": _find_version("torch").partition("+")[0],
        "numpy_version": _find_version("numpy"),
        "required_packages_version": {package: _find_version(package) for package in NEEDED},
        "name": name,
        "task": f"{facts.task} of {', '.join(_foreground_names(source))}",
        "description": f"The Clara Train workspace {name} as a MONAI bundle.",
        "authors": "the authors of the workspace",
        "copyright": "see docs/license.txt",
        "intended_use": "Research; not for clinical use.",
        "network_data_format": {
            "inputs": {"image": _describe_input(source)},
            "outputs": {"pred": _describe_output(source)},
        },
    }
    if source.spec is not None and source.spec.modality:
        content["image_classes"] = f"{facts.in_channels} channel(s) of {source.spec.modality}"
    return content


def make_readme(source: MigrationSource, report: MigrationReport) -> str:
    """Make the content of docs/README.md: how to run the bundle, and what became of each component."""
    weights = "models/model.pt holds the trained weights."
    if source.model is None:
        names = ", ".join(path.name for path in source.foreign_models or source.unread_models)
        why = "of another network" if source.foreign_models else "TensorFlow's, which can't be read"
        reason = f" ({names} of the workspace is {why})" if names else ""
        weights = f"There are no weights yet{reason}; train first."
    commands = [
        ("Train", "--config_file configs/train.json"),
        ("Evaluate", "--config_file \"['configs/train.json','configs/evaluate.json']\""),
        ("Infer", "--config_file configs/inference.json"),
    ]
    lines = [f"# {source.folder.name}", "", f"Made from a Clara Train workspace. {weights}", ""]
    lines += ["Run from the bundle's folder; `--dataset_dir` and `--data_list_file_path` name other data.", ""]
    for title, arguments in commands:
        lines += [f"{title}:", "", "```", f"python -m monai.bundle run {arguments}", "```", ""]
    if source.spec is not None and source.spec.spacing_mm and source.facts.task == "segmentation":
        spacing = " × ".join(f"{n:g}" for n in source.spec.spacing_mm)
        lines += [
            f"Training reads images that are already at {spacing} mm ({source.spec.orientation or 'as stored'}).",
            "",
        ]
        lines += ["Inference takes images as they are, resamples them, and returns masks on their own grid.", ""]
    return "\n".join([*lines, "## What became of each component", "", f"{report.summary()}.", "", report.markdown()])


def _describe_input(source: MigrationSource) -> dict[str, Any]:
    facts = source.facts
    return {
        "type": "image",
        "format": "magnitude",
        "modality": source.spec.modality if source.spec is not None else "",
        "num_channels": facts.in_channels,
        "spatial_shape": _choose_shape(source),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": facts.patch is not None,
        "channel_def": {str(n): f"image {n}" for n in range(facts.in_channels)},
    }


def _describe_output(source: MigrationSource) -> dict[str, Any]:
    facts = source.facts
    return {
        "type": "image" if facts.task == "segmentation" else "probabilities",
        "format": facts.task,
        "num_channels": facts.classes,
        "spatial_shape": _choose_shape(source) if facts.task == "segmentation" else [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": facts.patch is not None,
        "channel_def": {str(n): name for n, name in enumerate(facts.class_names)},
    }


def _choose_shape(source: MigrationSource) -> list[int | str]:
    """A size that the network accepts: the training's patch or image, else a multiple of its stride."""
    from voxflow.components import read_network

    facts = source.facts
    if facts.patch is not None:
        return list(facts.patch)
    if source.spec is not None and source.spec.size is not None:
        return list(source.spec.size)
    size = source.workflow.train.image_pipeline.args.get("output_crop_size")
    if isinstance(size, list) and all(isinstance(n, int) and n > 0 for n in size):
        return list(size)
    return [max(32, read_network(source.network).divisor)] * facts.spatial_dims


def _foreground_names(source: MigrationSource) -> list[str]:
    return [name for name in source.facts.class_names if name != "background"]


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return {"pytorch-ignite": "0.5.5"}.get(package, "")
