"""Inference writes masks, tables and pictures; one bad case is named, a full disk ends the work."""

from __future__ import annotations

import errno
import json
import os
import time
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.inference.models import GRID, BrightnessEngine, ThresholdEngine, save_unet, volume_spec
from tests.tables import read_table
from voxflow.dicom import Origin
from voxflow.engines import open_engine
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase, InferOptions, find_cases, find_native_cases, infer_cases, read_volumes
from voxflow.prediction import predict_prepared, predict_volume
from voxflow.volumes import Volume, read_volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.prediction import Prediction, PreparedImage
    from voxflow.prediction.windows import Plan
    from voxflow.spec import ModelSpec


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_masks_tables_and_pictures(case: InferenceCase, out: Path) -> None:
    bad = InferenceCase("bad", (out / "gone.nii.gz",))
    result = infer_cases(ThresholdEngine(), [case, bad], out, InferOptions())
    mask = read_volume(out / "a" / "a.nii.gz")
    assert mask.geometry.is_close(GRID)
    assert mask.array.sum() == 8 * 8 * 4
    (row,) = read_table(out / "preds_outputs.csv")
    assert row == {"case": "a", "image": "a.nii.gz", "mask": "a/a.nii.gz", "organ_ml": "1.28"}
    assert (out / "preds.csv").read_text() == (out / "preds_outputs.csv").read_text()
    assert (out / "overlays" / "a.png").is_file()
    assert json.loads((out / "failures.json").read_text())[0]["case"] == "bad"
    assert (result.metrics["cases"], result.metrics["failed_cases"]) == (1, 1)


def test_no_case_leaves_empty_outputs(out: Path) -> None:
    result = infer_cases(ThresholdEngine(), [], out, InferOptions())
    assert result.metrics == {"cases": 0, "failed_cases": 0}
    assert read_table(out / "preds_outputs.csv") == []
    assert json.loads((out / "failures.json").read_text()) == []


def test_radiographs_get_probabilities(tmp_path: Path, out: Path) -> None:
    write_radiograph(tmp_path / "x.png", np.full((40, 30), 100, np.uint8))
    result = infer_cases(BrightnessEngine(), [InferenceCase("x", (tmp_path / "x.png",))], out, InferOptions())
    assert result.failures.rows == []
    assert read_table(out / "preds_outputs.csv")[0]["mass"] == "0.5"
    assert (out / "overlays" / "contact_sheet.png").is_file()


def test_a_full_disk_is_no_cases_fault(case: InferenceCase, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, volume: Volume) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("voxflow.inference.run.write_volume", full)
    with pytest.raises(OSError, match="No space left on device"):
        infer_cases(ThresholdEngine(), [case], out, InferOptions())


def table(folder: Path, text: str) -> Path:
    (folder / "cases.csv").write_text("case,image,label,series_uid,source\n" + text)
    return folder


def test_cases_are_found_in_the_case_table(tmp_path: Path) -> None:
    table(tmp_path, "a,images/a.nii.gz,labels/a.nii.gz,1.2.3,\nb,x.nii.gz;y.nii.gz,,,in/b.nii.gz\n")
    first, second = find_native_cases([("a", tmp_path / "other"), ("b", None)], tmp_path, is_mask=True)
    image, label = tmp_path / "images/a.nii.gz", tmp_path / "labels/a.nii.gz"
    assert first == InferenceCase("a", (image,), label, (Origin("1.2.3"),))
    assert second == InferenceCase("b", (tmp_path / "x.nii.gz", tmp_path / "y.nii.gz"))
    assert find_native_cases([("a", (0, 1))], tmp_path, is_mask=False)[0].label == (0, 1)


def test_cases_that_the_table_lacks_are_named_at_once(tmp_path: Path) -> None:
    table(tmp_path, "a,images/a.nii.gz,,,\n")
    with pytest.raises(DataError, match=r"cases\.csv: no row for b, c"):
        find_native_cases([("a", None), ("b", None), ("c", None)], tmp_path, is_mask=True)


@pytest.mark.parametrize(("memory_mb", "ahead"), [(1, False), (4096, True)])
def test_the_next_case_is_read_ahead_where_two_fit(
    memory_mb: int, ahead: bool, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def record_reading(case: InferenceCase, spec: ModelSpec) -> tuple[Volume, ...]:
        order.append(case.id)
        return read_volumes(case, spec)

    monkeypatch.setattr("voxflow.inference.run.read_volumes", record_reading)
    cases = []
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(np.zeros((64, 64, 32), np.float32), blank((64, 64, 32))))
        cases.append(InferenceCase(name, (tmp_path / f"{name}.nii.gz",)))

    class Slow(ThresholdEngine):
        def run(self, batch: np.ndarray) -> np.ndarray:
            time.sleep(0.5)
            order.append("network")
            return super().run(batch)

    options = InferOptions(memory_mb=memory_mb, bytes_per_voxel=1, plan="whole", overlays=0)
    infer_cases(Slow(), cases, out, options)
    assert order == (["a", "b", "network", "network"] if ahead else ["a", "network", "b", "network"])


def test_beside_a_gpu_several_cases_are_read_ahead_and_several_masks_written_behind(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxflow.inference.run.choose_device", lambda engine: "cpu")
    monkeypatch.setattr("voxflow.inference.run.count_cores", lambda: 8)
    save_unet(tmp_path / "model.pt")
    engine = open_engine(tmp_path / "model.pt")
    rng = np.random.default_rng(0)
    cases = []
    for number in range(9):
        file = tmp_path / f"case{number}.nii.gz"
        write_volume(file, Volume(rng.normal(size=(20, 20, 10)).astype(np.float32), blank((20, 20, 10))))
        cases.append(InferenceCase(file.name[:5], (file,)))
    (tmp_path / "case3.nii.gz").write_bytes(b"damaged")
    begun: list[str] = []
    waiting: list[int] = []

    def record_reading(case: InferenceCase, spec: ModelSpec) -> tuple[Volume, ...]:
        begun.append(case.id)
        return read_volumes(case, spec)

    def record_waiting(engine: Engine, prepared: PreparedImage, options: InferOptions) -> Prediction:
        time.sleep(0.1)
        waiting.append(len(begun))
        return predict_prepared(engine, prepared, options)

    monkeypatch.setattr("voxflow.inference.run.read_volumes", record_reading)
    monkeypatch.setattr("voxflow.inference.run.predict_prepared", record_waiting)
    result = infer_cases(engine, cases, out, InferOptions(overlays=0))
    assert result.failures.cases == {"case3"}
    assert max(ahead - done for done, ahead in enumerate(waiting, 1)) in (4, 5)  # the damaged one was read, too
    monkeypatch.undo()
    for case in cases:
        if case.id != "case3":
            expected = predict_volume(engine, read_volumes(case, engine.spec)).mask.array
            assert (read_volume(out / f"{case.id}/{case.id}.nii.gz").array != expected).mean() < 1e-3


def blank(size: tuple[int, int, int]) -> Geometry:
    return Geometry.from_parts(size, (1, 1, 1))


@pytest.mark.parametrize("plan", ["whole", "windows"])
def test_the_engine_is_told_what_it_will_be_shown(plan: Plan, case: InferenceCase, out: Path) -> None:
    class Told(ThresholdEngine):
        def __init__(self) -> None:
            super().__init__(volume_spec(spacing_mm=(1.5, 1.5, 3.0), orientation="SPL", window=(8, 8, 8)))
            self.expected: list[tuple[int, ...]] = []

        def expect(self, shape: tuple[int, ...]) -> None:
            self.expected.append(shape)

    engine = Told()
    infer_cases(engine, [case], out, InferOptions(plan=plan, overlays=0))
    assert len(engine.expected) == 1
    assert set(engine.shapes) == set(engine.expected)


def test_images_of_a_folder_are_found_by_any_ending_through_links_and_under_names_that_stay_apart(
    tmp_path: Path,
) -> None:
    grid = Geometry.from_parts((4, 4, 4), (1, 1, 1))
    for name in ("in/a/x.nii.gz", "in/a_x.nii.gz", "in/B.NII.GZ", "in/b.nii.gz", "disk/c.nii.gz"):
        write_volume(tmp_path / name, Volume(np.zeros((4, 4, 4), np.float32), grid))
    (tmp_path / "in/more").symlink_to(tmp_path / "disk")
    (tmp_path / "in/more2").symlink_to(tmp_path / "in")
    cases = find_cases(tmp_path / "in", tmp_path, volume_spec()).cases
    assert [(case.id, case.image_name) for case in cases] == [
        ("B", "B.NII.GZ"),
        ("a_x-1653a0", "a/x.nii.gz"),
        ("a_x", "a_x.nii.gz"),
        ("b-3e23e8", "b.nii.gz"),
        ("more_c", "more/c.nii.gz"),
    ]


def test_every_image_has_a_mask_whatever_it_is_called(tmp_path: Path, out: Path) -> None:
    grid = Geometry.from_parts((4, 4, 4), (1, 1, 1))
    names = ["CT (1)", "a,b #2", "O'Brien", "$x^{", "_50%", "-rf", "a\nb", "a_b", "overlays", "Mu\u0308ller", "b" * 200]
    names += ["failures.json", os.fsdecode(b"caf\xe9")]
    for name in names:
        write_volume(tmp_path / "in" / f"{name}.nii.gz", Volume(np.ones((4, 4, 4), np.float32), grid))
    cases = find_cases(tmp_path / "in", tmp_path, volume_spec()).cases
    result = infer_cases(ThresholdEngine(), cases, out, InferOptions())
    assert (result.metrics["cases"], result.metrics["failed_cases"]) == (len(names), 0)
    table = {row["image"]: row for row in read_table(out / "preds_outputs.csv")}
    assert len(table) == len(names)
    assert len({row["mask"].lower() for row in table.values()}) == len(names)
    for row in table.values():
        assert read_volume(out / row["mask"]).array.all()
        assert (out / "overlays" / f"{row['case']}.png").is_file() or len(table) > InferOptions().overlays


def test_a_mask_states_both_places_that_its_image_states(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nibabel.Nifti1Image(np.zeros((24, 20, 12), np.float32), None)
    image.header.set_qform(np.diag([-1.0, -1, 2, 1]), 1)
    image.header.set_sform(np.diag([-1.0, -1, 2, 1]) + np.pad([[40.0]], [(0, 3), (3, 0)]), 4)
    nibabel.save(image, tmp_path / "a.nii.gz")
    infer_cases(ThresholdEngine(), [InferenceCase("a", (tmp_path / "a.nii.gz",))], out, InferOptions(overlays=0))
    mask = nibabel.Nifti1Image.from_filename(out / "a/a.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.header.get_sform())
    np.testing.assert_array_equal(mask.header.get_qform(), image.header.get_qform())
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == (1, 4)
    assert "case a: its qform (code 1) and sform (code 4) place it up to 40.00 mm apart" in capsys.readouterr().err
