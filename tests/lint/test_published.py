"""Every configuration that the old documents print, and every template, is checked without a finding."""

from __future__ import annotations

import functools
import gzip
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.lint.workspace import write_png
from voxflow.lint import check_workspace
from voxflow.planning import find_target
from voxflow.workspace.create import TEMPLATES, create_workspace, list_templates

SEEDS = Path(__file__).parent.parent / "config" / "seeds"
PRINTED = sorted(path for path in SEEDS.glob("*.json") if not path.name.startswith("environment"))
BRATS = (240, 240, 155)
SPLEEN = (512, 512, 120)


@functools.cache
def make_file(size: tuple[int, int, int]) -> bytes:
    """A compressed NIfTI volume of zeros."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *size, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return gzip.compress(bytes(head) + bytes(2 * math.prod(size)), 1)


def cases_of(folder: Path, name: str) -> dict[str, Any]:
    """A datalist of the form that a configuration asks for, and its images."""
    folder.mkdir()
    items = []
    for n in range(4):
        if "chest" in name or "plco" in name:
            write_png(folder / f"{n}.png", 16, 0)
            items.append({"image": f"{n}.png", "label": [0] * 15})
            continue
        images = [f"{n}_{channel}.nii.gz" for channel in range(4 if "brats" in name else 1)]
        for image in (*images, f"{n}_label.nii.gz"):
            (folder / image).write_bytes(make_file(BRATS if "brats" in name else SPLEEN))
        items.append({"image": images if len(images) > 1 else images[0], "label": f"{n}_label.nii.gz"})
    formats = {"label_format": [1] * 15} if "image" in items[0] and isinstance(items[0]["label"], list) else {}
    return {**formats, "training": items[:2], "validation": items[2:]}


@pytest.mark.parametrize("printed", PRINTED, ids=lambda path: path.stem)
def test_a_printed_configuration_has_no_error(tmp_path: Path, printed: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    name = "config_train.json" if "train" in printed.name else "config_validation.json"
    (config / name).write_text(printed.read_text(encoding="utf-8"), encoding="utf-8")
    (config / "dataset_0.json").write_text(json.dumps(cases_of(tmp_path / "data", printed.name)))
    places = {"DATA_ROOT": "data", "DATASET_JSON": "config/dataset_0.json", "MMAR_CKPT_DIR": "models"}
    (config / "environment.json").write_text(json.dumps(places | {"MMAR_EVAL_OUTPUT_PATH": "eval"}))
    assert [finding.line for finding in check_workspace(find_target(str(tmp_path))).findings] == []


@pytest.mark.parametrize(
    "template", [name for name in list_templates() if (TEMPLATES / name / "params.yaml").is_file()]
)
def test_a_new_workspace_lacks_nothing_but_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    create_workspace("mine", Path("images"), template)
    assert {finding.code for finding in check_workspace(find_target("mine")).findings} == {"not-made-yet"}
