"""Owns inference: engines behind one protocol, window plans, geometry there and back, evaluation, writers."""

from voxflow.inference.cases import Failures, InferenceCase, native_cases
from voxflow.inference.engines import MODEL_FILES, Engine, EngineChoice, EngineName, open_engine, unfit, unusable
from voxflow.inference.ensemble import Ensemble, open_ensemble
from voxflow.inference.evaluate import EvaluateOptions, Evaluation, evaluate_segmentation
from voxflow.inference.grade import evaluate_classification
from voxflow.inference.infer import Inference, InferOptions, infer_cases
from voxflow.inference.labels import label_names, labels_of
from voxflow.inference.made import Made, maker_of
from voxflow.inference.predict import (
    Prediction,
    PredictOptions,
    plan_of,
    predict_radiograph,
    predict_volume,
    prepare_radiograph,
    prepare_volume,
)
from voxflow.inference.probabilities import probabilities_of
from voxflow.inference.remote import Models, infer_elsewhere
from voxflow.inference.tables import metric_name

__all__ = [
    "MODEL_FILES",
    "Engine",
    "EngineChoice",
    "EngineName",
    "Ensemble",
    "EvaluateOptions",
    "Evaluation",
    "Failures",
    "InferOptions",
    "Inference",
    "InferenceCase",
    "Made",
    "Models",
    "PredictOptions",
    "Prediction",
    "evaluate_classification",
    "evaluate_segmentation",
    "infer_cases",
    "infer_elsewhere",
    "label_names",
    "labels_of",
    "maker_of",
    "metric_name",
    "native_cases",
    "open_engine",
    "open_ensemble",
    "plan_of",
    "predict_radiograph",
    "predict_volume",
    "prepare_radiograph",
    "prepare_volume",
    "probabilities_of",
    "unfit",
    "unusable",
]
