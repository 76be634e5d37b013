"""Both tutorials, every command of their pages, on synthetic images of the same form."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tables import read_table
from tests.workspace.phantoms import write_cases
from tests.workspace.programs import ROOT, install
from voxflow.volumes import read_volume
from voxflow.workspace.zoo import read_zoo

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with install(tmp_path_factory.mktemp("programs") / "bin") as folder:
        yield folder


def follow(page: str, folder: Path, programs: Path) -> str:
    """Run every command of a page in one shell, as its reader would; the first that fails ends it."""
    commands = COMMANDS.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert commands
    environment = os.environ | {
        "VOXFLOW": str(ROOT),
        "PS4": "+ ${SECONDS}s ",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(commands)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


def assert_all_weights_taken(output: str) -> None:
    """Fine-tuning began with every weight of the checkpoint."""
    counts = re.findall(r"(\d+) of (\d+) weights taken", output)
    assert [loaded for loaded, _ in counts] == [every for _, every in counts]
    assert counts


def test_brats(tmp_path: Path, programs: Path) -> None:
    model = read_zoo()["segmentation_mri_brain_tumors_br16_full"]
    # Two of six cases validate.
    for number in range(2):
        images = tmp_path / "brats2018challenge"
        write_cases(model, images, 2, seed=number, name=f"HGG/Brats18_{number}{{0:02d}}/Brats18_{number}{{0:02d}}")
    printed = follow("tutorial-brats.md", tmp_path, programs)
    assert "segmentation_mri_brain_tumors_br16_t1c2tc" in printed
    datalist = json.loads((tmp_path / "config_brats18_datalist1.json").read_text())
    assert [len(item["image"]) for item in datalist["training"]] == [4] * 4
    for output, classes in (("output", ["TC", "WT", "ET"]), ("output2", ["TC"])):
        folder = tmp_path / output
        for file in ("model.pt", "model_final.pt", "model.fzn.ts", "model.trt.xml"):
            assert (folder / file).is_file()
        scores = [float((folder / f"mean_dice_{name.lower()}.txt").read_text()) for name in classes]
        assert all(0 <= score <= 1 for score in scores)
        for item in datalist["validation"]:
            case = Path(item["image"][0]).name.removesuffix(".nii.gz")
            masks = {path.name: read_volume(path).array for path in (folder / case).glob("*.nii.gz")}
            assert masks.keys() == {f"{case}_{name}.nii.gz" for name in classes}
            assert all(set(mask.ravel().tolist()) <= {0, 1} for mask in masks.values())
    assert_all_weights_taken(printed)


def test_chest_xray(tmp_path: Path, programs: Path) -> None:
    model = read_zoo()["classification_chestxray"]
    datalist = write_cases(model, tmp_path / "PLCO_256_original", 4)
    (tmp_path / "plco.json").write_text(json.dumps(datalist))
    output = follow("tutorial-chestxray.md", tmp_path, programs)
    assert_all_weights_taken(output)
    results = tmp_path / "results"
    rows = read_table(results / "preds_outputs.csv")
    assert len(rows) == len(datalist["validation"])
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in model.outputs)
    assert (results / "preds.csv").read_text() == (results / "preds_outputs.csv").read_text()
    scores = [float((results / f"{name}.txt").read_text()) for name in model.outputs]
    mean = float((results / "Average_AUC.txt").read_text())
    assert mean == pytest.approx(sum(scores) / len(scores), abs=1e-5)
    assert f"{mean:.6f}" in output
    grades = [list(row.values())[1:] for row in read_table(tmp_path / "results_grades/preds_outputs.csv")]
    assert {len(row) for row in grades} == {17}
    assert [sum(map(float, row[-3:])) for row in grades] == pytest.approx([1] * len(grades), abs=1e-4)
