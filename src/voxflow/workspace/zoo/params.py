"""Fills a model's block of params.yaml: how the stages prepare data for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxflow.workspace.zoo.models import ZooModel

QUOTE = '"'
_INDENT = " " * 6
# The label map of BraTS, made of nested segments: each voxel gets the value of the innermost.
BRAIN_SEGMENTS = ("labels: {whole tumour: 2, tumour core: 1, enhancing tumour: 4}", "overlap: listed")


def collect_block_words(model: ZooModel, variant: str, findings: str, *, has_layout: bool) -> dict[str, str]:
    """Say what the words of the block become.

    Args:
        model: of the zoo.
        variant: "published" or "cpu".
        findings: the CSV of findings below the source, or "null" where folders name them.
        has_layout: the source has a known layout, which says itself what its labels mean.
    """
    recipe = model.cpu if variant == "cpu" else model.published
    if model.task == "classification":
        convert = ["modalities: [CR, DX]", f"findings: {findings}"]
        resample = [f"size: [{recipe.patch[0]}, {recipe.patch[1]}]"]
    else:
        convert = [f"modalities: [{model.modality}]"]
        if model.rules:
            rules = [f"  {name}: {json.dumps(rule).replace(QUOTE, '')}" for name, rule in model.rules.items()]
            convert += [
                "# Which series of a study is which channel; change the words to those of your scanners.",
                "channels:",
                *rules,
            ]
        if model.family != "brain":
            labels = ", ".join(f"{name}: {value}" for value, name in model.labels.items() if value != "0")
            convert.append(f"labels: {{{labels}}}")
        elif not has_layout:
            convert += BRAIN_SEGMENTS
        resample = ["spacing_mm: [1.0, 1.0, 1.0]", "orientation: LPS"]
    return {
        "TASK": model.task,
        "CONVERT": "\n".join(_INDENT + line for line in convert),
        "RESAMPLE": "\n".join(_INDENT + line for line in resample),
        "EPOCHS": str(recipe.epochs),
        "LEARNING_RATE": f"{recipe.learning_rate:g}",
    }
