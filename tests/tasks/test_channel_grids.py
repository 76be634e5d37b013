"""The stage resample: channels of grids of their own come onto one channel's grid, each by one interpolation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from tasks import resample
from tasks.common.stage import main
from tests.tasks.demo_cases import VOLUMES, run
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

OUT = Path("data/resampled/demo")
CT = Geometry.from_parts((40, 36, 24), (1.2, 1.2, 2.0), (-24, -20, 0))
TURN = sitk.VersorTransform((0, 0, 1), 0.1).GetMatrix()
PET = Geometry.from_parts((20, 18, 14), (3, 3, 3), (-30, -26, 4), TURN)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_case(name: str, ct: Geometry = CT, pet: Geometry = PET, label: Geometry = PET) -> dict[str, str]:
    rng = np.random.default_rng(len(name))
    images = {"0000": (ct, -1000, 1500, np.int16), "0001": (pet, 1, 20, np.float32)}
    for number, (grid, low, high, dtype) in images.items():
        voxels = rng.uniform(low, high, grid.size).astype(dtype)
        write_volume(VOLUMES / f"images/{name}_{number}.nii.gz", Volume(voxels, grid))
    mask = np.zeros(label.size, np.uint8)
    mask[4:12, 4:12, 3:9] = 1
    write_volume(VOLUMES / f"labels/{name}.nii.gz", Volume(mask, label))
    files = ";".join(f"images/{name}_{number}.nii.gz" for number in images)
    return {"case": name, "patient": name, "modality": "", "image": files, "label": f"labels/{name}.nii.gz"}


def write_tables(rows: list[dict[str, str]]) -> None:
    pd.DataFrame(rows).assign(size="", spacing_mm="", orientation="").to_csv(VOLUMES / "cases.csv", index=False)
    write_json(VOLUMES / "labels.json", {"0": "background", "1": "tumour"})
    write_json(VOLUMES / "case_form.json", {"channels": ["CT", "PET"]})


def resample_by_sitk(path: Path, target: Path, interpolator: int, fill: float) -> np.ndarray:
    """One interpolation of an image onto the grid of another file, by SimpleITK alone."""
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    moved = sitk.Resample(image, sitk.ReadImage(str(target)), sitk.Transform(), interpolator, fill)
    return np.asarray(sitk.GetArrayFromImage(moved))


@pytest.mark.parametrize(("onto", "spacing", "number"), [("PET", None, 1), ("CT", 1.5, 0), (None, None, 0)])
def test_channels_and_label_come_onto_one_grid_as_simpleitk_does_it(
    monkeypatch: pytest.MonkeyPatch, onto: str | None, spacing: float | None, number: int
) -> None:
    write_tables([write_case("a")])
    options = {"onto": onto, "spacing_mm": spacing, "label_interpolation": "nearest"}
    assert run(resample, monkeypatch, {key: value for key, value in options.items() if value}) == 0
    files = [Path(f"images/a_{n}.nii.gz") for n in ("0000", "0001")]
    grids = [read_volume(OUT / file).geometry for file in (*files, Path("labels/a.nii.gz"))]
    assert all(grid.is_close(grids[0]) for grid in grids)
    if spacing is None:
        assert grids[0].is_close((CT, PET)[number])
    for file, tolerance in zip(files, (0.5, 1e-3), strict=True):
        darkest = float(read_volume(VOLUMES / file).array.min())
        expected = resample_by_sitk(VOLUMES / file, OUT / files[number], sitk.sitkLinear, darkest)
        received = sitk.GetArrayFromImage(sitk.ReadImage(str(OUT / file))).astype(np.float32)
        # At the face of the outermost voxels rounding decides which side a centre lies on.
        assert np.mean(np.abs(received - expected) > tolerance + 1e-3) < 0.001
    expected = resample_by_sitk(VOLUMES / "labels/a.nii.gz", OUT / files[0], sitk.sitkNearestNeighbor, 0)
    received = sitk.GetArrayFromImage(sitk.ReadImage(str(OUT / "labels/a.nii.gz")))
    assert np.mean(received != expected) < 0.001
    assert expected.any()


def test_the_table_says_how_much_of_the_grid_a_channel_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    half = Geometry.from_parts((40, 36, 12), (1.2, 1.2, 2.0), (-24, -20, 0))
    write_tables([write_case("a", pet=half, label=half), write_case("bb", pet=CT, label=CT)])
    assert run(resample, monkeypatch) == 0
    assert list(pd.read_csv(OUT / "cases.csv", keep_default_na=False)["outside"]) == ["PET: 50.0%", ""]
    pet = read_volume(OUT / "images/a_0001.nii.gz").array
    assert np.all(pet[..., 12:] == pet.min())
    for file in ("images/bb_0000.nii.gz", "images/bb_0001.nii.gz", "labels/bb.nii.gz"):
        assert (OUT / file).read_bytes() == (VOLUMES / file).read_bytes()


def test_a_label_beyond_the_grid_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Geometry.from_parts((20, 36, 24), (1.2, 1.2, 2.0), (-24 + 7 * 1.2 + 0.1, -20, 0))
    write_tables([write_case("a", pet=small, label=CT)])
    assert run(resample, monkeypatch, {"onto": "PET", "label_interpolation": "nearest"}) == 0
    assert list(pd.read_csv(OUT / "cases.csv")["outside"]) == ["label: 37.5%"]


@pytest.mark.parametrize(
    ("pet", "onto", "reason"),
    [
        (Geometry.from_parts((20, 18, 14), (3, 3, 3), (500, 0, 0)), None, "CT and PET lie beside each other"),
        (Geometry.from_parts((20, 18, 14), (3, 3, 3), (-24, -20, 40)), None, "CT and PET share 17% of the smaller"),
        (Geometry.from_parts((50, 50, 50), (9, 9, 9), (-220, -220, -200)), "PET", "CT covers 0% of the grid"),
    ],
)
def test_channels_that_hardly_overlap_are_left_out_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, pet: Geometry, onto: str | None, reason: str
) -> None:
    write_tables([write_case("a", pet=pet, label=CT), write_case("bb")])
    assert run(resample, monkeypatch, {"onto": onto} if onto else {}) == 3
    (failure,) = json.loads((OUT / "failures.json").read_text())
    assert failure["case"] == "a"
    assert reason in failure["reason"]


def test_an_unknown_channel_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_tables([write_case("a")])
    assert run(resample, monkeypatch, {"onto": "pet"}) == 2
    assert "resample.onto: 'pet' is no channel; expected one of CT, PET" in capsys.readouterr().err


@pytest.mark.parametrize(("order", "code"), [("CT PET", 0), ("ct pet", 0), ("PET CT", 2), ("CT MR", 0)])
def test_another_order_of_the_channels_is_refused_since_dvc_does_not_see_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], order: str, code: int
) -> None:
    write_tables([write_case("a")])
    rules = {name: {"description": name} for name in order.split()}
    block = {"task": "segmentation", "source": "raw", "convert": {"channels": rules}}
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {"demo": block}}, sort_keys=False))
    monkeypatch.setattr(sys, "argv", ["resample", "demo"])
    assert main("resample", resample.run) == code
    if code:
        said = capsys.readouterr().err
        assert "params.yaml: workspaces.demo.convert.channels: the order is PET, CT; " in said
        assert "the cases were converted in the order CT, PET: run dvc repro --force convert@demo" in said
