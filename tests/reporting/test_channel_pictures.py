"""Pictures of cases of several channels: one each, switched on the page without a script."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.comparing.test_compare import NEW, OLD, write_side
from tests.tasks.demo_cases import GRID, VOLUMES, write_volumes
from voxflow.cli.main import main
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference import write_overlays
from voxflow.reporting.tables import read_pictures
from voxflow.spec import ModelSpec
from voxflow.volumes import Volume, write_volume

NAMES = ("CT & bone", "PET")
COARSE = Geometry.from_parts((6, 5, 6), (2, 2, 3), GRID.origin, GRID.direction.ravel().tolist())


def draw_channel(grid: Geometry, seed: int) -> Volume:
    return Volume(np.random.default_rng(seed).uniform(0, 100, grid.size).astype(np.float32), grid)


@pytest.mark.parametrize("reference", [0, 1])
def test_each_channel_has_a_picture_and_the_reference_is_the_first_that_is_seen(tmp_path: Path, reference: int) -> None:
    spec = ModelSpec(
        task="segmentation",
        class_names=("background", "tumour"),
        activation="softmax",
        in_channels=2,
        channels=NAMES,
        onto=NAMES[reference],
    )
    grids = [GRID, COARSE] if reference == 0 else [COARSE, GRID]
    mask = np.zeros(GRID.size, np.uint8)
    mask[3:8, 3:7, 2:5] = 1
    images = [draw_channel(grid, n) for n, grid in enumerate(grids)]
    write_overlays(tmp_path / "best_a_1.png", images, Volume(mask, GRID), spec, title="best")
    (picture,) = read_pictures(tmp_path, 4)
    assert picture.title == "best: a_1"
    assert [name for name, _ in picture.channels] == list(NAMES)
    sources = [source for _, source in picture.channels]
    assert sources.index(picture.source) == reference
    assert len(set(sources)) == 2


def test_a_picture_of_one_channel_is_alone(tmp_path: Path) -> None:
    spec = ModelSpec(task="segmentation", class_names=("background", "tumour"), activation="softmax")
    mask = Volume(np.ones(GRID.size, np.uint8), GRID)
    write_overlays(tmp_path / "best_a_1.png", [draw_channel(GRID, 1)], mask, spec)
    assert [path.name for path in tmp_path.iterdir()] == ["best_a_1.png"]
    assert read_pictures(tmp_path, 4)[0].channels == ()


def test_a_comparison_switches_the_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_volumes(cases=4, unlabelled=0)
    for n, case in enumerate(table["case"]):
        write_volume(VOLUMES / f"images/{case}_pet.nii.gz", draw_channel(COARSE, n))
    table["image"] = [f"images/{case}.nii.gz;images/{case}_pet.nii.gz" for case in table["case"]]
    table.to_csv(VOLUMES / "cases.csv", index=False)
    write_json(VOLUMES / "case_form.json", {"channels": list(NAMES)})
    for shift, (name, dice) in enumerate({"old": OLD, "new": NEW}.items()):
        write_side(Path(name), dice, 2 * shift)
    assert main(["compare", "old", "new", "--workspace", "demo", "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count('<figure class="channels"') == 3
    identifiers = re.findall(r'<input type="radio" name="([^"]+)" id="([^"]+)"( checked)?>', page)
    assert len({identifier for _, identifier, _ in identifiers}) == len(identifiers) == 6
    assert [bool(checked) for *_, checked in identifiers] == [True, False] * 3
    assert re.findall(r'<label for="lost-1-\d">([^<]+)</label>', page) == ["CT &amp; bone", "PET"]
    shown = re.findall(r'<img src="(data:[^"]+)" alt="p0_1: -0.400, ', page)
    assert len(set(shown)) == 2
