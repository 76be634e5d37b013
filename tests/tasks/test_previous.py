"""The stage previous: masks of cases unseen, and a record of them; what doesn't go together is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tasks import previous
from tasks.common.stage import Stage
from tests.training.conftest import write_cube
from voxflow.errors import VoxflowError
from voxflow.files import write_json
from voxflow.places import load_params
from voxflow.volumes import Volume, read_geometry, read_volume, write_volume

HELD_OUT = {1: "ab", 2: "cd"}
SPLITS = {
    "dataset_0": {"training": "abc", "validation": "d", "testing": "e"},
    "fold_1": {"training": "cd", "validation": "ab", "testing": "e"},
    "fold_2": {"training": "ab", "validation": "cd", "testing": "e"},
}


@pytest.fixture(autouse=True)
def _workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workspaces ``low``, whose folds have made masks, and ``high``; each mask holds the number of its fold."""
    monkeypatch.chdir(tmp_path)
    source = Path("source")
    source.mkdir()
    lines = []
    for number, name in enumerate("abcde"):
        write_cube(source, name, number)
        lines.append(f"{name},{name},{name}.nii.gz,{name}_label.nii.gz,,x\n")
    (source / "cases.csv").write_text("case,patient,image,label,series_uid,source\n" + "".join(lines))
    write_json(source / "labels.json", {"0": "background", "1": "one", "2": "two"})
    for workspace in ("low", "high"):
        for kind in ("volumes", "resampled"):
            place = Path("data") / kind / workspace
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source.absolute())
        for name, parts in SPLITS.items():
            if workspace == "low" or name == "dataset_0":
                entries = {part: [entry(letter) for letter in letters] for part, letters in parts.items()}
                write_json(Path(f"data/datalists/{workspace}/{name}.json"), entries)
    for fold, letters in HELD_OUT.items():
        write_json(Path(f"mmars/low/models/folds/{fold}/train/model.pt"), {"fold": fold})
        for letter in letters:
            grid = read_geometry(source / f"{letter}.nii.gz")
            mask = Volume(np.full(grid.size, fold, np.uint8), grid)
            write_volume(Path(f"mmars/low/eval/folds/{fold}/held_out/masks/{letter}.nii.gz"), mask)
    set_params()


def entry(letter: str) -> dict[str, str]:
    return {"image": f"{letter}.nii.gz", "label": f"{letter}_label.nii.gz", "case": letter, "patient": letter}


def set_params(**changes: Any) -> None:
    blocks: dict[str, Any] = {
        "low": {"task": "segmentation", "source": "x", "evaluate": {}},
        "high": {"task": "segmentation", "source": "x", "train": {"plan": "auto", "previous": "low"}},
    }
    params = {
        "workspaces": blocks,
        "folds": {f"low-{n}": {"workspace": "low", "fold": n} for n in (1, 2)},
        "previous": {"high": {"workspace": "low"}},
    }
    blocks["low"] |= changes.pop("low", {})
    Path("params.yaml").write_text(yaml.safe_dump(params | changes))


def run() -> int:
    return previous.run(Stage("high", "previous", load_params("workspaces", "high")))


def test_each_case_gets_the_mask_of_the_fold_that_held_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    for fold, letters in HELD_OUT.items():
        for letter in letters:
            assert set(np.unique(read_volume(Path(f"data/previous/high/{letter}.nii.gz")).array)) == {fold}
    assert not Path("data/previous/high/e.nii.gz").exists()
    record = json.loads(Path("mmars/high/config/previous.json").read_text())
    assert (record["workspace"], record["values"], sorted(record["models"])) == ("low", [1, 2], ["1", "2"])
    assert {name: case["fold"] for name, case in record["cases"].items()} == {"a": 1, "b": 1, "c": 2, "d": 2}
    assert "previous high: masks of 4 cases, by low → data/previous/high" in capsys.readouterr().err


def test_a_case_that_the_first_stage_failed_on_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mmars/low/eval/folds/1/held_out/masks/a.nii.gz").unlink()
    assert run() == 3
    assert "left out: a: " in capsys.readouterr().err
    assert set(json.loads(Path("mmars/high/config/previous.json").read_text())["cases"]) == set("bcd")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("mmars/low/models/folds/2/train/model.pt", "not there; dvc repro train_fold@low-2 makes it"),
        ("mmars/low/eval/folds/1/held_out/masks", "not there; dvc repro evaluate_fold@low-1 makes it"),
        ("data/datalists/low/fold_2.json", "file not found"),
    ],
)
def test_what_the_first_stage_has_not_made_is_refused(place: str, message: str) -> None:
    Path(place).rename("elsewhere")
    with pytest.raises(VoxflowError, match=message):
        run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": {}}, "low has no folds, which hold out the cases; voxflow folds low 5 makes them"),
        ({"previous": {"high": {"workspace": "other"}}}, "other, but workspaces.high.train.previous is low"),
        ({"previous": {"high": {"stage": "low"}}}, "previous.high"),
        ({"low": {"train": {"previous": "lower"}}}, "a first stage has no first stage"),
        ({"low": {"evaluate": {"clean": {"largest_component": ["one"]}}}}, "shown masks that are not cleaned"),
        ({"low": {"task": "classification"}}, "a first stage segments volumes"),
    ],
)
def test_workspaces_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    set_params(**changes)
    with pytest.raises(VoxflowError, match=message):
        run()


def test_another_split_or_other_classes_are_refused() -> None:
    write_json(
        Path("data/datalists/low/fold_1.json"), {"training": [entry("c"), entry("a")], "validation": [entry("b")]}
    )
    with pytest.raises(VoxflowError, match="case a is held out by none of the folds of low; expected exactly one"):
        run()
    Path("data/resampled/high").unlink()
    write_json(Path("data/resampled/high/labels.json"), {"0": "background", "1": "one"})
    with pytest.raises(VoxflowError, match=r"labels.json: .*but low has"):
        run()
