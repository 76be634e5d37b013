"""Fills a model's block of params.yaml: how the stages prepare data for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxflow.workspace.zoo.models import ZooModel

_INDENT = " " * 6


def collect_block_words(model: ZooModel, variant: str, findings: str) -> dict[str, str]:
    """Say what the words of the block become.

    Args:
        model: of the zoo.
        variant: "published" or "cpu".
        findings: the CSV of findings below the source, or "null" where folders name them.
    """
    recipe = model.cpu if variant == "cpu" else model.published
    if model.task == "classification":
        convert = ["modalities: [CR, DX]", f"findings: {findings}"]
        resample = [f"size: [{recipe.patch[0]}, {recipe.patch[1]}]"]
    else:
        labels = ", ".join(f"{name}: {value}" for value, name in model.labels.items() if value != "0")
        convert = [f"modalities: [{model.modality}]", f"labels: {{{labels}}}"]
        resample = ["spacing_mm: [1.0, 1.0, 1.0]", "orientation: LPS"]
    return {
        "TASK": model.task,
        "CONVERT": "\n".join(_INDENT + line for line in convert),
        "RESAMPLE": "\n".join(_INDENT + line for line in resample),
        "EPOCHS": str(recipe.epochs),
        "LEARNING_RATE": f"{recipe.learning_rate:g}",
    }
