"""Files of Clara that configure neither one training nor one evaluation: each is refused by what to use instead."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from voxflow.findings import DEFAULT_CODE, FaultyConfigError, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AUTOML = "AutoML's search over many trainings is not carried; train with other values by --set, one run for each"
FEDERATED = "federated learning between sites is not part of Voxflow; train at each site, or on the pooled data"
ANNOTATION = "AIAA's server is not carried; serve the model with voxflow serve, or write a bundle for MONAI Label"
DEEPGROW = (
    "deepgrow, which learns from simulated clicks, is not carried; MONAI Label trains it, and here a segmentation of "
    "the image alone does"
)
PATHOLOGY = (
    "whole-slide pathology is not carried: Voxflow reads volumes and radiographs; MONAI's own bundle "
    "pathology_tumor_detection trains on slides"
)
ADMINISTRATION = (
    "Clara's administration of AutoML and federated learning is not carried; train with other values by --set, or at "
    "each site"
)
# The families of Clara's programs that are not carried, by the name below nvmidl.apps, medl.apps and dlmed.
APP_ADVICE = {"aas": ANNOTATION, "automl": AUTOML, "fed_learn": FEDERATED, "hci": ADMINISTRATION}
# What a file of each kind has at its top, and what no configuration of one training has.
_TOPS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(("controller", "executor")), AUTOML),
    (frozenset(("servers", "client", "client_trainer", "aggregator", "result_processors")), FEDERATED),
    (frozenset(("inference",)), ANNOTATION),
)
_DEEPGROW = re.compile(r'"(?:monai\.apps\.)?deepgrow\.|"iteration": ')
_PATHOLOGY = re.compile(r'"[\w.]*(?:WSIDataset|FullyConv\w*Model|TorchModelFullyConv)"|"ProbMapProducer"')


def refuse_foreign(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that is none of a training or an evaluation.

    Raises:
        FaultyConfigError: with the one line that says what to use instead.
    """
    advice = find_advice(config)
    if advice:
        raise FaultyConfigError.of(Finding(DEFAULT_CODE, "error", path, "", advice))


def find_advice(config: Mapping[str, Any]) -> str:
    """Find what to use instead of a file; empty for a configuration of one training or evaluation.

    Example:
        >>> find_advice({"handlers": [], "executor": {}, "controller": {}}).partition(";")[0]
        "AutoML's search over many trainings is not carried"
        >>> find_advice({"epochs": 2, "train": {}, "validate": {}})
        ''
    """
    if not config.keys() & {"train", "validate", "pre_transforms"}:
        for keys, advice in _TOPS:
            if config.keys() & keys:
                return advice
    elif config.keys() >= {"inference", "type"}:
        return ANNOTATION
    text = json.dumps(config)
    if _DEEPGROW.search(text):
        return DEEPGROW
    return PATHOLOGY if _PATHOLOGY.search(text) else ""
