"""What `extra_outputs` writes beside a mask, where it can, and one line where it can't."""

from __future__ import annotations

import json
import struct
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydantic import ValidationError

from tests.dicom.test_channel_cases import make_study
from tests.inference.models import GRID, BrightnessEngine, ThresholdEngine, volume_spec
from tests.inference.test_dicom_channels import PetCtEngine, pet_ct_spec
from tests.tables import read_table
from voxflow.geometry import Geometry
from voxflow.inference import Failures, InferenceCase, InferOptions, ResultLedger, find_cases, infer_cases
from voxflow.inference.extra_outputs import ExtraOutput, ExtraOutputs
from voxflow.inference.statistics import MeasuredChannel, measure_classes
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.inference import InferenceResult

ALL: tuple[ExtraOutput, ...] = ("rtstruct", "sr", "stl", "glb", "statistics")


def infer(cases: Sequence[InferenceCase], out: Path, kinds: Sequence[str] = ALL, **more: Any) -> InferenceResult:
    out.mkdir(exist_ok=True)
    values = {"extra_outputs": tuple(kinds), "overlays": 0, "plan": "whole", "back": "labels"} | more
    ledger = ResultLedger(out, "maker")
    return infer_cases(ThresholdEngine(), cases, out, InferOptions.model_validate(values), ledger=ledger)


def list_files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and ".made_from" not in path.parts}


def read_rows(out: Path) -> list[dict[str, str]]:
    return read_table(out / "statistics.csv")


def test_nothing_more_is_written_where_nothing_is_asked_for(case: InferenceCase, tmp_path: Path) -> None:
    infer([case], tmp_path / "out", ())
    assert list_files(tmp_path / "out") == {"a/a.nii.gz", "failures.json", "preds.csv", "preds_outputs.csv"}


def test_an_image_that_is_no_dicom_has_surfaces_and_statistics_and_one_line_for_the_rest(
    case: InferenceCase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = infer([case], tmp_path / "out")
    added = {"a/a_organ.stl", "a/a.glb", "a/a_statistics.json", "statistics.csv", "statistics.json"}
    assert added <= list_files(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.dcm"))
    assert not result.failures.rows
    printed = capsys.readouterr()
    lines = [line for line in (printed.out + printed.err).splitlines() if "RTSTRUCT" in line]
    assert lines == ["warning: 1 of 1 cases are no DICOM, so they get no RTSTRUCT and no Structured Report: a first"]
    (row,) = read_rows(tmp_path / "out")
    assert float(row["volume_ml"]) == 8 * 8 * 4 * 5 / 1000
    assert (row["class"], row["unit"], float(row["mean"]), float(row["std"])) == ("organ", "", 1, 0)
    assert row["suv_max"] == ""


def test_an_empty_class_has_a_row_and_no_surface(case: InferenceCase, tmp_path: Path) -> None:
    write_volume(case.images[0], Volume(np.zeros(GRID.size, np.float32), GRID))
    result = infer([case], tmp_path / "out")
    assert not result.failures.rows
    assert not [name for name in list_files(tmp_path / "out") if name.endswith((".stl", ".glb"))]
    (row,) = read_rows(tmp_path / "out")
    assert (row["voxels"], float(row["volume_ml"]), row["mean"]) == ("0", 0, "")


def test_what_an_older_mask_had_goes_with_it(case: InferenceCase, tmp_path: Path) -> None:
    infer([case], tmp_path / "out")
    (tmp_path / "out/a/a_seg.dcm").write_bytes(b"of the older mask")
    write_volume(case.images[0], Volume(np.zeros(GRID.size, np.float32), GRID))
    infer([case], tmp_path / "out", ())
    assert list_files(tmp_path / "out") == {"a/a.nii.gz", "failures.json", "preds.csv", "preds_outputs.csv"}


def test_a_finished_case_gets_what_it_lacks_and_keeps_what_it_has(case: InferenceCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer([case], out, ("stl",))
    before = (out / "a/a_organ.stl").stat().st_mtime_ns, (out / "a/a.nii.gz").stat().st_mtime_ns
    infer([case], out, ("stl",), overwrite=False)
    assert ((out / "a/a_organ.stl").stat().st_mtime_ns, (out / "a/a.nii.gz").stat().st_mtime_ns) == before
    infer([case], out, ("stl", "statistics"), overwrite=False)
    assert (out / "a/a.nii.gz").stat().st_mtime_ns == before[1]
    assert len(read_rows(out)) == 1


def test_two_channels_of_a_study_on_grids_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_study(folder, 1)
    (tmp_path / "scratch").mkdir()
    out = tmp_path / "masks"
    out.mkdir()
    spec = pet_ct_spec()
    inputs = find_cases(folder, tmp_path / "scratch", spec)
    options = InferOptions(overlays=0, plan="whole", back="labels", extra_outputs=ALL)
    result = infer_cases(PetCtEngine(spec), inputs.cases, out, options, refused=inputs.refused)
    assert not result.failures.rows
    (mask_path,) = out.glob("*/*.nii.gz")
    case = mask_path.parent
    mask = read_volume(mask_path).array
    voxel_ml = float(np.prod(read_volume(mask_path).geometry.spacing)) / 1000

    import highdicom

    (report,) = case.glob("*_sr.dcm")
    groups = highdicom.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    expected = {"body": (mask > 0).sum() * voxel_ml, "tumour": (mask == 2).sum() * voxel_ml}
    for group in groups:
        assert group.get_measurements()[0].value == pytest.approx(expected[group.tracking_identifier], rel=1e-9)
    (contours,) = case.glob("*_rtstruct.dcm")
    (segmentation,) = case.glob("*_seg.dcm")
    assert [roi.ROIName for roi in pydicom.dcmread(contours).StructureSetROISequence] == ["body", "tumour"]
    series = {pydicom.dcmread(path).SeriesInstanceUID for path in (contours, segmentation, report)}
    assert len(series) == 3
    rows = read_rows(out)
    assert [(row["class"], row["channel"]) for row in rows] == [
        ("body", "CT"),
        ("tumour", "CT"),
        ("body", "PET"),
        ("tumour", "PET"),
    ]
    pet = read_volume(inputs.cases[0].images[1]).array
    assert float(rows[2]["max"]) == pytest.approx(float(pet[mask > 0].max()), rel=1e-5)
    assert "MARKER" not in (out / "statistics.csv").read_text(encoding="utf-8")
    assert json.loads((out / "statistics.json").read_text(encoding="utf-8"))[0]["case"] == rows[0]["case"]
    (surface,) = case.glob("*_tumour.stl")
    (count,) = struct.unpack("<I", surface.read_bytes()[80:84])
    assert count > 0


@pytest.mark.parametrize(("below", "words"), [(None, ""), (0.9, ": AI result, review advised")])
def test_contours_and_report_say_what_the_seg_says_of_the_mask(tmp_path: Path, below: float | None, words: str) -> None:
    make_study(tmp_path / "in", 1)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").mkdir()
    spec = pet_ct_spec()
    inputs = find_cases(tmp_path / "in", tmp_path / "scratch", spec)
    options = InferOptions(
        overlays=0, plan="whole", back="labels", extra_outputs=("rtstruct", "sr"), review_below=below
    )
    assert not infer_cases(PetCtEngine(spec), inputs.cases, tmp_path / "out", options).failures.rows
    kinds = {"seg": "", "rtstruct": " contours", "sr": " measurements"}
    objects = {kind: pydicom.dcmread(next((tmp_path / "out").glob(f"*/*_{kind}.dcm"))) for kind in kinds}
    for kind, title in kinds.items():
        name, _, description = objects[kind].SeriesDescription.partition(": ")
        assert description == words.removeprefix(": ")
        assert name.endswith(title)
    assert words.removeprefix(": ") in objects["rtstruct"].get("StructureSetDescription", "")


def test_statistics_are_numpys_and_suv_only_where_the_unit_says_so() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, GRID.size).astype(np.uint8)
    image = rng.normal(5, 2, GRID.size).astype(np.float32)
    members = {"whole": (1, 2), "core": (2,), "absent": (9,)}
    mask = Volume(labels, GRID)
    channels = [MeasuredChannel("PET", Volume(image, GRID), "SUVbw g/ml"), MeasuredChannel("x", Volume(image, GRID))]
    rows = measure_classes(mask, members, channels)
    assert len(rows) == 6
    for row in rows[:2]:
        inside = image[np.isin(labels, members[row["class"]])].astype(np.float64)
        expected = [inside.mean(), inside.std(), inside.min(), inside.max(), *np.percentile(inside, (5, 50, 95))]
        names = ("mean", "std", "min", "max", "p5", "p50", "p95")
        assert [row[name] for name in names] == pytest.approx(expected)
        assert (row["suv_max"], row["suv_mean"]) == (row["max"], row["mean"])
        assert row["voxels"] == inside.size
    assert rows[2] == {"class": "absent", "channel": "PET", "unit": "SUVbw g/ml", "volume_ml": 0.0, "voxels": 0}
    assert "suv_max" not in rows[3]


def test_an_images_greatest_value_stays_where_the_mask_lies_on_a_finer_grid() -> None:
    coarse = Geometry.from_parts((6, 5, 4), (4, 4, 4))
    image = np.zeros(coarse.size, np.float32)
    image[3, 2, 2] = 17
    fine = Geometry.from_parts((24, 20, 16), (1, 1, 1), (-1.5, -1.5, -1.5))
    mask = Volume(np.ones(fine.size, np.uint8), fine)
    (row,) = measure_classes(mask, {"all": (1,)}, [MeasuredChannel("", Volume(image, coarse), "SUVbw g/ml")])
    assert row["suv_max"] == 17
    assert row["voxels"] == 24 * 20 * 16


def test_radiomics_come_from_pyradiomics_and_their_lack_is_one_line(
    case: InferenceCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    infer([case], tmp_path / "out", ("radiomics",))
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("PyRadiomics is not installed") == 1
    assert len(read_rows(tmp_path / "out")) == 1

    class Extractor:
        def execute(self, image: Any, mask: Any) -> dict[str, Any]:
            assert image.GetSize() == mask.GetSize()
            return {"diagnostics_Versions_Numpy": "x", "original_shape_Sphericity": np.array(0.5)}

    package, module = ModuleType("radiomics"), ModuleType("radiomics.featureextractor")
    module.RadiomicsFeatureExtractor = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "radiomics", package)
    monkeypatch.setitem(sys.modules, "radiomics.featureextractor", module)
    monkeypatch.setattr("voxflow.inference.extra_outputs.has_radiomics", lambda: True)
    infer([case], tmp_path / "out", ("radiomics",))
    (row,) = read_rows(tmp_path / "out")
    assert float(row["original_shape_Sphericity"]) == 0.5
    assert "diagnostics_Versions_Numpy" not in row


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["SUVbw g/ml", "SUVbw g/ml"], {"SUVbw g/ml": 0}),
        (["SUVbw g/ml", "SUVlbm g/ml"], {"SUVbw g/ml": 0, "SUVlbm g/ml": 1}),
        (["HU", "SUVbw g/ml", "SUVbw g/ml"], {"HU": 0}),
        (["HU", "SUVbw g/ml", "HU"], {"HU": 0, "SUVbw g/ml": 1}),
    ],
)
def test_a_report_has_no_value_that_two_other_channels_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: list[str], expected: dict[str, int]
) -> None:
    channels = tuple("abc"[: len(units)])
    spec = volume_spec(in_channels=len(units), channels=channels)
    values = {"class": "organ", "volume_ml": 1.0}
    rows = [
        values | {"channel": name, "unit": unit} | dict.fromkeys(("mean", "std", "min", "max"), float(number))
        for number, (name, unit) in enumerate(zip(channels, units, strict=True))
    ]
    reported: list[Any] = []
    monkeypatch.setattr("voxflow.dicom.write_measurement_report", lambda *args, **_: reported.extend(args[3]))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a_seg.dcm").touch()
    extra = ExtraOutputs(("sr",), spec, tmp_path, Failures())
    extra._write_report(InferenceCase("a", ()), rows, tmp_path / "sr.dcm", "")
    (segment,) = reported
    assert {unit: numbers["mean"] for unit, numbers in segment.intensities.items()} == expected


def test_a_report_needs_the_seg_that_it_refers_to() -> None:
    with pytest.raises(ValidationError, match="sr refers to the DICOM SEG"):
        InferOptions(extra_outputs=("sr",), dicom_seg=False)
    assert InferOptions(extra_outputs=("rtstruct",), dicom_seg=False).needs_sources


@pytest.mark.parametrize(
    ("units", "selection", "expected"),
    [
        (("HU",), (), ["HU", "HU"]),
        (("HU", "SUVbw g/ml"), (), ["HU", "SUVbw g/ml"]),
        (("HU", "SUVbw g/ml"), (1, 0), ["SUVbw g/ml", "HU"]),
        (("HU", "", "SUVbw g/ml"), (2, 0), ["SUVbw g/ml", "HU"]),
        (("HU", "", "SUVbw g/ml"), (), ["", ""]),
        ((), (), ["", ""]),
    ],
)
def test_each_channel_has_its_own_unit_or_none(
    tmp_path: Path, units: tuple[str, ...], selection: tuple[int, ...], expected: list[str]
) -> None:
    count = max(2, len(units))
    paths = tuple(tmp_path / f"{n}.nii.gz" for n in range(count))
    for n, path in enumerate(paths):
        write_volume(path, Volume(np.random.default_rng(n).random(GRID.size).astype(np.float32), GRID))
    paths = paths if selection or count == 2 else paths[:2]
    case = InferenceCase("a", paths, units=units, selection=selection)
    spec = volume_spec(in_channels=2, channels=("first", "second"))
    extra = ExtraOutputs(("statistics",), spec, tmp_path, Failures())
    extra.write(case, Volume(np.ones(GRID.size, np.uint8), GRID))
    extra.write_tables([case])
    assert [row["unit"] for row in read_rows(tmp_path)] == expected


def test_channels_without_names_are_numbered_as_everywhere(tmp_path: Path) -> None:
    paths = (tmp_path / "0.nii.gz", tmp_path / "1.nii.gz")
    for n, path in enumerate(paths):
        write_volume(path, Volume(np.random.default_rng(n).random(GRID.size).astype(np.float32), GRID))
    extra = ExtraOutputs(("statistics",), volume_spec(in_channels=2), tmp_path, Failures())
    extra.write(InferenceCase("a", paths), Volume(np.ones(GRID.size, np.uint8), GRID))
    extra.write_tables([InferenceCase("a", paths)])
    assert [row["channel"] for row in read_rows(tmp_path)] == ["channel 1", "channel 2"]


def test_a_model_without_masks_says_that_it_adds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    infer_cases(BrightnessEngine(), [], tmp_path, InferOptions(extra_outputs=("stl",), overlays=0))
    assert "extra_outputs (stl) are made of masks, and the model makes none" in capsys.readouterr().err
