"""A workspace "demo" as the stages export and evaluate leave it, with files of a few bytes for models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from voxflow.places import Places

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CASES = tuple(f"t{n}" for n in range(8))


def write_workspace(
    root: Path,
    dice: Sequence[float],
    *,
    model: str = "weights",
    classes: Mapping[str, Sequence[float]] | None = None,
    published: int = 1,
    label: str = "label",
) -> Places:
    """Write a model with its scores; the working directory must be ``root``.

    Args:
        root: the repository.
        dice: of each test case.
        model: what the exported file holds; another text is another model.
        classes: Dice by class, where there are several.
        published: whether the engine passed parity.
        label: what the labels of the test part hold.
    """
    (root / "params.yaml").write_text("workspaces:\n  demo: {task: segmentation, source: data/raw/demo}\n")
    places = Places("demo", {"task": "segmentation", "source": "data/raw/demo"})
    columns = dict(classes or {"spleen": dice})
    rows = [
        f"{case},{score},{','.join(str(values[n]) for values in columns.values())}"
        for n, (case, score) in enumerate(zip(CASES, dice, strict=False))
    ]
    header = ",".join(["case", "mean_dice", *(f"dice_{name}" for name in columns)])
    put(places.evaluation / "test/per_case.csv", "\n".join([header, *rows]) + "\n")
    put(places.models / "export/model.onnx", model)
    put(places.models / "export/openvino/model.xml", model)
    put(places.models / "export/model.engine", "built for this machine's GPU")
    put(places.models / "parity.json", json.dumps({"cases": 2, "onnx": {"published": published}}))
    if not (places.models / "train/run.json").exists():
        put(places.models / "train/run.json", '{"run_id": ""}')
    put(places.datalists / "dataset_0.json", json.dumps({"testing": [{"case": case} for case in CASES]}))
    lines = [f"{case},images/{case}.nii.gz,labels/{case}.nii.gz" for case in CASES]
    put(places.volumes / "cases.csv", "\n".join(["case,image,label", *lines]) + "\n")
    for case in CASES:
        put(places.volumes / f"images/{case}.nii.gz", case)
        put(places.volumes / f"labels/{case}.nii.gz", label)
    return places


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
