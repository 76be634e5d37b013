"""The model file names the axes that inference may mirror along, where the configuration says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.training.conftest import volume_config, workflow_of
from voxflow.prediction import PredictOptions
from voxflow.spec import ModelSpec
from voxflow.training.plan import TrainingPlan

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.training import DataFacts


@pytest.mark.parametrize(
    ("args", "mirrored"),
    [
        ({}, ()),
        ({"in_inference": True}, ("i", "j", "k")),
        ({"axes": ["k", "i"], "in_inference": True}, ("i", "k")),
        ({"axes": [], "probability": 0.0, "in_inference": True}, ()),
    ],
)
def test_the_model_names_the_axes_that_were_mirrored(
    tmp_path: Path, facts: DataFacts, args: dict[str, Any], mirrored: tuple[str, ...]
) -> None:
    config = volume_config()
    flip = {"name": "RandomSpatialFlip", "args": {"fields": ["image", "label"], **args}}
    config["train"]["pre_transforms"].append(flip)
    spec = TrainingPlan.build(workflow_of(config, tmp_path), facts).make_spec(1)
    assert spec.mirrored == mirrored
    assert ("mirrored" in spec.model_dump()) == bool(mirrored)
    assert PredictOptions(flips="auto").list_flips(spec) == mirrored
    assert PredictOptions(flips=("j",)).list_flips(spec) == ("j",)
    assert PredictOptions().list_flips(spec) == ()
    assert ModelSpec.model_validate(spec.model_dump()) == spec
