"""Owns training: one explicit loop, its data, its checkpoints."""

from voxflow.training.checkpoint import load_model, read_checkpoint, save_model
from voxflow.training.distributed import is_first_process
from voxflow.training.facts import read_facts
from voxflow.training.options import DataFacts, TrainOptions
from voxflow.training.result import TrainingResult
from voxflow.training.session import train, unfinished_run
from voxflow.training.trial import Trial, try_steps

__all__ = [
    "DataFacts",
    "TrainOptions",
    "TrainingResult",
    "Trial",
    "is_first_process",
    "load_model",
    "read_checkpoint",
    "read_facts",
    "save_model",
    "train",
    "try_steps",
    "unfinished_run",
]
