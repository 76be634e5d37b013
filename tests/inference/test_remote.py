"""Inference case by case in other hands makes what it makes here, and names what was lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.case_losing_executor import REASON, CaseLosingExecutor
from tests.inference.models import save_densenet, save_unet
from tests.trust.cohorts import calibrate_radiographs
from voxflow.errors import InputError
from voxflow.executor import Threads
from voxflow.geometry import Geometry
from voxflow.inference import (
    InferenceCase,
    InferOptions,
    ModelFolders,
    infer_cases,
    infer_on_executor,
    open_any_reviewer,
)
from voxflow.inference.ledger import digest_files
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Engine

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 2))


@pytest.fixture
def volumes(tmp_path: Path) -> list[InferenceCase]:
    for seed in range(4):
        image = np.random.default_rng(seed).normal(size=GRID.size).astype(np.float32)
        write_volume(tmp_path / f"{seed}.nii.gz", Volume(image, GRID))
    return [InferenceCase(str(seed), (tmp_path / f"{seed}.nii.gz",)) for seed in range(4)]


@pytest.fixture
def model(tmp_path: Path) -> ModelFolders:
    return ModelFolders((save_unet(tmp_path / "models/model.pt").parent,))


def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path / "here", tmp_path / "there"


def same(folder: Path, second_folder: Path) -> None:
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert sorted(path.relative_to(second_folder) for path in second_folder.rglob("*") if path.is_file()) == files
    assert [file for file in files if (folder / file).read_bytes() != (second_folder / file).read_bytes()] == []


def test_masks_tables_and_pictures_are_the_same(
    volumes: list[InferenceCase], model: ModelFolders, tmp_path: Path
) -> None:
    local, remote = folders(tmp_path)
    volumes.insert(0, InferenceCase("gone", (tmp_path / "gone.nii.gz",)))
    options = InferOptions(overlays=2)
    expected = infer_cases(model.open(), volumes, local, options)
    result = infer_on_executor(Threads(1), model, volumes, remote, options)
    same(local, remote)
    assert sorted(path.stem for path in (remote / "overlays").iterdir()) == ["0", "1"]
    assert (result.engine, result.metrics["cases"], result.metrics["failed_cases"]) == ("torch", 4, 1)
    assert result.failures == expected.failures


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_radiographs_are_classified_the_same(tmp_path: Path, is_calibrated: bool) -> None:
    local, remote = folders(tmp_path)
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 255, (40, 30)).astype(np.uint8)
        write_radiograph(tmp_path / f"{seed}.png", image)
    cases = [InferenceCase(str(seed), (tmp_path / f"{seed}.png",)) for seed in (0, 7, 1, 2)]
    model = ModelFolders((save_densenet(tmp_path / "models/model.pt"),), "torch", is_ensemble=True)
    if is_calibrated:
        files = {"model.pt": digest_files(model.folders)}
        calibrate_radiographs(["mass", "nodule"], [files]).write(tmp_path / "models/trust.json")
    reviewer = open_any_reviewer(model.open(), model.folders, InferOptions())
    infer_cases(model.open(), cases, local, InferOptions(), reviewer=reviewer)
    infer_on_executor(Threads(1), model, cases, remote, InferOptions())
    same(local, remote)
    assert ("verdict" in (remote / "preds_outputs.csv").read_text()) == is_calibrated


def test_a_lost_case_is_a_failure_with_its_reason(
    volumes: list[InferenceCase], model: ModelFolders, tmp_path: Path
) -> None:
    _, out = folders(tmp_path)
    result = infer_on_executor(CaseLosingExecutor(2), model, volumes, out, InferOptions())
    assert json.loads((out / "failures.json").read_text()) == [{"case": "2", "reason": REASON}]
    assert result.failures.exit_code(3) == 3


def test_a_process_opens_a_model_once_and_a_new_one_of_the_same_name_too(
    volumes: list[InferenceCase], model: ModelFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = folders(tmp_path)
    opened: list[ModelFolders] = []
    plain = ModelFolders.open

    def record_opening(self: ModelFolders) -> Engine:
        opened.append(self)
        return plain(self)

    monkeypatch.setattr(ModelFolders, "open", record_opening)
    for expected in (1, 1, 2):
        if expected == 2:
            save_unet(model.folders[0] / "model.pt")
        infer_on_executor(Threads(1), model, volumes, out, InferOptions())
        assert len(opened) == expected


def test_an_engine_that_is_not_there_is_wrong_input(
    volumes: list[InferenceCase], model: ModelFolders, tmp_path: Path
) -> None:
    _, out = folders(tmp_path)
    with pytest.raises(InputError, match="no model for the engine 'openvino'; there is torch"):
        infer_on_executor(Threads(1), ModelFolders(model.folders, "openvino"), volumes, out, InferOptions())
