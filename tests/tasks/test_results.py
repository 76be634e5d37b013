"""What a flow's page shows of the last results: scores and decision in words, and a picture that needs no server."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tasks.ops.links import Link
from tasks.ops.results import describe_results, encode_picture

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/metrics/spleen").mkdir(parents=True)
    (tmp_path / "mmars/spleen/eval/test/overlays").mkdir(parents=True)
    return tmp_path


def test_the_score_comes_first_then_the_decision_and_the_links(root: Path) -> None:
    scores = {"mean_dice": 0.17, "hd95_spleen": 25.31, "cases": 3, "failed_cases": 1}
    (root / "data/metrics/spleen/evaluate.json").write_text(json.dumps(scores))
    decision = {"verdict": "kept", "reasons": ["mean Dice 0.1700 is below 0.5, the floor of a first champion"]}
    (root / "mmars/spleen/eval/decision.json").write_text(json.dumps(decision))
    text = describe_results("spleen", [Link("MLflow run", "http://127.0.0.1:5000/#/run", "run `1`")])
    lines = text.splitlines()
    assert lines[0] == "## mean Dice 0.170 on 3 unseen cases, 1 failed"
    assert "| hd95_spleen | 25.31 |" in lines
    assert lines[-3:] == [
        "**kept**: mean Dice 0.1700 is below 0.5, the floor of a first champion",
        "",
        "- [MLflow run](http://127.0.0.1:5000/#/run): run `1`",
    ]


def test_without_results_there_is_nothing_to_show(root: Path) -> None:
    (root / "data/metrics/spleen/evaluate.json").write_text("no JSON")
    assert describe_results("spleen", []) == ""
    assert encode_picture("spleen") == ""


def test_the_picture_is_the_worst_case_and_small(root: Path) -> None:
    overlays = root / "mmars/spleen/eval/test/overlays"
    for name, colour in (("best_a", "green"), ("contact_sheet", "blue"), ("worst_b", "red")):
        Image.new("RGBA", (4000, 1000), colour).save(overlays / f"{name}.png")
    kind, _, data = encode_picture("spleen").partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (900, 225)
    red, green, blue = picture.convert("RGB").getpixel((450, 100))  # type: ignore[misc]
    assert red > 200
    assert green < 60
    assert blue < 60
