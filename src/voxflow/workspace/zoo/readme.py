"""Writes the texts of a model's docs/Readme.md and docs/license.txt."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxflow.workspace.zoo.models import ZooModel


_WIDTH = 112
_PREPARATION = """All images at 1 x 1 x 1 mm. Bring others there first, images and labels each on their own:

    nvmidl-dataconvert -d images -o images_1mm -r 1 -s .nii.gz -e .nii.gz
    nvmidl-dataconvert -d labels -o labels_1mm -r 1 -s .nii.gz -e .nii.gz -l"""
_RADIOGRAPHS = """PNG images, 8 or 16 bit; scaled to 256 x 256 beforehand they load fastest. The values that are
subtracted and divided by, 2876.37 and 883, are those of the published 16-bit images: set your own in both
configurations."""


def collect_words(model: ZooModel, variant: str) -> dict[str, str]:
    """Say what the holes of docs/Readme.md and docs/license.txt become.

    Args:
        model: of the zoo.
        variant: "published" or "cpu".
    """
    is_radiograph = model.task == "classification"
    return {
        "TEMPLATE": model.name,
        "SUMMARY": _wrap_text(
            f"{model.summary}. Form and values of the model that NVIDIA published under this name for Clara Train, and "
            f"for Transfer Learning Toolkit 2.0 as `{tlt_name(model)}`. The workspace holds the configuration, not the "
            "published weights."
        ),
        "DATA_SET": _wrap_text(
            f"{model.data.name}, {_describe_cases(model)}. From {model.data.reference}; "
            f"{model.data.licence}.{model.data.note}"
        ),
        "DATA": model.data.name,
        "REFERENCE": model.data.reference,
        "LICENCE": model.data.licence,
        "PREPARATION": _RADIOGRAPHS if is_radiograph else _PREPARATION,
        "INPUT": _describe_input(model),
        "OUTPUT": _describe_output(model),
        "SCORES": _tabulate_scores(model),
        "DATALIST": model.datalist_name,
        "VARIANT": _wrap_text(_describe_variant(model, variant)),
    }


def tlt_name(model: ZooModel) -> str:
    """The name in Transfer Learning Toolkit 2.0."""
    modalities = ("segmentation_ct_", "segmentation_mri_")
    plain = [alias for alias in model.aliases if not alias.startswith(modalities)]
    return model.name if model.task == "classification" else plain[0]


def _wrap_text(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))


def _describe_cases(model: ZooModel) -> str:
    counts = model.published_cases
    if "all" in counts:
        return f"{counts['all']} cases, the publisher's own split"
    if not counts:
        return "the publisher's own split"
    return f"{counts['training']} training and {counts['validation']} validation cases"


def _describe_input(model: ZooModel) -> str:
    if model.task == "classification":
        return "16-bit PNG radiograph, one channel, repeated to three"
    names = ", ".join(model.channels)
    if len(model.channels) == 1:
        return f"1 channel 3D image: {names}"
    return f"{len(model.channels)} channel 3D image, one file a channel, on one grid, in this order: {names}"


def _describe_output(model: ZooModel) -> str:
    if model.task == "classification":
        return f"{len(model.outputs)} findings, each on its own (sigmoid): {', '.join(model.outputs)}"
    if model.family == "brain":
        nested = "nested regions, each on its own (sigmoid)" if len(model.outputs) > 1 else "one region (sigmoid)"
        names = ", ".join(model.outputs)
        return f"{len(model.outputs)} channel(s), {nested}: {names}; made of the label values 1, 2, 4 (or 3)"
    names = ", ".join(f"{value} {name}" for value, name in model.labels.items())
    return f"{model.classes} channels, one class a voxel (softmax): {names}"


def _tabulate_scores(model: ZooModel) -> str:
    heading = "score" if model.task == "classification" else "mean Dice"
    rows = [f"| {name} | {score:.3f} |" for name, score in model.scores.items()]
    return "\n".join([f"| class | {heading} |", "|---|---|", *rows])


def _describe_variant(model: ZooModel, variant: str) -> str:
    recipe = model.cpu if variant == "cpu" else model.published
    size = " x ".join(map(str, recipe.patch))
    recipe_text = (
        f"{recipe.network['name']}, {size} at a time, {recipe.epochs} epochs, learning rate {recipe.learning_rate:g}"
    )
    if variant == "cpu":
        return f"For machines without a GPU: {recipe_text}. Neither network nor score are the published ones."
    command = f"voxflow new NAME --template {model.name} --variant cpu"
    return (
        f"As published: {recipe_text}; for a GPU with 16 GB of memory. `{command}` makes the same workspace with a "
        "small network, for machines without a GPU."
    )
