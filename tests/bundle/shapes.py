"""Small bundles of our own in the forms of the public model zoo: its ids, paths, loaders, savers and entries.

Each is a folder with configurations for train, evaluate and infer, tiny networks and cubes. ``stock`` holds what a
person types for MONAI's own command line; ``options`` what a workspace says to Voxflow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bundle.shapes_of_ids import write_bare, write_template
from tests.bundle.shapes_of_monai import (
    write_classifier,
    write_displayed,
    write_endoscopic,
    write_globbed,
    write_listed,
    write_persistent,
    write_searched,
)
from tests.bundle.shapes_of_scripts import write_detector, write_merged, write_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """A bundle of one form.

    Attributes:
        write: writes it to a folder, given the folder of the data.
        train, evaluate, infer: files of its configurations.
        options: of the workspace, by stage, and those of all stages by "".
        stock: values for MONAI's own command line by stage, with ``DATA`` in the place of the data's folder.
        trainer, evaluator, inferer: ids of the engines.
        entries: the id that each stage runs.
        weights: where the bundle itself looks for its weights.
        is_flat: the data are images of two axes.
    """

    write: Callable[[Path, Path], None]
    train: tuple[str, ...] = ("train.json",)
    evaluate: tuple[str, ...] = ("train.json", "evaluate.json")
    infer: tuple[str, ...] = ("inference.json",)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stock: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trainer: str = "train#trainer"
    evaluator: str = "validate#evaluator"
    inferer: str = "evaluator"
    entries: Mapping[str, str] = field(default_factory=dict)
    weights: str = "models/model.pt"
    is_flat: bool = False


DATASET = {"": {"dataset_dir": "DATA"}}
LISTS = {"": {"dataset_dir": "DATA", "data_list_file_path": "DATA/dataset.json"}}
OLD_ENTRIES = {"train": "training", "evaluate": "evaluating", "infer": "evaluating"}
OLD_OPTIONS = {stage: {"run_id": entry} for stage, entry in OLD_ENTRIES.items()}
SHAPES = {
    "globbed": Shape(write_globbed, stock=DATASET),
    "listed": Shape(
        write_listed,
        stock={"": {"dataset_dir": "DATA", "data_list_file_path": "DATA/paired.json"}},
        options=OLD_OPTIONS,
        entries=OLD_ENTRIES,
    ),
    "displayed": Shape(write_displayed, stock=DATASET),
    "searched": Shape(
        write_searched,
        train=("train.yaml",),
        evaluate=("train.yaml", "evaluate.yaml"),
        infer=("inference.yaml",),
        stock=LISTS,
        options=OLD_OPTIONS,
        entries=OLD_ENTRIES,
    ),
    "persistent": Shape(
        write_persistent,
        stock=DATASET,
        options={**OLD_OPTIONS, "infer": {}},
        entries={**OLD_ENTRIES, "infer": "run"},
        weights="models/model_latest.pt",
    ),
    "endoscopic": Shape(write_endoscopic, stock=DATASET, is_flat=True),
    "classifier": Shape(write_classifier, is_flat=True),
    "template": Shape(
        write_template,
        train=("train.yaml",),
        evaluate=("test.yaml",),
        infer=("inference.yaml",),
        stock=DATASET,
        options={
            "train": {
                "trainer": "trainer",
                "evaluator": "evaluator",
                "train_data": "train_dataset#data",
                "validate_data": "val_dataset#data",
            },
            "evaluate": {"config": ("configs/test.yaml",), "evaluator": "evaluator", "validate_data": "dataset#data"},
        },
        trainer="trainer",
        evaluator="evaluator",
    ),
    "bare": Shape(
        write_bare,
        stock=DATASET,
        options={
            "": {"evaluator": "evaluator", "train_data": "train_dataset#data", "validate_data": "eval_dataset#data"},
            "train": {"run_id": "training", "trainer": "trainer"},
            "evaluate": {"run_id": "evaluating", "trainer": "trainer"},
            "infer": {"run_id": "evaluating"},
        },
        trainer="trainer",
        evaluator="evaluator",
        entries=OLD_ENTRIES,
    ),
    "paths": Shape(
        write_paths,
        train=("train.yaml",),
        evaluate=("train.yaml", "evaluate.yaml"),
        infer=("inference.yaml",),
        stock=DATASET,
        options={
            "": {"image_key": ""},
            "train": {
                "run_id": "training",
                "trainer": "trainer",
                "evaluator": "val#evaluator",
                "train_data": "dataset#data",
                "validate_data": "val#dataset#data",
            },
            "evaluate": {
                "run_id": "evaluating",
                "trainer": "trainer",
                "evaluator": "val#evaluator",
                "validate_data": "val#dataset#data",
            },
            "infer": {"run_id": "evaluating"},
        },
        trainer="trainer",
        evaluator="val#evaluator",
        entries=OLD_ENTRIES,
    ),
    "detector": Shape(write_detector, stock=LISTS, options=OLD_OPTIONS, entries=OLD_ENTRIES),
    "merged": Shape(
        write_merged,
        train=("common.yaml", "train.json"),
        evaluate=("common.yaml", "train.json", "evaluate.json"),
        stock=DATASET,
        options={
            "": {"image_key": "img", "label_key": "seg"},
            "train": {"config": ("configs/common.yaml", "configs/train.json")},
            "evaluate": {"config": ("configs/common.yaml", "configs/train.json", "configs/evaluate.json")},
        },
    ),
}
