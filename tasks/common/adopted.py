"""Trains a workspace of ``kind: adopted``: its model is copied, and the later stages do as for any other."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tasks.common.folds import FoldStage
from voxflow.errors import EXIT_OK, ConfigError, DataError
from voxflow.files import atomic_path, write_json, write_text
from voxflow.places import ADOPTED, ADOPTED_MODEL, PARAMS
from voxflow.progress import say
from voxflow.tracking import begin_run, write_run_file
from voxflow.training import read_checkpoint

if TYPE_CHECKING:
    from tasks.common.stage import Stage


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
