"""Adopted tasks of TotalSegmentator against TotalSegmentator itself, with random weights under its names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.adopt.totalsegmentator_weights import write_ct, write_weights
from voxflow.adopt import find_task, original, read_joined, read_nnunet, repeat_steps
from voxflow.engines import TorchEngine
from voxflow.prediction import predict_volume, totalsegmentator
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

# TotalSegmentator and what it imports beyond the packages of nnU-Net's environment and of this one.
PACKAGES = ("TotalSegmentator==2.18.0", "dicom2nifti==2.6.2")
# To find a trainer by its name, nnU-Net imports all of them, and those of transformers timm and so torchvision.
NO_TIMM = "import torch\n\n\ndef __getattr__(name):\n    return torch.nn.Module\n"
TURNED = (0, 0, -1, 1, 0, 0, 0, -1, 0)
OBLIQUE = (0.9962, -0.0872, 0, 0.0872, 0.9962, 0, 0, 0, 1)
IMAGES: dict[str, dict[str, Any]] = {
    "coarse": {"size": (40, 36, 14), "spacing": (0.9, 1.1, 4.0)},
    "fine": {"size": (66, 52, 59), "spacing": (0.7, 0.6, 0.9), "direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)},
    "turned": {"size": (32, 34, 29), "spacing": (1.5, 1.5, 2.5), "direction": TURNED},
    "oblique": {"size": (40, 30, 25), "spacing": (1.1, 1.3, 1.2), "direction": OBLIQUE},
    "as it is": {"size": (30, 28, 26), "spacing": (1.5, 1.5, 1.5)},
    "long": {"size": (30, 26, 80), "spacing": (0.9, 1.1, 1.5)},
}
FIVE = {
    "Dataset291_TotalSegmentator_part1_organs_1559subj": 24,
    "Dataset292_TotalSegmentator_part2_vertebrae_1532subj": 26,
    "Dataset293_TotalSegmentator_part3_cardiac_1559subj": 18,
    "Dataset294_TotalSegmentator_part4_muscles_1559subj": 23,
    "Dataset295_TotalSegmentator_part5_ribs_1559subj": 26,
}
FAST = {"Dataset297_TotalSegmentator_total_3mm_1559subj": 117}
LONG = "nnUNetTrainer_4000epochs_NoMirroring"
CASES: dict[str, dict[str, Any]] = {
    "total": {"folders": FIVE, "images": ("turned",)},
    "total, fast": {"folders": FAST, "spacing": 3.0, "trainer": LONG, "images": ("fine", "oblique")},
    "total, fast, by cubic splines": {
        "folders": FAST,
        "spacing": 3.0,
        "trainer": LONG,
        "options": {"resampling_order": 3},
        "images": ("coarse",),
    },
    "body": {
        "folders": {"Dataset299_body_1559subj": 2},
        "trainer": "nnUNetTrainer",
        "mirrored": (0, 1, 2),
        "images": ("coarse", "as it is"),
    },
    "breasts, in three pieces": {
        "folders": {"Dataset527_breasts_1559subj": 1},
        "trainer": "nnUNetTrainer_DASegOrd0_NoMirroring",
        "options": {"force_split": True},
        "images": ("long",),
    },
}


@pytest.fixture(scope="module")
def totalsegmentator_python(nnunet_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The python that has it: VOXFLOW_TOTALSEGMENTATOR_PYTHON, else nnU-Net's, with a folder of further packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOTALSEG_HOME_DIR", str(tmp_path_factory.mktemp("home")))
        if at_hand := os.environ.get("VOXFLOW_TOTALSEGMENTATOR_PYTHON"):
            yield Path(at_hand)
            return
        folder = tmp_path_factory.mktemp("packages")
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        result = subprocess.run([sys.executable, *install], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"TotalSegmentator can't be installed: {result.stderr.strip().splitlines()[-1]}")
        for module in ("timm/__init__.py", "timm/layers.py", "timm/models/__init__.py", "timm/models/eva.py"):
            (folder / module).parent.mkdir(parents=True, exist_ok=True)
            (folder / module).write_text("" if module.endswith("__init__.py") else NO_TIMM)
        patch.setenv("PYTHONPATH", str(folder))
        yield nnunet_python


def write_case(root: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Write weights and images of a case, and return what TotalSegmentator is to do with them."""
    keys = {key: case[key] for key in ("spacing", "trainer", "mirrored") if key in case}
    folders = [
        write_weights(root / "weights", folder, classes, seed=seed, **keys)
        for seed, (folder, classes) in enumerate(case["folders"].items())
    ]
    task = find_task(folders)
    assert task is not None
    (root / "theirs").mkdir()
    return {
        "task": task.name,
        "mode": task.mode,
        "plans": "nnUNetPlans",
        "weights": {folder.name: str(folder) for folder in folders},
        "cases": {
            label: [str(write_ct(root / "images" / f"{label}_0000.nii.gz", seed=len(label), **IMAGES[label]))]
            for label in case["images"]
        },
        "out": str(root / "theirs"),
        "ending": ".nii.gz",
        "arrays": True,  # sums in single precision
        "options": case.get("options", {}),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_masks_are_those_of_totalsegmentator(
    name: str, tmp_path: Path, totalsegmentator_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_case(tmp_path, CASES[name])
    original._run_program("TotalSegmentator", str(totalsegmentator_python), job)
    if "force_split" in job["options"]:
        monkeypatch.setattr(totalsegmentator, "MANY_VOXELS", 0)
        monkeypatch.setattr(totalsegmentator, "MANY_PLANES", 0)
    script = "import totalsegmentator as t; print(t.__path__[0])"
    package = subprocess.check_output([str(totalsegmentator_python), "-c", script], text=True).strip()
    engine = open_case(job, Path(package) / "map_to_binary.py")
    for label in job["cases"]:
        assert compare_case(engine, job, label) >= 0.9999, label


def open_case(job: dict[str, Any], classes: Path) -> TorchEngine:
    """The adopted model of a case, with what the case changes of its steps."""
    folders = [Path(folder) for folder in job["weights"].values()]
    task = find_task(folders)
    assert task is not None
    model = read_joined(folders, classes=f"{classes}:total") if len(folders) > 1 else read_nnunet(folders[0])
    spec = repeat_steps(model, task).spec
    assert spec.totalsegmentator is not None
    order = job["options"].get("resampling_order", 1)
    splits = len(folders) > 1 or "force_split" in job["options"]
    steps = spec.totalsegmentator.model_copy(update={"order": order, "splits": splits})
    return TorchEngine.wrap(model.network, spec.model_copy(update={"totalsegmentator": steps}))


def compare_case(engine: TorchEngine, job: dict[str, Any], label: str) -> float:
    """The share of voxels that are equal."""
    theirs = read_volume(Path(job["out"]) / f"{label}.nii.gz")
    ours = predict_volume(engine, read_volume(Path(job["cases"][label][0]))).mask
    assert ours.geometry.is_close(theirs.geometry)
    assert len(np.unique(theirs.array)) > 1, "a mask of background alone shows nothing"
    return float((ours.array == theirs.array).mean())
