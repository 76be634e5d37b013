"""Labels whose classes have other values than an adopted model gives them are refused before anything is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.common.label_values import require_model_values
from tasks.common.stage import Stage
from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = ModelSpec(task="segmentation", class_names=("background", "liver", "spleen"), activation="softmax")


def explain(labels: dict[str, str] | None, spec: ModelSpec = SPEC) -> str:
    """Why labels are refused; empty where they are taken."""
    stage = Stage("total", "evaluate", {"kind": "adopted"})
    if labels:
        write_json(stage.resampled / "labels.json", labels)
    try:
        require_model_values(stage, spec)
    except DataError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"0": "background", "1": "liver", "2": "spleen"}, ""),
        ({"0": "background", "2": "spleen"}, ""),
        ({"0": "background", "1": "label_1", "2": "label_2"}, ""),  # names that only one of both has
        (None, ""),
        ({"0": "background", "1": "spleen"}, "spleen is 1 here and 2 in the model"),
    ],
)
def test_a_class_of_another_value_is_refused_and_nothing_else(
    labels: dict[str, str] | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    explanation = explain(labels)
    assert reason in explanation
    assert bool(reason) == bool(explanation)


def test_classes_that_overlap_are_judged_by_their_own_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    regions = SPEC.model_copy(update={"activation": "sigmoid", "regions": ((1, 2), (2,), (1,))})
    assert explain({"0": "background", "1": "spleen"}) != ""
    assert explain({"0": "background", "1": "spleen"}, regions) == ""
