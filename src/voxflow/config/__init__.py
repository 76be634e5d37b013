"""Owns configuration: dialects into one typed workflow, every fault reported at once."""

from voxflow.components.component import Component
from voxflow.config.load import DIALECTS, detect_dialect, load_evaluation, load_workflow
from voxflow.config.text import read_json
from voxflow.config.workflow import Determinism, Evaluation, Globals, TrainSection, ValidateSection, Workflow

__all__ = [
    "DIALECTS",
    "Component",
    "Determinism",
    "Evaluation",
    "Globals",
    "TrainSection",
    "ValidateSection",
    "Workflow",
    "detect_dialect",
    "load_evaluation",
    "load_workflow",
    "read_json",
]
