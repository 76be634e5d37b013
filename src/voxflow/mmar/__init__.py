"""Owns running an MMAR by hand, without a pipeline around it: train, export, evaluate and infer in its folder."""

from voxflow.mmar.artefacts import find_model
from voxflow.mmar.evaluate import Evaluated, evaluate_mmar
from voxflow.mmar.export import Exported, Names, export_checkpoint
from voxflow.mmar.folder import Mmar, repository_of
from voxflow.mmar.record import is_main_process
from voxflow.mmar.settings import parse_settings
from voxflow.mmar.train import Trained, train_mmar

__all__ = [
    "Evaluated",
    "Exported",
    "Mmar",
    "Names",
    "Trained",
    "evaluate_mmar",
    "export_checkpoint",
    "find_model",
    "is_main_process",
    "parse_settings",
    "repository_of",
    "train_mmar",
]
