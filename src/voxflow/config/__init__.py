"""Owns configuration: dialects into one typed workflow, every fault reported at once."""

from voxflow.components.component import Component
from voxflow.config.clara3 import load_workflow
from voxflow.config.text import read_json
from voxflow.config.workflow import Determinism, Globals, TrainSection, ValidateSection, Workflow

__all__ = [
    "Component",
    "Determinism",
    "Globals",
    "TrainSection",
    "ValidateSection",
    "Workflow",
    "load_workflow",
    "read_json",
]
