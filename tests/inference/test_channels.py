"""Cases of several images from files: every way of naming channels gives one mask; what is missing is said by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.inference.models import ThresholdEngine, volume_spec
from voxflow.engines import Engine
from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference import InferOptions, find_cases, find_native_cases, infer_cases
from voxflow.prediction import Ensemble, PredictOptions, predict_volume, prepare_volume
from voxflow.spec import ModelSpec
from voxflow.volumes import Volume, read_volume, strip_suffix, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 2), (5, -7, 30))
NAMES = ("T1", "T1c", "T2", "FLAIR")


class DifferenceEngine(Engine):
    """An engine whose organ is where the second channel is brighter than the first: it knows their order."""

    name = "torch"
    is_local = True

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        organ = batch[:, 1:2] - batch[:, :1]
        return np.concatenate([np.zeros_like(organ), organ], axis=1)


def spec_of(*names: str, **changes: Any) -> ModelSpec:
    return volume_spec(in_channels=len(names), channels=names, **changes)


def make_arrays(count: int = 4, seed: int = 0) -> list[NDArray[np.float32]]:
    return [np.random.default_rng(seed + n).random(GRID.size).astype(np.float32) for n in range(count)]


def write(path: Path, array: NDArray[Any], grid: Geometry = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(array, grid))
    return path


def by_number(folder: Path, arrays: list[NDArray[Any]]) -> None:
    for n, array in enumerate(arrays):
        write(folder / f"p1_{n:04d}.nii.gz", array)


def by_name(folder: Path, arrays: list[NDArray[Any]]) -> None:
    for name, array in zip(NAMES, arrays, strict=True):
        write(folder / f"p1_{name.lower()}.nii.gz", array)


def by_folder(folder: Path, arrays: list[NDArray[Any]]) -> None:
    for name, array in zip(NAMES, arrays, strict=True):
        write(folder / "p1" / f"{name}.mha", array)


def by_brats(folder: Path, arrays: list[NDArray[Any]]) -> None:
    for name, array in zip(("t1n", "t1c", "t2w", "t2f"), arrays, strict=True):
        write(folder / "p1" / f"p1-{name}.nii.gz", array)
    write(folder / "p1" / "p1-seg.nii.gz", np.zeros(GRID.size, np.uint8))


def by_one_file(folder: Path, arrays: list[NDArray[Any]]) -> None:
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.stack(arrays, axis=-1), GRID.affine_ras), folder / "p1.nii.gz")


def by_decathlon_in_another_order(folder: Path, arrays: list[NDArray[Any]]) -> None:
    (folder / "imagesTr").mkdir(parents=True)
    turned = np.stack([arrays[3], arrays[0], arrays[1], arrays[2]], axis=-1)
    nibabel.save(nibabel.Nifti1Image(turned, GRID.affine_ras), folder / "imagesTr/p1.nii.gz")
    write_json(
        folder / "dataset.json",
        {
            "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
            "labels": {"0": "background", "1": "organ"},
            "training": ["./imagesTr/p1.nii.gz"],
        },
    )


def by_nnunet_in_another_order(folder: Path, arrays: list[NDArray[Any]]) -> None:
    for n, place in enumerate((1, 0, 3, 2)):
        write(folder / "imagesTr" / f"p1_{n:04d}.nii.gz", arrays[place])
    names = {str(n): NAMES[place] for n, place in enumerate((1, 0, 3, 2))}
    content = {"channel_names": names, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", content | {"numTraining": 1})


def by_table(folder: Path, arrays: list[NDArray[Any]]) -> None:
    for n, array in enumerate(arrays):
        write(folder / f"{n}.nii.gz", array)
    columns = ",".join(f"image:{name}" for name in NAMES)
    (folder / "cases.csv").write_text(f"case,{columns}\np1,0.nii.gz,1.nii.gz,2.nii.gz,3.nii.gz\n")


WAYS = (
    by_number, by_name, by_folder, by_brats, by_one_file, by_decathlon_in_another_order, by_nnunet_in_another_order,
    by_table,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_of_naming_channels_gives_one_mask(
    tmp_path: Path, way: Callable[[Path, list[NDArray[Any]]], None]
) -> None:
    arrays, engine = make_arrays(), DifferenceEngine(spec_of(*NAMES))
    way(tmp_path / "in", arrays)
    inputs = find_cases(tmp_path / "in", tmp_path, engine.spec)
    assert (len(inputs.cases), inputs.refused) == (1, ())
    out = tmp_path / "out"
    out.mkdir()
    infer_cases(engine, inputs.cases, out, InferOptions(overlays=0, plan="whole"))
    mask = read_volume(next(out.glob("*/*.nii.gz")))
    assert mask.geometry.is_close(GRID)
    np.testing.assert_array_equal(mask.array, arrays[1] > arrays[0])


def test_one_file_of_a_case_stands_for_all(tmp_path: Path) -> None:
    by_number(tmp_path / "in", make_arrays())
    inputs = find_cases(tmp_path / "in/p1_0002.nii.gz", tmp_path, spec_of(*NAMES))
    assert [path.name for path in inputs.cases[0].images] == [f"p1_{n:04d}.nii.gz" for n in range(4)]


def test_datalist_in_another_order_is_put_in_the_models(tmp_path: Path) -> None:
    arrays = make_arrays(2)
    files = [write(tmp_path / f"{n}.nii.gz", array) for n, array in enumerate(arrays)]
    items = [{"image": [files[1].name, files[0].name]}]
    write_json(tmp_path / "list.json", {"channels": ["T2", "T1"], "inference": items})
    (case,) = find_cases(tmp_path / "list.json", tmp_path, spec_of("T1", "T2")).cases
    assert case.images == tuple(files)
    write_json(tmp_path / "list.json", {"channels": ["T1", "PD"], "inference": items})
    with pytest.raises(DataError, match="the model takes T1, T2; its channels T1, PD lack T2"):
        find_cases(tmp_path / "list.json", tmp_path, spec_of("T1", "T2"))


def test_faulty_cases_are_rows_with_a_reason_and_stop_no_other(tmp_path: Path) -> None:
    arrays, folder = make_arrays(2), tmp_path / "in"
    for case, names in {"good": "T1 T2", "lacks": "T1", "twice": "T1 T2", "surplus": "T1 T2"}.items():
        for name, array in zip(names.split(), arrays, strict=False):
            write(folder / f"{case}_{name}.nii.gz", array)
    write(folder / "twice_t1.mha", arrays[0])
    write(folder / "surplus_0002.nii.gz", arrays[0])
    write(folder / "stray.nii.gz", arrays[0])
    engine = DifferenceEngine(spec_of("T1", "T2"))
    inputs = find_cases(folder, tmp_path, engine.spec)
    out = tmp_path / "out"
    out.mkdir()
    result = infer_cases(engine, inputs.cases, out, InferOptions(overlays=0), refused=inputs.refused)
    reasons = {row["case"]: row["reason"] for row in result.failures.rows}
    assert reasons == {
        "lacks": "lacks the channel T2 of T1, T2",
        "surplus": "surplus_0002.nii.gz is one channel too many: the model takes T1, T2",
        "twice": "twice_T1.nii.gz, twice_t1.mha are files of one channel, T1",
        "stray": "the model takes 2 channels, T1, T2; the case has 1",
    }
    assert [path.parent.name for path in out.glob("*/*.nii.gz")] == ["good"]


@pytest.mark.parametrize(
    ("channels", "files"),
    [
        (("T1", "T1w"), ("p_t1", "p_T1W")),
        (("T2", "FLAIR"), ("p_T2", "p_T2_FLAIR")),
        (("PET (SUV)", "CT+"), ("p_PET (SUV)", "p-ct")),
        (("T1", "T1c"), ("p.t1n", "p.T1-Gd")),
    ],
)
def test_names_that_hold_each_other_are_told_apart(
    tmp_path: Path, channels: tuple[str, ...], files: tuple[str, ...]
) -> None:
    for name, array in zip(files, make_arrays(2), strict=True):
        write(tmp_path / "in" / f"{name}.nii.gz", array)
    (case,) = find_cases(tmp_path / "in", tmp_path, spec_of(*channels)).cases
    assert (case.id, [strip_suffix(path.name) for path in case.images]) == ("p", list(files))


def test_unnamed_channels_go_by_number(tmp_path: Path) -> None:
    """Models of earlier versions know how many channels they take, but no names."""
    spec = volume_spec(in_channels=2)
    for n, array in enumerate(make_arrays(2)):
        write(tmp_path / "in" / f"p1_{n:04d}.nii.gz", array)
    write(tmp_path / "in/p2_0001.nii.gz", make_arrays(1)[0])
    inputs = find_cases(tmp_path / "in", tmp_path, spec)
    assert [[path.name for path in case.images] for case in inputs.cases] == [["p1_0000.nii.gz", "p1_0001.nii.gz"]]
    assert inputs.refused == ({"case": "p2", "reason": "lacks the channel 0000 of 0000, 0001"},)


def test_one_image_twice_is_refused(tmp_path: Path) -> None:
    (array,) = make_arrays(1)
    for name in ("T1", "T2"):
        write(tmp_path / "in" / f"p1_{name}.nii.gz", array)
    engine = DifferenceEngine(spec_of("T1", "T2"))
    inputs = find_cases(tmp_path / "in", tmp_path, engine.spec)
    (tmp_path / "out").mkdir()
    result = infer_cases(engine, inputs.cases, tmp_path / "out", InferOptions(overlays=0))
    assert "the channels T1 and T2 are one image, voxel for voxel" in result.failures.rows[0]["reason"]


def test_native_cases_in_another_order_than_the_models_are_refused(tmp_path: Path) -> None:
    """As where convert.channels was put in another order after the training."""
    for n, array in enumerate(make_arrays(2)):
        write(tmp_path / f"images/a_{n:04d}.nii.gz", array)
    names = "images/a_0000.nii.gz;images/a_0001.nii.gz"
    (tmp_path / "cases.csv").write_text(f"case,image,label,series_uid,source\na,{names},,,in\n")
    write_json(tmp_path / "case_form.json", {"channels": ["T2", "T1"]})
    cases = find_native_cases([("a", None)], tmp_path, is_mask=False)
    (tmp_path / "out").mkdir()
    result = infer_cases(DifferenceEngine(spec_of("T1", "T2")), cases, tmp_path / "out", InferOptions(overlays=0))
    assert result.failures.rows[0]["reason"] == "its channels are T2, T1; the model takes T1, T2, in this order"
    result = infer_cases(DifferenceEngine(spec_of("T2", "T1")), cases, tmp_path / "out", InferOptions(overlays=0))
    assert result.failures.rows == []


def test_channel_that_runs_the_other_way_is_turned(tmp_path: Path) -> None:
    arrays = make_arrays(2)
    write(tmp_path / "in/p1_T1.nii.gz", arrays[0])
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(arrays[1], GRID.affine_ras))
    nibabel.save(image, tmp_path / "in/p1_T2.nii.gz")
    engine = DifferenceEngine(spec_of("T1", "T2"))
    (tmp_path / "out").mkdir()
    cases = find_cases(tmp_path / "in", tmp_path, engine.spec).cases
    infer_cases(engine, cases, tmp_path / "out", InferOptions(overlays=0, plan="whole"))
    mask = read_volume(tmp_path / "out/p1/p1.nii.gz")
    np.testing.assert_array_equal(mask.array, arrays[1] > arrays[0])


def test_mask_lies_on_the_grid_of_the_channel_that_the_model_names(tmp_path: Path) -> None:
    """The CT is brought to the PET's grid, as SimpleITK does it, and the mask lies on the PET's."""
    fine = Geometry.from_parts((48, 40, 20), (0.5, 0.5, 1), (4.75, -7.25, 29.5))
    ct = np.random.default_rng(1).random(fine.size).astype(np.float32)
    (pet,) = make_arrays(1)
    spec = spec_of("CT", "PET", onto="PET")
    write(tmp_path / "in/p1_CT.nii.gz", ct, fine)
    write(tmp_path / "in/p1_PET.nii.gz", pet)
    engine = DifferenceEngine(spec)
    (tmp_path / "out").mkdir()
    cases = find_cases(tmp_path / "in", tmp_path, spec).cases
    result = infer_cases(engine, cases, tmp_path / "out", InferOptions(overlays=1, plan="whole"))
    assert result.failures.rows == []
    mask = read_volume(tmp_path / "out/p1/p1.nii.gz")
    assert mask.geometry.is_close(GRID)
    expected = sitk.Resample(Volume(ct, fine).to_sitk(), Volume(pet, GRID).to_sitk(), sitk.Transform(), sitk.sitkLinear)
    difference = pet - sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    is_clear = np.abs(difference) > 1e-5
    np.testing.assert_array_equal(mask.array[is_clear], (difference > 0)[is_clear])
    assert is_clear.mean() > 0.99


def test_channels_far_from_each_other_are_refused(tmp_path: Path) -> None:
    arrays = make_arrays(2)
    write(tmp_path / "in/p1_CT.nii.gz", arrays[0])
    write(tmp_path / "in/p1_PET.nii.gz", arrays[1], Geometry.from_parts(GRID.size, GRID.spacing, (500, 0, 0)))
    for changes, reason in (
        ({"onto": "CT"}, "the channels CT and PET lie beside each other"),
        ({}, "its grid is not the image's"),
    ):
        engine = DifferenceEngine(spec_of("CT", "PET", **changes))
        cases = find_cases(tmp_path / "in", tmp_path, engine.spec).cases
        (tmp_path / "out").mkdir(exist_ok=True)
        result = infer_cases(engine, cases, tmp_path / "out", InferOptions(overlays=0))
        assert reason in result.failures.rows[0]["reason"]


def test_all_channels_are_smoothed_as_the_stage_resample_does(tmp_path: Path) -> None:
    from voxflow.volumes import resample

    coarse = Geometry.from_parts((12, 10, 10), (2, 2, 2), (5.5, -6.5, 30))
    spec = spec_of("T1", "T2", spacing_mm=(2, 2, 2), interpolation="bspline", antialias=True)
    arrays = make_arrays(2)
    image, _ = prepare_volume([Volume(array, GRID) for array in arrays], spec)
    for channel, array in zip(image, arrays, strict=True):
        expected = resample(Volume(array, GRID), coarse, "bspline", float(array.min()), antialias=True)
        np.testing.assert_allclose(channel, expected.array, atol=1e-6)


def test_model_file_of_one_image_has_no_new_keys() -> None:
    content = json.loads(volume_spec().model_dump_json())
    assert {"channels", "rules", "onto", "regions"} & set(content) == set()
    assert not volume_spec().takes_own_grids
    spec = spec_of("CT", "PET", rules=({"modality": "CT"}, {"modality": "PT"}), onto="PET")
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="onto: 'MR' is not among the channels CT, PET"):
        spec_of("CT", "PET", onto="MR")


def test_predict_says_which_channels_a_case_lacks() -> None:
    engine = ThresholdEngine(spec_of("T1", "T2"))
    with pytest.raises(DataError, match="the model takes 2 channels, T1, T2; the case has 1"):
        predict_volume(engine, Volume(make_arrays(1)[0], GRID), PredictOptions())


def test_ensemble_is_of_models_of_the_same_channels() -> None:
    """What the channels of the training's cases were like may differ."""
    first, again, other = spec_of("T1", "T2", profile={"cases": 8}), spec_of("T1", "T2"), spec_of("T2", "T1")
    assert len(Ensemble([DifferenceEngine(first), DifferenceEngine(again)]).members) == 2
    for spec in (other, volume_spec(in_channels=2)):
        with pytest.raises(DataError, match="number 2 differs from the first in channels"):
            Ensemble([DifferenceEngine(first), DifferenceEngine(spec)])


def test_channel_on_turned_axes_lies_where_simpleitk_puts_it() -> None:
    """A sagittal contrast beside an axial one, and one that is turned by 12 degrees."""
    cosine, sine = np.cos(np.radians(12)), np.sin(np.radians(12))
    turned = [cosine, -sine, 0, sine, cosine, 0, 0, 0, 1]
    generator = np.random.default_rng(0)
    first = Volume(make_arrays(1)[0], GRID)
    for grid in (
        Geometry.from_parts((30, 16, 34), (1, 2, 1), (0, -10, 48), [0, 0, 1, 1, 0, 0, 0, -1, 0]),
        Geometry.from_parts((30, 30, 14), (1, 1, 1.5), (2, -9, 29), turned),
    ):
        second = Volume(generator.random(grid.size).astype(np.float32), grid)
        image, _ = prepare_volume([first, second], spec_of("T1", "T2", onto="T1"))
        darkest = float(second.array.min())
        expected = sitk.Resample(second.to_sitk(), first.to_sitk(), sitk.Transform(), sitk.sitkLinear, darkest)
        np.testing.assert_allclose(image[1], sitk.GetArrayFromImage(expected).transpose(2, 1, 0), atol=1e-6)
