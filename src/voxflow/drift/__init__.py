"""Owns drift: how incoming studies differ from the data that a model was trained on, and whether to retrain."""

from voxflow.drift.check import Drift, FeatureDrift, compare_samples
from voxflow.drift.features import Sample, sample_of_folder, sample_of_training
from voxflow.drift.options import MonitorOptions
from voxflow.drift.report import write_drift
from voxflow.drift.statistics import population_stability
from voxflow.drift.trigger import new_labelled_cases, reasons_to_retrain

__all__ = [
    "Drift",
    "FeatureDrift",
    "MonitorOptions",
    "Sample",
    "compare_samples",
    "new_labelled_cases",
    "population_stability",
    "reasons_to_retrain",
    "sample_of_folder",
    "sample_of_training",
    "write_drift",
]
