"""``voxflow infer`` takes a file, a folder, a datalist or DICOM, goes on where it stopped, and names what is bad."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import highdicom
import numpy as np
import pytest

from tests.dicom.objects import Series, random_values
from tests.inference.models import save_densenet, save_unet
from tests.tables import read_table
from voxflow.cli.main import main
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

GRID = Geometry.from_parts((20, 18, 10), (1, 1, 5))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_unet(tmp_path / "model.pt")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a", "b", "deeper/a"):
        array = np.random.default_rng(len(name)).normal(size=GRID.size).astype(np.float32)
        write_volume(tmp_path / "images" / f"{name}.nii.gz", Volume(array, GRID))
    return tmp_path / "images"


def infer(model: Path, images: Path, out: Path, *more: str) -> int:
    return main(["infer", str(model), "--images", str(images), "--out", str(out), *more])


def cases(out: Path) -> list[str]:
    return [row["case"] for row in read_table(out / "preds_outputs.csv")]


def test_one_file(model: Path, images: Path, tmp_path: Path) -> None:
    assert infer(model, images / "a.nii.gz", tmp_path / "out", "--set", "overlays=1") == 0
    assert cases(tmp_path / "out") == ["a"]
    assert read_volume(tmp_path / "out/a/a.nii.gz").geometry.is_close(GRID)
    assert (tmp_path / "out/overlays/a.png").is_file()
    assert not list((tmp_path / "out").glob(".work-*"))


def test_a_folder_whose_files_share_a_name(model: Path, images: Path, tmp_path: Path) -> None:
    assert infer(model, images, tmp_path / "out", "--set", "overlays=0") == 0
    assert cases(tmp_path / "out") == ["a", "b", "deeper_a"]


def test_a_datalist_and_its_key(model: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps({"testing": [{"image": "b.nii.gz"}]}))
    more = ("--key", "testing", "--root", str(images), "--set", "overlays=0")
    assert infer(model, tmp_path / "list.json", tmp_path / "out", *more) == 0
    assert cases(tmp_path / "out") == ["b"]


def test_dicom_gets_a_seg(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXFLOW_PSEUDONYM_KEY", "test")
    Series(random_values()).write(tmp_path / "dicom")
    assert infer(model, tmp_path / "dicom", tmp_path / "out", "--set", "overlays=0") == 0
    (case,) = cases(tmp_path / "out")
    seg = highdicom.seg.segread(tmp_path / "out" / case / f"{case}_seg.dcm")
    assert seg.segment_numbers
    assert (tmp_path / "out" / case / f"{case}.nii.gz").is_file()


def test_it_goes_on_where_it_stopped(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "b.nii.gz").write_bytes(b"not yet whole")
    assert infer(model, images, tmp_path / "out", "--set", "overlays=0") == 3
    written_at = (tmp_path / "out/a/a.nii.gz").stat().st_mtime_ns
    table = (tmp_path / "out/preds_outputs.csv").read_text().splitlines()
    array = np.random.default_rng(5).normal(size=GRID.size).astype(np.float32)
    write_volume(images / "b.nii.gz", Volume(array, GRID))
    assert infer(model, images, tmp_path / "out", "--no_overwrite", "--set", "overlays=0") == 0
    assert (tmp_path / "out/a/a.nii.gz").stat().st_mtime_ns == written_at
    assert cases(tmp_path / "out") == ["a", "b", "deeper_a"]
    assert set(table) <= set((tmp_path / "out/preds_outputs.csv").read_text().splitlines())
    assert "infer: 3 of 3 cases (torch)" in capsys.readouterr().err


def test_masks_of_another_model_or_other_settings_are_neither_kept_as_this_ones_nor_replaced(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "out", ("--no_overwrite", "--set", "overlays=0")
    assert infer(model, images / "a.nii.gz", out, "--set", "overlays=0") == 0
    before = (out / "a/a.nii.gz").read_bytes()
    assert infer(model, images, out, *few, "blend=constant") == 3
    assert "2 of 3 cases" in (output := capsys.readouterr().err)
    assert "the first, a: another model, other settings or another image made the mask that is there" in output
    assert cases(out) == ["b", "deeper_a"]
    assert (out / "a/a.nii.gz").read_bytes() == before
    assert infer(model, images / "b.nii.gz", out, *few) == 1


def test_a_mask_that_came_from_elsewhere_is_kept(model: Path, images: Path, tmp_path: Path) -> None:
    mask = Volume(np.ones(GRID.size, np.uint8), GRID)
    write_volume(tmp_path / "out/a/a.nii.gz", mask)
    assert infer(model, images / "a.nii.gz", tmp_path / "out", "--no_overwrite", "--set", "overlays=0") == 0
    assert np.array_equal(read_volume(tmp_path / "out/a/a.nii.gz").array, mask.array)


def test_dicom_is_gone_on_from_too(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXFLOW_PSEUDONYM_KEY", "test")
    Series(random_values()).write(tmp_path / "dicom")
    for more in ((), ("--no_overwrite",)):
        assert infer(model, tmp_path / "dicom", tmp_path / "out", *more, "--set", "overlays=0") == 0
        (seg,) = (tmp_path / "out").glob("*/*_seg.dcm")
        written = seg.stat().st_mtime_ns
    assert seg.stat().st_mtime_ns == written


def test_a_folder_of_radiographs(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_radiograph(tmp_path / "images" / f"{name}.png", np.full((40, 30), 50, np.uint16))
    model = save_densenet(tmp_path / "model.pt")
    assert infer(model, tmp_path / "images", tmp_path / "out") == 0
    assert cases(tmp_path / "out") == ["x", "y"]
    assert (tmp_path / "out/overlays/contact_sheet.png").is_file()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--set", "back=sideways"], "--set back: Input should be 'labels', 'probabilities' or 'logits'"),
        (["--set", "extra_outputs=[stl]"], """write a list as --set 'extra_outputs=["A", "B"]'"""),
        (["--set", "clean.fill=1"], "--set clean.fill: Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_named(
    more: list[str], expected: str, model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(model, images, images.parent / "out", *more) == 2
    assert expected in capsys.readouterr().err


def test_images_need_a_place_for_the_results(model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", str(model), "--images", str(images)]) == 2
    assert "--images and --out go together" in capsys.readouterr().err


def test_results_need_a_folder(model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(model, images, images / "a.nii.gz") == 2
    assert "a.nii.gz: --out is to be a folder, and a file is there" in capsys.readouterr().err


def test_an_mmar_stands_for_what_is_exported_in_it(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "mmar" / "models"
    save_unet(models / "model.pt")
    few = ("--set", "overlays=0")
    assert infer(tmp_path / "mmar", images / "a.nii.gz", tmp_path / "one", *few) == 0
    assert main(["export", str(models), "--set", 'engines=["onnx"]']) == 0
    for number, place in enumerate((tmp_path / "mmar", models)):
        assert infer(place, images / "a.nii.gz", tmp_path / str(number), *few) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("infer:")]
    assert [line.partition("(")[2].partition(")")[0] for line in lines] == ["torch", "onnxruntime", "onnxruntime"]


def test_nothing_to_infer_on_is_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(model, tmp_path / "gone", tmp_path / "out") == 2
    assert "no such file or folder" in capsys.readouterr().err
