"""The stage resample: every case on one grid; a bad one is listed, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from pydantic import ValidationError

from tasks import resample, split
from tests.tasks.demo_cases import GRID, VOLUMES, run, write_radiographs, write_volumes
from voxflow.errors import EXIT_WRONG_INPUT
from voxflow.geometry import Geometry
from voxflow.volumes import ResampleOptions, Volume, read_radiograph, read_volume, write_radiograph, write_volume

OUT = Path("data/resampled/demo")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("options", "is_warned"), [({}, False), ({"most_voxels": 512}, True)])
def test_regions_are_told_before_a_first_stage_is_trained(
    options: dict[str, int], is_warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes()
    (VOLUMES / "case_form.json").write_text('{"regions": {"whole": [1, 2], "core": [2]}}')
    (VOLUMES / "labels.json").write_text('{"0": "background", "1": "whole", "2": "core"}')
    assert run(resample, monkeypatch, {"spacing_mm": "auto", **options}) == 0
    assert ("so this can't be the first of two stages" in capsys.readouterr().err) == is_warned


def test_a_first_stage_of_images_of_a_few_voxels_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes()
    assert run(resample, monkeypatch, {"spacing_mm": "auto", "most_voxels": 1}) == EXIT_WRONG_INPUT
    assert "most_voxels" in (line := capsys.readouterr().err)
    assert "512" in line


def test_volumes_come_to_one_spacing_and_orientation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes()
    assert run(resample, monkeypatch, {"spacing_mm": [2.0, 2.0, 2.0], "orientation": "LPS"}) == 0
    table = pd.read_csv(OUT / "cases.csv", dtype="str")
    assert set(table["size"]) == {"6 5 9"}
    assert set(table["spacing_mm"]) == {"2 2 2"}
    assert set(table["orientation"]) == {"LPS"}
    assert set(table["study_uid"]) == {"1.20"}
    image, label = read_volume(OUT / "images/p0_1.nii.gz"), read_volume(OUT / "labels/p0_1.nii.gz")
    assert image.geometry.is_close(label.geometry)
    assert [image.array.dtype.name, label.array.dtype.name] == ["int16", "uint8"]
    assert set(np.unique(label.array)) == {0, 1}
    assert (OUT / "labels.json").read_text() == (VOLUMES / "labels.json").read_text()
    assert json.loads((OUT / "resample.json").read_text())["spacing_mm"] == [2.0, 2.0, 2.0]
    metrics = json.loads(Path("data/metrics/demo/resample.json").read_text())
    assert (metrics["cases"], metrics["labelled"], metrics["size_k"]) == (8, 7, 9)
    assert capsys.readouterr().err.splitlines()[-1] == "resample demo: 8 cases → data/resampled/demo"


@pytest.mark.parametrize(("units", "modality"), [("HU", "CT"), ("", "")])
def test_values_of_different_units_have_no_modality_in_common(
    monkeypatch: pytest.MonkeyPatch, units: str, modality: str
) -> None:
    table = write_volumes()
    table["units"] = [units, *["HU"] * 7]
    table.to_csv(VOLUMES / "cases.csv", index=False)
    assert run(resample, monkeypatch) == 0
    assert json.loads((OUT / "fingerprint.json").read_text())["modality"] == modality


def test_the_share_of_a_class_is_of_the_cases_in_which_it_was_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_volumes()
    (VOLUMES / "labels.json").write_text('{"0": "background", "1": "organ", "2": "tumour"}')
    empty = read_volume(VOLUMES / table["label"][0])
    write_volume(VOLUMES / table["label"][0], Volume(empty.array * 0, empty.geometry))
    table.assign(labelled=["tumour", *[""] * 7]).to_csv(VOLUMES / "cases.csv", index=False)
    assert run(resample, monkeypatch) == 0
    masks = [read_volume(VOLUMES / name).array for name in table["label"][1:] if name]
    (organ,) = json.loads((OUT / "fingerprint.json").read_text())["classes"]
    assert len(masks) == 6
    assert organ["share"] == pytest.approx(sum((mask == 1).sum() for mask in masks) / sum(m.size for m in masks), 1e-3)


def test_masks_stay_where_they_are_in_the_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes()
    assert run(resample, monkeypatch, {"spacing_mm": 0.5, "orientation": "LPS"}) == 0

    def centre(folder: Path) -> tuple[float, ...]:
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(sitk.ReadImage(str(folder / "labels/p0_1.nii.gz")))
        return (*shape.GetCentroid(1), shape.GetPhysicalSize(1))

    # Smooth interpolation rounds the corners of a box off.
    np.testing.assert_allclose(centre(OUT)[:3], centre(VOLUMES)[:3], atol=1e-6)
    np.testing.assert_allclose(centre(OUT)[3], centre(VOLUMES)[3], rtol=0.1)


def test_all_cases_come_to_the_grid_of_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes()
    image = read_volume(VOLUMES / "images/p0_1.nii.gz")
    turn = sitk.VersorTransform((0, 0, 1), 0.2).GetMatrix()
    grid = Geometry.from_parts((7, 6, 5), (1.5, 1.5, 2), image.geometry.origin, turn)
    write_volume(Path("atlas.nii"), Volume(np.zeros(grid.size, np.uint8), grid))
    assert run(resample, monkeypatch, {"reference": "atlas.nii", "interpolation": "bspline", "antialias": True}) == 0
    for name in ("images/p0_1.nii.gz", "labels/p0_1.nii.gz"):
        assert read_volume(OUT / name).geometry.is_close(grid, 1e-3)
    assert set(pd.read_csv(OUT / "cases.csv", dtype="str")["size"]) == {"7 6 5"}


def test_files_of_header_and_voxels_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_volumes(cases=1, unlabelled=1)
    image = read_volume(VOLUMES / table["image"][0])
    write_volume(VOLUMES / "images/p0_1.mhd", image)
    table.assign(image="images/p0_1.mhd").to_csv(VOLUMES / "cases.csv", index=False)
    assert run(resample, monkeypatch, {}) == 0
    assert np.array_equal(read_volume(OUT / "images/p0_1.mhd").array, image.array)


def test_channels_of_labels_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_volumes(cases=2)
    mask = read_volume(VOLUMES / table["label"][0])
    for value in (1, 2):
        write_volume(VOLUMES / f"channels/p0_1/{value}.nii.gz", Volume(mask.array, mask.geometry))
    table["label_channels"] = ["channels/p0_1/1.nii.gz;channels/p0_1/2.nii.gz", ""]
    table.to_csv(VOLUMES / "cases.csv", index=False)
    assert run(resample, monkeypatch, {"spacing_mm": 2.0}) == 0
    label = read_volume(OUT / table["label"][0])
    for value in (1, 2):
        channel = read_volume(OUT / f"channels/p0_1/{value}.nii.gz")
        assert np.array_equal(channel.array, label.array)
        assert channel.geometry.is_close(label.geometry)


def test_a_reference_that_no_image_reaches_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes()
    write_volume(Path("atlas.nii"), Volume(np.zeros((4, 4, 4)), Geometry.from_parts((4, 4, 4), (1, 1, 1), (0, 900, 0))))
    assert run(resample, monkeypatch, {"reference": "atlas.nii"}) == 2
    assert "the image does not reach the grid of the reference atlas.nii: it lies around" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reference": "a.nii", "spacing_mm": 1}, "reference states the whole grid; leave spacing_mm"),
        ({"antialias": True, "interpolation": "nearest"}, "antialias smooths before linear or bspline"),
        ({"interpolation": "label"}, "Input should be 'linear', 'bspline' or 'nearest'"),
        ({"extent": "corners"}, "Input should be 'faces' or 'centres'"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ResampleOptions.model_validate(options)


def test_without_a_wish_files_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes()
    assert run(resample, monkeypatch, {"spacing_mm": None}) == 0
    for name in ("images/p3_1.nii.gz", "labels/p3_1.nii.gz"):
        assert (OUT / name).read_bytes() == (VOLUMES / name).read_bytes()


def damage(number: int, kind: str) -> str:
    """Make a case that can't be resampled to 2 mm; returns what must be said of it."""
    case, rng = f"p{number}_1", np.random.default_rng(0)
    image, label = VOLUMES / f"images/{case}.nii.gz", VOLUMES / f"labels/{case}.nii.gz"
    if kind == "label elsewhere":
        moved = Geometry.from_parts(GRID.size, GRID.spacing, (0.0, 0.0, 0.0))
        write_volume(label, Volume(np.ones(GRID.size, dtype=np.uint8), moved))
        return "its grid is not the image's"
    if kind == "label of fractions":
        write_volume(label, Volume(rng.random(GRID.size, dtype=np.float32), GRID))
        return "label values are no whole numbers"
    if kind == "voxels of 90 mm":
        grid = Geometry.from_parts((40, 40, 40), (90.0, 90.0, 90.0))
        write_volume(image, Volume(np.zeros(grid.size, dtype=np.int16), grid))
        return "would become"
    if kind == "NaN":
        write_volume(image, Volume(np.full(GRID.size, np.nan, dtype=np.float32), GRID))
        return "NaN or infinite"
    if kind == "missing":
        image.unlink()
        return "file not found"
    image.write_text("no image")
    return "unreadable image"


BAD = ("label elsewhere", "label of fractions", "voxels of 90 mm", "NaN", "missing", "no image")


@pytest.mark.parametrize("spacing", [2.0, "auto"])
def test_bad_cases_are_listed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spacing: float | str
) -> None:
    write_volumes(cases=10)
    reasons = {f"p{n}_1": damage(n, kind) for n, kind in enumerate(BAD, start=1) if (kind, spacing) != (BAD[2], "auto")}
    assert run(resample, monkeypatch, {"spacing_mm": spacing}) == 3
    failures = {row["case"]: row["reason"] for row in json.loads((OUT / "failures.json").read_text())}
    assert failures.keys() == reasons.keys()
    assert [case for case, reason in reasons.items() if reason not in failures[case]] == []
    good = [case for case in (f"p{n}_1" for n in range(10)) if case not in reasons]
    assert list(pd.read_csv(OUT / "cases.csv")["case"]) == good
    assert {path.name.removesuffix(".nii.gz") for path in OUT.rglob("*.nii.gz")} == set(good), "half a case is left"
    metrics = json.loads(Path("data/metrics/demo/resample.json").read_text())
    assert (metrics["cases"], metrics["failed_cases"]) == (len(good), len(reasons))
    printed = capsys.readouterr().err
    assert f"resample demo: {len(good)} cases, {len(reasons)} failed (failures.json) → data/resampled/demo" in printed
    assert run(split, monkeypatch, {"testing": 0.3, "validation": 0.3, "folds": 0}) == 0
    assert set(pd.read_csv("data/datalists/demo/split.csv")["case"]) == set(good)


def test_where_every_case_is_bad_each_is_named_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(cases=3, unlabelled=0)
    reasons = [damage(n, kind) for n, kind in enumerate(("label elsewhere", "missing", "no image"))]
    assert run(resample, monkeypatch, {"spacing_mm": 2.0}) == 2
    printed = capsys.readouterr().err
    assert "resample demo: error: 3 case(s) can't be resampled" in printed
    assert [reason for reason in reasons if reason not in printed] == []
    assert not OUT.exists()
    assert not list(Path("data/resampled").iterdir())


def test_channels_of_a_case_come_to_the_first_ones_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_volumes(cases=3)
    write_volume(VOLUMES / "images/p0_1_pet.nii.gz", Volume(np.ones(GRID.size, dtype=np.float32), GRID))
    table["image"] = ["images/p0_1.nii.gz;images/p0_1_pet.nii.gz", *table["image"][1:]]
    table.to_csv(VOLUMES / "cases.csv", index=False)
    assert run(resample, monkeypatch, {"spacing_mm": 2.0}) == 0
    first, second = (read_volume(OUT / f"images/{name}.nii.gz") for name in ("p0_1", "p0_1_pet"))
    assert first.geometry.is_close(second.geometry)


def test_radiographs_come_to_one_size_with_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    write_radiographs(cases=2)
    stripes = np.zeros((30, 40), dtype=np.uint16)
    stripes[:, ::2] = 50000
    write_radiograph(VOLUMES / "images/c0.png", stripes)
    assert run(resample, monkeypatch, {"size": [15, 20]}) == 0
    small = read_radiograph(OUT / "images/c0.png")
    assert (*small.shape, small.dtype.name) == (15, 20, "uint16")
    assert np.abs(small[:, 2:-2].astype(float) - 25000).max() < 1000, "fine stripes must be averaged, not aliased"
    table = pd.read_csv(OUT / "cases.csv")
    assert set(table["size"]) == {"15 20"}
    assert set(table["spacing_mm"]) == {"1 0.5"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 2}, r"workspaces\.demo\.resample\.spacing: Extra inputs are not permitted, got 2"),
        ({"size": [0, 5]}, r"resample\.size\.0: Input should be greater than 0"),
        ({"spacing_mm": [1, 2]}, "one or three positive numbers in mm"),
        ({"spacing_mm": 1, "orientation": "XYZ"}, "one of each pair, received 'XYZ'"),
    ],
)
def test_wrong_options_are_wrong_input(
    options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    write_volumes(cases=2)
    assert run(resample, monkeypatch, options) == 2
    assert re.search(message, capsys.readouterr().err)
