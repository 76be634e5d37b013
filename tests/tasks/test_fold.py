"""A cross-validation by its stage programs: each fold on its own datalist, then the folds' models together."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tasks import evaluate, export, infer, train
from tasks.common.folds import main
from tests.tables import read_table
from tests.training.conftest import volume_config, write_cube
from voxflow.files import write_json
from voxflow.tracking import NullTracker
from voxflow.trust import read_calibration
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

PARTS = {
    "dataset_0": {"training": "abc", "validation": "d", "testing": "ef", "inference": "g"},
    "fold_1": {"training": "ab", "validation": "cd", "testing": "ef", "inference": "g"},
    "fold_2": {"training": "cd", "validation": "ab", "testing": "ef", "inference": "g"},
}


class Kept(NullTracker):
    """Remembers which runs were begun and adopted."""

    def __init__(self, run_id: str, adopted: list[str]) -> None:
        super().__init__(run_id)
        object.__setattr__(self, "adopted", adopted)

    def adopt(self, run_ids: Sequence[str]) -> None:
        self.adopted.extend(run_ids)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def adopted() -> list[str]:
    return []


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, adopted: list[str]) -> Iterator[Path]:
    """A workspace ``cubes`` of two folds whose stages up to split have run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folds"))
        begun: list[str] = []

        def begin(*_: Any, part: str = "", **__: Any) -> Any:
            begun.append(part)
            return contextlib.nullcontext(Kept(f"run of {part}", adopted))

        for module in (train, evaluate):
            patch.setattr(module, "begin_run", begin)
        patch.setattr(evaluate, "find_common_parent", lambda runs: None)
        root = Path("data/resampled/cubes")
        root.mkdir(parents=True)
        cases = {letter: write_cube(root, letter, number) for number, letter in enumerate("abcdefg")}
        Path("data/volumes").mkdir()
        Path("data/volumes/cubes").symlink_to(root.absolute())
        lines = [f"{name},{name},{name}.nii.gz,{name}_label.nii.gz,,x\n" for name in cases]
        (root / "cases.csv").write_text("case,patient,image,label,series_uid,source\n" + "".join(lines))
        write_json(root / "labels.json", {"0": "background", "1": "cube"})
        for name, parts in PARTS.items():
            entries = {part: [entry(letter, part) for letter in letters] for part, letters in parts.items()}
            write_json(Path(f"data/datalists/cubes/{name}.json"), {"modality": {"0": "CT"}, **entries})
        config = volume_config()
        for section in ("train", "validate"):
            places = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
            config[section]["image_pipeline"]["args"] |= places
        write_json(Path("mmars/cubes/config/config_train.json"), config)
        block = {
            "task": "segmentation",
            "source": "x",
            "resample": {"spacing_mm": [1, 1, 2], "orientation": "LPS"},
            "split": {"folds": 2},
            "train": {"threads": 1, "workers": 0, "set": {"epochs": 4}},
            "export": {"engines": ["onnx"]},
            "evaluate": {"calibrate": True},
            "infer": {"review_below": 0.0},
        }
        params = {
            "workspaces": {"cubes": block, "zoo": {"task": "segmentation", "kind": "bundle"}},
            "folds": {f"cubes-{n}": {"workspace": "cubes", "fold": n} for n in (1, 2)},
            "ensembles": {"cubes": {"folds": [1, 2]}, "zoo": {"folds": [1]}},
        }
        Path("params.yaml").write_text(yaml.safe_dump(params))
        yield Path()


def entry(letter: str, part: str) -> dict[str, str]:
    label = {} if part == "inference" else {"label": f"{letter}_label.nii.gz"}
    return {"image": f"{letter}.nii.gz", "case": letter, **label}


def run_program(module: ModuleType, *arguments: str) -> int:
    """Run a stage as its program would."""
    name = module.__name__.removeprefix("tasks.")
    sys.argv = [module.__name__, *arguments]
    works = {key: getattr(module, key) for key in ("run_fold", "run_ensemble") if hasattr(module, key)}
    if module in (train, export):
        works["run_fold"] = module.run
    return main(name, module.run, **works)


def read_json(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.fixture(scope="module")
def exit_codes(workspace: Path) -> dict[str, int]:
    codes = {}
    for number in (1, 2):
        for module in (train, export, evaluate):
            codes[f"{module.__name__} {number}"] = run_program(module, "cubes", "--fold", str(number))
    codes["evaluate"] = run_program(evaluate, "cubes", "--ensemble")
    codes["infer"] = run_program(infer, "cubes", "--ensemble")
    return codes


def test_every_stage_ends_well_in_folders_of_its_own(exit_codes: dict[str, int]) -> None:
    assert set(exit_codes.values()) == {0}
    assert not Path("mmars/cubes/models/train").exists()
    for number in (1, 2):
        names = {path.name for path in Path(f"mmars/cubes/models/folds/{number}/train").iterdir()}
        assert {"model.pt", "run.json"} <= names
        assert read_json(f"mmars/cubes/models/folds/{number}/train/run.json")["run_id"] == f"run of fold {number}"


@pytest.mark.usefixtures("exit_codes")
def test_a_fold_is_judged_on_what_it_held_out() -> None:
    held_out = {
        number: {path.name[0] for path in Path(f"mmars/cubes/eval/folds/{number}/held_out/masks").iterdir()}
        for number in (1, 2)
    }
    assert held_out == {1: {"c", "d"}, 2: {"a", "b"}}


@pytest.mark.usefixtures("exit_codes")
def test_the_comparison_has_each_fold_their_spread_and_the_ensemble(adopted: list[str]) -> None:
    rows = {row["model"]: row for row in read_table(Path("mmars/cubes/eval/ensemble/cross_validation.csv"))}
    assert list(rows) == ["fold 1", "fold 2", "mean", "std", "ensemble"]
    dices = [read_json(f"data/metrics/cubes/folds/{number}/evaluate.json")["mean_dice"] for number in (1, 2)]
    assert float(rows["mean"]["mean_dice"]) == pytest.approx(mean(dices), abs=1e-6)
    assert float(rows["std"]["mean_dice"]) == pytest.approx(np.std(dices, ddof=1), abs=1e-6)
    numbers = read_json("data/metrics/cubes/ensemble/evaluate.json")
    assert numbers["cases"] == 2
    assert float(rows["ensemble"]["mean_dice"]) == pytest.approx(numbers["mean_dice"], abs=1e-6)
    assert numbers["folds/mean_dice"] == pytest.approx(mean(dices))
    assert adopted == ["run of fold 1", "run of fold 2"]
    assert read_json("mmars/cubes/eval/ensemble/run.json")["run_id"] == "run of cross-validation"


@pytest.mark.usefixtures("exit_codes")
def test_ways_of_cleaning_are_tried_on_held_out_masks_and_four_cases_choose_none() -> None:
    rows = read_table(Path("mmars/cubes/eval/ensemble/test/cleaning.csv"))
    assert [row["step"] for row in rows] == ["largest_component", "fill_holes"]
    dices = [read_json(f"data/metrics/cubes/folds/{number}/evaluate.json")["mean_dice"] for number in (1, 2)]
    assert float(rows[0]["dice"]) == pytest.approx(mean(dices), abs=1e-4)
    assert {(row["cases"], row["is_chosen"]) for row in rows} == {("4", "False")}


@pytest.mark.usefixtures("exit_codes")
def test_cases_without_a_label_get_a_mask_of_all_folds() -> None:
    mask = read_volume(Path("mmars/cubes/eval/ensemble/infer/g/g.nii.gz")).array
    truth = read_volume(Path("data/volumes/cubes/g_label.nii.gz")).array
    assert 2 * np.sum(mask * truth) / (mask.sum() + truth.sum()) > 0.5


@pytest.mark.usefixtures("exit_codes")
def test_the_folds_together_are_calibrated_on_cases_that_none_has_seen() -> None:
    calibration = read_calibration(Path("mmars/cubes/eval/ensemble/test/trust.json"))
    assert (calibration.signal, len(calibration.models), len(calibration.dice)) == ("folds", 2, 2)
    assert not Path("mmars/cubes/eval/folds/1/held_out/trust.json").exists()
    (row,) = read_table(Path("mmars/cubes/eval/ensemble/infer/review.csv"))
    assert (row["case"], row["bound_holds"]) == ("g", "0.6667")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        (
            train,
            ("cubes", "--fold", "3"),
            "train_fold cubes-3: error: params.yaml: folds: no fold 3 of workspace 'cubes'; known: 1, 2",
        ),
        (
            infer,
            ("zoo", "--ensemble"),
            "params.yaml: ensembles.zoo: a bundle's models run by its own configuration",
        ),
    ],
)
def test_wrong_params_are_one_line(
    module: ModuleType, arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_program(module, *arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert re.search(line, printed), printed


def test_a_wrong_entry_of_folds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {"cubes": {}}, "folds": {"bad": {"fold": 0}}}))
    assert run_program(train, "cubes", "--fold", "1") == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert re.search("params.yaml: folds.bad.workspace: Field required, got .*folds.bad.fold: Input", printed), printed
