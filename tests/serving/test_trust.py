"""The service returns the bound of a case's Dice where it is asked to sort, and no word of it where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from tests.inference.models import BrightnessEngine, ThresholdEngine
from tests.serving.servers import run_service
from tests.trust.cohorts import calibrate, calibrate_radiographs, observe
from voxflow.geometry import Geometry
from voxflow.inference import InferOptions
from voxflow.trust import RadiographReviewer, Reviewer
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Engine

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 5))


def pack(folder: Path) -> bytes:
    image = np.zeros(GRID.size, np.float32)
    image[6:14, 5:13, 3:7] = 1
    write_volume(folder / "ct.nii.gz", Volume(image, GRID))
    return (folder / "ct.nii.gz").read_bytes()


def ask(content: bytes, query: str = "", engine: Engine | None = None, **settings: Any) -> httpx.Response:
    with run_service(engine or ThresholdEngine(), **settings) as (port, _):
        return httpx.post(f"http://127.0.0.1:{port}/predict{query}", content=content, trust_env=False)


def test_a_case_comes_with_its_bound(tmp_path: Path) -> None:
    reviewer = Reviewer(0.99, 0.9, calibrate(observe([0.5] * 20, [0.5] * 20)))
    settings: dict[str, Any] = {"options": InferOptions(review_below=0.99), "reviewer": reviewer}
    row = ask(pack(tmp_path), "?format=json", **settings).json()["cases"][0]
    mask = ask(pack(tmp_path), **settings)
    assert row["verdict"] == "review"
    assert 0 < row["dice_bound"] < 0.99
    assert mask.headers["X-Voxflow-Verdict"] == "review"
    assert float(mask.headers["X-Voxflow-Dice-Bound"]) == row["dice_bound"]


def test_a_radiograph_comes_with_calibrated_probabilities(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.png", np.full((32, 32), 140, np.uint8))
    reviewer = RadiographReviewer(calibrate_radiographs(["mass", "nodule"], [{"model.pt": "1f"}]), (0,))
    answer = ask((tmp_path / "a.png").read_bytes(), engine=BrightnessEngine(), reviewer=reviewer)
    row = answer.json()["cases"][0]
    assert 0.5 < row["mass"] < row["uncalibrated_mass"]
    assert (row["labels_mass"], row["verdict"]) == ("either", "review")
    assert answer.headers["X-Voxflow-Verdict"] == "review"
    assert "X-Voxflow-Dice-Bound" not in answer.headers


def test_nobody_who_does_not_ask_is_told(tmp_path: Path) -> None:
    answer = ask(pack(tmp_path))
    assert not [name for name in answer.headers if "verdict" in name.lower()]
