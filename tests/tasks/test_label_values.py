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


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "liver", "2": "spleen"},
        {"0": "background", "2": "spleen"},
        {"0": "background", "1": "label_1", "2": "label_2"},  # names that only one of both has
        None,
    ],
)
def test_equal_values_and_other_words_are_taken(
    labels: dict[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = Stage("total", "evaluate", {"kind": "adopted"})
    if labels:
        write_json(stage.resampled / "labels.json", labels)
    require_model_values(stage, SPEC)


def test_a_class_of_another_value_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = Stage("total", "evaluate", {"kind": "adopted"})
    write_json(stage.resampled / "labels.json", {"0": "background", "1": "spleen"})
    with pytest.raises(DataError, match="spleen is 1 here and 2 in the model"):
        require_model_values(stage, SPEC)
    # Where classes overlap, each is judged by its own values.
    require_model_values(stage, SPEC.model_copy(update={"activation": "sigmoid", "regions": ((1, 2), (2,), (1,))}))
