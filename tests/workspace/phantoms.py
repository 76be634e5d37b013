"""Small synthetic images of the form that a model of the zoo expects: its channels, labels, files and intensities."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.workspace.zoo import ZooModel

SIZE = (36, 32, 32)
# BraTS: the whole tumour holds 2 (oedema), in it 1 (core), in that 4 (enhancing); others: one ball a class.
BRATS_RADII = {2: 11.0, 1: 8.0, 4: 5.0}


def write_cases(
    model: ZooModel, root: Path, count: int = 2, *, seed: int = 0, name: str = "case{0:02d}"
) -> dict[str, Any]:
    """Write ``count`` cases to train and one or two to validate, in files as the model's example datalist names them.

    Returns:
        The datalist.
    """
    rng = np.random.default_rng(seed)
    write = _write_radiograph if model.task == "classification" else _write_volumes
    # Radiographs: every finding is there and is not there in both parts, so that each has an AUC.
    unseen = 2 if model.task == "classification" else 1
    items = [write(model, root, name.format(number), rng) for number in range(count + unseen)]
    content: dict[str, Any] = {"training": items[:count], "validation": items[count:]}
    if model.task == "classification":
        return {"label_format": [1] * len(model.outputs), **content}
    return {"labels": model.labels, "modality": dict(enumerate(model.channels)), **content}


def use_cases(mmar: Path, root: Path, model: ZooModel, datalist: dict[str, Any]) -> None:
    """Let an MMAR read the cases below ``root``."""
    (mmar / "config" / model.datalist_name).write_text(json.dumps(datalist))
    environment = mmar / "config" / "environment.json"
    values = json.loads(environment.read_text()) | {"DATA_ROOT": root.as_posix()}
    environment.write_text(json.dumps(values))


def balls(size: Sequence[int], radii: dict[int, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A label map (i, j, k): concentric balls, larger ones first, about a centre that varies."""
    centre = np.array(size) / 2 + rng.uniform(-2, 2, 3)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.ogrid[tuple(map(slice, size))], centre, strict=True)))
    label = np.zeros(size, dtype=np.uint8)
    for value, radius in sorted(radii.items(), key=lambda item: -item[1]):
        label[distance < radius] = value
    return label


def _write_volumes(model: ZooModel, root: Path, case: str, rng: np.random.Generator) -> dict[str, Any]:
    values = [int(value) for value in model.labels if value != "0"]
    radii = BRATS_RADII if model.family == "brain" else {v: 11.0 - 4 * n for n, v in enumerate(values)}
    label = balls(SIZE, radii, rng)
    low, high = model.hounsfield or (100, 1100)
    names = [name.format(case=case) for name in model.data.images]
    for name in names:
        # Each value has its own grey in each channel.
        greys = np.concatenate([[low + 0.2 * (high - low)], rng.uniform(low + 0.4 * (high - low), high, 255)])
        image = greys[label] + rng.normal(0, 0.05 * (high - low), SIZE)
        # In MR the air around the patient is 0.
        image *= model.modality == "CT" or balls(SIZE, {1: 15.0}, np.random.default_rng(0))
        write_volume(root / name, _volume(image.astype(np.float32)))
    target = model.data.label.format(case=case)
    write_volume(root / target, _volume(label))
    return {"image": names[0] if len(names) == 1 else names, "label": target}


def _write_radiograph(model: ZooModel, root: Path, case: str, rng: np.random.Generator) -> dict[str, Any]:
    number = int(case[-2:])
    findings = [int((number + index) % 2) for index in range(len(model.outputs))]
    image = rng.normal(2800, 300, (96, 80))
    for index, present in enumerate(findings):
        rows, columns = 6 + 6 * (index // 3), 6 + 24 * (index % 3)
        image[rows : rows + 5, columns : columns + 16] += 1500 * present
    name = model.data.images[0].format(case=case)
    write_radiograph(root / name, np.clip(image, 0, 65535).astype(np.uint16))
    return {"image": name, "label": findings}


def _volume(array: NDArray[Any]) -> Volume:
    return Volume(array, Geometry(SIZE, np.eye(4)))
