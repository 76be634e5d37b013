"""Two models on one page: what it says, what it draws, and how runs are found."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.tasks.demo_cases import GRID, write_volumes
from voxflow.cli.main import main
from voxflow.tracking import begin_run
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

OLD = {"p0_1": 0.9, "p1_1": 0.8, "p2_1": 0.7, "p3_1": 0.6}
NEW = {"p0_1": 0.5, "p1_1": 0.85, "p2_1": 0.9, "p3_1": 0.6}


def write_side(folder: Path, dice: dict[str, float], shift: int = 0) -> Path:
    rows = [f"{case},{score},{score}" for case, score in dice.items()]
    (folder / "masks").mkdir(parents=True)
    (folder / "per_case.csv").write_text("\n".join(["case,mean_dice,dice_spleen", *rows]) + "\n")
    for case in dice:
        mask = np.zeros(GRID.size, dtype=np.uint8)
        mask[3 + shift : 8 + shift, 3:7, 2:5] = 1
        write_volume(folder / f"masks/{case}.nii.gz", Volume(mask, GRID))
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "data/volumes/demo", cases=4, unlabelled=0)
    write_side(tmp_path / "old", OLD)
    write_side(tmp_path / "new", NEW, shift=2)
    return tmp_path


def test_the_page_names_winners_losers_and_needs_nothing_else(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "old", "new", "--workspace", "demo", "--out", "page.html"]) == 0
    assert "2 cases better and 1 worse → page.html" in capsys.readouterr().err
    page = (root / "page.html").read_text()
    assert "These cases do not tell which one is better." in page
    assert "2 of 4 cases lie above the diagonal" in page
    assert page.count("<circle") == 4
    table = page.split('<section id="cases">')[1]
    assert re.findall(r"<td>(p\d_1)</td>", table) == ["p0_1", "p3_1", "p1_1", "p2_1"]
    assert "-0.400" in table
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']+""", page)


def test_the_largest_changes_are_drawn_where_the_masks_differ(root: Path) -> None:
    assert main(["compare", "old", "new", "--workspace", "demo", "--out", "page.html"]) == 0
    page = (root / "page.html").read_text()
    lost, gained = page.split("Lost most")[1].split("Gained most")
    assert re.findall(r'alt="([^"]+)"', lost.split("<h3>")[0]) == ["p0_1: -0.400"]
    assert re.findall(r'alt="([^"]+)"', gained.split("</section>")[0]) == ["p2_1: +0.200", "p1_1: +0.050"]
    first = re.search(r"data:image/png;base64,([^\"]+)", lost)
    assert first
    assert Image.open(io.BytesIO(base64.b64decode(first[1]))).size == (800, 440)


def test_cases_of_one_model_alone_are_named_and_left_out(root: Path) -> None:
    (root / "new/per_case.csv").write_text("case,mean_dice,dice_spleen\np1_1,0.9,0.9\nother,0.1,0.1\n")
    assert main(["compare", "old", "new", "--out", "page.html"]) == 0
    page = (root / "page.html").read_text()
    assert "Only new has scores of other" in page
    assert page.count("<circle") == 1


def test_classifiers_are_compared_by_the_right_answers_probability(root: Path) -> None:
    for side, chances in (("a", (0.9, 0.2, 0.6)), ("b", (0.9, 0.6, 0.7))):
        rows = [f"c{n},{truth},{chance}" for n, (truth, chance) in enumerate(zip((1, 0, 1), chances, strict=True))]
        (root / side).mkdir()
        (root / side / "per_case.csv").write_text("\n".join(["case,mass,probability_mass", *rows]) + "\n")
    assert main(["compare", "a", "b", "--out", "page.html"]) == 0
    page = (root / "page.html").read_text()
    assert "probability of the right answer" in page
    assert "The largest changes" not in page
    assert "1 of 3 cases lie above" in page


def test_models_without_a_common_case_are_wrong_input(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "new/per_case.csv").write_text("case,mean_dice,dice_spleen\nother,0.1,0.1\n")
    assert main(["compare", "old", "new"]) == 2
    assert "old and new have no case in common" in capsys.readouterr().err


def test_runs_are_found_by_id_name_and_experiment_and_show_what_differs(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    with begin_run("demo", params={"train": {"rate": 0.1}}) as first:
        for path in (root / "old").iterdir():
            first.log_artifact(path, "test/masks" if path.is_dir() else "test")
    monkeypatch.setenv("DVC_EXP_NAME", "rusty-moon")
    with begin_run("demo", params={"train": {"rate": 0.2}}) as second:
        for path in (root / "new").iterdir():
            second.log_artifact(path, "test/masks" if path.is_dir() else "test")
        for _ in range(2):  # a stage that runs twice
            second.log_table(root / "new/per_case.csv", "test/per_case.json")
    client = MlflowClient()
    experiment = client.get_run(second.run_id).info.experiment_id
    table = client.load_table(experiment, "test/per_case.json", [second.run_id])
    assert list(table["case"]) == list(NEW)
    with patch.object(MlflowClient, "search_runs", autospec=True, side_effect=MlflowClient.search_runs) as search:
        assert main(["compare", first.run_id[:8], "rusty-moon"]) == 0
    assert search.call_count == 1
    page = (root / "mmars/demo/eval/compare.html").read_text()
    assert "rusty-moon" in page
    assert re.search(r"<td>train.rate</td>\s*<td>0.1</td>\s*<td>0.2</td>", page)
    assert 'alt="p0_1: -0.400"' in page
    assert main(["compare", first.run_id, "no-such-run"]) == 2
    assert "no run is called 'no-such-run'" in capsys.readouterr().err
    assert main(["compare", "demo@champion", "old"]) == 2
    assert "no version of demo is called 'champion'" in capsys.readouterr().err


def begin_training(root: Path, seed: int, dice: float, rate: float = 0.1) -> str:
    params = {"train": {"rate": rate, "seed": seed, "set": {"determinism": {"random_seed": seed}}}}
    with begin_run("demo", params=params) as run:
        run.log_metrics({"test/mean_dice": dice})
        run.log_artifact(root / "new/per_case.csv", "test")
    return run.run_id


def read_noise(root: Path, old: str, new: str) -> str:
    assert main(["compare", old, new]) == 0
    return (
        re.sub(r"\s+", " ", (root / "mmars/demo/eval/compare.html").read_text()).split("</strong>")[1].split("</p>")[0]
    )


def test_a_change_is_held_against_what_another_seed_alone_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    old = [begin_training(root, seed, dice) for seed, dice in ((1, 0.80), (2, 0.82))]
    new = begin_training(root, 1, 0.84, rate=0.2)
    deviation = np.std([0.80, 0.82], ddof=1)
    bound = stats.t.ppf(0.975, 1) * deviation * np.sqrt(2)
    assert f"a standard deviation of {deviation:.4f} (2 + 1 trainings)" in read_noise(root, old[0], new)
    assert f"95 differ by less than {bound:.4f}: the change of +0.0000 may be chance" in read_noise(root, old[0], new)
    # The same seed again replaces the earlier training; another rate is another model.
    begin_training(root, 2, 0.83)
    begin_training(root, 3, 0.83, rate=0.3)
    more = [begin_training(root, seed, dice, rate=0.2) for seed, dice in ((2, 0.86), (3, 0.85))]
    pooled = np.sqrt((np.var([0.80, 0.83]) * 2 + np.var([0.84, 0.86, 0.85]) * 3) / 3)
    assert f"a standard deviation of {pooled:.4f} (2 + 3 trainings)" in read_noise(root, old[0], new)
    assert "(3 trainings)" in read_noise(root, new, more[0])


def test_the_noise_of_the_seed_is_unknown_where_each_was_trained_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    old, new = (begin_training(root, 1, 0.8, rate=rate) for rate in (0.1, 0.2))
    assert "is not known. To know it, train the same workspace again with another train.seed" in read_noise(
        root, old, new
    )
    assert main(["compare", "old", "new", "--out", "page.html"]) == 0
    assert "is not known. To know it, train the same workspace again" in (root / "page.html").read_text()
