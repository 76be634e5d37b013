"""Trains a workspace of ``kind: adopted``: its model is copied, and the later stages do as for any other."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tasks.common.folds import FoldStage
from voxflow.errors import EXIT_OK, ConfigError, DataError
from voxflow.files import atomic_path, read_json_or_none, write_json, write_text
from voxflow.places import ADOPTED, ADOPTED_MODEL, PARAMS
from voxflow.prediction import class_values
from voxflow.progress import say
from voxflow.tracking import begin_run, write_run_file
from voxflow.training import read_checkpoint

if TYPE_CHECKING:
    from tasks.common.stage import Stage
    from voxflow.spec import ModelSpec


def is_adopted(stage: Stage) -> bool:
    """Whether a workspace's model was trained elsewhere; it lies in mmars/WORKSPACE/config/adopted.pt."""
    return stage.block.get("kind") == ADOPTED


def train(stage: Stage) -> int:
    """Copy the adopted model to where the later stages look for it, under an MLflow run of its own.

    Raises:
        ConfigError: a fold is asked for, or options of a training are set.
        DataError: the model is missing, or damaged.
    """
    place = f"workspaces.{stage.workspace}.train"
    if isinstance(stage, FoldStage):
        message = "an adopted model is not trained here, so that no fold can hold out cases of it"
        raise ConfigError(message, path=PARAMS, where=f"folds.{stage.workspace}-{stage.fold}")
    if stage.block.get("train"):
        message = "an adopted model is not trained here; another workspace can start from it with train.checkpoint"
        raise ConfigError(message, path=PARAMS, where=place)
    file, out = stage.mmar / ADOPTED_MODEL, stage.models / "train"
    if not file.is_file():
        raise DataError("file not found; voxflow adopt writes it", path=file)
    content = read_checkpoint(file)
    network = json.loads(content["network"])
    facts = {"network": network["name"], "adopted": True}
    with begin_run(stage.workspace, params=stage.block, facts=facts, datalist=stage.datalist) as tracker:
        write_run_file(out / "run.json", tracker, stage.workspace)
        for name in ("model.pt", "model_final.pt"):
            with atomic_path(out / name) as temporary:
                shutil.copyfile(file, temporary)
    # Nothing was trained here: a curve without a point.
    write_text(stage.models / "curves.csv", "epoch,train_loss\n")
    write_json(stage.models / "train.json", {"epochs": int(content["epoch"])})
    say(f"train {stage.title}: an adopted {network['name']}, not trained here → {out}")
    return EXIT_OK


def require_model_values(stage: Stage, spec: ModelSpec) -> None:
    """Refuse labels in which a class of an adopted model has another value than the model gives it.

    Masks are compared by value, so that one organ would be judged as another. Names that only one of both has may be
    two words for one thing.

    Args:
        stage: whose labels.
        spec: of the model; overlapping classes are compared by their regions, and are left to these.

    Raises:
        DataError: a class has two values; the message names both.
    """
    file = stage.resampled / "labels.json"
    names = read_json_or_none(file)
    if spec.regions or not isinstance(names, dict):
        return
    values = {name: value for name, (value,) in class_values(spec).items()}
    for value, name in names.items():
        if name in values and str(values[name]) != value:
            message = (
                f"{name} is {value} here and {values[name]} in the model, so that it would be judged as another class"
            )
            raise DataError(f"{message}; give the labels the model's values", path=file, where=value)
