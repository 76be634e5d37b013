"""A workspace with converted cases, to be written as a data set: several channels, regions, gaps, slanting grids."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (9, 8, 7)
ODD_NAMES = ("a.b-1_0000", "bob_0001", "Zoë, 2", "case", "case_0000")


@dataclass(frozen=True)
class Kind:
    """What sort of cases a data set has.

    Attributes:
        channels: their names.
        labels: of dataset.json, without the background.
        values: that the label maps hold.
        more: further keys of dataset.json.
    """

    channels: tuple[str, ...]
    labels: Mapping[str, Any]
    values: tuple[int, ...]
    more: Mapping[str, Any] = field(default_factory=dict)


KINDS = {
    "one channel": Kind(("CT",), {"spleen": 1}, (0, 1)),
    "gaps": Kind(("CT", "PET"), {"Leber & Milz": 3, "7": 255, "tumour": 300}, (0, 3, 255, 300)),
    "regions": Kind(
        ("T1", "T1 c", "FLAIR"),
        {"enhancing": [4], "whole tumour": [1, 2, 4], "core": [1, 4]},
        (0, 1, 2, 4),
        {"regions_class_order": [4, 2, 1]},
    ),
    "crossing regions": Kind(
        ("T2",),
        {"liver": [1, 3], "tumour": [2, 3], "vessel": [4, 7], "all": [1, 2, 3, 5], "none": [9]},
        (0, 1, 2, 3, 7),
        {"regions_class_order": [1, 2, 4, 5, 9]},
    ),
    "ignore": Kind(("CT",), {"liver": 2, "tumour": 5, "ignore": 9}, (0, 2, 5, 9)),
    "regions and ignore": Kind(
        ("T1", "T2"), {"organ": [1, 5], "tumour": [5], "ignore": 255}, (0, 1, 5, 255), {"regions_class_order": [1, 5]}
    ),
}


def make_affine(seed: int) -> NDArray[np.float64]:
    """An anisotropic grid, turned about all axes; every second one is left-handed."""
    generator = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    axes *= np.sign(np.linalg.det(axes)) * (-1 if seed % 2 else 1)
    affine = np.eye(4)
    affine[:3, :3] = axes * [0.7, 0.9, 3.1]
    affine[:3, 3] = generator.uniform(-200, 200, 3)
    return affine


def write_source(root: Path, kind: Kind) -> None:
    """nnU-Net's raw data, by nibabel; the last case is in the test part."""
    for seed, name in enumerate(ODD_NAMES):
        generator, affine = np.random.default_rng(seed), make_affine(seed)
        part = "Ts" if seed == len(ODD_NAMES) - 1 else "Tr"
        for folder in ("images", "labels"):
            (root / f"{folder}{part}").mkdir(parents=True, exist_ok=True)
        for number in range(len(kind.channels)):
            dtype = (np.int16, np.float32, np.uint16)[number]
            array = generator.integers(0, 3000, SHAPE).astype(dtype)
            path = root / f"images{part}" / f"{name}_{number:04d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), path)
        label = generator.choice(kind.values, SHAPE).astype(np.uint16)
        nibabel.save(nibabel.Nifti1Image(label, affine), root / f"labels{part}" / f"{name}.nii.gz")
    content = {
        "channel_names": {str(number): name for number, name in enumerate(kind.channels)},
        "labels": {"background": 0, **kind.labels},
        "numTraining": len(ODD_NAMES) - 1,
        "file_ending": ".nii.gz",
        **kind.more,
    }
    (root / "dataset.json").write_text(json.dumps(content))


def convert(source: Path, target: Path, layout: str, **options: str) -> None:
    """Convert as a stage does, with the file names as case ids."""
    block = {"layout": layout, "keep_names": True, "pseudonym_key": "k", "mapping": False, "workers": 1}
    convert_folder(source, target, ConvertOptions.model_validate({"overlap": "regions", **block, **options}))


def make_workspace(root: Path, kind: Kind) -> None:
    """A repository in ``root`` with the workspace ``mine``: converted, and split but for the folds."""
    write_source(root / "raw", kind)
    block = {"task": "segmentation", "source": "raw", "convert": {"layout": "nnunet"}}
    (root / "params.yaml").write_text(json.dumps({"workspaces": {"mine": block}}))
    convert(root / "raw", root / "data/volumes/mine", "nnunet")


def write_splits(root: Path, *splits: Mapping[str, str]) -> None:
    """The datalists of a workspace: the first split, then its folds; a split names the part of each case."""
    folder = root / "data/datalists/mine"
    folder.mkdir(parents=True)
    for number, split in enumerate(splits):
        content = {
            part: [{"image": f"images/{case}.nii.gz", "case": case} for case in split if split[case] == part]
            for part in ("training", "validation", "testing", "inference")
        }
        (folder / ("dataset_0.json" if number == 0 else f"fold_{number - 1}.json")).write_text(json.dumps(content))


@dataclass(frozen=True)
class ReadCase:
    """A converted case, as nibabel reads it.

    Attributes:
        arrays: one a channel.
        affines: of the channels and the label.
        label: the label map; empty where there is none.
    """

    arrays: list[NDArray[Any]]
    affines: list[NDArray[np.float64]]
    label: NDArray[Any]


def read_cases(folder: Path) -> dict[str, ReadCase]:
    """Read every case of cases.csv."""
    cases = {}
    for row in read_rows(folder / "cases.csv") or []:
        images = [nibabel.load(folder / name) for name in row["image"].split(";")]
        labels = [nibabel.load(folder / row["label"])] if row["label"] else []
        cases[row["case"]] = ReadCase(
            [np.asanyarray(image.dataobj) for image in images],
            [image.affine for image in [*images, *labels]],
            np.asanyarray(labels[0].dataobj) if labels else np.zeros(0),
        )
    return cases
