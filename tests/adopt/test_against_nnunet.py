"""Adopted models against nnU-Net's own predictor: the same masks, the same probabilities."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from tests.adopt.folders import make_architecture, make_dataset, make_plans, write_folder, write_image
from voxflow.adopt import read_nnunet, write_adopted
from voxflow.engines import open_engine
from voxflow.prediction import (
    PredictOptions,
    logits_to_probabilities,
    predict_logits,
    predict_volume,
    prepare_image,
)
from voxflow.prediction.nnunet import find_separate_axis, list_positions, list_spacings, resample_channels
from voxflow.prediction.preparation import show_mask
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.volumes import Volume

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
TURNED = (0, 0, -1, 1, 0, 0, 0, -1, 0)
FLAT = make_architecture(strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])
CASES: dict[str, dict[str, Any]] = {
    "full resolution": {},
    "two classes": {"labels": {"background": 0, "spleen": 1}},
    "two dimensions": {
        "plans": {
            "configuration": "2d",
            "spacing": (1.2, 1.0),
            "patch": (24, 16),
            "architecture": make_architecture(dimensions=2),
        },
        "mirroring": (1,),
    },
    "residual encoder": {"plans": {"architecture": make_architecture("ResidualEncoderUNet")}, "mirroring": None},
    "two channels and regions": {
        "plans": {"schemes": ("ZScoreNormalization", "RescaleTo01Normalization"), "masks": (True, False)},
        "channels": ("T1", "FLAIR"),
        "labels": REGIONS,
        "order": (1, 2, 3),
    },
    "two folds": {"folds": (0, 1), "plans": {"schemes": ("ZScoreNormalization",)}},
    "anisotropic and transposed": {
        "plans": {
            "spacing": (4.0, 0.8, 1.0),
            "patch": (8, 24, 16),
            "transpose": (1, 0, 2),
            "architecture": FLAT,
        },
        "spacing": (1.0, 4.5, 0.9),
    },
    "turned images by the reader that turns back": {"plans": {"reader": "NibabelIOWithReorient"}, "direction": TURNED},
    "logits by cubic splines": {"plans": {"back_order": 3}},
    "logits by cubic splines in the planes": {
        "plans": {"back_order": 3, "spacing": (4.0, 0.8, 1.0), "patch": (8, 24, 16), "architecture": FLAT},
        "labels": REGIONS,
        "order": (1, 2, 3),
        "spacing": (1.0, 0.9, 4.5),
    },
    "cascade": {
        "plans": {"configuration": "3d_cascade_fullres", "previous": "3d_lowres"},
        "previous": {"configuration": "3d_lowres", "spacing": (2.5, 1.9, 1.7), "patch": (8, 16, 16)},
    },
    "cascade of regions, coarse along one axis": {
        "plans": {
            "configuration": "3d_cascade_fullres",
            "previous": "3d_lowres",
            "spacing": (4.0, 0.8, 1.0),
            "patch": (8, 24, 16),
            "transpose": (1, 0, 2),
            "architecture": FLAT,
        },
        "previous": {
            "configuration": "3d_lowres",
            "spacing": (4.4, 1.6, 1.7),
            "patch": (8, 16, 16),
            "transpose": (1, 0, 2),
            "architecture": FLAT,
        },
        "labels": REGIONS,
        "order": (1, 2, 3),
        "spacing": (1.0, 4.5, 0.9),
    },
}


IMAGES: dict[str, dict[str, Any]] = {
    "coarse": {"size": (30, 28, 14), "spacing": (0.9, 1.1, 2.0)},
    "fine": {"size": (36, 22, 29), "spacing": (0.7, 0.6, 0.9), "direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)},
    "tiny": {"size": (12, 14, 9), "spacing": (1.0, 1.0, 1.5), "direction": TURNED},
}


def name_folder(root: Path, name: str) -> Path:
    """The result folder of a case."""
    configuration = CASES[name].get("plans", {}).get("configuration", "3d_fullres")
    return root / name / f"trainer__plans__{configuration}"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, nnunet_python: Path) -> Path:
    """A folder for each case with its model, its images and what nnU-Net makes of them, all by one process."""
    root = tmp_path_factory.mktemp("answers")
    jobs = []
    for name, case in CASES.items():
        channels, plans = case.get("channels", ("CT",)), case.get("plans", {})
        dataset = make_dataset(case.get("labels"), channels, case.get("order", ()))
        folder = write_folder(name_folder(root, name), make_plans(**plans), dataset)
        images = {}
        for seed, (label, form) in enumerate(IMAGES.items()):
            changes = {key: case[key] for key in ("spacing", "direction") if key in case}
            images[label] = [
                str(write_image(root / name / f"{label}_{number}.nii.gz", seed=10 * seed + number, **(form | changes)))
                for number in range(len(channels))
            ]
        job: dict[str, Any] = {
            "folder": str(folder),
            "out": str(root / name / "theirs"),
            "configuration": plans.get("configuration", "3d_fullres"),
            "folds": case.get("folds", (0,)),
            "mirroring": case.get("mirroring", (1, 2)),
            "images": images,
        }
        if "previous" in case:
            first = write_folder(folder.with_name("trainer__plans__3d_lowres"), make_plans(**case["previous"]), dataset)
            job["previous"] = {
                **job,
                "folder": str(first),
                "out": str(root / name / "first"),
                "configuration": "3d_lowres",
            }
        jobs.append(job)
    run_nnunet(nnunet_python, root, jobs)
    return root


def run_nnunet(python: Path, root: Path, jobs: list[dict[str, Any]]) -> None:
    """Let nnU-Net write the folds of each job, and predict its images, by one process."""
    (root / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("nnunet_side.py")
    places = {f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")}
    environment = os.environ | places | {"nnUNet_def_n_proc": "2", "nnUNet_compile": "f"}
    subprocess.run([str(python), str(script), str(root / "jobs.json")], check=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_masks_and_probabilities_are_those_of_nnunet(name: str, answers: Path) -> None:
    folder = answers / name
    write_adopted(read_nnunet(name_folder(answers, name)), folder / "model.pt")
    engine = open_engine(folder / "model.pt", "torch")
    for label in IMAGES:
        volumes = [read_volume(file) for file in sorted(folder.glob(f"{label}_*.nii.gz"))]
        mask = predict_volume(engine, volumes, PredictOptions()).mask
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "theirs" / f"{label}.nii.gz"))).T
        assert mask.array.shape == theirs.shape
        assert len(np.unique(theirs)) > 1, "a mask of background alone shows nothing"
        assert (mask.array == theirs).mean() >= 0.9999, label
        difference = measure_probabilities(engine, volumes, np.load(folder / "theirs" / f"{label}.npy"))
        assert difference <= 1e-3, label


def measure_probabilities(engine: Engine, volumes: list[Volume], theirs: NDArray[Any]) -> float:
    """The greatest difference of probabilities inside the part that the network is shown, brought back by SciPy."""
    prepared = prepare_image(volumes, engine.spec)
    assert prepared.place is not None
    assert engine.spec.nnunet is not None
    if engine.previous:
        prepared = show_mask(prepared, predict_volume(engine.previous[0], volumes).mask.array, engine.spec)
    assert prepared.place is not None
    logits, resampling = predict_logits(engine, prepared.image, PredictOptions()), engine.spec.nnunet.logits
    if resampling.order > 1:
        native, trained = list_spacings(engine.spec, prepared.native)
        separate = find_separate_axis(trained, native, resampling)
        restored = resample_channels(logits, prepared.native.size, resampling, separate)
    else:
        positions = np.meshgrid(*list_positions(prepared.grid, prepared.native, engine.spec), indexing="ij")
        restored = np.stack([map_coordinates(part, positions, order=1, mode="nearest") for part in logits])
    probabilities = logits_to_probabilities(restored, engine.spec)
    # nnU-Net's arrays begin with the last axis of the image that it read.
    forward = [2 - axis for axis in engine.spec.nnunet.axes]
    inside = [part.transpose(forward)[prepared.place.box] for part in theirs]
    return float(max(np.abs(a - b).max() for a, b in zip(probabilities, inside, strict=True)))
