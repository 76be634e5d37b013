"""The conversion commands write what was asked for, refuse to overwrite, and answer with exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom.objects import FRAME, Series, random_values
from voxflow.cli import dataconvert
from voxflow.cli.convert import CHOICES
from voxflow.cli.main import main, make_parser
from voxflow.dicom import ConvertOptions
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

GRID = Geometry.from_parts((12, 10, 8), (0.7, 0.8, 2.5), (-11.0, 22.0, 33.0))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXFLOW_PSEUDONYM_KEY", "key")
    Series(random_values()).write(tmp_path / "in" / "patient" / "ct")
    return tmp_path / "in"


def test_convert_makes_the_case_table(source: Path, tmp_path: Path) -> None:
    assert main(["convert", str(source), str(tmp_path / "out"), "--modalities", "CT", "--workers", "1"]) == 0
    assert len(list((tmp_path / "out" / "images").glob("*.nii.gz"))) == 1


def test_every_option_of_conversion_is_a_flag_but_the_secret() -> None:
    arguments = vars(make_parser().parse_args(["convert", "in", "out"]))
    assert ConvertOptions.model_fields.keys() - arguments.keys() == {"pseudonym_key"}
    for flag, choices, _ in CHOICES:
        field = ConvertOptions.model_fields[flag.replace("-", "_")]
        assert set(get_args(field.annotation)) == set(choices)
        assert field.default == choices[0]


def test_convert_joins_series_by_rules(source: Path, tmp_path: Path) -> None:
    Series(random_values(), frame=FRAME, changes={"SeriesDescription": "late", "SeriesNumber": 2}).write(source / "b")
    Series(random_values(), frame=FRAME, changes={"SeriesDescription": "early"}).write(source / "c")
    rules = tmp_path / "rules.yaml"
    rules.write_text("early: {description: early}\nlate: {description: late}\n")
    assert main(["convert", str(source), str(tmp_path / "out"), "--channels", str(rules)]) == 0
    assert len(list((tmp_path / "out" / "images").glob("*_0001.nii.gz"))) == 1


def test_convert_says_3_when_something_was_quarantined(source: Path, tmp_path: Path) -> None:
    Series(random_values((2, 9, 7))).write(source / "short")
    assert main(["convert", str(source), str(tmp_path / "out")]) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "--workers: Input should be greater than or equal to 1"),
        (["--modalities", "XX"], "unknown modality XX"),
        (["--labels", "spleen"], "expected NAME=VALUE, received 'spleen'"),
        (["--channels", "{A: {descripton: t1}}"], "--channels A: Value error, unknown key 'descripton'; did you mean"),
        (["--channels", "{A: {}"], "--channels: "),
    ],
)
def test_convert_refuses_wrong_options_in_a_line(
    flags: list[str], message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(source), str(tmp_path / "out"), *flags]) == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


def test_convert_replaces_nothing_unasked(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert main(["convert", str(source), str(tmp_path / "out")]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "out"), "--force"]) == 0
    assert main(["convert", str(source), str(source.parent), "--force"]) == 2


@pytest.mark.parametrize("suffix", dataconvert.TARGETS)
def test_dataconvert_keeps_sub_folders_and_overwrites_with_f_only(suffix: str, source: Path, tmp_path: Path) -> None:
    flags = ["-d", str(source), "-o", str(tmp_path / "out"), "-e", suffix]
    assert dataconvert.main(flags) == 0
    volume = read_volume(tmp_path / "out" / "patient" / f"ct{suffix}")
    np.testing.assert_array_equal(volume.array, random_values().transpose(2, 1, 0) - 100)
    assert dataconvert.main(flags) == 2
    assert dataconvert.main([*flags, "-f"]) == 0


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("resolution", [["1.5"], ["1.3", "1.7", "2"]])
def test_dataconvert_resamples_as_simpleitk_does(labels: bool, resolution: list[str], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 200, GRID.size).astype(np.int16)
    write_volume(tmp_path / "in" / "a" / "b.mhd", Volume(array, GRID))
    flags = ["-d", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-s", ".mhd", "-r", *resolution]
    assert dataconvert.main([*flags, *(["-l"] if labels else [])]) == 0
    converted = sitk.ReadImage(str(tmp_path / "out" / "a" / "b.nii.gz"))
    spacing = [float(mm) for mm in (resolution * 3)[:3]]
    assert converted.GetSpacing() == pytest.approx(spacing)
    first = np.array(GRID.origin) + (np.array(spacing) - np.array(GRID.spacing)) / 2
    assert converted.GetOrigin() == pytest.approx(first.tolist(), abs=1e-4)
    original = sitk.Cast(sitk.ReadImage(str(tmp_path / "in" / "a" / "b.mhd")), sitk.sitkFloat32)
    interpolator = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    expected = sitk.Resample(original, converted, sitk.Transform(), interpolator, float(0 if labels else array.min()))
    apart = np.abs(sitk.GetArrayFromImage(converted) - sitk.GetArrayFromImage(expected))
    assert np.mean(apart > 0.51) < 0.01


def test_dataconvert_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    write_volume(tmp_path / "in" / "a.mha", Volume(np.zeros(GRID.size, np.int16), GRID))
    (tmp_path / "in" / "b.mha").write_text("no image")
    assert dataconvert.main(["-d", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-s", ".mha"]) == 3
    assert (tmp_path / "out" / "a.nii.gz").exists()
